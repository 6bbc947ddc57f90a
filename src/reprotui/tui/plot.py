"""Curves as dots: a series reduced to its minimum and maximum in every dot column, then braille or letters. No textual here.

A chart library takes 7 to 22 ms for 2 x 400 points and joins them with lines; reduced series are spans a column, which
numpy turns into dots in less than a millisecond, and a spike of one step in a million stays visible.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reprotui.compare.series import Places, Series, places

DOTS_X, DOTS_Y = 2, 4
"""Dots of a braille cell."""
_WEIGHTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.int32)
SAME = -2
"""Owner of a cell in which several runs have the same values."""
NONE = -1
CORD = 2
"""Cells that each run has in turn where several run together with other values: as strands of a cord."""


@dataclass(frozen=True)
class Reduced:
    """A series over dot columns: lowest and highest value, NaN where a column has none.

    `gaps` are columns with NaN alone; `same` those in which it has the values of the reference.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    gaps: NDArray[np.bool_]
    same: NDArray[np.bool_]


def reduce(line: Series, first: float, last: float, columns: int, reference: Series | None = None) -> Reduced:
    """Reduce the values between the places `first` and `last` to so many columns.

    Columns between two records are filled by a straight line where both are numbers; a NaN between them leaves a gap.
    Without a `reference`, no column is the same as its.
    """
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    gaps, same = np.zeros(columns, np.bool_), np.zeros(columns, np.bool_)
    width = max(last - first, 1e-9)
    start, stop = line.between(first, last)
    if stop <= start:
        return Reduced(low, high, gaps, same)
    values = line.values[start:stop]
    many = stop - start > columns * 4
    if many:
        # Many steps a column: where each column begins is looked up, and the steps are not touched one by one.
        edges = places(line.x, first + width * np.arange(columns + 1) / columns) - start
        edges = np.clip(edges, 0, len(values))
        edges[0], edges[-1] = 0, len(values)
        seen = edges[1:] > edges[:-1]
        starts = edges[:-1][seen]
        low[seen], high[seen] = (function.reduceat(values, starts) for function in (np.fmin, np.fmax))
    else:
        at = _columns(line.x[start:stop], first, width, columns)
        for function, into in ((np.fmin, low), (np.fmax, high)):
            function.at(into, at, values)
        seen = np.zeros(columns, np.bool_)
        seen[at] = True
    gaps = seen & np.isnan(low)
    _fill(low, high, gaps, seen)
    if reference is not None:
        same = _same(line, reference, first, last, columns, many)
    return Reduced(low, high, gaps, same)


def _columns(x: Places, first: float, width: float, columns: int, many: bool = False) -> NDArray[np.int64]:
    share = (np.asarray(x, np.float64) - first) / width
    found = share * columns if many else share * (columns - 1) + 0.5
    return np.clip(found.astype(np.int64), 0, columns - 1)


def _same(line: Series, reference: Series, first: float, last: float, columns: int, many: bool) -> NDArray[np.bool_]:
    """Say in which columns all values of two series are equal, NaN with NaN; columns between two such belong to them."""
    both = line.beside(reference, first, last)
    same = np.zeros(columns, np.bool_)
    if not len(both.x):
        return same
    differs = ~((both.a == both.b) | (np.isnan(both.a) & np.isnan(both.b)))
    width = max(last - first, 1e-9)
    ends = _columns(np.array([both.x[0], both.x[-1]], np.float64), first, width, columns, many)
    same[ends[0] : ends[1] + 1] = True
    wrong = _columns(np.asarray(both.x, np.float64)[differs] if differs.any() else range(0), first, width, columns, many)
    same[wrong] = False
    if not many and len(wrong):
        # What leads to and from a step that differs is drawn apart, too.
        seen = np.unique(_columns(both.x, first, width, columns))
        at = np.searchsorted(seen, wrong)
        before, after = seen[np.maximum(at - 1, 0)], seen[np.minimum(at + 1, len(seen) - 1)]
        for low, high in zip((before + 1).tolist(), after.tolist(), strict=True):
            same[low:high] = False
    return same


def _fill(low: NDArray[np.float64], high: NDArray[np.float64], gaps: NDArray[np.bool_], seen: NDArray[np.bool_]) -> None:
    """Draw lines over columns without a step between two that have a number; between two NaN, the gap goes on."""
    known = np.flatnonzero(seen)
    if len(known) < 2:
        return
    numbers = known[~gaps[known]]
    empty = np.flatnonzero(~seen)
    empty = empty[(empty > known[0]) & (empty < known[-1])]
    after = np.searchsorted(known, empty)
    before_is_gap, after_is_gap = gaps[known[after - 1]], gaps[known[after]]
    gaps[empty[before_is_gap & after_is_gap]] = True
    if not len(numbers):
        return
    bridged = empty[~before_is_gap & ~after_is_gap]
    middle = (low[numbers] + high[numbers]) / 2
    low[bridged] = high[bridged] = np.interp(bridged, numbers, middle)


