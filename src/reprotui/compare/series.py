"""Numbers of runs over their steps, or over their time: what a chart draws and a table of data holds."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reprotui.compare.steps import Steps

Places = Steps | NDArray[np.float64]
"""Where the values of a series stand: steps, or seconds, in order."""


@dataclass(frozen=True, eq=False)
class Series:
    """Values of one run, float32 or float64 (NaN where it is NaN), and where they stand; both of one length."""

    x: Places = range(0)
    values: NDArray[Any] = field(default_factory=lambda: np.zeros(0))

    def beside(self, reference: "Series", first: float = -np.inf, last: float = np.inf) -> "Beside":
        """Return the values of both between two places, where both have one."""
        (start, stop), (low, high) = self.between(first, last), reference.between(first, last)
        x, own = self.x[start:stop], reference.x[low:high]
        count = min(len(x), len(own))
        head, head_own = x[:count], own[:count]
        both_ranges = isinstance(head, range) and isinstance(head_own, range)
        if head == head_own if both_ranges else np.array_equal(head, head_own):
            # One may have got further: what is behind the end of the other has no partner.
            return Beside(head, reference.values[low:high][:count], self.values[start:stop][:count])
        both, at, at_own = np.intersect1d(x, own, assume_unique=True, return_indices=True)
        return Beside(both, reference.values[low:high][at_own], self.values[start:stop][at])

    def between(self, first: float, last: float) -> tuple[int, int]:
        """Return the indices from `first` up to behind `last`."""
        if not len(self.x):
            return 0, 0
        ends = float(self.x[0]), float(self.x[-1])
        return int(places(self.x, [max(first, ends[0])])[0]), int(places(self.x, [min(last, ends[1])], behind=True)[0])

    def at(self, step: int) -> float | None:
        """Return the value of a step, None where there is none."""
        index = int(places(self.x, [step])[0])
        return float(self.values[index]) if index < len(self.x) and self.x[index] == step else None

    def apart(self, reference: "Series") -> "Series":
        """Return |this − reference| where both have a value; equal values, also NaN and infinities, are 0 apart."""
        both = self.beside(reference)
        a, b = (np.asarray(values, np.float64) for values in (both.a, both.b))
        with np.errstate(invalid="ignore"):
            equal = (a == b) | (np.isnan(a) & np.isnan(b))
            return Series(both.x, np.where(equal, 0.0, np.abs(b - a)))

    def smooth(self, window: int) -> "Series":
        """Return the mean of each value and those before it, `window` in all; what is not finite stays, and enters no mean."""
        if window < 2 or not len(self.values):
            return self
        values = np.asarray(self.values, np.float64)
        finite = np.isfinite(values)
        # Sums from the first value on, of which two are subtracted: of losses, 9 digits are left behind a million.
        sums, counts = (np.concatenate([[0.0], np.cumsum(each)]) for each in (np.where(finite, values, 0.0), finite))
        ends = np.arange(1, len(values) + 1)
        starts = np.maximum(ends - window, 0)
        means = (sums[ends] - sums[starts]) / np.maximum(counts[ends] - counts[starts], 1)
        return Series(self.x, np.where(finite, means, values))

    def over(self, clock: "Series") -> "Series":
        """Return the values over time; `clock` has the seconds of steps, among which are all of this series."""
        if not len(self.x) or not len(clock.x):
            return Series(np.zeros(0), np.zeros(0))
        at = np.minimum(places(clock.x, self.x), len(clock.x) - 1)
        return Series(clock.values[at], self.values)


class Beside(NamedTuple):
    """Values of the reference and of another run where both have one."""

    x: Places
    a: NDArray[Any]
    b: NDArray[Any]


def places(x: Places, at: Any, behind: bool = False) -> NDArray[np.int64]:
    """Return the index of the first place that is not below each of `at`; with `behind`, of the first above it."""
    wanted = np.asarray(at, np.float64)
    if not isinstance(x, range):
        return np.searchsorted(x, wanted, "right" if behind else "left").astype(np.int64)
    if not len(x):
        return np.zeros(len(wanted), np.int64)
    share = (wanted - x.start) / x.step
    return np.clip(np.floor(share) + 1 if behind else np.ceil(share), 0, len(x)).astype(np.int64)
