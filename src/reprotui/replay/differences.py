"""The exact difference of two replayed states, leaf by leaf and element by element, in causal order."""

import functools
import math
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from reprotui.integrity.elements import heat_map
from reprotui.integrity.leaves import LeafDifference, compare_leaf
from reprotui.replay.stored import ReplayedState
from reprotui.trace import PHASES

JSON_GRID = (8, 16)
"""Rows and columns of the heat map in JSON."""


@dataclass(frozen=True)
class StateDifference:
    """How two states of a step differ: `equal` leaves, and those that differ, in causal order."""

    a: ReplayedState
    b: ReplayedState
    equal: int
    leaves: tuple[LeafDifference, ...]

    @property
    def same(self) -> bool:
        """Say whether every leaf has the same bits."""
        return not self.leaves

    @property
    def first_array(self) -> LeafDifference | None:
        """Return the first leaf of more than one element that differs: a picture of a scalar shows nothing."""
        return next((leaf for leaf in self.leaves if leaf.elements is not None and leaf.elements.elements > 1), None)

    def heat_map(self, path: str, rows: int, columns: int) -> NDArray:
        """Return where a leaf of dtype and shape in common differs, see `reprotui.integrity.elements.heat_map`."""
        return heat_map(self.a.read(path), self.b.read(path), rows, columns)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object; with a coarse heat map of the first array that differs, None for what is not finite."""
        first, picture = self.first_array, None
        if first is not None:
            grid = self.heat_map(first.path, *JSON_GRID).tolist()
            cells = [[cell if math.isfinite(cell) else None for cell in row] for row in grid]
            picture = {"path": first.path, "max_abs": cells}
        leaves = [leaf.exact_json() for leaf in self.leaves]
        return {"same": self.same, "equal_leaves": self.equal, "leaves": leaves, "heat_map": picture}


def compare_states(a: ReplayedState, b: ReplayedState) -> StateDifference:
    """Compare two replayed states of one step: gradients, batch, loss, optimizer state and parameters, to the element.

    Raises:
        IntegrityError: a kept file is damaged.
    """
    of_a, of_b = ({(leaf.phase, leaf.spec.path): leaf.spec for leaf in state.leaves} for state in (a, b))
    digests = [{leaf.spec: leaf.sha256 for leaf in state.content.leaves} for state in (a, b)]
    # The order of A, in which its program produces leaves; what only B has comes at the end of its phase.
    names = sorted(dict.fromkeys([*of_a, *of_b]), key=lambda name: PHASES.index(name[0]))
    equal, leaves = 0, []
    for phase, path in names:
        spec_a, spec_b = of_a.get((phase, path)), of_b.get((phase, path))
        same = spec_a is not None and spec_a == spec_b and digests[0][spec_a] == digests[1][spec_a]
        read = functools.partial(_read, a, b, path)
        difference = None if same else compare_leaf(path, spec_a, spec_b, read, phase)
        if difference is None:
            equal += 1
        else:
            leaves.append(difference)
    return StateDifference(a, b, equal, tuple(leaves))


def _read(a: ReplayedState, b: ReplayedState, path: str) -> tuple[NDArray[Any], NDArray[Any]]:
    return a.read(path), b.read(path)
