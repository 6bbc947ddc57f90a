"""Numbers of steps in order, of one run or of several together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Steps = range | NDArray[np.int64]
"""Steps in order; a range where they are evenly spaced, which is nearly always, and takes no memory."""


def index_of(steps: Steps, step: int) -> int:
    """Return the index of the first step that is not below `step`."""
    if isinstance(steps, range):
        return min(len(steps), max(0, -((steps.start - step) // steps.step)))
    return int(np.searchsorted(steps, step))


def union(several: Sequence[Steps]) -> Steps:
    """Return all steps of several runs, in order."""
    ranges = [steps for steps in several if isinstance(steps, range) and len(steps)]
    places = {(steps.start, steps.step) for steps in ranges}
    if len(places) <= 1 and len(ranges) == sum(len(steps) > 0 for steps in several):
        return max(ranges, key=len, default=range(0))
    return np.unique(np.concatenate([np.asarray(steps, np.int64) for steps in several]))


def join(a: Steps, b: Steps) -> Steps:
    """Return the steps of `a`, then those of `b`, which are all later."""
    if not len(a) or not len(b):
        return b if len(b) else a
    if isinstance(a, range) and isinstance(b, range):
        gap = b.start - a[-1]
        if (len(a) == 1 or gap == a.step) and (len(b) == 1 or gap == b.step):
            return range(a.start, b[-1] + 1, gap)
    return np.concatenate([np.asarray(a, np.int64), np.asarray(b, np.int64)])
