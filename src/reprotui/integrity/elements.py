"""The difference of two arrays, element by element: how many, where first, how large, how many units in the last place.

Equality is by bits, as everywhere: -0.0 differs from 0.0 by 0 ulp and 0 in value and still counts as different, and so
does one NaN from another of other payload.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_ELEMENTS = 1 << 20
"""Elements compared at a time: the temporaries take 50 MB, whatever the size of the leaf."""
ULP_EDGES = (1, 2, 4, 16, 64, 256, 1 << 12, 1 << 16, 1 << 24, 1 << 32)
"""Lower edges of the histogram of ulp; the bin before the first holds 0 ulp (-0.0 against 0.0)."""
LOG_EDGES = tuple(range(-16, 5, 2))
"""Edges of the histogram of log10 |Δ|; below the first and from the last on are bins of their own."""

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_NARROW = ("int4", "uint4", "int2", "uint2", "float4_e2m1fn")


@dataclass(frozen=True)
class ElementDifference:
    """How two arrays of one dtype and shape differ.

    Attributes:
        elements: number of elements.
        different: how many have other bits.
        first_index: index of the first of them in C order, one entry a dimension; None where none differs.
        first_values: its two values as text, with the digits that tell them apart.
        max_abs: largest |a - b| among finite values of a and b; None where there is no such different pair.
        max_abs_index: where that is.
        max_relative: largest |a - b| / max(|a|, |b|), over the same pairs.
        max_ulp: largest distance in units in the last place: how many representable numbers lie between, counted
            through zero across signs, with -0.0 and 0.0 the same; None for types that are not floating point.
        not_finite: different elements of which at least one is NaN or infinite; they enter no other figure.
        ulp_histogram: (label, count), over the different pairs of finite values; empty for integers.
        log_histogram: (label, count) of log10 |a - b|; pairs whose difference is 0 are left out.
    """

    elements: int
    different: int
    first_index: tuple[int, ...] | None
    first_values: tuple[str, str] | None
    max_abs: float | None
    max_abs_index: tuple[int, ...] | None
    max_relative: float | None
    max_ulp: int | None
    not_finite: int
    ulp_histogram: tuple[tuple[str, int], ...]
    log_histogram: tuple[tuple[str, int], ...]

    @property
    def equal(self) -> bool:
        """Say whether all bits are equal."""
        return self.different == 0

    def to_json(self) -> dict[str, Any]:
        """Return the difference as a JSON object."""
        return {
            "elements": self.elements, "different": self.different, "first_index": self.first_index,
            "first_values": self.first_values, "max_abs": self.max_abs, "max_abs_index": self.max_abs_index,
            "max_relative": self.max_relative, "max_ulp": self.max_ulp, "not_finite": self.not_finite,
            "ulp_histogram": dict(self.ulp_histogram), "log10_histogram": dict(self.log_histogram),
        }  # fmt: skip


def compare_arrays(a: NDArray, b: NDArray) -> ElementDifference:
    """Compare two arrays element by element, in bounded memory.

    Args:
        a, b: arrays of the same dtype and shape: bool, integer, float or complex, those of ml_dtypes included.
            Complex numbers are compared part by part: real and imaginary part are two elements of a last dimension.

    Raises:
        ValueError: dtype or shape differ: then no element has a partner.
    """
    a, b = in_parts(a, b)
    shape = a.shape
    flat_a, flat_b = np.ascontiguousarray(a).reshape(-1), np.ascontiguousarray(b).reshape(-1)
    totals = _Totals(is_float(a.dtype))
    for start in range(0, flat_a.size, CHUNK_ELEMENTS):
        totals.add(start, flat_a[start : start + CHUNK_ELEMENTS], flat_b[start : start + CHUNK_ELEMENTS])
    first, largest = (None if at is None else _index(at, shape) for at in (totals.first, totals.max_abs_at))
    values = None if totals.first is None else (show(flat_a[totals.first]), show(flat_b[totals.first]))
    return ElementDifference(
        flat_a.size, totals.different, first, values, totals.max_abs, largest, totals.max_relative, totals.max_ulp,
        totals.not_finite, totals.ulp_histogram(), totals.log_histogram(),
    )  # fmt: skip


def in_parts(a: NDArray, b: NDArray) -> tuple[NDArray, NDArray]:
    """Return two arrays as `compare_arrays` counts their elements: complex numbers part by part; see there for errors."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        raise ValueError(f"{a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)} cannot be compared element by element")
    if a.dtype.kind == "c":
        part = np.float32 if a.dtype.itemsize == 8 else np.float64
        a, b = (np.ascontiguousarray(x)[..., None].view(part) for x in (a, b))
    return a, b


