"""One step of a pair, leaf by leaf: phases, leaves with what was recorded of them, histories. No textual here."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reprotui.checksum import LeafSpec
from reprotui.errors import ReprotuiError
from reprotui.trace import PHASES, LeafTable, StepRow, Trace
from reprotui.trace.not_finite import Judge, named
from reprotui.trace.phases import STATE


@dataclass(frozen=True, slots=True)
class Side:
    """A leaf in one run: what it is, and what was recorded of it at this very step.

    `checksum` is None where leaf rows were not stored, `norm` and `maximum` where statistics were not taken; `not_finite` is
    `broken` where it holds NaN or infinity, `meant` where it was given so, empty where all is finite or nobody looked.
    """

    spec: LeafSpec
    checksum: int | None
    norm: float | None
    maximum: float | None
    not_finite: str = ""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf of a step; a side is None where that run has no such leaf.

    `recorded` is False where one of the runs has no record of the step, or none that can be read.
    """

    phase: str
    path: str
    a: Side | None
    b: Side | None
    recorded: bool = True

    @property
    def differs(self) -> bool | None:
        """Say whether the sides differ, None where nothing is there to say."""
        if not self.recorded:
            return None
        if self.a is None or self.b is None or self.a.spec != self.b.spec:
            return True
        if self.a.checksum is None or self.b.checksum is None:
            return None
        return self.a.checksum != self.b.checksum

    @property
    def not_finite(self) -> str:
        """Return `broken` or `meant` where a side holds NaN or infinity, see `Side`."""
        found = [side.not_finite for side in (self.a, self.b) if side is not None]
        return "broken" if "broken" in found else "meant" if "meant" in found else ""

    @property
    def spec(self) -> LeafSpec:
        side = self.a or self.b
        assert side is not None
        return side.spec


@dataclass(frozen=True)
class StepLeaves:
    """All leaves of a step in causal order. `phases`: whether each phase that is there differs, None where unknown.

    `statistics_step` is the last step, this one or before, at which norms and maxima were taken: leaves have them where it is
    this one, because those of another step say nothing of leaves that differ here. `calls` says how many calls of which functions
    lie in A's record, where an observer counted them, `asked` how many of which networks came before it and led to no loss,
    `losses` what the iterations of a loop inside gave in each run; `problem` says what cannot be read.
    """

    step: int
    leaves: tuple[Leaf, ...]
    phases: dict[str, bool | None]
    statistics_step: int | None
    calls: Mapping[str, int] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)
    losses: tuple[list[float | str], ...] = ()
    problem: str = ""


def read_step(traces: Sequence[Path], step: int) -> StepLeaves:
    """Read a step of A, and of B where there is one; what one run lacks is a side less, never an error."""
    sides: list[dict[tuple[str, str], Side]] = []
    roots: list[dict[str, int]] = []
    statistics: list[int | None] = []
    calls: list[Mapping[str, int]] = []
    asked: list[Mapping[str, int]] = []
    losses: list[list[float | str]] = []
    problems = []
    for path in traces[:2]:
        leaves, of_phases, at = {}, {}, None
        try:
            with Trace(path) as trace:
                leaves, of_phases, at = _side(trace, step)
                calls.append(trace.calls(step) if step and leaves else {})
                asked += [Counter(name for name, _ in found.calls) for found in trace.asked(step, step).values()]
                losses.append(trace.iteration_losses(step))
        except ReprotuiError as error:
            problems.append(str(error))
        sides.append(leaves)
        roots.append(of_phases)
        statistics.append(at)
    a, b = sides[0], sides[-1]
    found = sorted(dict.fromkeys([*a, *b]), key=lambda key: PHASES.index(key[0]))
    recorded = all(roots)
    leaves_in_order = tuple(Leaf(phase, path, a.get((phase, path)), b.get((phase, path)), recorded) for phase, path in found)
    phases = {
        phase: _phase_differs(phase, roots, leaves_in_order) for phase in dict.fromkeys(leaf.phase for leaf in leaves_in_order)
    }
    made, before = (calls or [{}])[0], (asked or [{}])[0]
    return StepLeaves(step, leaves_in_order, phases, statistics[0], made, before, tuple(losses), "; ".join(problems))


def _side(trace: Trace, step: int) -> tuple[dict[tuple[str, str], Side], dict[str, int], int | None]:
    row = trace.row(step)
    if row is None:
        return {}, {}, None
    table = trace.table(row.version)
    sums = trace.leaf_checksums(step)
    at = trace.statistics_step(step)
    stats = trace.leaf_stats(step) if at == step else None
    not_finite = _not_finite(trace, row)
    leaves = {
        (phase, spec.path): Side(
            spec, None if sums is None else int(sums[index]), None if stats is None else float(stats[index][0]),
            None if stats is None else float(stats[index][1]), not_finite.get((phase, spec.path), ""),
        )
        for index, (phase, spec) in enumerate(zip(table.phases, table.specs, strict=True))
    }  # fmt: skip
    return leaves, {phase: row.root(phase) for phase in PHASES}, at


def _not_finite(trace: Trace, row: StepRow) -> dict[tuple[str, str], str]:
    """Return which leaves hold NaN or infinity in a record, and whether that is `broken` or was `meant` so."""
    now = trace.not_finite_at(row.step)
    if now is None:  # of a trace that was written before this was recorded, the loss tells
        lost = row.loss_bits is not None and (row.loss is None or not math.isfinite(row.loss))
        return {("forward", "loss"): "broken"} if lost else {}
    judge, first = Judge(), trace.not_finite_at(0)
    if first is not None:
        judge.spell(first)
    broken = set(judge.spell(now).broken)
    found = [(now.table.phases[at], now.table.specs[at].path) for at in now.leaves]
    return {place: "broken" if named(*place) in broken else "meant" for place in found}


def _phase_differs(phase: str, roots: list[dict[str, int]], leaves: tuple[Leaf, ...]) -> bool | None:
    if any(leaf.differs for leaf in leaves if leaf.phase == phase):
        return True
    if not all(roots):
        return None
    return roots[0].get(phase) != roots[-1].get(phase)


@dataclass(frozen=True)
class Moment:
    """A leaf at one step: its checksums, None where a run has none there."""

    step: int
    a: int | None
    b: int | None


def history(traces: Sequence[Path], phase: str, path: str, steps: Sequence[int]) -> list[Moment]:
    """Return the checksums of a leaf at some steps."""
    columns: list[dict[int, int]] = []
    for trace_path in traces[:2]:
        found: dict[int, int] = {}
        try:
            with Trace(trace_path) as trace:
                for step in steps:
                    row, sums = trace.row(step), trace.leaf_checksums(step)
                    index = _index(trace.table(row.version), phase, path) if row else None
                    if sums is not None and index is not None:
                        found[step] = int(sums[index])
        except ReprotuiError:
            pass  # the step's own page says what is damaged
        columns.append(found)
    return [Moment(step, columns[0].get(step), columns[-1].get(step)) for step in steps]


def _index(table: LeafTable, phase: str, path: str) -> int | None:
    # What `init` leaves behind is what updates change: one history.
    wanted = STATE if phase in STATE else (phase,)
    for index, (own, spec) in enumerate(zip(table.phases, table.specs, strict=True)):
        if own in wanted and spec.path == path:
            return index
    return None
