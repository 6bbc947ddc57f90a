"""Curves as dots: a series reduced to its minimum and maximum in every dot column, then braille or letters. No textual here.

A chart library takes 7 to 22 ms for 2 x 400 points and joins them with lines; reduced series are spans a column, which
numpy turns into dots in less than a millisecond, and a spike of one step in a million stays visible.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reprotui.compare.timeline import RunLine, index_of

DOTS_X, DOTS_Y = 2, 4
"""Dots of a braille cell."""
_WEIGHTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.int32)
LABEL = 8
"""Most characters of a tick's label: what a chart leaves for it at the left."""
BOTH = -2
"""Owner of a cell in which several runs have dots."""
NONE = -1


@dataclass(frozen=True)
class Reduced:
    """A series over dot columns: lowest and highest value, NaN where a column has none; `gaps`: columns with NaN alone."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    gaps: NDArray[np.bool_]


def reduce(line: RunLine, first: float, last: float, columns: int) -> Reduced:
    """Reduce the losses of the steps from `first` to `last` to so many columns.

    Columns between two recorded steps are filled by a straight line where both are numbers; a NaN between them leaves a gap.
    """
    low = np.full(columns, np.nan)
    high = np.full(columns, np.nan)
    gaps = np.zeros(columns, np.bool_)
    width = max(last - first, 1e-9)
    start, stop = index_of(line.steps, math.ceil(first)), index_of(line.steps, math.floor(last) + 1)
    if stop <= start:
        return Reduced(low, high, gaps)
    if line.steps[start] == 0 and np.isnan(line.losses[start]):
        start += 1  # record 0 is taken before any loss: that is no gap
    values = line.losses[start:stop]
    if not len(values):
        return Reduced(low, high, gaps)
    if stop - start > columns * 4:
        # Many steps a column: where each column begins is looked up, and the steps are not touched one by one.
        edges = [index_of(line.steps, math.ceil(first + width * column / columns)) for column in range(columns)]
        starts = np.clip(np.array(edges, np.int64) - start, 0, len(values) - 1)
        starts[0] = 0
        low, high = (function.reduceat(values, starts).astype(np.float64) for function in (np.fmin, np.fmax))
        return Reduced(low, high, np.isnan(low))
    steps = np.asarray(line.steps[start:stop], np.float64)
    places = np.clip(((steps - first) / width * (columns - 1) + 0.5).astype(np.int64), 0, columns - 1)
    for function, into in ((np.fmin, low), (np.fmax, high)):
        function.at(into, places, values)
    seen = np.zeros(columns, np.bool_)
    seen[places] = True
    gaps = seen & np.isnan(low)
    _fill(low, high, gaps, seen)
    return Reduced(low, high, gaps)


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
    if log and (positive := low_values[low_values > 0]).size:
        low, high = float(positive.min()), float(high_values.max())
        return Scale(low / 1.05, high * 1.05, True)
    low, high = float(low_values.min()), float(high_values.max())
    margin = (high - low) * 0.03 or abs(high) * 0.05 or 0.5
    return Scale(low - margin, high + margin, False)


@dataclass(frozen=True)
class Picture:
    """Cells of a chart: characters as code points, and the run that owns each (`BOTH`, `NONE`); int32[height, width]."""

    characters: NDArray[np.int32]
    owners: NDArray[np.int32]


def draw(reduced: Sequence[Reduced], scale: Scale | None, width: int, height: int, ascii_only: bool) -> Picture:
    """Draw series into cells; in ASCII a run is its letter, and `*` stands for several."""
    characters = np.full((height, width), ord(" "), np.int32)
    owners = np.full((height, width), NONE, np.int32)
    if scale is None:
        return Picture(characters, owners)
    bits = np.zeros((height, width), np.int32)
    for index, series in enumerate(reduced):
        dots = _dots(series, scale, height * DOTS_Y)
        own = (dots.reshape(height, DOTS_Y, width, DOTS_X) * _WEIGHTS[None, :, None, :]).sum(axis=(1, 3))
        filled = own > 0
        owners = np.where(filled, np.where(owners == NONE, index, BOTH), owners)
        bits |= own
    shown = bits > 0
    if ascii_only:
        letters = np.where(owners == BOTH, ord("*"), ord("A") + owners)
        return Picture(np.where(shown, letters, characters).astype(np.int32), owners)
    return Picture(np.where(shown, 0x2800 + bits, characters).astype(np.int32), owners)


def _dots(series: Reduced, scale: Scale, rows: int) -> NDArray[np.bool_]:
    top, bottom = scale.rows(series.high, rows), scale.rows(series.low, rows)
    # A column reaches its neighbour, so that a curve is one line and not a cloud of dots.
    before_top, before_bottom = np.roll(top, 1), np.roll(bottom, 1)
    before_top[0] = before_bottom[0] = np.nan
    with np.errstate(invalid="ignore"):
        joined_top = np.where(before_bottom < top, before_bottom + 0.5, top)
        joined_bottom = np.where(before_top > bottom, before_top - 0.5, bottom)
    top = np.round(np.fmin(top, np.where(np.isnan(joined_top), top, joined_top)))
    bottom = np.round(np.fmax(bottom, np.where(np.isnan(joined_bottom), bottom, joined_bottom)))
    rows_index = np.arange(rows)[:, None]
    with np.errstate(invalid="ignore"):
        return (rows_index >= np.clip(top, 0, rows - 1)[None, :]) & (rows_index <= np.clip(bottom, 0, rows - 1)[None, :])


def ticks(scale: Scale, height: int) -> dict[int, str]:
    """Return labels by cell row, at most one every four rows."""
    dots = height * DOTS_Y
    count = max(2, min(6, height // 4 + 1))
    labels = {}
    for index in range(count):
        row = round(index * (height - 1) / (count - 1))
        labels[row] = short(scale.label(row * DOTS_Y + DOTS_Y / 2 - 0.5, dots), width=LABEL)
    return labels


def short(value: float | None, digits: int = 4, width: int | None = None) -> str:
    """Return a number in few characters, with fewer digits where `width` has no room; NaN and infinities by their names."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e")
    return text if width is None or len(text) <= width or digits == 1 else short(value, digits - 1, width)
