"""What the record of a step is made of: which phase and name each leaf of its calls gets."""

from collections.abc import Sequence
from typing import Any

from reprotui.observe.jax_calls import Call, Place
from reprotui.observe.jax_loop import Loop
from reprotui.observe.jax_outside import OutsideState
from reprotui.observe.roles import Kind, gradient_path, is_gradient, is_key, is_scalar, loss_path
from reprotui.trace.phases import REPLACED

Leaf = tuple[str, str, Place, Any, int]
"""A leaf of a record: phase and path there, what it is, and which lanes hold its checksum where. The lanes are themselves,
or (number of the call, whether they were taken after it) where a record is worked out for all calls that look alike."""


class Composer:
    """Say what the leaves of a step's calls are.

    Args:
        loop: the functions that train.
        outside: which of their inputs are state of the script's own keeping.
        loss: the name of the loss, where the user gave one.
    """

    def __init__(self, loop: Loop, outside: OutsideState, loss: str | None) -> None:
        self._loop, self._outside, self._asked = loop, outside, loss

    def init(self, calls: Sequence[Call]) -> list[Leaf]:
        """Return the state that the first step's calls started from."""
        leaves: dict[Any, Leaf] = {}
        for call in calls:
            outside, carried = self._outside.inputs(call), self._loop.carried(call.function)
            for index, place in enumerate(call.look.inputs.places):
                if index in outside:
                    key = name = self._outside.name(place.path)
                elif place.path in carried and not _of_training(self._loop, call.look.origins[index]):
                    key, name = carried[place.path], self._loop.name(*carried[place.path])
                else:
                    continue
                found = call.place_of(index)
                if found is not None:
                    leaves.setdefault(key, ("init", name, place, call.lanes(found[0]), found[1]))
        return list(leaves.values())

    def leaves(self, calls: Sequence[Call]) -> list[Leaf]:
        """Return the leaves of a step, those of a phase in the order in which they were computed."""
        outputs = [
            (number, index, place)
            for number, call in enumerate(calls)
            for index, place in enumerate(call.outputs.side.places if call.outputs else ())
            if self._loop.state(call.function, place.path) is None
        ]
        # What comes after a first update of state in the same step can differ because of it.
        updating = next((number for number, call in enumerate(calls) if call.function in self._loop.owners), len(calls))
        early = [output for output in outputs if output[0] <= updating]
        loss, last = self._loss(early)
        if loss is None:
            loss, last = self._loss(outputs)
        states = {
            place.kind
            for call in calls
            for outside, carried in [(self._outside.inputs(call), self._loop.carried(call.function))]
            for index, place in enumerate(call.look.inputs.places)
            if place.path in carried or index in outside
        }
        leaves = [leaf for number, call in enumerate(calls) for leaf in self._inputs(number, call)]
        for number, call in enumerate(calls):
            for of, index, place in outputs:
                at = _taken(call, index) if of == number else None
                if at is None:
                    continue
                is_loss = place.path == loss and number == last
                phase, name = ("forward", "loss") if is_loss else self._output(place, states)
                name = name if is_loss else self._loop.within(place.function, name)
                leaves.append(("update" if number > updating else phase, name, place, (number, True), at))
            leaves += self._update(number, call)
        return leaves

    def _loss(self, outputs: Sequence[tuple[int, int, Place]]) -> tuple[str | None, int]:
        """Return the path of the loss and the number of the last call that gave one."""
        path = loss_path({place.path: place.kind for _, _, place in outputs}, self._asked)
        return path, max((number for number, _, place in outputs if place.path == path), default=-1)

    def _output(self, place: Place, states: set[Kind]) -> tuple[str, str]:
        """Return phase and name of an output that is no state."""
        loop, path = self._loop, place.path
        alone = place.function is not loop.step and place.function not in self._loop.owners
        if is_scalar(place.kind):
            return "forward", f"metrics/{path}"
        if alone and place.kind not in states and not is_gradient(path):
            # Made along with each step, but not of a parameter's kind: augmented data, for one.
            return "batch", f"batch/{path}"
        if alone or is_gradient(path) or not self._loop.owners:
            return "grads", gradient_path(path)
        if any(function not in self._loop.owners for function in loop.functions):
            # The gradients come from a function of their own; what this one gives besides its state are the updates.
            return "update", f"updates/{path}"
        return "forward", f"extra/{path}"

    def _inputs(self, number: int, call: Call) -> list[Leaf]:
        outside, replaced = self._outside.inputs(call), self._loop.replaced(call)
        carried = self._loop.carried(call.function)
        leaves = []
        taken = [(index, False, at) for at, index in enumerate(call.inputs.wanted, call.inputs.first)]
        taken += [(index, True, at) for at, index in enumerate(call.kept.wanted, call.kept.first)]
        for index, after, at in sorted(taken):
            place, origin = call.look.inputs.places[index], call.look.origins[index]
            if index in outside or (call.step == 1 and place.path in carried):
                continue
            if origin is not None and origin.function in self._loop.functions:
                continue
            phase = "rng" if is_key(place.path, place.kind) else "batch"
            name = f"{phase}/{place.path}"
            if index in replaced:
                state = self._loop.name(*carried[place.path]) if place.path in carried else place.path
                # An optimizer's state enters where it is used; all other state enters with the batch.
                phase, name = "update" if state.startswith("opt_state/") else "batch", f"{REPLACED}{state}"
            leaves.append((phase, name, place, (number, after), at))
        return leaves

    def _update(self, number: int, call: Call) -> list[Leaf]:
        found = []
        for index, place in enumerate(call.outputs.side.places if call.outputs else ()):
            at = _taken(call, index)
            if at is not None and self._loop.state(call.function, place.path) is not None:
                found.append(("update", self._loop.name(call.function, place.path), place, (number, True), at))
        # The optimizer's state comes before the parameters that it moves.
        return sorted(found, key=lambda leaf: not leaf[1].startswith("opt_state"))


def _of_training(loop: Loop, origin: Place | None) -> bool:
    return origin is not None and origin.function in loop.training


def _taken(call: Call, index: int) -> int | None:
    """Return where in the lanes of a call's outputs the checksum of one is; None where it was not taken."""
    return call.outputs.checksum(index) if call.outputs else None
