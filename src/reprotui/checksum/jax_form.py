"""`rfp1-64` in jax: for leaves that live on a device, compiled, and equal under any sharding, taken shard by shard."""

import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from reprotui.checksum.definition import INDEX_START, INDEX_STEP, MASK, MIX_1, MIX_2, MIX_3, lanes_to_checksum
from reprotui.checksum.finite import FiniteTest, finite_test
from reprotui.checksum.paths import Step, named
from reprotui.checksum.shards import Part, placement, shard_arrays, strides_of
from reprotui.errors import BadInputError

TWO_STAGE_SIZE = 1 << 22
"""Elements from which rows are reduced first: XLA's CPU backend spreads a reduction over cores only where it has an
output dimension to split (64 MB: 15 GB/s instead of 7.6 on two cores); below, many leaves keep the cores busy."""

_U32 = jnp.uint32
_BITS_TO_UNSIGNED = {2: "uint2", 4: "uint4", 8: "uint8", 16: "uint16", 32: "uint32"}


def lanes(leaf: jax.Array, part: Part | None = None) -> tuple[jax.Array, jax.Array]:
    """Return both lanes of a leaf as uint32 scalars; traceable, so that many leaves go into one compiled call.

    Of an array that spans devices, each of its shards is a leaf: compiled for the whole, this would be a program of all its
    devices, with a collective among those of the script, and either could wait for the other.

    Args:
        leaf: an array of any shape and dtype, or an array of typed PRNG keys.
        part: where its elements lie in the whole, where it is a part of one; of keys, those of their `key_data`.
    """
    return _sums(leaf, part, None)[:2]


def lanes_and_not_finite(leaf: jax.Array, part: Part | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return both lanes of a leaf, and 1 where a number in it is NaN or infinite, else 0; as uint32 scalars, of one reading.

    Arguments as of `lanes`.
    """
    return _sums(leaf, part, finite_test(leaf.dtype))


def _sums(leaf: jax.Array, part: Part | None, test: FiniteTest | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    strides, start = part or Part(strides_of(leaf.shape), 0)
    total0, total1, found = _U32(0), _U32(0), _U32(0)
    for words, width, offset in _word_arrays(leaf):
        own = test if test is not None and test.tells(offset) else None
        lane0, lane1, *highest = _sum_mixed(words, tuple(stride * width for stride in strides), start * width + offset, own)
        total0, total1 = total0 + lane0, total1 + lane1
        if own is not None:
            found = found | (highest[0] >= own.limit).astype(_U32)
    return total0, total1, found


@functools.partial(jax.jit, static_argnums=1)
def _lanes_jit(leaf: jax.Array, part: Part) -> jax.Array:
    return jnp.stack(lanes(leaf, part))


def checksum(leaf: jax.Array) -> int:
    """Return the 64-bit checksum of one array, shard by shard; many leaves go into one jitted call instead, see `lanes`."""
    words = key_words(leaf)
    shards, pieces = shard_arrays(words), {piece.box: piece for piece in placement(words.sharding, words.shape).pieces}
    with apart_from_meshes():
        found = [_lanes_jit(shards[piece.shard], piece.part).tolist() for piece in pieces.values()]
    return lanes_to_checksum(sum(lane0 for lane0, _ in found), sum(lane1 for _, lane1 in found))


def key_words(leaf: jax.Array) -> jax.Array:
    """Return an array as it is, and of an array of keys its `key_data`, wherever that lies: nothing is computed."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    # `key_data` gives the same array after 0.1 ms.
    words = getattr(leaf, "_base_array", None)
    return jax.random.key_data(leaf) if words is None else words


def apart_from_meshes() -> Any:
    """Return a context without the script's mesh: with it, jax compiles every call for all devices of the mesh."""
    inside, leave = getattr(jax.sharding, "get_abstract_mesh", None), getattr(jax, "set_mesh", None)
    return contextlib.nullcontext() if inside is None or leave is None or inside().empty else leave(None)


def root_lanes(leaf_lanes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the lanes of the root over a phase's leaves; `leaf_lanes` is uint32[leaves, 2] in leaf order."""
    return lanes(leaf_lanes)


def scalar_words(leaf: jax.Array) -> jax.Array:
    """Return the words of a scalar as uint32[1] or, for 64-bit types, uint32[2]; traceable."""
    return jnp.stack([words for words, _, _ in _word_arrays(leaf)])


def named_leaves(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of a pytree with readable paths such as `params/dense_0/kernel`, in flattening order.

    Dictionary keys, sequence indices and field names are joined by `/`. The wrapper that flax nnx puts around an array
    leaves no trace in the path. Two leaves that would get the same path (a key may contain `/`) are told apart by `#2`.
    """
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return named(((tuple(map(_step, key_path)), leaf) for key_path, leaf in flat), prefix)


def _step(entry: Any) -> Step:
    for attribute in ("key", "name", "idx"):
        value = getattr(entry, attribute, None)
        if value is not None:
            return str(value), attribute == "name"
    return str(entry).strip(".[]'\""), False


def _word_arrays(leaf: jax.Array) -> list[tuple[jax.Array, int, int]]:
    """Return (unsigned words, words an element, index in the element) such that together they are the leaf's words."""
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


def _sum_mixed(word: jax.Array, strides: tuple[int, ...], offset: int, test: FiniteTest | None) -> tuple[jax.Array, ...]:
    """Return the sums of both mixed forms of words, and with a test the largest of the bits that it looks at."""
    if word.size == 0:
        return (_U32(0),) * (2 if test is None else 3)
    # The index enters only as index * INDEX_STEP, so each dimension carries its product and no multiplication by the
    # element's index is left. A reshape to one dimension would raise under explicitly sharded meshes.
    t = jnp.full(word.shape, (offset * INDEX_STEP + INDEX_START) & MASK, _U32)
    for dimension in reversed(range(word.ndim)):
        step = strides[dimension] * INDEX_STEP & MASK
        t = t + lax.broadcasted_iota(_U32, word.shape, dimension) * _U32(step)
    x = word ^ t
    x = x ^ (x >> 16)
    x = x * _U32(MIX_1)
    x = x ^ (x >> 15)
    x = x * _U32(MIX_2)
    x = x ^ (x >> 16)
    y = (x + t) * _U32(MIX_3)
    y = y ^ (y >> 15)
    found = (x, y) if test is None else (x, y, (word ^ _U32(test.flip)) & _U32(test.mask))
    if word.ndim == 0:
        return found
    if word.ndim > 1 and word.size >= TWO_STAGE_SIZE:
        return _reduced(_reduced(found, range(1, word.ndim)), (0,))
    return _reduced(found, range(word.ndim))


def _reduced(found: tuple[jax.Array, ...], dimensions: Any) -> tuple[jax.Array, ...]:
    # One variadic reduction reads the leaf once; two jnp.sum are ten times slower on the CPU.
    def joined(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return (a[0] + b[0], a[1] + b[1], *map(jnp.maximum, a[2:], b[2:]))

    return tuple(lax.reduce(found, (_U32(0),) * len(found), joined, tuple(dimensions)))
