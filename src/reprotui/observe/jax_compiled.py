"""Functions that were compiled ahead of their calls, `jit(f).lower(…).compile()`, seen like jitted ones.

What is compiled stays an object of jax's own class, whose calls are noticed. Its name and those of its arguments come from the
observed function that it was lowered from, handed on from one stage to the next; what is not of one is left alone.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

_OF = "_reprotui_of"
_CALL = "_reprotui_call"

Register = Callable[[Any], Callable[..., Any]]


def observe_compiled(stages: Any, register: Register) -> None:
    """Observe the calls of compiled functions from now on.

    Args:
        stages: the module `jax.stages`.
        register: gets a function, and returns what its calls go through: (args, kwargs) → result.
    """
    for name, method in (("Traced", "lower"), ("Lowered", "compile")):
        stage = getattr(stages, name, None)
        if stage is not None:
            setattr(stage, method, handing_on(getattr(stage, method)))
    real = stages.Compiled.__call__

    @functools.wraps(real)
    def observed(self: Any, *args: Any, **kwargs: Any) -> Any:
        notes = getattr(self, "__dict__", {})
        known = notes.get(_CALL)
        if known is None and _OF in notes:
            try:
                known = register(_named(functools.partial(real, self), notes[_OF]))
            except Exception:  # a function that cannot be described is called all the same
                known = None
            notes[_CALL] = known
        return real(self, *args, **kwargs) if known is None else known(args, kwargs)

    stages.Compiled.__call__ = observed


def handing_on(method: Any, function: Any = None) -> Any:
    """Return a method whose result knows the function that it stands for: this one, or the one that its own object stands for."""

    @functools.wraps(method)
    def noted(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        of = function if function is not None else getattr(args[0], "__dict__", {}).get(_OF)
        if of is not None:
            getattr(result, "__dict__", {})[_OF] = of
        return result

    return noted


def _named(call: Any, function: Any) -> Any:
    """Return a call under the name of the function that it is of, with those arguments that are left when it is compiled."""

    @functools.wraps(function)
    def named(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    info = getattr(function, "_jit_info", None)
    numbers, names = set(getattr(info, "static_argnums", ())), set(getattr(info, "static_argnames", ()))
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return named
    left = [item for at, item in enumerate(parameters) if at not in numbers and item.name not in names]
    vars(named)["__signature__"] = inspect.Signature(left)
    return named
