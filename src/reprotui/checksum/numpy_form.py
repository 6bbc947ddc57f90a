"""`rfp1-64` in numpy: the reference form, and the one for the host's memory where there is no machine code (`host_form`)."""

import functools
import threading

import numpy as np
from numpy.typing import NDArray

from reprotui.checksum.definition import INDEX_START, INDEX_STEP, MASK, MIX_1, MIX_2, MIX_3, lanes_to_checksum
from reprotui.checksum.finite import FiniteTest, finite_test
from reprotui.errors import BadInputError

CHUNK_WORDS = 1 << 15
"""Words mixed at a time: the scratch stays in a core's cache."""

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint32}
NARROW = {"int4": 0xF, "uint4": 0xF, "float4_e2m1fn": 0xF, "int2": 0x3, "uint2": 0x3}
"""ml_dtypes keeps one element of these in one byte; the mask takes the bits that count."""


@functools.cache
def dtype_name(dtype: np.dtype) -> str:
    """Return numpy's name of a type; numpy itself composes it anew each time, which is half of what a small leaf costs."""
    return dtype.name


def words(array: NDArray) -> NDArray[np.unsignedinteger]:
    """Return the words of an array as a flat array of unsigned integers of 8, 16 or 32 bits.

    Args:
        array: any shape and memory layout; bool, integer, float and complex types, those of ml_dtypes included, in
            either byte order.

    Raises:
        BadInputError: for a type that has no fixed bits (object, string, datetime, extended precision).
    """
    array = np.asarray(array)
    check(array.dtype)
    name = dtype_name(array.dtype)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.dtype.kind == "b":
        return (flat.view(np.uint8) != 0).view(np.uint8)
    if array.dtype.kind == "c":
        flat = flat.view(np.float32 if array.dtype.itemsize == 8 else np.float64)
    bits = flat.view(_UNSIGNED[flat.dtype.itemsize])
    return bits & np.uint8(NARROW[name]) if name in NARROW else bits


def check(dtype: np.dtype) -> None:
    """Raise BadInputError for a type that has no fixed bits (object, string, datetime, extended precision)."""
    wide = dtype_name(dtype) in ("float128", "complex256", "longdouble", "clongdouble")
    if wide or dtype.kind in "OSUTMm" or dtype.type is np.void:
        raise BadInputError(f"a leaf of dtype {dtype} has no checksum: only bool, integer, float and complex do")


def lanes(array: NDArray, base: int = 0) -> tuple[int, int]:
    """Return both lanes of an array.

    Args:
        array: as in `words`.
        base: index of its first word within the whole, where the array is a contiguous part of a larger leaf.
    """
    return word_lanes(words(array), base)


def lanes_and_not_finite(array: NDArray, base: int = 0) -> tuple[int, int, bool]:
    """Return both lanes of an array, and whether a number in it is NaN or infinite; `base` as in `lanes`."""
    return _read(words(array), base, finite_test(array.dtype))


def word_lanes(all_words: NDArray[np.unsignedinteger], base: int = 0) -> tuple[int, int]:
    """Return both lanes of a leaf that is given as its `words`; `base` as in `lanes`."""
    return _read(all_words, base, None)[:2]


def _read(all_words: NDArray[np.unsignedinteger], base: int, test: FiniteTest | None) -> tuple[int, int, bool]:
    lane0, lane1, found = 0, 0, False
    scratch = _scratch()
    for start in range(0, all_words.size, CHUNK_WORDS):
        part = all_words[start : start + CHUNK_WORDS]
        x, t, y = scratch[:, : part.size]
        np.add(_TABLE[: part.size], np.uint32((base + start) * INDEX_STEP & MASK), out=t)
        np.copyto(x, part)
        if test is not None and not found:
            telling = y[: x[test.words - 1 :: test.words].size]
            np.bitwise_and(x[test.words - 1 :: test.words] ^ np.uint32(test.flip), np.uint32(test.mask), out=telling)
            found = bool(telling.max(initial=0) >= test.limit)
        _mix(x, t, y)
        # uint32 sums wrap as the definition has it.
        lane0 += int(np.add.reduce(x, dtype=np.uint32))
        lane1 += int(np.add.reduce(y, dtype=np.uint32))
    return lane0 & MASK, lane1 & MASK, found


