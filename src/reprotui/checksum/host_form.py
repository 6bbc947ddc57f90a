"""`rfp1-64` of what lies in the host's memory, read where it lies: many leaves in one call, with statistics in the same pass.

Where llvmlite is there, `machine_code` does it; elsewhere the numpy form does, which takes longer.
"""

import ctypes
import functools
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import machine_code, numpy_form
from reprotui.checksum.definition import INDEX_START, INDEX_STEP, MASK, lanes_to_checksum
from reprotui.checksum.finite import FiniteTest, finite_test
from reprotui.checksum.leaf_code import NUMBERS

LOCKED_BYTES = 1 << 22
"""Up to so many bytes a call keeps the interpreter's lock: another thread that takes it gives it back after 5 ms."""

STARTING_BYTES = 1 << 26
"""What numpy reads in the time in which the machine code is made: who reads single arrays pays for it from there on."""

_ROW = np.dtype([("lanes", "<u4", 2), ("squares", "<f8"), ("largest", "<f8"), ("not_finite", "<i8")])
_SELF_TEST = np.arange(1, 38, dtype=np.uint32) * np.uint32(INDEX_STEP)


class Kind(NamedTuple):
    """How the elements of a type lie in memory: the kind of their words, how many each has, the type for statistics, and what
    tells the words of numbers that are not finite."""

    word: str
    words: int
    number: str
    test: FiniteTest | None


class Read(NamedTuple):
    """What was read of leaves.

    Attributes:
        lanes: uint32[leaves, 2].
        not_finite: bool[leaves], whether there is a NaN or an infinity.
        statistics: float32[leaves, 2], L2 norm and largest magnitude, where they were asked for. A NaN shows in both; of
            complex numbers the magnitudes count.
    """

    lanes: NDArray[np.uint32]
    not_finite: NDArray[np.bool_]
    statistics: NDArray[np.float32] | None

    def at(self, places: NDArray[np.intp]) -> "Read":
        """Return what was read of the leaves at these places, in their order."""
        statistics = None if self.statistics is None else self.statistics[places]
        return Read(self.lanes[places], self.not_finite[places], statistics)


@functools.cache
def shortfall() -> str | None:
    """Return why the numpy form is used here instead of machine code; None where it is not. Tried once."""
    if sys.byteorder != "little":
        return "the words of this machine have another byte order"
    if (reason := machine_code.trouble()) is not None:
        return reason
    rows = np.array([[machine_code.function("32"), _SELF_TEST.ctypes.data, _SELF_TEST.size, INDEX_START]], np.int64)
    out: Any = np.zeros(1, _ROW)
    for call in machine_code.table_calls():
        call(rows.ctypes.data, 1, out.ctypes.data)
        if tuple(out["lanes"][0].tolist()) != numpy_form.word_lanes(_SELF_TEST):
            return "its result is not that of numpy"
    return None


