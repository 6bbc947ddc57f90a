"""What a chart shows: a metric of all runs, or how far each is from the reference; as it is or smoothed; over steps or time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reprotui.compare.metrics import LOSS
from reprotui.compare.series import Series, places
from reprotui.compare.steps import Steps
from reprotui.compare.timeline import RunLine, Timeline
from reprotui.numbers import whole

WINDOWS = (0, 10, 100, 1000)
"""Records in a mean, one after the other; 0 shows every record as it is."""


@dataclass(frozen=True)
class View:
    """How a person wants to see the runs: `apart` is |Δ| against A, `window` records of a mean, `clock` time below."""

    metric: str = LOSS
    apart: bool = False
    window: int = 0
    clock: bool = False

    def title(self, delta: str) -> str:
        """Return what is drawn, in words."""
        name = f"|{delta} {self.metric}|" if self.apart else self.metric
        return f"{name}, mean of {whole(self.window)}" if self.window else name


@dataclass(frozen=True, eq=False)
class Curves:
    """What is drawn of the runs, in their order, and where steps stand.

    `apart` says that A has no curve because the others are held against it; `seconds` are those of A where time is below;
    `by_step` are the curves over steps, whatever is below.
    """

    runs: tuple[Series, ...] = ()
    steps: Steps = range(0)
    first: int | None = None
    seconds: Series | None = None
    apart: bool = False
    by_step: tuple[Series, ...] = ()

    @property
    def ends(self) -> tuple[float, float]:
        """Return the first and the last place of all, at least one apart."""
        if self.seconds is not None:
            last = max((float(run.x[-1]) for run in (*self.runs, self.seconds_line) if len(run.x)), default=1.0)
            return 0.0, max(last, 0.001)
        return (float(self.steps[0]), float(max(self.steps[-1], self.steps[0] + 1))) if len(self.steps) else (0.0, 1.0)

    @property
    def seconds_line(self) -> Series:
        """Return the seconds of A as places."""
        return Series(self.seconds.values) if self.seconds is not None else Series()

    def place(self, step: float) -> float:
        """Return where a step stands; with time below, where A was at it."""
        if self.seconds is None:
            return step
        return float(np.interp(step, np.asarray(self.seconds.x), self.seconds.values)) if len(self.seconds.x) else 0.0

    def step(self, place: float) -> int | None:
        """Return the recorded step that is nearest to a place, None where there is none."""
        if self.seconds is None:
            steps, at = self.steps, self.steps
        else:
            steps, at = self.seconds.x, self.seconds.values
        if not len(steps):
            return None
        index = int(places(at, [place])[0])
        near = [number for number in (index - 1, index) if 0 <= number < len(steps)]
        return int(steps[min(near, key=lambda number: abs(float(at[number]) - place))])

    def steps_between(self, first: float, last: float) -> tuple[int, int]:
        """Return the first and last recorded step that stand between two places; where none does, the nearest one twice."""
        steps, at = (self.steps, self.steps) if self.seconds is None else (self.seconds.x, self.seconds.values)
        low, behind = int(places(at, [first])[0]), int(places(at, [last], behind=True)[0])
        if low < behind:
            return int(steps[low]), int(steps[behind - 1])
        nearest = self.step((first + last) / 2) or 0
        return nearest, nearest


def loss_of(line: RunLine) -> Series:
    """Return the losses of a run; record 0 is taken before any loss, and has none."""
    start = 1 if len(line.steps) and line.steps[0] == 0 and np.isnan(line.losses[0]) else 0
    return Series(line.steps[start:], line.losses[start:])


def curves(
    timeline: Timeline, first: int | None, view: View, read: Sequence[Series] = (), seconds: Sequence[Series] = ()
) -> Curves:
    """Return what a view shows.

    Args:
        timeline: the runs.
        first: the step at which a mark stands.
        view: what is wanted.
        read: the metric of each run; none for the loss, which the timeline has.
        seconds: since the start of each run, by step; none where steps are below.
    """
    runs = tuple(loss_of(line) for line in timeline.runs) if view.metric == LOSS else tuple(read)
    by_step = drawn(runs, view)
    if not view.clock or not seconds:
        return Curves(by_step, timeline.steps, first, None, view.apart, by_step)
    return Curves(over_time(by_step, view, seconds), timeline.steps, first, seconds[0], view.apart, by_step)


def drawn(runs: Sequence[Series], view: View) -> tuple[Series, ...]:
    """Return the values that a view shows of a metric, over steps; where runs are held against A, A has none."""
    if view.apart and len(runs) > 1:
        runs = (Series(), *(run.apart(runs[0]) for run in runs[1:]))
    return tuple(run.smooth(view.window) for run in runs)


def over_time(by_step: Sequence[Series], view: View, seconds: Sequence[Series]) -> tuple[Series, ...]:
    """Return what is drawn over the seconds of each run."""
    # What is held against A stands where A was: two runs are at no step at the same time.
    clocks = [seconds[0]] * len(by_step) if view.apart else seconds
    return tuple(run.over(clock) for run, clock in zip(by_step, clocks, strict=True))