def flipped_bit(array: NDArray, before: tuple[int, int]) -> tuple[int, int] | None:
    """Return the one bit that must be turned for an array to have other lanes: the element's number, and the bit's.

    Each bit is tried: 0.1 s for a million of them. That another change has the same lanes is as likely as any collision.

    Args:
        array: as in `words`, of real numbers.
        before: the lanes to be had.
    """
    now = lanes(array)
    want0, want1 = (np.uint32((old - new) & MASK) for old, new in zip(before, now, strict=True))
    flat = words(array)
    width = flat.dtype.itemsize * 8
    for start in range(0, flat.size, CHUNK_WORDS):
        part = flat[start : start + CHUNK_WORDS]
        t = _TABLE[: part.size] + np.uint32(start * INDEX_STEP & MASK)
        own, own_y = part.astype(np.uint32), np.empty(part.size, np.uint32)
        _mix(own, t.copy(), own_y)
        for bit in range(width):
            x, y = part.astype(np.uint32) ^ np.uint32(1 << bit), np.empty(part.size, np.uint32)
            _mix(x, t.copy(), y)
            at = np.flatnonzero((x - own == want0) & (y - own_y == want1))
            if at.size:
                element, word = divmod(start + int(at[0]), max(1, array.dtype.itemsize // 4))
                return element, bit + 32 * word
    return None


def statistics(array: NDArray) -> tuple[float, float]:
    """Return the L2 norm and the largest magnitude, both of them NaN where one is in the array."""
    if array.size == 0:
        return 0.0, 0.0
    with np.errstate(all="ignore"):  # a NaN that signals, or one ulp of overflow, is nothing to warn the script of
        magnitude = np.abs(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))
        norm = float(np.sqrt(np.sum(magnitude * magnitude)))
        return norm, float(magnitude.max())


def checksum(array: NDArray) -> int:
    """Return the 64-bit checksum of an array's bits; 0 for an empty one. Shape and dtype are not part of it."""
    return lanes_to_checksum(*lanes(array))


def root(checksums: NDArray[np.uint64]) -> int:
    """Return the root of the checksums of a phase's leaves, in leaf order; 0 where there are none."""
    return checksum(np.ascontiguousarray(checksums, dtype="<u8").view("<u4"))


def roots(checksums: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the root of every row of uint64[rows, leaves]; as `root`, for many records at once."""
    lane0, lane1 = (lane & np.uint64(MASK) for lane in root_sums(checksums))
    return lane1 << np.uint64(32) | lane0


def root_sums(checksums: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the sums behind both lanes of the root of every row of uint64[rows, leaves], before they wrap at 32 bits."""
    x = np.array(checksums, dtype="<u8").view("<u4")
    t = np.arange(x.shape[1], dtype=np.uint32) * np.uint32(INDEX_STEP) + np.uint32(INDEX_START)
    y = np.empty_like(x)
    _mix(x, np.broadcast_to(t, x.shape).copy(), y)
    return x.sum(axis=1, dtype=np.uint64), y.sum(axis=1, dtype=np.uint64)


def lanes_of_runs(words: NDArray[np.uint32], sizes: tuple[int, ...]) -> NDArray[np.uint32]:
    """Return the lanes of leaves that are given as runs of words behind each other, none of them empty: uint32[runs, 2]."""
    if not sizes:
        return np.empty((0, 2), np.uint32)
    starts, offsets = _run_offsets(sizes)
    x, t, y = words.copy(), offsets.copy(), np.empty_like(words)
    _mix(x, t, y)
    lanes = np.empty((len(sizes), 2), np.uint32)
    # In uint32 sums wrap as the definition has it; left to itself, numpy sums uint32 in uint64, and nothing wraps.
    np.add.reduceat(x, starts, dtype=np.uint32, out=lanes[:, 0])
    np.add.reduceat(y, starts, dtype=np.uint32, out=lanes[:, 1])
    return lanes


@functools.lru_cache(256)
def _run_offsets(sizes: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
    index = np.concatenate([np.arange(size, dtype=np.uint32) for size in sizes])
    return starts, index * np.uint32(INDEX_STEP) + np.uint32(INDEX_START)


def _mix(x: NDArray[np.uint32], t: NDArray[np.uint32], y: NDArray[np.uint32]) -> None:
    """Turn words `x` into the definition's x, given offsets `t`, and put its y into `y`; `t` is overwritten."""
    np.bitwise_xor(x, t, out=x)
    _shift(x, 16, y)
    np.multiply(x, np.uint32(MIX_1), out=x)
    _shift(x, 15, y)
    np.multiply(x, np.uint32(MIX_2), out=x)
    _shift(x, 16, y)
    np.add(x, t, out=y)
    np.multiply(y, np.uint32(MIX_3), out=y)
    _shift(y, 15, t)


def _shift(x: NDArray[np.uint32], bits: int, scratch: NDArray[np.uint32]) -> None:
    np.right_shift(x, np.uint32(bits), out=scratch)
    np.bitwise_xor(x, scratch, out=x)


_TABLE = (np.arange(CHUNK_WORDS, dtype=np.uint32) * np.uint32(INDEX_STEP)) + np.uint32(INDEX_START)
_of_thread = threading.local()


def _scratch() -> NDArray[np.uint32]:
    """Return memory of this thread for three blocks: new memory costs more than the arithmetic."""
    if not hasattr(_of_thread, "scratch"):
        _of_thread.scratch = np.empty((3, CHUNK_WORDS), np.uint32)
    return _of_thread.scratch
