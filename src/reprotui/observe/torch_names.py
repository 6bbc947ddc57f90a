"""What a script calls tensors that no model has: the variables that hold them, by identity.

w = torch.randn(8, 1, requires_grad=True)      params/w
params = {"w": …, "b": …}                      params/w, params/b
self.layers = [(w, b), …]                      params/layers/0/0
"""

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any

FRAMES = 16
"""Calls above the backward pass whose variables are looked at."""
_VALUES = 20_000
_DEPTH = 8
_OWN = ("torch", "reprotui")
OF_MODULES = ("self", "_modules", "_parameters", "_functional", "_torch_params")
"""Where a model that torch never calls as one keeps its parameters, Keras's too; they say nothing."""

Place = tuple[str, ...]
"""A variable and the keys within it."""


def places_of(tensors: Sequence[Any]) -> tuple[dict[int, Place], bool]:
    """Return where the script has tensors, by identity, and whether that is in variables of its main module alone."""
    wanted = {id(tensor) for tensor in tensors}
    found: dict[int, Place] = {}
    main = True
    frame: FrameType | None = sys._getframe(1)
    for _ in range(FRAMES):
        while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _OWN:
            frame = frame.f_back
        if frame is None or not wanted:
            break
        for variables in (_locals(frame), frame.f_globals):
            for identity, place in _search(variables, wanted):
                wanted.discard(identity)
                found[identity] = place
                main &= variables is frame.f_globals and variables.get("__name__") == "__main__"
        frame = frame.f_back
    return found, main and not wanted


def now_at(place: Place) -> Any:
    """Return what stands at a place in the main module's variables; None where nothing does."""
    value: Any = vars(sys.modules["__main__"])
    for key in place:
        value = dict(_entries(value)).get(key)
    return value


def paths_of(places: Sequence[Place | None]) -> list[str]:
    """Return paths for places: without the variable where all lie in one; `leaf_1` for what is in none."""
    variables = {place[0] for place in places if place}
    inner = len(variables) == 1 and len(places) > 1 and all(place is not None and len(place) > 1 for place in places)
    shown = [[key for key in place[inner:] if key not in OF_MODULES] if place else () for place in places]
    return ["/".join(keys) or f"leaf_{number}" for number, keys in enumerate(shown, 1)]


def _locals(frame: FrameType) -> Mapping[str, Any]:
    """Return a function's variables; a module's are its globals."""
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return {} if frame.f_locals is frame.f_globals else frame.f_locals
    variables = dict(frame.f_locals)
    if sys.version_info < (3, 13):
        frame.f_locals.clear()  # the frame would keep this copy, and with it what the function lets go
    return variables


def _search(variables: Mapping[str, Any], wanted: set[int]) -> Iterator[tuple[int, Place]]:
    todo: list[tuple[Place, Any]] = [((name,), value) for name, value in variables.items() if not name.startswith("__")]
    seen: set[int] = set()
    for place, value in todo:  # grows: what lies deeper comes later
        if id(value) in wanted:
            yield id(value), place
        elif len(place) < _DEPTH and id(value) not in seen and len(todo) < _VALUES:
            seen.add(id(value))
            todo += [((*place, key), inner) for key, inner in _entries(value)]


def _entries(value: Any) -> Sequence[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(str(key), inner) for key, inner in value.items()]
    if isinstance(value, tuple | list):
        return [(str(number), inner) for number, inner in enumerate(value[:_VALUES])]
    if isinstance(value, type | ModuleType) or ("torch" in sys.modules and isinstance(value, sys.modules["torch"].Tensor)):
        return ()
    try:
        return list(vars(value).items())
    except TypeError:
        return ()
