"""Runs over all their steps, as columns: losses for the chart, and which phases differ. Grows with the traces."""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprotui.compare.spans import compare_span
from reprotui.compare.steps import Steps, index_of, join, union
from reprotui.errors import ReprotuiError
from reprotui.trace import PHASES, LeafTable, Trace
from reprotui.trace.not_finite import Judge, Spell

SPAN = 65_536
"""Records read at once: 3 MB of roots a run, and some 20 ms."""
FIRST_RECORDS = 8_192
"""Records of a run that a look reads unless told otherwise: some 3 ms, so that the first picture comes at once."""
ALL_PHASES = (1 << len(PHASES)) - 1
"""All bits of a step: one for every phase, in causal order."""


@dataclass(frozen=True)
class RunLine:
    """A run over its steps: float32 losses, NaN where there is none, and from which steps on leaves are not finite."""

    steps: Steps
    losses: NDArray[np.float32]
    spells: tuple[Spell, ...] = ()

    def not_finite(self, first: int, end: int) -> tuple[str, ...]:
        """Return the phases that are broken in a record from step `first` on, before step `end`."""
        if not len(self.steps) or first > self.steps[-1]:
            return ()
        at = max(0, bisect_right(self.spells, first, key=lambda spell: spell.step) - 1)
        found = itertools.takewhile(lambda spell: spell.step < end, self.spells[at:])
        phases = {phase for spell in found for phase in spell.phases}
        return tuple(phase for phase in PHASES if phase in phases)

    @property
    def nan_since(self) -> int | None:
        """Return the first step of the NaN losses at the end, None where the last loss is a number or there is none."""
        if not len(self.losses) or not np.isnan(self.losses[-1]):
            return None
        numbers = np.flatnonzero(~np.isnan(self.losses))
        # Record 0 is taken before any loss; a run without a single number may have no loss at all.
        return int(self.steps[int(numbers[-1]) + 1]) if len(numbers) else None


@dataclass(frozen=True)
class PairLine:
    """A run against the reference, over the steps that both have: uint8 with a bit for every phase that differs.

    `first` is the first step with a bit, None while there is none; `first_mask` are its bits.
    """

    steps: Steps
    differs: NDArray[np.uint8]
    first: int | None
    first_mask: int = 0

    def next_difference(self, after: int, backwards: bool = False) -> int | None:
        """Return the nearest differing step behind (or before) `after`, None where there is none."""
        if backwards:
            found = np.flatnonzero(self.differs[: index_of(self.steps, after)])
            return int(self.steps[int(found[-1])]) if len(found) else None
        start = index_of(self.steps, after + 1)
        rest = self.differs[start:]
        index = int(np.argmax(rest != 0)) if len(rest) else 0
        return int(self.steps[start + index]) if len(rest) and rest[index] else None

    def mask(self, step: int) -> int | None:
        """Return the bits of a step, None where it was not compared."""
        index = index_of(self.steps, step)
        return int(self.differs[index]) if index < len(self.steps) and self.steps[index] == step else None


@dataclass(frozen=True, eq=False)
class Timeline:
    """All runs at one moment; `steps` are those that any run recorded. `complete` says that nothing more could be read.

    Two are equal where they are the same object: a reader gives the same one until there is more.
    """

    runs: tuple[RunLine, ...] = ()
    pairs: tuple[PairLine, ...] = ()
    steps: Steps = range(0)
    complete: bool = False

    @property
    def last(self) -> int | None:
        """Return the last step that any run recorded."""
        return int(self.steps[-1]) if len(self.steps) else None

    @property
    def equal_through(self) -> int | None:
        """Return the last step up to which all pairs are equal, None where there is none."""
        through = []
        for pair in self.pairs:
            count = len(pair.steps) if pair.first is None else index_of(pair.steps, pair.first)
            if not count:
                return None
            through.append(int(pair.steps[count - 1]))
        return min(through, default=None)


def phases_of(mask: int) -> tuple[str, ...]:
    """Return the phases of a mask in causal order."""
    return tuple(phase for index, phase in enumerate(PHASES) if mask >> index & 1)


