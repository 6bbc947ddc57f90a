"""Reduce the losses of a trace, so that a million steps fit into a chart and no spike is lost."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reprotui.report.model import LossCurve
from reprotui.trace import Trace

BUCKETS = 199
"""Three points a bucket, and both ends: at most 599 points a run, about one a pixel."""
SPAN = 65_536
"""Records read at once: bounds memory, whatever the length of the run."""


def loss_curve(trace: Trace) -> LossCurve:
    """Return the reduced losses of a trace; steps without a loss, such as record 0, are left out."""
    spans = list(_spans(trace))
    if not spans:
        return LossCurve()
    steps = np.concatenate([steps for steps, _ in spans])
    losses = np.concatenate([losses for _, losses in spans])
    kept = reduce(losses, BUCKETS)
    points = [(int(steps[index]), float(losses[index])) for index in kept]
    # The columns do not tell a loss that is NaN from no loss; the few that are left are looked up.
    points = [(step, loss) for step, loss in points if not math.isnan(loss) or _has_loss(trace, step)]
    return LossCurve(len(steps), tuple(points))


def reduce(losses: NDArray[np.float32], buckets: int) -> list[int]:
    """Return the indices to keep, in order: all of a short series, else both ends and three of each bucket.

    Of a bucket these are the smallest and the largest finite loss, and the last that is not finite: the last, because
    the record before the first step has no loss at all and looks the same.
    """
    if len(losses) <= 3 * buckets + 2:
        return list(range(len(losses)))
    kept = {0, len(losses) - 1}
    bounds = np.linspace(0, len(losses), buckets + 1).astype(int).tolist()
    for start, end in itertools.pairwise(bounds):
        part = losses[start:end]
        finite = np.isfinite(part)
        if finite.any():
            kept.add(start + int(np.argmin(np.where(finite, part, np.inf))))
            kept.add(start + int(np.argmax(np.where(finite, part, -np.inf))))
        if not finite.all():
            kept.add(start + int(np.flatnonzero(~finite)[-1]))
    return sorted(kept)


def _spans(trace: Trace) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    after = -1
    while (span := trace.span(after, SPAN)) is not None:
        yield np.asarray(span.steps, np.int64), span.losses
        after = int(span.steps[-1])


def _has_loss(trace: Trace, step: int) -> bool:
    row = trace.row(step)
    return row is not None and row.loss_bits is not None
