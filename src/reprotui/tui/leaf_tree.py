"""The tree of a step's leaves: branches are built where they are opened, or all leaves in a list by a figure."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reprotui.integrity.leaves import LeafDifference
from reprotui.tui.leaves import Leaf, StepLeaves

OPEN_AT_ONCE = 200
"""Differing leaves up to which all of them are shown when a step is opened."""


Exact = Mapping[tuple[str, str], LeafDifference]
"""What a replay found of the leaves that differ, by phase and path."""
CAUSAL = ""
FIGURES = ("different", "max_abs", "max_relative", "max_ulp")
"""Figures of an exact difference by which leaves can be ordered: the attributes of `ElementDifference`."""


def figure(leaf: Leaf, exact: Exact | None, name: str) -> float | None:
    """Return a figure of a leaf: one of `FIGURES`, or `norm` for |Δ norm|; None where there is none."""
    if name == "norm":
        norms = [None if side is None else side.norm for side in (leaf.a, leaf.b)]
        return None if norms[0] is None or norms[1] is None else abs(norms[1] - norms[0])
    found = None if exact is None else exact.get((leaf.phase, leaf.path))
    return None if found is None or found.elements is None else getattr(found.elements, name)


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
    """The rows that are seen of a step's tree: `(depth, branch or leaf)`.

    Args:
        step: the step.
        only_different: leave out what is equal.
        pattern: leave out what does not contain or match it.
        order: `CAUSAL` for the tree; a name that `figure` knows for all leaves in one list, the largest first.
        exact: what a replay found of this step, None where nothing was replayed.
    """

    def __init__(
        self, step: StepLeaves, only_different: bool = False, pattern: str = "", order: str = CAUSAL, exact: Exact | None = None
    ) -> None:
        self.rows: list[tuple[int, Branch | Leaf]] = []
        self.order, self.exact = order, exact
        self._prefixes: list[str] = []
        self._phase_rows: list[int] = []
        chosen = [leaf for leaf in step.leaves if _matches(leaf, only_different, pattern)]
        if order != CAUSAL:
            self.phases: list[Branch] = []
            # Equal figures stay in causal order; what has none comes last, and what is no number first.
            chosen.sort(key=lambda leaf: -_rank(figure(leaf, exact, order)))
            self.rows.extend((0, leaf) for leaf in chosen)
            self._prefixes = [""] * len(chosen)
            return
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
        if self.order != CAUSAL:
            return
        self.rows, self._prefixes, self._phase_rows = [], [], []

        def add(branch: Branch, around: str) -> None:
            self.rows.append((branch.depth, branch))
            self._prefixes.append(around)
            self._phase_rows.append(phase_row)
            for child in branch.grow() if branch.open else ():
                if isinstance(child, Branch):
                    add(child, branch.prefix)
                else:
                    self.rows.append((branch.depth + 1, child))
                    self._prefixes.append(branch.prefix)
                    self._phase_rows.append(phase_row)

        for branch in self.phases:
            phase_row = len(self.rows)
            add(branch, "")

    def phase_row(self, index: int) -> int | None:
        """Return the row of the phase to which a row belongs; None in a list that is no tree."""
        return self._phase_rows[index] if index < len(self._phase_rows) else None

    def prefix_of(self, index: int) -> str:
        """Return what the branch around a row has said of its path already."""
        return self._prefixes[index]

    def first_difference(self) -> int:
        """Return the row of the first leaf that differs, 0 where none does or none is open."""
        return next((at for at, (_, node) in enumerate(self.rows) if isinstance(node, Leaf) and node.differs), 0)


def _rank(value: float | None) -> float:
    return -1.0 if value is None else math.inf if math.isnan(value) else value


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