def ulp_distance(a: NDArray, b: NDArray) -> NDArray[np.uint64]:
    """Return how many representable numbers lie between elements of two floating-point arrays.

    The bits of a floating-point number, taken as sign and magnitude, order the numbers: the distance is the difference
    of those integers, so it is defined across zero and across exponents. -0.0 and 0.0 have distance 0; infinity is one
    beyond the largest number. For NaN the result means nothing.
    """
    x, y = _ordered(a), _ordered(b)
    return np.where(x > y, x - y, y - x)


def is_float(dtype: np.dtype) -> bool:
    """Say whether a dtype is real floating point, those of ml_dtypes included."""
    return dtype.kind == "f" or (dtype.kind == "V" and dtype.name.startswith(("bfloat", "float")))


def show(value: Any) -> str:
    """Return a value with all digits that its type tells apart, and the bits of a NaN."""
    array = np.asarray(value)
    if array.dtype.kind in "biu":
        return str(value)
    if not is_float(array.dtype):
        return str(value.item() if hasattr(value, "item") else value)
    number = float(value)
    if math.isnan(number):
        bits = int(element_bits(array.reshape(1))[0])
        return f"nan (0x{bits:0{2 * array.dtype.itemsize}x})"
    return f"{number:.{9 if array.dtype.itemsize <= 4 else 17}g}"


