"""Steps at which the loss or the norm of the gradients rises far above what came before; found on the writer's thread.

A value is a spike where it lies above the median of the records before it, `WINDOW` of them, by more than `SPREADS` times their
spread (median absolute deviation, × 1.4826, which is the standard deviation of normal numbers), and by more than `SHARE` of the
median. Of values that stay up there the first is told.
"""

import math
import statistics
from collections import deque

import numpy as np

from reprotui.event_kinds import GRADIENT_SPIKE, LOSS_SPIKE
from reprotui.trace.records import Record
from reprotui.trace.writer import TraceWriter

WINDOW, FEWEST = 64, 16
"""Values that one is held against, and the fewest that tell anything."""
SPREADS, SHARE = 10.0, 0.5
SAID = 100
"""Spikes of a kind before no more is said."""


class Spikes:
    """One series of values, and whether the newest one is a spike."""

    def __init__(self) -> None:
        self._before: deque[float] = deque(maxlen=WINDOW)
        self._up = False
        self._said = 0

    def median_below(self, value: float) -> float | None:
        """Take in a value; return the median that it rises from where it is a spike, None for others. NaN is none."""
        if not math.isfinite(value):
            return None
        before = list(self._before)
        self._before.append(value)
        if len(before) < FEWEST:
            return None
        median = statistics.median(before)
        spread = 1.4826 * statistics.median(abs(item - median) for item in before)
        was_up, self._up = self._up, value - median > max(SPREADS * spread, SHARE * abs(median))
        if was_up or not self._up or self._said >= SAID:
            return None
        self._said += 1
        return median


def watch(writer: TraceWriter) -> None:
    """Tell of spikes as events of the trace, with the step."""
    losses, norms = Spikes(), Spikes()

    def of_loss(record: Record) -> tuple[str, str] | None:
        median = losses.median_below(record.loss) if record.loss is not None else None
        if median is None:
            return None
        return LOSS_SPIKE, f"step {record.step}: loss {record.loss:.6g}, the median of the records before is {median:.6g}"

    def of_gradients(record: Record) -> tuple[str, str] | None:
        places = [at for at, phase in enumerate(record.table.phases) if phase == "grads"]
        if record.leaf_stats is None or not places:
            return None
        norm = float(np.linalg.norm(np.frombuffer(record.leaf_stats, "<f4").reshape(-1, 2)[places, 0].astype(np.float64)))
        median = norms.median_below(norm)
        if median is None:
            return None
        return GRADIENT_SPIKE, f"step {record.step}: gradient norm {norm:.6g}, the median of those before is {median:.6g}"

    writer.listeners += [of_loss, of_gradients]
