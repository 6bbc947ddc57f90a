"""Runs over all their steps, as columns: losses for the chart, and which phases differ. Grows with the traces."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprotui.compare.differences import OPTIONAL_PREFIX
from reprotui.errors import ReprotuiError
from reprotui.trace import PHASES, LeafTable, Trace
from reprotui.trace.former import LANE_0

SPAN = 65_536
"""Records read at once: 3 MB of roots a run, and some 20 ms."""
FIRST_RECORDS = 8_192
"""Records of a run that a look reads unless told otherwise: some 3 ms, so that the first picture comes at once."""
ALL_PHASES = (1 << len(PHASES)) - 1
"""All bits of a step: one for every phase, in causal order."""

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


@dataclass(frozen=True)
class RunLine:
    """A run over its steps: float32 losses, NaN where there is none."""

    steps: Steps
    losses: NDArray[np.float32]

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

    `first` is the first step with a bit, None while there is none.
    """

    steps: Steps
    differs: NDArray[np.uint8]
    first: int | None

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
    """A growing array: what was handed out stays valid, because rows are only added."""

    def __init__(self, dtype: Any) -> None:
        self._data = np.empty(1024, dtype)
        self._count = 0

    def extend(self, values: NDArray[Any]) -> None:
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
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._steps: list[Steps] = [range(0) for _ in paths]
        self._losses = [_Column(np.float32) for _ in paths]
        self._common: list[Steps] = [range(0) for _ in paths[1:]]
        self._differs = [_Column(np.uint8) for _ in paths[1:]]
        self._first: list[int | None] = [None for _ in paths[1:]]
        self._tables: list[dict[int, LeafTable]] = [{} for _ in paths]
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
        runs = tuple(RunLine(steps, losses.values) for steps, losses in zip(self._steps, self._losses, strict=True))
        pairs = tuple(
            PairLine(steps, differs.values, first)
            for steps, differs, first in zip(self._common, self._differs, self._first, strict=True)
        )
        self._newest = Timeline(runs, pairs, union(self._steps), complete)
        return self._newest

    def _read(self, index: int, trace: Trace, records: int) -> bool:
        """Read what a run recorded since the last look, and say whether that is all there is."""
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
            common, mask = _compare_span(reference, trace, tables, after + 1, last)
            self._common[pair] = join(self._common[pair], common)
            self._differs[pair].extend(mask)
            if self._first[pair] is None and mask.any():
                self._first[pair] = int(common[int(np.argmax(mask != 0))])
            after = last


def _compare_span(
    a: Trace, b: Trace, tables: tuple[dict[int, bytes], dict[int, bytes]], first: int, last: int
) -> tuple[Steps, NDArray[np.uint8]]:
    (steps_a, roots_a), (steps_b, roots_b) = a.roots_between(first, last), b.roots_between(first, last)
    if a.former != b.former:
        roots_a, roots_b = roots_a & LANE_0, roots_b & LANE_0
    steps: Steps = steps_a
    at_a: Any = slice(None)
    at_b: Any = slice(None)
    # A range against an array would be compared element by element.
    if not (isinstance(steps_a, range) and isinstance(steps_b, range) and steps_a == steps_b):
        steps, at_a, at_b = np.intersect1d(steps_a, steps_b, assume_unique=True, return_indices=True)
    mask = np.zeros(len(steps), np.uint8)
    for index in range(len(PHASES)):
        mask |= (roots_a[at_a, index] != roots_b[at_b, index]).astype(np.uint8) << np.uint8(index)
    if tables[0] != tables[1] or len(tables[0]) > 1:
        versions = [trace.versions_between(first, last)[at] for trace, at in ((a, at_a), (b, at_b))]
        for version_a, version_b in np.unique(np.stack(versions, axis=1), axis=0).tolist():
            if tables[0][version_a] != tables[1][version_b]:
                here = (versions[0] == version_a) & (versions[1] == version_b)
                at = np.asarray(steps, np.int64)[here]
                mask[here] = _compare_by_leaf((a, b), (a.table(version_a), b.table(version_b)), at, mask[here])
    return steps, mask


def _compare_by_leaf(
    traces: tuple[Trace, Trace], tables: tuple[LeafTable, LeafTable], steps: NDArray[np.int64], mask: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the bits of steps at which two runs have other leaves, as `compare_traces` tells them; `mask` is by root."""
    for index, phase in enumerate(PHASES):
        leaves_a, leaves_b = (
            {spec.path: (at, spec) for at, (own, spec) in enumerate(zip(table.phases, table.specs, strict=True)) if own == phase}
            for table in tables
        )
        if [spec for _, spec in leaves_a.values()] == [spec for _, spec in leaves_b.values()]:
            continue
        bit = np.uint8(1 << index)
        mask = mask & ~bit
        if not leaves_a or not leaves_b:
            continue  # a phase that one run alone records
        both = [path for path in leaves_a if path in leaves_b]
        alone = [path for path in {*leaves_a, *leaves_b}.difference(both) if not path.startswith(OPTIONAL_PREFIX)]
        if alone or any(leaves_a[path][1] != leaves_b[path][1] for path in both):
            mask = mask | bit
            continue
        at_a, at_b = ([leaves[path][0] for path in both] for leaves in (leaves_a, leaves_b))
        for number, step in enumerate(steps.tolist()):
            sums = [trace.leaf_checksums(step) for trace in traces]
            if sums[0] is not None and sums[1] is not None and (sums[0][at_a] != sums[1][at_b]).any():
                mask[number] |= bit
    return mask
