"""Any result as leaves: path, dtype, shape and bits of arrays, tensors and scalars of every library, without importing one."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reprotui.checksum import LeafSpec
from reprotui.errors import BadInputError
from reprotui.integrity.leaves import TEXT_DTYPES, LeafDifference, compare_leaf
from reprotui.reproduce.frameworks import loaded

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Leaf(NamedTuple):
    """One leaf of a result: what identifies it, and its elements (of a key its `key_data`)."""

    spec: LeafSpec
    array: "NDArray[Any]"


def leaves_of(value: Any) -> dict[str, Leaf]:
    """Return the leaves of a result by path.

    Taken apart: mappings, sequences, named tuples, dataclasses, objects with a `state_dict()` (torch modules and
    optimizers) and nodes that jax knows. Leaves: arrays of numpy and jax (typed keys too), tensors, None, bool, int, float,
    complex, str and bytes. A lone leaf has the path `result`.

    Raises:
        BadInputError: something else is in it; the error names path and type.
    """
    return {path or "result": _leaf(leaf, path or "result") for path, leaf in _walk(value, "")}


def leaf_of_bytes(spec: LeafSpec, data: bytes) -> Leaf:
    """Return a leaf from its description and its bytes, little-endian, C order: what came from another process."""
    import ml_dtypes  # noqa: F401  (registers bfloat16 and float8 with numpy)
    import numpy

    if spec.dtype in TEXT_DTYPES:
        return Leaf(spec, numpy.frombuffer(data, numpy.uint8))
    if spec.dtype.startswith("key<"):
        return Leaf(spec, numpy.frombuffer(data, "<u4"))
    return Leaf(spec, numpy.frombuffer(data, numpy.dtype(spec.dtype)).reshape(spec.shape))


def differing_leaves(a: Mapping[str, Leaf], b: Mapping[str, Leaf], phase: str = "") -> list[LeafDifference]:
    """Return every leaf in which two results differ, in the order of the first."""
    found = (_compare(path, a.get(path), b.get(path), phase) for path in dict.fromkeys([*a, *b]))
    return [difference for difference in found if difference is not None]


def _compare(path: str, a: Leaf | None, b: Leaf | None, phase: str) -> LeafDifference | None:
    def read() -> "tuple[NDArray[Any], NDArray[Any]]":
        assert a is not None and b is not None
        return a.array, b.array

    return compare_leaf(path, None if a is None else a.spec, None if b is None else b.spec, read, phase)


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = _children(value, path)
    if children is None:
        yield path, value
        return
    for name, child in children:
        yield from _walk(child, f"{path}/{name}" if path else str(name))


def _children(value: Any, path: str) -> list[tuple[Any, Any]] | None:
    """Return the named parts of a node, or None for a leaf."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes) or hasattr(value, "dtype"):
        return None
    if isinstance(value, Mapping):
        return _unique([(str(key), child) for key, child in value.items()], path)
    if isinstance(value, Sequence):
        names = getattr(value, "_fields", range(len(value)))
        return list(zip(names, value, strict=True))
    if callable(getattr(value, "state_dict", None)):
        return _children(value.state_dict(), path)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)]
    jax = loaded("jax")
    if jax is not None and not jax.tree_util.all_leaves([value]):
        found, _ = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda node: node is not value)
        return [(jax.tree_util.keystr(keys, simple=True, separator="/"), child) for keys, child in found]
    raise BadInputError(
        f"the result holds a {type(value).__name__} at {path or 'its root'}, whose bits cannot be compared: "
        "return arrays, tensors, numbers, strings, and containers of them"
    )


def _unique(children: list[tuple[str, Any]], path: str) -> list[tuple[Any, Any]]:
    names = [name for name, _ in children]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInputError(f"the mapping at {path or 'the root of the result'} has two keys that read {twice!r}")
    return list(children)


def _leaf(value: Any, path: str) -> Leaf:
    from reprotui.checksum.leaves import is_key, is_torch, plain_leaf, spec_of, to_numpy  # numpy, where it is needed alone

    if not hasattr(value, "dtype"):
        found = plain_leaf(path, value)
        assert found is not None, "_children let it pass"
        return Leaf(*found)
    if is_torch(value) and (value.is_quantized or value.layout != loaded("torch").strided):
        raise BadInputError(f"the result holds a {value.layout} tensor at {path}, whose bits cannot be compared: make it dense")
    spec, array = spec_of(path, value), to_numpy(value)
    if array.dtype.kind in "OSUTMm":
        raise BadInputError(f"the result holds an array of dtype {array.dtype} at {path}, whose bits are not its content")
    if is_key(value):
        spec = spec._replace(dtype=f"key<{loaded('jax').random.key_impl(value)}>")  # as a person knows it
    return Leaf(spec, array.copy())  # the next call may write into the same array
