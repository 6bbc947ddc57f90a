"""One step of a pair, leaf by leaf: phases, a tree of paths that is built where it is opened, histories. No textual here."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reprotui.checksum import LeafSpec
from reprotui.errors import ReprotuiError
from reprotui.trace import PHASES, LeafTable, Trace

OPEN_AT_ONCE = 200
"""Differing leaves up to which all of them are shown when a step is opened."""


@dataclass(frozen=True, slots=True)
class Side:
    """A leaf in one run: what it is, its checksum (None where leaf rows were not stored), norm and maximum (or None)."""

    spec: LeafSpec
    checksum: int | None
    norm: float | None
    maximum: float | None


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
    def spec(self) -> LeafSpec:
        side = self.a or self.b
        assert side is not None
        return side.spec


@dataclass(frozen=True)
class StepLeaves:
    """All leaves of a step in causal order. `phases`: whether each phase that is there differs, None where unknown.

    `statistics_step` is the step at which norms and maxima were taken, at or before this one; `calls` says how many calls of
    which functions lie in A's record, where an observer counted them; `problem` says what cannot be read.
    """

    step: int
    leaves: tuple[Leaf, ...]
    phases: dict[str, bool | None]
    statistics_step: int | None
    calls: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""


def read_step(traces: Sequence[Path], step: int) -> StepLeaves:
    """Read a step of A, and of B where there is one; what one run lacks is a side less, never an error."""
    sides: list[dict[tuple[str, str], Side]] = []
    roots: list[dict[str, int]] = []
    statistics: list[int | None] = []
    calls: list[Mapping[str, int]] = []
    problems = []
    for path in traces[:2]:
        leaves, of_phases, at = {}, {}, None
        try:
            with Trace(path) as trace:
                leaves, of_phases, at = _side(trace, step)
                calls.append(trace.calls(step) if step and leaves else {})
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
    return StepLeaves(step, leaves_in_order, phases, statistics[0], calls[0] if calls else {}, "; ".join(problems))


def _side(trace: Trace, step: int) -> tuple[dict[tuple[str, str], Side], dict[str, int], int | None]:
    row = trace.row(step)
    if row is None:
        return {}, {}, None
    table = trace.table(row.version)
    sums = trace.leaf_checksums(step)
    at = trace.statistics_step(step)
    before = trace.row(at) if at is not None else None
    stats = trace.leaf_stats(at) if at is not None and before is not None and before.version == row.version else None
    leaves = {
        (phase, spec.path): Side(
            spec, None if sums is None else int(sums[index]), None if stats is None else float(stats[index][0]),
            None if stats is None else float(stats[index][1]),
        )
        for index, (phase, spec) in enumerate(zip(table.phases, table.specs, strict=True))
    }  # fmt: skip
    return leaves, {phase: row.root(phase) for phase in PHASES}, at if stats is not None else None


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
    # What `init` leaves behind is what `update` changes: one history.
    wanted = ("init", "update") if phase in ("init", "update") else (phase,)
    for index, (own, spec) in enumerate(zip(table.phases, table.specs, strict=True)):
        if own in wanted and spec.path == path:
            return index
    return None


@dataclass
class Branch:
    """A part of the tree: a phase, or what paths have in common. Its children are made when it is first opened."""

    name: str
    phase: str
    depth: int
    prefix: str
    leaves: list[Leaf]
    open: bool = False
    children: "list[Branch | Leaf] | None" = field(default=None, repr=False)

    @property
    def differing(self) -> int:
        """Return how many of its leaves differ."""
        return sum(leaf.differs is True for leaf in self.leaves)

    def grow(self) -> "list[Branch | Leaf]":
        """Return the children; a chain of single branches is one branch."""
        if self.children is None:
            groups: dict[str, list[Leaf]] = {}
            for leaf in self.leaves:
                groups.setdefault(leaf.path[len(self.prefix) :].partition("/")[0], []).append(leaf)
            self.children = [child for name, leaves in groups.items() for child in self._children(name, leaves)]
        return self.children

    def _children(self, name: str, leaves: list[Leaf]) -> "list[Branch | Leaf]":
        prefix = f"{self.prefix}{name}"
        if len(leaves) == 1:
            return list(leaves)
        ends = [leaf for leaf in leaves if leaf.path == prefix]
        inner = [leaf for leaf in leaves if leaf.path != prefix]
        prefix += "/"
        while len(nexts := {leaf.path[len(prefix) :].partition("/")[0] for leaf in inner}) == 1:
            longer = f"{prefix}{nexts.pop()}/"
            if not all(leaf.path.startswith(longer) for leaf in inner):
                break
            prefix = longer
        return [*ends, Branch(prefix[len(self.prefix) : -1], self.phase, self.depth + 1, prefix, inner)]


class LeafTree:
    """The rows that are seen of a step's tree: `(depth, branch or leaf)`."""

    def __init__(self, step: StepLeaves, only_different: bool = False, pattern: str = "") -> None:
        self.rows: list[tuple[int, Branch | Leaf]] = []
        self._prefixes: list[str] = []
        chosen = [leaf for leaf in step.leaves if _matches(leaf, only_different, pattern)]
        self.phases = [_phase(phase, [leaf for leaf in chosen if leaf.phase == phase]) for phase in step.phases]
        self.phases = [branch for branch in self.phases if branch.leaves or not (only_different or pattern)]
        differing = sum(branch.differing for branch in self.phases)
        for branch in self.phases:
            if pattern or len(chosen) <= OPEN_AT_ONCE // 4:
                self._open(branch, everything=True)
            elif branch.differing and differing <= OPEN_AT_ONCE:
                self._open(branch, everything=False)
            elif branch.differing:
                branch.open = True
        self.refresh()

    def _open(self, branch: Branch, everything: bool) -> None:
        branch.open = True
        for child in branch.grow():
            if isinstance(child, Branch) and (everything or child.differing):
                self._open(child, everything)

    def open_all(self) -> None:
        """Open every branch; close all where all are open already."""
        closed = not all(branch.open for branch in self._branches(self.phases))
        if closed:
            for branch in self.phases:
                self._open(branch, everything=True)
        else:
            for branch in self._branches(self.phases):
                branch.open = False
        self.refresh()

    def _branches(self, nodes: "Sequence[Branch | Leaf]") -> Iterator[Branch]:
        for node in nodes:
            if isinstance(node, Branch):
                yield node
                yield from self._branches(node.children or ())

    def refresh(self) -> None:
        """Make the rows again after a branch was opened or closed."""
        self.rows, self._prefixes = [], []

        def add(branch: Branch, around: str) -> None:
            self.rows.append((branch.depth, branch))
            self._prefixes.append(around)
            for child in branch.grow() if branch.open else ():
                if isinstance(child, Branch):
                    add(child, branch.prefix)
                else:
                    self.rows.append((branch.depth + 1, child))
                    self._prefixes.append(branch.prefix)

        for branch in self.phases:
            add(branch, "")

    def prefix_of(self, index: int) -> str:
        """Return what the branch around a row has said of its path already."""
        return self._prefixes[index]

    def first_difference(self) -> int:
        """Return the row of the first leaf that differs, 0 where none does or none is open."""
        return next((at for at, (_, node) in enumerate(self.rows) if isinstance(node, Leaf) and node.differs), 0)


def _phase(phase: str, leaves: list[Leaf]) -> Branch:
    """Return the branch of a phase; paths that repeat its name (`grads/…`) do not say it twice."""
    own = f"{phase}/"
    return Branch(phase, phase, 0, own if leaves and all(leaf.path.startswith(own) for leaf in leaves) else "", leaves)


def _matches(leaf: Leaf, only_different: bool, pattern: str) -> bool:
    if only_different and leaf.differs is False:
        return False
    if not pattern:
        return True
    if pattern.lower() in leaf.path.lower():
        return True
    try:
        return re.search(pattern, leaf.path) is not None
    except re.error:
        return False
