"""What all ranks of one run must hold alike, and at which step they did not: found in their traces, without another run.

A value is held against those of the same name, part, dtype and shape on the other ranks, where every rank that has it said
that it is a copy (`Trace.copies`). Batches, losses of one rank, and what nobody said anything of belong to their rank.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import LeafSpec
from reprotui.errors import ReprotuiError
from reprotui.ranks import named
from reprotui.trace import PHASES, LeafTable, Trace

STEPS = 256
"""Steps of all ranks that are looked at together: a few megabytes for a thousand leaves on eight ranks."""

_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}

Place = tuple[str, LeafSpec]
"""Phase and description of a leaf: copies have the same."""


class TornRanks(NamedTuple):
    """Copies that are not equal.

    Attributes:
        step, phase, path: the first place, in causal order.
        ranks: those that differ from most others, or all that have the value where none is on more than half of them.
        holders: all that have it.
        majority: there is such a value.
    """

    step: int
    phase: str
    path: str
    ranks: tuple[int, ...]
    holders: tuple[int, ...]
    majority: bool

    def said(self, hosts: Mapping[int, str]) -> str:
        """Say it in words, with the host where the odd ones run."""
        where = f"TORN at step {self.step} · {self.path}"
        if not self.majority:
            return f"{where} · {named(self.ranks, 0)} differ from one another"
        others = len(self.holders) - len(self.ranks)
        return f"{where} · {named(self.ranks, 0, hosts)} against the other {_WORDS.get(others, others)}"


class TornSearch:
    """Look for copies that differ, as far as all ranks have come; each look goes on where the last one ended.

    Args:
        traces: of the ranks, by their numbers.
    """

    def __init__(self, traces: Mapping[int, Path]) -> None:
        self._traces = dict(traces)
        self._tables: dict[int, dict[int, LeafTable]] = {rank: {} for rank in traces}
        self._plans: dict[tuple[int, ...], _Plan] = {}
        self._copies: list[tuple[str, ...]] = []
        self._after = -1
        self.found: TornRanks | None = None
        self.steps = self.copies = 0
        """Steps at which copies were compared, and the most of them at one."""

    def look(self) -> TornRanks | None:
        """Return the first place where copies differ; None as long as all are equal.

        Raises:
            ReprotuiError: a trace cannot be read.
        """
        while self.found is None and len(self._traces) > 1:
            with ExitStack() as stack:
                traces = {rank: stack.enter_context(Trace(path, self._tables[rank])) for rank, path in self._traces.items()}
                if not self._some(traces):
                    break
        return self.found

    def _some(self, traces: Mapping[int, Trace]) -> bool:
        """Look at the next steps that all ranks have recorded; say whether there were any."""
        ends = [trace.last_step() for trace in traces.values()]
        through = min((-1 if end is None else end) for end in ends)
        if through <= self._after:
            return False
        copies = [trace.copies() for trace in traces.values()]
        if copies != self._copies:
            self._copies, self._plans = copies, {}
        through = min(through, self._after + STEPS)
        rows = [{row.step: row for row in trace.rows_between(self._after + 1, through)} for trace in traces.values()]
        for step in sorted(set.intersection(*map(set, rows))):
            sums = [own for trace in traces.values() if (own := trace.leaf_checksums(step)) is not None]
            if len(sums) < len(traces):
                continue  # leaf rows were not kept at this step
            versions = tuple(of_rank[step].version for of_rank in rows)
            if versions not in self._plans:
                tables = [trace.table(version) for trace, version in zip(traces.values(), versions, strict=True)]
                self._plans[versions] = _plan(tables, copies)
            plan = self._plans[versions]
            self.steps, self.copies = self.steps + bool(plan.places), max(self.copies, len(plan.places))
            self.found = self._at(step, plan, sums)
            if self.found is not None:
                return True
        self._after = through
        return True

    def _at(self, step: int, plan: "_Plan", sums: Sequence[NDArray[np.uint64]]) -> TornRanks | None:
        lead = np.zeros(len(plan.places), np.uint64)
        for own, has, rows in reversed(list(zip(sums, plan.has, plan.rows, strict=True))):
            lead[has] = own[rows]
        differ = np.zeros(len(plan.places), np.bool_)
        for own, has, rows in zip(sums, plan.has, plan.rows, strict=True):
            differ[has] |= own[rows] != lead[has]
        if not differ.any():
            return None
        place = int(differ.argmax())
        values = {
            rank: int(own[rows[np.flatnonzero(has == place)[0]]])
            for rank, own, has, rows in zip(self._traces, sums, plan.has, plan.rows, strict=True)
            if place in has
        }
        value, count = Counter(values.values()).most_common(1)[0]
        most = count > len(values) / 2
        odd = tuple(rank for rank, own in values.items() if not most or own != value)
        phase, spec = plan.places[place]
        return TornRanks(step, phase, spec.path, odd, tuple(values), most)


class _Plan(NamedTuple):
    """The copies in records of these tables, in causal order, and for each rank which of them it has, and where."""

    places: list[Place]
    has: list[NDArray[np.intp]]
    rows: list[NDArray[np.intp]]


def _plan(tables: Sequence[LeafTable], copies: Sequence[Sequence[str]]) -> _Plan:
    found: list[dict[Place, int]] = []
    others: set[Place] = set()
    for table, told in zip(tables, copies, strict=True):
        whole, below = set(told), tuple(path for path in told if path.endswith(("/", "[")))
        leaves = {place: row for row, place in enumerate(zip(table.phases, table.specs, strict=True))}
        found.append(leaves)
        others |= {place for place in leaves if not (place[1].path in whole or place[1].path.startswith(below))}
    holders = Counter(place for leaves in found for place in leaves)
    # What ranks have besides one another stands at the end of its phase.
    union = sorted(holders, key=lambda place: PHASES.index(place[0]))
    places = [place for place in union if holders[place] > 1 and place not in others]
    has = [[at for at, place in enumerate(places) if place in leaves] for leaves in found]
    rows = [[leaves[places[at]] for at in own] for own, leaves in zip(has, found, strict=True)]
    return _Plan(places, [np.array(own, np.intp) for own in has], [np.array(own, np.intp) for own in rows])


def torn_of(traces: Mapping[int, Path]) -> TornRanks | None:
    """Return where first copies differ between the ranks of a run; None where they do not, or a trace cannot be read.

    What cannot be read is told by whoever compares the traces.
    """
    try:
        return TornSearch(traces).look()
    except ReprotuiError:
        return None
