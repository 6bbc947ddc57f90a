"""Any result as leaves: path, dtype, shape and bits of arrays, tensors and scalars of every library, without importing one."""

import dataclasses
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reprotui.checksum import LeafSpec
from reprotui.errors import BadInputError
from reprotui.reproduce.frameworks import loaded


class Leaf(NamedTuple):
    """One leaf of a result: what identifies it, and its bits: little-endian, C order."""

    spec: LeafSpec
    data: bytes


def leaves_of(value: Any) -> dict[str, Leaf]:
    """Return the leaves of a result by path.

    Taken apart: mappings, sequences, named tuples, dataclasses, objects with a `state_dict()` (torch modules and
    optimizers) and nodes that jax knows. Leaves: arrays of numpy and jax (typed keys too), tensors, None, bool, int, float,
    complex, str and bytes. A lone leaf has the path `result`.

    Raises:
        BadInputError: something else is in it; the error names path and type.
    """
    leaves = {}
    for path, leaf in _walk(value, ""):
        leaves[path or "result"] = _leaf(leaf, path or "result")
    return leaves


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
    torch = loaded("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _tensor(torch, value, path)
    if hasattr(value, "dtype"):
        return _array(value, path)
    match value:
        case bool():
            return Leaf(LeafSpec(path, "bool", ()), bytes([value]))
        case float():
            return Leaf(LeafSpec(path, "float64", ()), struct.pack("<d", value))
        case complex():
            return Leaf(LeafSpec(path, "complex128", ()), struct.pack("<dd", value.real, value.imag))
        case bytes():
            return Leaf(LeafSpec(path, "bytes", (len(value),)), value)
        case _:
            return Leaf(LeafSpec(path, _name(value), ()), str(value).encode())


def _name(value: Any) -> str:
    kinds = (int, str)
    return "None" if value is None else next(kind.__name__ for kind in kinds if isinstance(value, kind))


def _array(value: Any, path: str) -> Leaf:
    import numpy

    jax = loaded("jax")
    dtype, shape = None, tuple(value.shape)
    if jax is not None and isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        dtype, value = f"key<{jax.random.key_impl(value)}>", jax.random.key_data(value)
    array = numpy.asarray(value)
    if array.dtype.kind in "OSUTMm":
        raise BadInputError(f"the result holds an array of dtype {array.dtype} at {path}, whose bits are not its content")
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return Leaf(LeafSpec(path, dtype or array.dtype.name, shape), numpy.ascontiguousarray(array).tobytes())


def _tensor(torch: Any, tensor: Any, path: str) -> Leaf:
    if tensor.is_quantized or tensor.layout != torch.strided:
        raise BadInputError(f"the result holds a {tensor.layout} tensor at {path}, whose bits cannot be compared: make it dense")
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return Leaf(LeafSpec(path, dtype, shape), flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