def heat_map(a: NDArray, b: NDArray, rows: int, columns: int) -> NDArray[np.float64]:
    """Return max |a - b| over the cells of a grid, for a picture of where two arrays differ.

    Args:
        a, b: as in `compare_arrays`. All dimensions but the last are rows of a matrix; a vector is one row, a
            scalar one cell.
        rows, columns: the size of the grid at most: a smaller matrix gives a smaller grid.

    Returns:
        float64[rows, columns]; infinity where a cell holds a different pair with a NaN or an infinity, and the
        smallest positive number where bits differ but values do not.
    """
    if a.dtype != b.dtype or a.shape != b.shape:
        raise ValueError(f"{a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)} cannot be compared element by element")
    width = a.shape[-1] if a.ndim else 1
    if a.size == 0:
        return np.zeros((0, 0))
    matrix_a, matrix_b = (np.ascontiguousarray(x).reshape(-1, width) for x in (a, b))
    height = matrix_a.shape[0]
    rows, columns = min(rows, height), min(columns, width)
    column_edges = np.arange(columns) * width // columns
    grid = np.zeros((rows, columns))
    # Blocks of rows: a leaf of any size is read once, in the memory of one block.
    block = max(1, CHUNK_ELEMENTS // width)
    for start in range(0, height, block):
        distance = _distance(matrix_a[start : start + block], matrix_b[start : start + block])
        reduced = np.maximum.reduceat(distance, column_edges, axis=1)
        # The row r of the matrix lies in the row r * rows // height of the grid.
        np.maximum.at(grid, np.arange(start, start + len(reduced)) * rows // height, reduced)
    return grid


def _distance(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    if a.dtype.kind == "c":
        with np.errstate(all="ignore"):
            delta = np.abs(a.astype(np.complex128) - b.astype(np.complex128))
        different = (a.view(np.uint8).reshape(*a.shape, -1) != b.view(np.uint8).reshape(*b.shape, -1)).any(axis=-1)
    else:
        with np.errstate(all="ignore"):
            delta = np.abs(a.astype(np.float64) - b.astype(np.float64))
        different = element_bits(a) != element_bits(b)
    delta = np.where(np.isfinite(delta), np.maximum(delta, np.finfo(np.float64).tiny), np.inf)
    return np.where(different, delta, 0.0)


class _Totals:
    """What is known after some chunks."""

    def __init__(self, floating: bool) -> None:
        self._floating = floating
        self.different = self.not_finite = 0
        self.first: int | None = None
        self.max_abs: float | None = None
        self.max_abs_at: int | None = None
        self.max_relative: float | None = None
        self.max_ulp: int | None = None
        self._ulps = np.zeros(len(ULP_EDGES) + 1, np.int64)
        self._logs = np.zeros(len(LOG_EDGES) + 1, np.int64)

    def add(self, start: int, a: NDArray, b: NDArray) -> None:
        at = np.flatnonzero(element_bits(a) != element_bits(b))
        if not at.size:
            return
        self.different += at.size
        if self.first is None:
            self.first = start + int(at[0])
        a, b = a[at], b[at]
        if self._floating:
            wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
            finite = np.isfinite(wide_a) & np.isfinite(wide_b)
            self.not_finite += int((~finite).sum())
            a, b, at, wide_a, wide_b = (x[finite] for x in (a, b, at, wide_a, wide_b))
            if not at.size:
                return
            ulps = ulp_distance(a, b)
            self.max_ulp = max(self.max_ulp or 0, int(ulps.max()))
            self._ulps += np.bincount(np.searchsorted(np.array(ULP_EDGES, np.uint64), ulps, "right"), minlength=self._ulps.size)
        else:
            # Exact for integers of up to 32 bits; 64-bit ones are told apart by their bits, and rounded here.
            wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(over="ignore"):
            delta = np.abs(wide_a - wide_b)
        largest = int(delta.argmax())
        if self.max_abs is None or delta[largest] > self.max_abs:
            self.max_abs, self.max_abs_at = float(delta[largest]), start + int(at[largest])
        with np.errstate(invalid="ignore", over="ignore"):
            scale = np.maximum(np.abs(wide_a), np.abs(wide_b))
            relative = np.where(scale > 0, delta / np.where(scale > 0, scale, 1), 0.0)
        self.max_relative = max(self.max_relative or 0.0, float(relative.max()))
        logs = np.log10(delta[delta > 0])
        self._logs += np.bincount(np.searchsorted(np.array(LOG_EDGES), logs, "right"), minlength=self._logs.size)

    def ulp_histogram(self) -> tuple[tuple[str, int], ...]:
        if not self._floating:
            return ()
        edges = (0, *ULP_EDGES)
        labels = [f"{low}" if high == low + 1 else f"{low}…" for low, high in zip(edges, (*ULP_EDGES, 0), strict=True)]
        return tuple(zip(labels, self._ulps.tolist(), strict=True))

    def log_histogram(self) -> tuple[tuple[str, int], ...]:
        labels = [f"<{LOG_EDGES[0]}", *(f"{edge}…" for edge in LOG_EDGES)]
        return tuple(zip(labels, self._logs.tolist(), strict=True))


def element_bits(array: NDArray) -> NDArray[np.unsignedinteger]:
    """Return the elements of an array as unsigned integers of their size: equal where their bits are."""
    bits = np.ascontiguousarray(array).view(_UNSIGNED[array.dtype.itemsize])
    # ml_dtypes keeps these in a byte each, of which the upper bits mean nothing.
    return bits & np.uint8(0xF if "4" in array.dtype.name else 0x3) if array.dtype.name in _NARROW else bits


def _ordered(array: NDArray) -> NDArray[np.uint64]:
    """Return integers in the order of the numbers; both zeros give the same one."""
    bits = element_bits(array).astype(np.uint64)
    width = 4 if array.dtype.name in _NARROW else 8 * array.dtype.itemsize
    sign = np.uint64(1 << (width - 1))
    magnitude = bits & (sign - np.uint64(1))
    return np.where(bits & sign, sign - magnitude, sign + magnitude)


def _index(at: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(at, shape)) if shape else ()
