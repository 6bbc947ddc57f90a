"""State of torch between two steps: what nobody wrote to must have the checksums with which the step before left it.

torch counts writes to a tensor (`_version`); one that was counted is the script's. What goes through `.data` is not counted, so a
leaf that changed without one was changed by the script in that way, or by itself. Where one bit of one element tells the two
apart, it was no program: the checksum of before proves which bit.
"""

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reprotui.checksum.leaves import to_numpy
from reprotui.checksum.numpy_form import flipped_bit
from reprotui.observe.checks import STATE_EACH_STEP, Checks
from reprotui.record import lanes
from reprotui.record.lanes import Lanes, Plan

if TYPE_CHECKING:
    from reprotui.observe.torch_state import Named

_version = operator.attrgetter("_version")
UNCOUNTED = "torch counted no write: the script did it through .data, or the memory changed by itself"


class _Kept(NamedTuple):
    """State after a step: tensors with how often each was written to, and its checksums, in which these stand at `at`."""

    step: int
    paths: tuple[str, ...]
    tensors: list[Any]
    versions: list[int]
    lanes: Lanes
    at: list[int]


class Still:
    """The state of one training between its steps."""

    def __init__(self, torch: Any, checks: Checks) -> None:
        self._torch, self._checks = torch, checks
        self._kept: _Kept | None = None
        self._plan: Plan | None = None

    def keep(self, step: int, state: "Sequence[tuple[str, Named]]", taken: Lanes) -> None:
        """Keep the state after a step, with its checksums in the same order, where it is small or the next step is drawn."""
        paths = [path for _, named in state for path in named.paths]
        values = [tensor for _, named in state for tensor in named.tensors]
        at = [index for index, value in enumerate(values) if isinstance(value, self._torch.Tensor)]
        tensors = [values[index] for index in at]
        small = sum(tensor.nbytes for tensor in tensors) <= STATE_EACH_STEP and all(tensor.is_cpu for tensor in tensors)
        if tensors and (small or self._checks.due(step + 1)):
            named = tuple([paths[index] for index in at])
            self._kept = _Kept(step, named, tensors, list(map(_version, tensors)), taken, at)

    def look(self) -> None:
        """Read again what was kept, before anything of the next step happens to it."""
        kept, self._kept = self._kept, None
        if kept is None:
            return
        if self._plan is None or self._plan.size != len(kept.tensors) or not self._plan.fits(kept.tensors):
            self._plan = Plan(kept.tensors, ())
        now, then = lanes.take(kept.tensors, plan=self._plan).result().lanes, kept.lanes.result().lanes[kept.at]
        same = (now == then).all(axis=1)
        if same.all():
            self._checks.state(kept.step + 1, ())
            return
        # A write that was counted is the script's.
        changed = [at for at in np.flatnonzero(~same) if kept.tensors[at]._version == kept.versions[at]]
        flipped = ""
        if len(changed) == 1 and kept.tensors[changed[0]].numel() > 1:
            array = to_numpy(kept.tensors[changed[0]])
            found = flipped_bit(array, (int(then[changed[0]][0]), int(then[changed[0]][1])))
            flipped = "" if found is None else f"bit {found[1]} of element {found[0]} flipped"
        self._checks.state(kept.step + 1, [kept.paths[at] for at in changed], flipped, UNCOUNTED)
