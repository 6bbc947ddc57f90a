"""The records of a pair of runs by step, read in pages from the traces when they are looked at. No textual here."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reprotui.compare.steps import Steps
from reprotui.errors import ReprotuiError
from reprotui.trace import StepRow, Trace

PAGE = 64
"""Records read at once: more than a screen has lines, and two thirds of a millisecond a trace."""
PAGES = 64
"""Pages kept: scrolling back and forth reads nothing."""


@dataclass(frozen=True)
class Pair:
    """The records of one step in A and in the other run; None where a run has none."""

    step: int
    a: StepRow | None
    b: StepRow | None


class PairRecords:
    """Give the records of two traces by the index of their step among all steps.

    Args:
        paths: trace of A, and of the other run where there is one.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths[:2])
        self._steps: Steps = range(0)
        self._pages: OrderedDict[int, list[Pair]] = OrderedDict()
        self._settled = -1
        self.problem = ""
        """Why the last page could not be read; empty where it could."""

    def update(self, steps: Steps, settled: int) -> None:
        """Take the steps that are there now; records up to step `settled` will not change any more."""
        for number in [number for number, page in self._pages.items() if page[-1].step > self._settled or len(page) < PAGE]:
            del self._pages[number]
        self._steps, self._settled = steps, settled

    def is_settled(self, index: int) -> bool:
        """Say whether the record at an index will not change any more."""
        return index < len(self._steps) and int(self._steps[index]) <= self._settled

    def __getitem__(self, index: int) -> Pair:
        number, place = divmod(index, PAGE)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = self._read(number)
            if len(self._pages) > PAGES:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end(number)
        return page[place]

    def _read(self, number: int) -> list[Pair]:
        steps = [int(step) for step in self._steps[number * PAGE : (number + 1) * PAGE]]
        sides: list[dict[int, StepRow]] = []
        self.problem = ""
        for path in self._paths:
            try:
                with Trace(path) as trace:
                    sides.append({row.step: row for row in trace.rows_between(steps[0], steps[-1])})
            except ReprotuiError as error:
                self.problem = str(error)
                sides.append({})
        other = sides[1] if len(sides) > 1 else {}
        return [Pair(step, sides[0].get(step), other.get(step)) for step in steps]
