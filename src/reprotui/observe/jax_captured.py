"""Arrays that a jitted function captured, under the names by which its source knows them.

Of `step = jax.jit(lambda p: p - 0.1 * grad(p, X, self.table))`, the constants of the program are `X`, a variable of the module,
and `self/table`. jax keeps an array of its own as it is; what it copies, such as a NumPy array, is recognised by its bits.
"""

import functools
import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np

from reprotui.observe.captured import Variables, is_ours, variables_of, variables_of_module, variables_of_partial

DEPTH = 8
"""How deep functions, their closures and objects are looked into."""
LOOKED_AT = 20_000
"""Values that are looked at for one function: where there are more, constants that were not met are numbered."""
ITEMS = 1_000
"""Items of one list that are looked at."""
COMPARED_BYTES = 64 << 20
"""The size up to which arrays are compared by their bits; larger ones are found by identity only."""
_FRAMEWORKS = {"jax", "jaxlib", "flax", "optax", "numpy", "haiku", "equinox", "chex", "orbax", "functools", "contextlib"}
"""Whose variables are none of the script's: of their functions, only what those were given is looked at."""
_HOLDERS = {"_raw_value", "_dict"}
"""Attributes in which a wrapper of a library keeps what it wraps."""


def named_constants(real: Any, constants: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return captured arrays with the names of the variables that hold them; others are called after their place."""
    by_identity: dict[int, str] = {}
    by_shape: dict[tuple[int, ...], list[tuple[str, Any]]] = {}
    for name, value in _reachable(real) if constants else ():
        by_identity.setdefault(id(value), name)
        if isinstance(value, np.ndarray | jax.Array):
            by_shape.setdefault(value.shape, []).append((name, value))
    found = []
    for number, constant in enumerate(constants):
        name = by_identity.get(id(constant)) or _like(constant, by_shape.get(tuple(constant.shape), []))
        array = constant if isinstance(constant, jax.Array) else np.asarray(constant)  # jax has a type of its own for NumPy's
        found.append((name or f"constant_{number}", array))
    return found


def _like(constant: Any, candidates: Sequence[tuple[str, Any]]) -> str | None:
    """Return the name of the array that a constant was made from: the same bits, once they are of its type."""
    bits = _bits(constant)
    if bits is None:
        return None
    arrays = ((name, _bits(candidate)) for name, candidate in candidates)
    same = (name for name, array in arrays if array is not None and array.astype(bits.dtype).tobytes() == bits.tobytes())
    return next(same, None)


def _bits(array: Any) -> np.ndarray | None:
    """Return an array of numbers on the host, where it is to be had and not too large to be compared."""
    if isinstance(array, jax.Array) and (
        array.is_deleted() or not array.is_fully_addressable or jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
    ):
        return None
    found = np.asarray(array) if array.nbytes <= COMPARED_BYTES else None
    return found if found is not None and found.dtype.kind in "biufcV" else None


def _reachable(real: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function can reach by a variable, nearest first, each with its name."""
    seen: dict[int, Any] = {}  # held, so that none of them gives its identity to another value
    level: list[tuple[str, Any]] = [("", real)]
    for _ in range(DEPTH):
        below: list[tuple[str, Any]] = []
        for name, value in level:
            if id(value) in seen or len(seen) > LOOKED_AT:
                continue
            seen[id(value)] = value
            yield name, value
            if inspect.isroutine(value) or isinstance(value, functools.partial):
                below += _variables(value)  # they have names of their own
            else:
                below += [(f"{name}/{part}" if name and part else name or part, inner) for part, inner in _inside(value)]
        level = below


def _inside(value: Any) -> list[tuple[str, Any]]:
    """Return what an object holds, by name; of what wraps a function, the function."""
    if isinstance(value, str | bytes | int | float | np.ndarray | jax.Array | ModuleType | type | None):
        return []
    if isinstance(value, dict):
        return [(str(key), inner) for key, inner in itertools.islice(value.items(), ITEMS)]
    if isinstance(value, tuple | list):
        return list(zip(getattr(value, "_fields", None) or map(str, range(ITEMS)), value, strict=False))
    attributes = getattr(value, "__dict__", None)
    attributes = dict(attributes) if isinstance(attributes, dict) else {}
    member = getattr(type(value), "_raw_value", None)
    if inspect.ismemberdescriptor(member):  # a variable of flax nnx has slots
        attributes["_raw_value"] = member.__get__(value)
    if "__wrapped__" in attributes:
        return [("", attributes["__wrapped__"])]
    return [("" if name in _HOLDERS else name, inner) for name, inner in attributes.items()]


def _variables(function: Any) -> Variables:
    """Return the variables that a function and those in its body use: of closures, defaults and modules."""
    if isinstance(function, functools.partial):
        return [*variables_of_partial(function), ("", function.func)]
    if inspect.ismethod(function):
        return [("self", function.__self__), ("", function.__func__)]
    wrapped = getattr(function, "__wrapped__", None)
    found: Variables = [] if wrapped is None else [("", wrapped)]
    if not inspect.isfunction(function) or is_ours(function):  # jax's own kind of jitted function, for one
        return found
    return [*found, *variables_of(function), *variables_of_module(function, _is_no_framework)]


def _is_no_framework(module: Mapping[str, Any]) -> bool:
    return str(module.get("__name__")).split(".")[0] not in _FRAMEWORKS
