"""What is read of a call before it is made, and what after it.

Of `params, loss = train(params, batch, key)`, where the key's memory is given to the call (`donate_argnums`):

    before   key                    it would be destroyed
    after    batch, params, loss    together: each reading costs a call of the device
    never    the argument params    it is what the call before gave, and was read then

State that the script updates by itself, outside of jitted functions, is read as what goes into the next call.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from reprotui.observe.jax_signature import CallSignature, TreeSignature
from reprotui.record.host import Picker, picker
from reprotui.record.lanes import Lanes, Plan


class Reading:
    """Leaves of calls that look alike, read together: some of the arguments, then all outputs or none.

    Two readings of the same leaves are the same object.
    """

    def __init__(self, arguments: tuple[int, ...], outputs: TreeSignature | None) -> None:
        self.arguments, self.outputs = arguments, outputs
        self._pick: Picker = picker(arguments)
        self._plan: Plan | None = None

    def argument_at(self, index: int) -> int | None:
        """Return where among the checksums that of an argument is; None where it is not read."""
        return self.arguments.index(index) if index in self.arguments else None

    def output_at(self, index: int) -> int | None:
        """Return where among the checksums that of an output is; None where it is not read."""
        return None if self.outputs is None else len(self.arguments) + index

    def take(self, assembly: Any, arguments: Sequence[Any], outputs: Sequence[Any] = ()) -> "Taken | None":
        """Take the checksums of these leaves; None where there are none."""
        leaves = [*self._pick(arguments), *(outputs if self.outputs is not None else ())]
        if not leaves:
            return None
        if self._plan is None:
            self._plan = Plan(leaves)
        lanes = assembly.take(leaves, self._plan)
        for index in self.outputs.by_iteration if self.outputs is not None else ():
            lanes.bring(len(self.arguments) + index, outputs[index])
        return Taken(self, lanes)


class Taken(NamedTuple):
    """The checksums of a reading, in its order."""

    reading: Reading
    lanes: Lanes


@dataclass(frozen=True)
class ReadingPlan:
    """Which arguments of a call are read before it, and which after it."""

    before: Reading
    after: tuple[int, ...]


@functools.cache
def reading(signature: CallSignature, arguments: tuple[int, ...], outputs: TreeSignature | None) -> Reading:
    """Return the reading of these arguments and outputs of calls that look so."""
    return Reading(arguments, outputs)


@functools.cache
def plan_reading(
    signature: CallSignature, survivors: frozenset[int], by_hand: frozenset[int], due: bool, completes: bool, at_once: bool
) -> ReadingPlan:
    """Say what is read of a call that is about to be made.

    Args:
        signature: how it looks.
        survivors: arguments that such calls leave alone: their memory is not donated.
        by_hand: arguments that are state which the script updates by itself.
        due: the step is to be recorded; if not, nothing is read but what the record before lacks.
        completes: that state completes the record of the step before; where it does not, it was read by then.
        at_once: the record before must be whole before the call is made, because the run is about to stand still.
    """
    wanted = {index for index in signature.new if (completes if index in by_hand else due)}
    after = wanted & survivors
    if at_once:
        after -= by_hand
    return ReadingPlan(reading(signature, tuple(sorted(wanted - after)), None), tuple(sorted(after)))
