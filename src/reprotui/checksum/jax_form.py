"""`rfp1-64` in jax: for leaves that live on a device, compiled, and equal under any sharding."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from reprotui.checksum.definition import INDEX_START, INDEX_STEP, MASK, MIX_1, MIX_2, MIX_3, LeafSpec, lanes_to_checksum
from reprotui.checksum.paths import Step, named
from reprotui.errors import BadInputError

TWO_STAGE_SIZE = 1 << 22
"""Elements from which rows are reduced first: XLA's CPU backend spreads a reduction over cores only where it has an
output dimension to split (64 MB: 15 GB/s instead of 7.6 on two cores); below, many leaves keep the cores busy."""

_U32 = jnp.uint32
_BITS_TO_UNSIGNED = {2: "uint2", 4: "uint4", 8: "uint8", 16: "uint16", 32: "uint32"}


def lanes(leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return both lanes of a leaf as uint32 scalars; traceable, so that many leaves go into one compiled call.

    Args:
        leaf: an array of any shape, dtype and sharding, or an array of typed PRNG keys.
    """
    total0, total1 = _U32(0), _U32(0)
    for part, stride, offset in _word_arrays(leaf):
        lane0, lane1 = _sum_mixed(part, stride, offset)
        total0, total1 = total0 + lane0, total1 + lane1
    return total0, total1


@jax.jit
def _lanes_jit(leaf: jax.Array) -> jax.Array:
    return jnp.stack(lanes(leaf))


def checksum(leaf: jax.Array) -> int:
    """Return the 64-bit checksum of one array; for many leaves put `lanes` of all into one jitted call instead."""
    lane0, lane1 = _lanes_jit(leaf).tolist()
    return lanes_to_checksum(lane0, lane1)


def root_lanes(leaf_lanes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the lanes of the root over a phase's leaves; `leaf_lanes` is uint32[leaves, 2] in leaf order."""
    return lanes(leaf_lanes)


def word_lanes(words: jax.Array, base: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Return both lanes of a leaf, or of a part of it, that is given as its words, uint32[n]; traceable.

    Args:
        words: the words.
        base: uint32, the index of the first of them within the whole leaf; None for 0.
    """
    return _sum_mixed(words, 1, 0, None if base is None else base * _U32(INDEX_STEP))


def scalar_words(leaf: jax.Array) -> jax.Array:
    """Return the words of a scalar as uint32[1] or, for 64-bit types, uint32[2]; traceable."""
    return jnp.stack([part for part, _, _ in _word_arrays(leaf)])


def named_leaves(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of a pytree with readable paths such as `params/dense_0/kernel`, in flattening order.

    Dictionary keys, sequence indices and field names are joined by `/`. The wrapper that flax nnx puts around an array
    leaves no trace in the path. Two leaves that would get the same path (a key may contain `/`) are told apart by `#2`.
    """
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return named(((tuple(map(_step, key_path)), leaf) for key_path, leaf in flat), prefix)


def leaf_spec(path: str, leaf: Any) -> LeafSpec:
    """Describe a leaf: path, dtype name and shape. Accepts arrays, abstract values and Python scalars."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        leaf = jnp.asarray(leaf)
        dtype = leaf.dtype
    return LeafSpec(path, _dtype_name(dtype), tuple(leaf.shape))


@functools.cache
def _dtype_name(dtype: Any) -> str:
    return str(dtype) if jnp.issubdtype(dtype, jax.dtypes.prng_key) else dtype.name


def _step(entry: Any) -> Step:
    for attribute in ("key", "name", "idx"):
        value = getattr(entry, attribute, None)
        if value is not None:
            return str(value), attribute == "name"
    return str(entry).strip(".[]'\""), False


def _word_arrays(leaf: jax.Array) -> list[tuple[jax.Array, int, int]]:
    """Return (unsigned words, index stride, index offset) such that together they are the leaf's words."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return _word_arrays(jax.random.key_data(leaf))
    if leaf.dtype == jnp.bool_:
        return [(leaf.astype(_U32), 1, 0)]
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        width = leaf.dtype.itemsize // 8
        return [
            (part, 2 * width, offset)
            for component, base in ((leaf.real, 0), (leaf.imag, width))
            for part, offset in _split(component, base)
        ]
    parts = _split(leaf, 0)
    return [(part, len(parts), offset) for part, offset in parts]


def _split(leaf: jax.Array, base: int) -> list[tuple[jax.Array, int]]:
    """Return the words of a real leaf with their offsets: one of up to 32 bits, or low and high of 64."""
    bits = _bits(leaf.dtype)
    if bits == 64:
        halves = lax.bitcast_convert_type(leaf, _U32)
        return [(halves[..., 0], base), (halves[..., 1], base + 1)]
    if bits not in _BITS_TO_UNSIGNED:
        raise BadInputError(f"a leaf of dtype {leaf.dtype} has no checksum: {bits} bits an element are not supported")
    return [(lax.bitcast_convert_type(leaf, getattr(jnp, _BITS_TO_UNSIGNED[bits])).astype(_U32), base)]


@functools.cache
def _bits(dtype: Any) -> int:
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.iinfo(dtype).bits
    return jnp.finfo(dtype).bits


def _sum_mixed(word: jax.Array, stride: int, offset: int, start: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    if word.size == 0:
        return _U32(0), _U32(0)
    # The index enters only as index * INDEX_STEP, so each dimension carries its product and no multiplication by the
    # element's index is left. A reshape to one dimension would raise under explicitly sharded meshes.
    t = jnp.full(word.shape, (offset * INDEX_STEP + INDEX_START) & MASK, _U32)
    for dimension in reversed(range(word.ndim)):
        step = math.prod(word.shape[dimension + 1 :]) * stride * INDEX_STEP & MASK
        t = t + lax.broadcasted_iota(_U32, word.shape, dimension) * _U32(step)
    t = t if start is None else t + start
    x = word ^ t
    x = x ^ (x >> 16)
    x = x * _U32(MIX_1)
    x = x ^ (x >> 15)
    x = x * _U32(MIX_2)
    x = x ^ (x >> 16)
    y = (x + t) * _U32(MIX_3)
    y = y ^ (y >> 15)
    if word.ndim == 0:
        return x, y
    if word.ndim > 1 and word.size >= TWO_STAGE_SIZE:
        x, y = _sum((x, y), range(1, word.ndim))
        return _sum((x, y), (0,))
    return _sum((x, y), range(word.ndim))


def _sum(lanes_: tuple[jax.Array, jax.Array], dimensions: Any) -> tuple[jax.Array, jax.Array]:
    # One variadic reduction reads the leaf once; two jnp.sum are ten times slower on the CPU.
    zero = _U32(0)
    return lax.reduce(lanes_, (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), tuple(dimensions))
