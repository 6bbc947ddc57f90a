"""What can be drawn and tabled of runs besides the loss: recorded metrics, norms, pace, memory. Grows with the traces."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reprotui.compare.series import Series
from reprotui.errors import ReprotuiError
from reprotui.trace.columns import Column, Columns

LOSS = "loss"
NORMS = {"grad-norm": "grads", "param-norm": "params"}
"""Metrics that are the L2 norm over a tree, where statistics were taken."""
RATE = "steps-per-second"
NOT_FINITE = "leaves-not-finite"
MEMORY: dict[str, Literal["host", "accelerators"]] = {"memory-mb": "host", "gpu-memory-mb": "accelerators"}
"""Memory in use by the process, in MB of 10^6 bytes, noted about once a second."""
SECONDS = "seconds"
"""Since the first record of the run, as its clock said; no metric of its own, but a column beside all others."""
OWN = (LOSS, *NORMS, RATE, NOT_FINITE, *MEMORY)
RECORDED = "metrics/"
"""Before the name of a recorded metric that is called like one of ours."""
CHUNK = 65_536
"""Records read at once."""
FEW = 4
"""Records in which a norm is looked for, to say whether there is one: the first is the state before any gradient."""
RATE_SECONDS = 1.0
"""Span over which steps a second are counted: of single steps it would be a cloud."""


@dataclass
class _Grown:
    """What was read so far of one column of one run."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    def add(self, column: Column) -> None:
        self.steps = np.concatenate([self.steps, column[0]])
        self.values = np.concatenate([self.values, column[1]])

    @property
    def last(self) -> int:
        return int(self.steps[-1]) if len(self.steps) else -1


class MetricReader:
    """Read metrics of runs, each time what is new since the last time; used by one thread at a time.

    Args:
        paths: the traces, the reference first. One that does not exist yet, or cannot be read, has no values.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._known: dict[tuple[int, str], _Grown] = {}
        self.problems: dict[int, ReprotuiError] = {}
        """What cannot be read, by the index of the run."""

    def names(self) -> tuple[str, ...]:
        """Return which metrics any run has, the loss first."""
        found: dict[str, None] = {LOSS: None}
        own: dict[str, None] = {}
        for index in range(len(self._paths)):
            with self._trace(index) as trace:
                if trace is None:
                    continue
                found |= dict.fromkeys(f"{RECORDED}{name}" if name in OWN else name for name in trace.metric_names())
                if trace.has_statistics():
                    own |= {name: None for name, tree in NORMS.items() if len(trace.norms(tree, -1, FEW)[0])}
                if (trace.last_step() or 0) > 0:
                    own[RATE] = None
                if trace.not_finite():
                    own[NOT_FINITE] = None
                own |= {name: None for name, of in MEMORY.items() if len(trace.memory(of, -1, 1)[0])}
        return (*found, *(name for name in OWN if name in own))

    def read(self, metric: str) -> tuple[Series, ...]:
        """Return a metric of every run over its steps, as it is by now; empty where a run has none."""
        return tuple(self._series(index, metric) for index in range(len(self._paths)))

    def seconds(self) -> tuple[Series, ...]:
        """Return the seconds from the first record of each run to each of its records; they never fall."""
        return self.read(SECONDS)

    def _series(self, index: int, metric: str) -> Series:
        if metric == NOT_FINITE:
            return self._not_finite(index)
        grown = self._advance(index, SECONDS if metric == RATE else metric)
        values = grown.values
        if metric in (SECONDS, RATE) and len(values):
            values = np.maximum.accumulate(values - values[0]) / 1e9
        if metric == RATE:  # before the first record there is no time
            return Series(grown.steps[1:], _rate(grown.steps, values)[1:])
        return Series(grown.steps, values)

    def _advance(self, index: int, metric: str) -> _Grown:
        grown = self._known.setdefault((index, metric), _Grown(np.zeros(0, np.int64), np.zeros(0)))
        with self._trace(index) as trace:
            while trace is not None:
                last = grown.last
                column = self._column(trace, metric, last)
                grown.add(column)
                if not len(column[0]):
                    break
        return grown

    def _column(self, trace: Columns, metric: str, after: int) -> Column:
        if metric == LOSS:
            return trace.losses(after, CHUNK)
        if metric == SECONDS:
            return trace.times(after, CHUNK)
        if metric in MEMORY:
            steps, values = trace.memory(MEMORY[metric], after, CHUNK)
            return steps, values / 1e6
        if metric in NORMS:
            return trace.norms(NORMS[metric], after, CHUNK)
        return trace.metric(metric.removeprefix(RECORDED), after, CHUNK)

    def _not_finite(self, index: int) -> Series:
        """Return how many leaves hold NaN or infinity: a number that holds from one record to the next."""
        with self._trace(index) as trace:
            rows = trace.not_finite() if trace is not None else None
            last = trace.last_step() if trace is not None else None
        if rows is None or last is None:
            return Series(np.zeros(0, np.int64))
        points = {0: 0.0}
        for row in rows:
            # One step before it changes it still is what it was: a stair, not a slope.
            points.setdefault(row.step - 1, points[max(points)]) if row.step > 0 else None
            points[row.step] = float(len(row.leaves))
        points.setdefault(last, points[max(points)])
        steps = np.array(sorted(points), np.int64)
        return Series(steps, np.array([points[step] for step in steps.tolist()]))

    def _trace(self, index: int) -> "_Opened":
        return _Opened(self, index)

    def path(self, index: int) -> Path:
        """Return the trace of a run."""
        return self._paths[index]


class _Opened:
    """A trace that is there and can be read, else None; what goes wrong while it is read is a problem of that run."""

    def __init__(self, reader: MetricReader, index: int) -> None:
        self._reader, self._index = reader, index
        self._trace: Columns | None = None

    def __enter__(self) -> Columns | None:
        path = self._reader.path(self._index)
        try:
            if path.exists() and path.stat().st_size:
                self._trace = Columns(path)
        except ReprotuiError as error:
            self._reader.problems[self._index] = error
        return self._trace

    def __exit__(self, kind: object, error: BaseException | None, where: object) -> bool:
        if self._trace is not None:
            self._trace.close()
        if isinstance(error, ReprotuiError):
            self._reader.problems[self._index] = error
            return True
        return False


def _rate(steps: NDArray[np.int64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the steps a second over the last `RATE_SECONDS` before each record; NaN where no time went by."""
    if not len(steps):
        return np.zeros(0)
    before = np.searchsorted(seconds, seconds - RATE_SECONDS, "left")
    before = np.minimum(before, np.maximum(np.arange(len(steps)) - 1, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        spent = seconds - seconds[before]
        return np.where(spent > 0, (steps - steps[before]) / spent, np.nan)
