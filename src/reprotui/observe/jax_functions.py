"""`jax.jit` as an observed script sees it: the same functions, whose calls are noticed."""

import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

NOT_OBSERVED = ("reprotui.", "jax.", "jax._", "orbax.")
"""Modules whose own jitted helpers are no training step."""

OUTER_MODULES = ("equinox._jit", "flax.nnx.transforms.compilation")
OUTER_FRAMES = 16
"""How far up their calls are looked for: they stand directly above, with a few frames of this package between."""


class ObservedFunction:
    """A jitted function that tells an observer of its calls and is otherwise the one that jax made."""

    def __init__(self, real: Any, call: Callable[..., Any]) -> None:
        functools.update_wrapper(self, real)
        self._reprotui_real, self._reprotui_call = real, call

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


def observed_jit(jit: Any, register: Callable[[Any], Callable[..., Any]]) -> Any:
    """Return a `jax.jit` whose results are observed.

    Args:
        jit: jax's own.
        register: gets a function that jax has jitted, and returns what its calls go through: (args, kwargs) → result.
    """

    def wrapped(real: Any) -> Any:
        if not callable(getattr(real, "lower", None)):
            # Without a function jax.jit returns a decorator.
            return functools.wraps(real)(lambda function: wrapped(real(function)))
        module = str(getattr(real, "__module__", None) or "")
        return real if f"{module}.".startswith(NOT_OBSERVED) else ObservedFunction(real, register(real))

    @functools.wraps(jit)
    def made(*args: Any, **kwargs: Any) -> Any:
        return wrapped(jit(*args, **kwargs))

    return made


def name_of(function: Any) -> str:
    """Return what a function is called: its qualified name without the places that only say where it was defined."""
    name = str(getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or "function")
    return name.rpartition("<locals>.")[2]


def argument_names(function: Any) -> tuple[str, ...]:
    """Return the names of a function's positional parameters; none where it does not tell."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, parameter in parameters.items() if parameter.kind in kinds)


def input_paths(named: list[tuple[str, Any]], names: tuple[str, ...]) -> list[str]:
    """Return readable paths of the leaves of `(args, kwargs)`: the parameter's name in the place of its number."""
    paths = []
    for path, _ in named:
        which, _, rest = path.partition("/")
        number, _, inner = rest.partition("/")
        first = names[int(number)] if which == "0" and int(number) < len(names) else f"arg{number}" if which == "0" else number
        paths.append(f"{first}/{inner}" if inner else first)
    return paths


def is_tracing(leaves: list[Any]) -> bool:
    """Say whether a call happens while jax traces another function: then it is part of that one."""
    from jax._src import core  # jax has no public way to ask

    clean: Any = getattr(core, "trace_state_clean", None)
    if clean is not None:
        return not clean()
    return any(isinstance(leaf, core.Tracer) for leaf in leaves)


def outer_arguments() -> tuple[tuple[str, ...], Any]:
    """Return parameter names and `(args, kwargs)` of the flax nnx or equinox call that is being made, if one is.

    Both flatten what they are given before they call jax, and the names of its leaves with it. Read from the frames of
    those calls, and only when a function is called with a new structure: nothing of theirs is replaced.
    """
    frame: Any = sys._getframe(1)
    for _ in range(OUTER_FRAMES):
        if frame is None:
            break
        local = frame.f_locals if frame.f_globals.get("__name__") in OUTER_MODULES else {}
        if "args" in local and "kwargs" in local:
            wrapper = local.get("jit_wrapper", local.get("self"))
            function = getattr(wrapper, "fun", None) or wrapper
            return argument_names(function), (local["args"], local["kwargs"])
        frame = frame.f_back
    return (), None