class _Column:
    """A growing array, or the last value of one: what was handed out stays valid, because rows are only added."""

    def __init__(self, dtype: Any, whole: bool) -> None:
        self._data = np.empty(1024 if whole else 0, dtype)
        self._count, self._whole = 0, whole

    def extend(self, values: NDArray[Any]) -> None:
        if not self._whole:
            self._data = np.array(values[-1:]) if len(values) else self._data
            self._count = len(self._data)
            return
        needed = self._count + len(values)
        if needed > len(self._data):
            grown = np.empty(max(needed, len(self._data) * 3 // 2), self._data.dtype)
            grown[: self._count] = self.values
            self._data = grown
        self._data[self._count : needed] = values
        self._count = needed

    @property
    def values(self) -> NDArray[Any]:
        return self._data[: self._count]


class TimelineReader:
    """Read traces into a `Timeline`, a span at a time; each file is opened for the look alone, so that it can be sealed.

    Args:
        paths: the traces, the reference first. One that does not exist yet has no steps yet.
        whole: keep every step; without, `losses` and `differs` hold the last value alone.
    """

    def __init__(self, paths: Sequence[Path], whole: bool = True) -> None:
        self._paths = list(paths)
        self._steps: list[Steps] = [range(0) for _ in paths]
        self._losses = [_Column(np.float32, whole) for _ in paths]
        self._common: list[Steps] = [range(0) for _ in paths[1:]]
        self._differs = [_Column(np.uint8, whole) for _ in paths[1:]]
        self._first: list[tuple[int | None, int]] = [(None, 0) for _ in paths[1:]]
        self._tables: list[dict[int, LeafTable]] = [{} for _ in paths]
        self._judges = [Judge() for _ in paths]
        self._spells: list[tuple[Spell, ...]] = [() for _ in paths]
        self.problems: dict[int, str] = {}
        """What cannot be read, by the index of the run; such a run keeps what was read before."""
        self._newest = Timeline()

    def advance(self, records: int = FIRST_RECORDS, visit: Callable[[int, Trace], None] | None = None) -> Timeline:
        """Read up to so many records of every run, compare what is new, and return all of it.

        Args:
            records: how many of each run are read at most.
            visit: reads more from a trace while it is open (opening costs more than looking); gets the index of its run.
        """
        complete = True
        with ExitStack() as opened:
            reference: Trace | None = None
            for index, path in enumerate(self._paths):
                if index in self.problems:
                    continue
                try:
                    if not path.exists() or path.stat().st_size == 0:
                        continue
                    trace = opened.enter_context(Trace(path, self._tables[index]))
                    if visit is not None:
                        visit(index, trace)
                    complete &= self._read(index, trace, records)
                    if index == 0:
                        reference = trace
                    elif reference is not None:
                        self._compare(index, reference, trace)
                except ReprotuiError as error:
                    self.problems[index] = str(error)
        counts = [len(steps) for steps in (*self._steps, *self._common)]
        newest = self._newest
        if newest.runs and complete == newest.complete and counts == [len(line.steps) for line in (*newest.runs, *newest.pairs)]:
            return newest
        runs = tuple(
            RunLine(steps, losses.values, spells)
            for steps, losses, spells in zip(self._steps, self._losses, self._spells, strict=True)
        )
        pairs = tuple(
            PairLine(steps, differs.values, *first)
            for steps, differs, first in zip(self._common, self._differs, self._first, strict=True)
        )
        self._newest = Timeline(runs, pairs, union(self._steps), complete)
        return self._newest

    def _read(self, index: int, trace: Trace, records: int) -> bool:
        """Read what a run recorded since the last look, and say whether that is all there is."""
        spells = self._spells[index]
        rows = trace.not_finite(spells[-1].step if spells else -1)
        self._spells[index] = (*spells, *map(self._judges[index].spell, rows or ()))
        while records > 0:
            steps, limit = self._steps[index], min(records, SPAN)
            span = trace.span(int(steps[-1]) if len(steps) else -1, limit)
            if span is None:
                return True
            self._steps[index] = join(steps, span.steps)
            self._losses[index].extend(span.losses)
            if len(span.losses) < limit:
                return True
            records -= limit
        return False

    def _compare(self, index: int, reference: Trace, trace: Trace) -> None:
        """Compare what both runs have recorded since the last look."""
        steps, own, pair = self._steps[0], self._steps[index], index - 1
        done = self._common[pair]
        after = int(done[-1]) if len(done) else -1
        if not len(steps) or not len(own):
            return
        through = min(int(steps[-1]), int(own[-1]))
        if through <= after:
            return
        tables = reference.tables(), trace.tables()
        while after < through:
            # Bounded in records, not in steps: the reference may have recorded every hundredth step only.
            end = min(index_of(steps, after + 1) + SPAN, len(steps)) - 1
            last = min(through, max(int(steps[end]), after + 1))
            common, mask = compare_span(reference, trace, tables, after + 1, last)
            self._common[pair] = join(self._common[pair], common)
            self._differs[pair].extend(mask)
            if self._first[pair][0] is None and mask.any():
                at = int(np.argmax(mask != 0))
                self._first[pair] = int(common[at]), int(mask[at])
            after = last