@functools.cache
def kind_of(dtype: np.dtype) -> Kind:
    """Return how the elements of a type lie in memory.

    Raises:
        BadInputError: for a type that has no fixed bits.
    """
    numpy_form.check(dtype)
    name, test, size = numpy_form.dtype_name(dtype), finite_test(dtype), dtype.itemsize
    if name in numpy_form.NARROW:
        return Kind("int2" if numpy_form.NARROW[name] == 0x3 else "int4", 1, name, test)
    if dtype.kind == "b":
        return Kind("bool", 1, name, test)
    return Kind(str(8 * size), 1, name, test) if size <= 4 else Kind("32", size // 4, name, test)


def in_place(array: NDArray) -> NDArray:
    """Return an array whose words lie in memory one behind the other, as on this machine: itself, or a copy."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def lanes(array: NDArray, base: int = 0) -> tuple[int, int]:
    """Return both lanes of an array, as `numpy_form.lanes` does."""
    array = np.asarray(array)
    kind = kind_of(array.dtype)
    if not _worth(array.nbytes):
        return numpy_form.lanes(array, base)
    array, out = in_place(array), (ctypes.c_uint32 * 2)()
    machine_code.call(kind.word)(array.ctypes.data, array.size * kind.words, base * INDEX_STEP + INDEX_START & MASK, out)
    return out[0], out[1]


def roots(checksums: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the root of every row of uint64[rows, leaves], as `numpy_form.roots` does."""
    if not _worth(checksums.nbytes):
        return numpy_form.roots(checksums)
    found = np.ascontiguousarray(checksums, dtype="<u8")
    rows = np.empty((len(found), 4), np.int64)
    rows[:] = machine_code.function("32"), found.ctypes.data, 2 * found.shape[1], INDEX_START
    rows[:, 1] += np.arange(len(found)) * found.strides[0]
    out: Any = np.zeros(len(found), _ROW)
    machine_code.table_calls()[1](rows.ctypes.data, len(found), out.ctypes.data)
    return out["lanes"].copy().view("<u8").reshape(-1)


_by_numpy = 0


def _worth(size: int) -> bool:
    """Say whether so many bytes are read by machine code: where it is there, or there was enough to read to make it."""
    global _by_numpy
    _by_numpy += size
    return (_by_numpy > STARTING_BYTES or machine_code.made()) and shortfall() is None


def checksum(array: NDArray) -> int:
    """Return the 64-bit checksum of an array's bits; 0 for an empty one. Shape and dtype are not part of it."""
    return lanes_to_checksum(*lanes(array))


class Table:
    """Leaves of certain types and sizes in the host's memory: described once, and read as often as their addresses are given.

    One thread may use it: it writes into memory of its own.

    Args:
        dtypes: numpy's type of each leaf; what lies in memory has the byte order of this machine.
        sizes: elements of each.
        bases: index of the first word of each, where it is a part of a larger leaf.
        lasting: they are read again and again; else no machine code is made for little.

    Raises:
        BadInputError: for a type that has no fixed bits.
    """

    def __init__(
        self, dtypes: Sequence[np.dtype], sizes: Sequence[int], bases: Sequence[int] | None = None, lasting: bool = True
    ) -> None:
        kinds = [kind_of(dtype) for dtype in dtypes]
        count = len(kinds)
        self._kinds, self._dtypes = tuple(kinds), tuple(dtypes)
        self._bases = [0] * count if bases is None else [base & MASK for base in bases]
        self._sizes = tuple(sizes)
        self._rows = np.zeros((count, 4), np.int64)
        self._rows[:, 2] = [size * kind.words for kind, size in zip(kinds, sizes, strict=True)]
        self._rows[:, 3] = [base * INDEX_STEP + INDEX_START & MASK for base in self._bases]
        self._out: Any = np.zeros(count, _ROW)
        self._addresses, self._lanes, self._odd = self._rows[:, 1], self._out["lanes"], self._out["not_finite"]
        self._at = self._rows.ctypes.data, count, self._out.ctypes.data
        self._functions: dict[bool, NDArray[np.int64]] = {}
        size = sum(size * dtype.itemsize for size, dtype in zip(sizes, dtypes, strict=True))
        self._native = shortfall() is None if lasting else _worth(size)
        if self._native:
            held, let_go = machine_code.table_calls()
            self._call = held if size <= LOCKED_BYTES else let_go

    def read(self, addresses: Sequence[int], statistics: bool = False) -> Read:
        """Read the leaves at these addresses, once, with statistics of the same bits; what is there must not change meanwhile."""
        values = np.zeros((len(self._kinds), 2), np.float64)
        others: Sequence[int] = range(len(self._kinds))
        if self._native:
            self._read(addresses, statistics)
            lanes, not_finite = self._lanes.copy(), self._odd != 0
            others = [index for index, kind in enumerate(self._kinds) if kind.number not in NUMBERS] if statistics else ()
            if statistics:
                with np.errstate(all="ignore"):  # one ulp of overflow is nothing to warn the script of
                    values[:, 0] = np.sqrt(self._out["squares"])
                values[:, 1] = np.where(np.isnan(values[:, 0]), np.nan, self._out["largest"])
        else:
            lanes, not_finite = np.zeros((len(others), 2), np.uint32), np.zeros(len(others), np.bool_)
        for index, array in zip(others, self._views([addresses[index] for index in others], others), strict=True):
            if not self._native:
                *lanes[index], not_finite[index] = numpy_form.lanes_and_not_finite(array, self._bases[index])
            if statistics:
                values[index] = numpy_form.statistics(array)
        if not statistics:
            return Read(lanes, not_finite, None)
        with np.errstate(all="ignore"):
            return Read(lanes, not_finite, values.astype(np.float32))

    def _read(self, addresses: Sequence[int], statistics: bool) -> None:
        if statistics not in self._functions:
            numbers = [kind.number if statistics and kind.number in NUMBERS else None for kind in self._kinds]
            self._functions[statistics] = np.array(
                [machine_code.function(kind.word, number, kind.test) for kind, number in zip(self._kinds, numbers, strict=True)],
                np.int64,
            )
        self._rows[:, 0] = self._functions[statistics]
        self._addresses[:] = addresses
        self._call(*self._at)

    def _views(self, addresses: Sequence[int], indices: Sequence[int]) -> list[NDArray]:
        return [
            _array_at(address, self._dtypes[index], self._sizes[index]) for index, address in zip(indices, addresses, strict=True)
        ]


def _array_at(address: int, dtype: np.dtype, size: int) -> NDArray:
    if not size:
        return np.empty(0, dtype)
    memory: Any = (ctypes.c_uint8 * (size * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype)
