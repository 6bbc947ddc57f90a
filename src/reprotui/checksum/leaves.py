"""What a leaf is: whether a value is one, its description, its elements on the host, and their bytes.

Arrays of numpy and jax (typed keys too), tensors of torch, and numbers. Loads no framework: one that is not there made no leaf.
"""

import functools
import sys
from typing import Any

import numpy as np

from reprotui.checksum.definition import LeafSpec
from reprotui.checksum.numpy_form import dtype_name
from reprotui.checksum.shards import held, held_elements
from reprotui.errors import BadInputError


def is_leaf(value: Any) -> bool:
    """Say whether a value is something whose bits can be compared: an array, a tensor or a number."""
    return isinstance(value, np.ndarray | np.generic | int | float | complex) or is_torch(value) or is_jax(value)


def is_jax(value: Any) -> bool:
    """Say whether a value is an array of jax."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, getattr(jax, "Array", ()))


def is_torch(value: Any) -> bool:
    """Say whether a value is a tensor of torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def is_key(value: Any) -> bool:
    """Say whether a value is an array of jax's typed PRNG keys."""
    return is_jax(value) and _is_key_type(value.dtype)


@functools.cache
def _is_key_type(dtype: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.numpy.issubdtype(dtype, jax.dtypes.prng_key)


def spec_of(path: str, leaf: Any) -> LeafSpec:
    """Describe a leaf: path, dtype and shape; also of one that jax knows as an abstract value.

    The dtype names are numpy's, whatever framework the leaf is of; a Python float is float64, as numpy has it. Where this
    process holds a part of an array only, that part is the leaf, and its path ends on its slice: `params/w[32:64,:]`.
    """
    dtype, part = getattr(leaf, "dtype", None), part_of(leaf)
    if part is not None:
        return LeafSpec(f"{path}{part[0]}", str(dtype) if is_key(leaf) else dtype_name(np.dtype(dtype)), part[1])
    if is_torch(leaf):
        return LeafSpec(path, str(dtype).removeprefix("torch."), tuple(leaf.shape))
    if isinstance(dtype, np.dtype):
        return LeafSpec(path, dtype_name(dtype), tuple(leaf.shape))
    if dtype is not None and _is_key_type(dtype):
        return LeafSpec(path, str(dtype), tuple(leaf.shape))
    array = np.asarray(leaf)
    return LeafSpec(path, dtype_name(array.dtype), array.shape)


def part_of(leaf: Any) -> tuple[str, tuple[int, ...]] | None:
    """Return how the part of a leaf that this process holds is written, and its shape; None where it holds all of it."""
    return held(leaf) if is_jax(leaf) and not isinstance(leaf, sys.modules["jax"].core.Tracer) else None


def to_numpy(leaf: Any) -> np.ndarray:
    """Return a leaf's elements on the host, of keys their `key_data`; of numpy and of torch's on the CPU without a copy.

    Of an array that is spread over processes, those that this one holds; none asks another process.
    """
    if type(leaf) is np.ndarray:
        return leaf
    if is_torch(leaf):
        return _of_torch(leaf)
    if is_key(leaf):
        leaf = sys.modules["jax"].random.key_data(leaf)
    return np.asarray(leaf) if part_of(leaf) is None else held_elements(leaf)


def plain_leaf(path: str, value: Any) -> tuple[LeafSpec, np.ndarray] | None:
    """Return a plain Python value as a leaf and its elements; None where it is none.

    A bool, int, float or complex number has the dtype bool, int64, float64 or complex128; an int of more bits, text, bytes and
    None have dtypes of their own, `int`, `str`, `bytes` and `none`, and their text in UTF-8 as elements.
    """
    if isinstance(value, bool | float | complex) or (isinstance(value, int) and -(1 << 63) <= value < 1 << 63):
        kind = next(kind for kind in (bool, int, float, complex) if isinstance(value, kind))
        array = np.asarray(value, {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}[kind])
        return LeafSpec(path, array.dtype.name, ()), array
    kinds = {int: "int", str: "str", bytes: "bytes", type(None): "none"}
    name = next((name for kind, name in kinds.items() if isinstance(value, kind)), None)
    if name is None:
        return None
    raw = value if isinstance(value, bytes) else b"" if value is None else str(value).encode("utf-8", "surrogatepass")
    return LeafSpec(path, name, ()), np.frombuffer(raw, np.uint8)


def raw_bytes(array: Any) -> memoryview:
    """Return an array's elements as little-endian bytes in C order, without a copy where they are that already."""
    array = np.asarray(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _of_torch(tensor: Any) -> np.ndarray:
    torch = sys.modules["torch"]
    tensor = tensor.detach()
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    try:
        return tensor.numpy()
    except TypeError:  # numpy itself has no such type
        dtype = numpy_dtype(tensor.dtype)
        return tensor.contiguous().view(torch.uint8 if tensor.element_size() == 1 else torch.int16).numpy().view(dtype)


@functools.cache
def numpy_dtype(dtype: Any) -> np.dtype:
    """Return numpy's type for one of torch; for what numpy has not, one that has the same words.

    Raises:
        BadInputError: its bits are not those of its elements.
    """
    import ml_dtypes

    name = str(dtype).removeprefix("torch.")
    if name.startswith(("q", "bits")):
        raise BadInputError(f"a tensor of dtype {dtype} has no checksum: make it dense first")
    known = {"complex32": "float16", "float4_e2m1fn_x2": "uint8"}.get(name, name)
    return np.dtype(getattr(ml_dtypes, known, known))
