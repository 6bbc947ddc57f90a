"""Where two runs part, for notebooks: initialisation, first batch or gradients, held against each other leaf by leaf."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reprotui.errors import BadInputError
from reprotui.integrity.leaves import LeafDifference
from reprotui.reproduce.leaves import differing_leaves, leaves_of

PHASES = ("init", "batch", "grads")
"""In causal order: what differs in one may follow from what differs before it."""


@dataclass(frozen=True, eq=False)
class PhaseDifferences(Mapping[str, tuple[LeafDifference, ...]]):
    """The leaves that differ in each phase that was compared, a mapping by phase. True in a condition where any does.

    `equal` counts the leaves that are the same in each phase.
    """

    leaves: Mapping[str, tuple[LeafDifference, ...]]
    equal: Mapping[str, int]

    @property
    def phase(self) -> str | None:
        """The first phase that differs, in causal order; None where none does."""
        return next((phase for phase in PHASES if self.leaves.get(phase)), None)

    def __bool__(self) -> bool:
        return self.phase is not None

    def __getitem__(self, phase: str) -> tuple[LeafDifference, ...]:
        return self.leaves[phase]

    def __iter__(self) -> Iterator[str]:
        return iter(self.leaves)

    def __len__(self) -> int:
        return len(self.leaves)

    def __str__(self) -> str:
        lines = ["equal in what was compared" if self.phase is None else f"diverges in {self.phase}"]
        for phase in PHASES:
            if phase not in self.leaves:
                lines.append(f"  {phase:<6} not given: nothing is known of it")
            elif not self.leaves[phase]:
                lines.append(f"  {phase:<6} equal, {self.equal[phase]} leaves")
            else:
                later = "" if phase == self.phase else ", which may follow from what differs before"
                lines.append(f"  {phase:<6} {len(self.leaves[phase])} leaves differ{later}")
                lines += [f"         {leaf.text()}" for leaf in self.leaves[phase]]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        leaves = {phase: [leaf.exact_json() for leaf in found] for phase, found in self.leaves.items()}
        return {"phase": self.phase, "equal": dict(self.equal), "leaves": leaves}


def diverging_phase(a: Mapping[str, Any], b: Mapping[str, Any]) -> PhaseDifferences:
    """Compare two runs in the order in which a difference comes about: `init`, the first `batch`, its `grads`.

    Args:
        a, b: pytrees by phase (arrays of numpy and jax, tensors, keys, numbers, texts, and containers of them); a phase may be
            left out of both.

    Raises:
        BadInputError: a phase is unknown, or given on one side only; none is given; or something has no bits to compare.
    """
    for name in dict.fromkeys([*a, *b]):
        if name not in PHASES:
            raise BadInputError(f"{name!r} is no phase: give {', '.join(PHASES)}")
        if name not in a or name not in b:
            raise BadInputError(f"{name} is given for {'A' if name in a else 'B'} alone: give both, or neither")
    if not a:
        raise BadInputError(f"nothing is given to compare: give {', '.join(PHASES)}, or some of them")
    leaves, equal = {}, {}
    for phase in PHASES:
        if phase in a:
            trees = [leaves_of({phase: side[phase]}) for side in (a, b)]
            of_a, of_b = ({path.removeprefix(f"{phase}/"): leaf for path, leaf in tree.items()} for tree in trees)
            leaves[phase] = tuple(differing_leaves(of_a, of_b))
            equal[phase] = len({*of_a, *of_b}) - len(leaves[phase])
    return PhaseDifferences(leaves, equal)
