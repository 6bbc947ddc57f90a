"""`jax.jit` and its like as scripts find them: what they return tells an observer of its calls; else it is what jax made."""

import functools
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from reprotui.observe.jax_compiled import handing_on

NOT_OBSERVED = ("reprotui.", "jax.", "jax._", "orbax.")
"""Modules whose own functions are no training step."""
HELPER = "optax."
"""A module that jits parts of an update for itself; `jax.jit(optimizer.update)` of a script is none of them."""


class ObservedFunction:
    """A jitted function that tells an observer of its calls and is otherwise the one that jax made."""

    def __init__(self, real: Any, call: Callable[..., Any]) -> None:
        functools.update_wrapper(self, real)
        self._reprotui_real, self._reprotui_call = real, call
        for stage in ("lower", "trace"):
            if hasattr(real, stage):
                vars(self)[stage] = handing_on(getattr(real, stage), real)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._reprotui_call(args, kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_reprotui"):
            raise AttributeError(name)
        return getattr(self._reprotui_real, name)

    def __repr__(self) -> str:
        return repr(self._reprotui_real)


def observed_jit(jit: Any, register: Callable[[Any, frozenset[str]], Callable[..., Any]]) -> Any:
    """Return a `jax.jit` whose results are observed, or another such as `jax.pmap`.

    Args:
        jit: jax's own.
        register: gets a function that jax has jitted, with its static arguments by number and name, and returns what its calls
            go through: (args, kwargs) → result.
    """

    def wrapped(real: Any, static: frozenset[str], asking: str) -> Any:
        module = str(getattr(real, "__module__", None) or "")
        helps = f"{module}.".startswith(NOT_OBSERVED) or all(f"{name}.".startswith(HELPER) for name in (module, asking))
        return real if helps else ObservedFunction(real, register(real, static))

    @functools.wraps(jit)
    def made(*args: Any, **kwargs: Any) -> Any:
        real, static = jit(*args, **kwargs), _static(kwargs)
        asking = str(sys._getframe(1).f_globals.get("__name__"))
        # Without a function jax.jit returns a decorator.
        if args or any(name in kwargs for name in ("f", "fun")):
            return wrapped(real, static, asking)
        return functools.wraps(real)(lambda function: wrapped(real(function), static, asking))

    return made


def _static(options: Mapping[str, Any]) -> frozenset[str]:
    """Return the arguments that `jit` was told to make part of the program, by number and by name."""
    found: list[Any] = []
    for name in ("static_argnums", "static_argnames"):
        given = options.get(name)
        found += [] if given is None else [given] if isinstance(given, str | int) else list(given)
    return frozenset(map(str, found))
