"""What all ranks of one run must hold alike, and at which step they did not: found in their traces, without another run.

A value is held against those of the same name, part, dtype and shape on the other ranks, where every rank that has it said that it
is a copy (`Trace.copies`). Batches, losses of one rank, and what nobody said anything of belong to their rank.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reprotui.checksum import LeafSpec
from reprotui.errors import ReprotuiError
from reprotui.ranks import named
from reprotui.trace import LeafTable, Trace

STEPS = 256
"""Steps of all ranks that are looked at together: a few megabytes for a thousand leaves on eight ranks."""

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
        return f"{where} · {named(self.ranks, 0, hosts)} against the other {others}"


class TornSearch:
    """Look for copies that differ, as far as all ranks have come; each look goes on where the last one ended.

    Args:
        traces: of the ranks, by their numbers.
    """

    def __init__(self, traces: Mapping[int, Path]) -> None:
        self._traces = dict(traces)
        self._tables: dict[int, dict[int, LeafTable]] = {rank: {} for rank in traces}
        self._plans: dict[tuple[int, ...], tuple[list[list[int]], list[tuple[Place, tuple[int, ...]]]]] = {}
        self._copies: dict[int, tuple[str, ...]] = {}
        self._after = -1
        self.found: TornRanks | None = None

    def look(self) -> TornRanks | None:
        """Return the first place where copies differ; None as long as all are equal.

        Raises:
            ReprotuiError: a trace cannot be read.
        """
        while self.found is None and len(self._traces) > 1:
            with ExitStack() as stack:
                traces = {
                    rank: stack.enter_context(Trace(path, self._tables[rank])) for rank, path in self._traces.items()
                }
                if not self._some(traces):
                    break
        return self.found

    def _some(self, traces: Mapping[int, Trace]) -> bool:
        """Look at the next steps that all ranks have recorded; say whether there were any."""
        ends = [trace.last_step() for trace in traces.values()]
        through = min((-1 if end is None else end) for end in ends)
        if through <= self._after:
            return False
        copies = {rank: trace.copies() for rank, trace in traces.items()}
        if copies != self._copies:
            self._copies, self._plans = copies, {}
        through = min(through, self._after + STEPS)
        rows = [{row.step: row for row in trace.rows_between(self._after + 1, through)} for trace in traces.values()]
        for step in sorted(set.intersection(*map(set, rows))):
            sums = [trace.leaf_checksums(step) for trace in traces.values()]
            if any(found is None for found in sums):
                continue
            self.found = self._at(step, traces, tuple(of_rank[step].version for of_rank in rows), sums)
            if self.found is not None:
                return True
        self._after = through
        return True

    def _at(self, step: int, traces: Mapping[int, Trace], versions: tuple[int, ...], sums: Sequence[np.ndarray]) -> TornRanks | None:
        plan = self._plans.get(versions)
        if plan is None:
            plan = self._plans[versions] = _plan(
                [(rank, trace.table(version), self._copies[rank])
                 for (rank, trace), version in zip(traces.items(), versions, strict=True)]
            )  # fmt: skip
        for (number, rows), ((phase, spec), holders) in zip(enumerate(plan[0]), plan[1], strict=True):
            values = [int(sums[at][row]) for at, row in rows]
            if len(set(values)) > 1:
                value, count = Counter(values).most_common(1)[0]
                most = count > len(values) / 2
                odd = tuple(rank for rank, own in zip(holders, values, strict=True) if not most or own != value)
                return TornRanks(step, phase, spec.path, odd, holders, most)
        return None


def torn_of(traces: Mapping[int, Path]) -> TornRanks | None:
    """Return where first copies differ between the ranks of a run; None where they do not, or a trace cannot be read.

    What cannot be read is told by whoever compares the traces.
    """
    try:
        return TornSearch(traces).look()
    except ReprotuiError:
        return None