@dataclass(frozen=True)
class Scale:
    """From values to dot rows; `log` falls back to linear where no value is above 0."""

    low: float
    high: float
    log: bool

    def rows(self, values: NDArray[np.float64], dots: int) -> NDArray[np.float64]:
        """Return dot rows from the top, NaN for what cannot stand on this scale."""
        if self.log:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = np.where(values > 0, np.log10(np.maximum(values, 1e-300)), np.nan)
        low, high = self._ends()
        return (high - values) / (high - low) * (dots - 1)

    def _ends(self) -> tuple[float, float]:
        return (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)

    def label(self, row: float, dots: int) -> float:
        """Return the value that a dot row stands for."""
        low, high = self._ends()
        value = high - row / max(1, dots - 1) * (high - low)
        return 10**value if self.log else value


def scale_of(reduced: Sequence[Reduced], log: bool) -> Scale | None:
    """Return the scale that holds all series, None where there is no number."""
    lows = [item.low[np.isfinite(item.low)] for item in reduced]
    highs = [item.high[np.isfinite(item.high)] for item in reduced]
    low_values, high_values = np.concatenate([*lows, []]), np.concatenate([*highs, []])
    if not len(low_values):
        return None
    if log and (high_values > 0).any():
        positive = low_values[low_values > 0]
        high = float(high_values.max())
        low = float(positive.min()) if positive.size else high / 10
        return Scale(low / 1.05, high * 1.05, True)
    low, high = float(low_values.min()), float(high_values.max())
    margin = (high - low) * 0.03 or abs(high) * 0.05 or 0.5
    return Scale(low - margin, high + margin, False)


@dataclass(frozen=True)
class Picture:
    """Cells of a chart: characters as code points, and the run that owns each (`SAME`, `NONE`); int32[height, width]."""

    characters: NDArray[np.int32]
    owners: NDArray[np.int32]


def draw(reduced: Sequence[Reduced], scale: Scale | None, width: int, height: int, ascii_only: bool) -> Picture:
    """Draw series into cells; in ASCII a run is its letter, and `=` stands for several with the same values.

    Where several run through a cell with other values, they have it in turn, so that each is seen.
    """
    characters = np.full((height, width), ord(" "), np.int32)
    owners = np.full((height, width), NONE, np.int32)
    if scale is None or not reduced:
        return Picture(characters, owners)
    bits = np.stack([_bits(series, scale, height, width) for series in reduced])
    there = bits > 0
    count = there.sum(axis=0)
    same = np.stack([item.same.reshape(width, DOTS_X).all(axis=1) for item in reduced])
    same[0] = True
    together = (count > 1) & there[0] & (~there | same[:, None, :]).all(axis=0)
    turn = np.where(count > 0, np.arange(width)[None, :] // CORD % np.maximum(count, 1), 0)
    chosen = np.argmax(there & (np.cumsum(there, axis=0) == turn[None] + 1), axis=0)
    owners = np.where(count > 0, np.where(together, SAME, chosen), NONE).astype(np.int32)
    shown = np.where(together, np.bitwise_or.reduce(bits, axis=0), np.take_along_axis(bits, chosen[None], 0)[0])
    if ascii_only:
        letters = np.where(owners == SAME, ord("="), ord("A") + owners)
        return Picture(np.where(shown > 0, letters, characters).astype(np.int32), owners)
    return Picture(np.where(shown > 0, 0x2800 + shown, characters).astype(np.int32), owners)


def _bits(series: Reduced, scale: Scale, height: int, width: int) -> NDArray[np.int32]:
    """Return the dots of a series as braille bits, int32[height, width]."""
    rows = height * DOTS_Y
    top, bottom = scale.rows(series.high, rows), scale.rows(series.low, rows)
    # A column reaches its neighbour, so that a curve is one line and not a cloud of dots.
    before_top, before_bottom = np.roll(top, 1), np.roll(bottom, 1)
    before_top[0] = before_bottom[0] = np.nan
    with np.errstate(invalid="ignore"):
        joined_top = np.where(before_bottom < top, before_bottom + 0.5, top)
        joined_bottom = np.where(before_top > bottom, before_top - 0.5, bottom)
    top = np.round(np.fmin(top, np.where(np.isnan(joined_top), top, joined_top)))
    bottom = np.round(np.fmax(bottom, np.where(np.isnan(joined_bottom), bottom, joined_bottom)))
    index = np.arange(rows)[:, None]
    with np.errstate(invalid="ignore"):
        dots = (index >= np.clip(top, 0, rows - 1)[None, :]) & (index <= np.clip(bottom, 0, rows - 1)[None, :])
    return (dots.reshape(height, DOTS_Y, width, DOTS_X) * _WEIGHTS[None, :, None, :]).sum(axis=(1, 3))
