"""Make records out of the calls of a train step and of the functions that are called along with it."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reprotui.observe.jax_calls import Call, Function, Place, take
from reprotui.observe.jax_loop import Loop
from reprotui.observe.jax_outside import Once, OutsideState
from reprotui.observe.roles import Kind, gradient_path, is_gradient, is_key, is_scalar, loss_path, renamed
from reprotui.observe.watch import Watch
from reprotui.record.assembly import Part, Selection
from reprotui.record.lanes import Lanes
from reprotui.trace.phases import REPLACED

REPLACED_SAID = 20
"""Events about state that was replaced between two steps, before no more is said of it."""

Leaf = tuple[str, str, Place, Any, int]
"""A leaf of a record: phase and path there, what it is, and which lanes hold its checksum where. The lanes are themselves,
or (number of the call, whether they were taken after it) where a record is worked out for all calls that look alike."""


@dataclass
class Late:
    """A record whose state shows only when these functions are called again, because the script updates it by itself."""

    number: int
    parts: list[Part]
    awaited: set[Function]


class StepBuilder:
    """Records of the steps of one loop.

    What a record is made of is worked out once for all steps whose calls look alike, and remembered.

    Args:
        watch: the observation of this process.
        loop: the functions that train; record k is the k-th call of the one that ends a step, with the calls before it.
    """

    def __init__(self, watch: Watch, loop: Loop) -> None:
        self._watch, self.loop = watch, loop
        self._outside = OutsideState(loop)
        self._number = 0
        self._along: list[Call] = []
        self._late: Late | None = None
        self._said = 0
        self._once = Once()

    def replay(self, calls: Sequence[Call]) -> None:
        """Take in the calls that were made before the loop was found; their checksums are there."""
        self.loop.read(calls)
        for call in calls:
            self._outside.inputs(call)
        for call in calls:
            self._settle(call)
            self._finish_call(call)

    def begin(self, call: Call) -> None:
        """Take in a call that is about to be made, and wait here while the run is paused."""
        if self._watch.options.record:
            call.number_step(self._number + 1)
            self.loop.learn(call)
            due = self._watch.due(self._number + 1)
            if due or self._late is not None:
                now, host, later = self._new(call, due)
                if call.hold(host):
                    call.kept.wanted = tuple(sorted(later + host))
                else:
                    now, call.kept.wanted = tuple(sorted(now + host)), later
                take(self._watch.assembly, (call.inputs, now))
            self._say_replaced(call)
            self._settle(call)
        if call.function is self.loop.step:
            self._watch.wait()
            self._watch.tick()

    def end(self, call: Call) -> None:
        """Take in what a call gave."""
        outputs = call.outputs
        assert outputs is not None
        outputs.step = call.step
        if self._watch.options.record and self._watch.due(self._number + 1):
            kept = call.lasting(call.kept.wanted)
            if len(kept) < len(call.kept.wanted):
                self._watch.event(
                    "inputs-gone", f"step {self._number + 1} lacks inputs whose memory {call.function.name} was given"
                )
            everything = self._once(("all", outputs.side), lambda: tuple(range(len(outputs.side.places))))
            take(self._watch.assembly, (call.kept, kept), (outputs, everything), held=call.held)
        if call.function is self.loop.step or call.function in self._owners:
            call.function.last = outputs.side, outputs.values
        self._finish_call(call)

    def finish(self) -> None:
        """Record what is still open."""
        if self._late is not None:
            self._watch.put(self._late.number, self._late.parts)
            self._late = None

    def _new(self, call: Call, due: bool) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Return the inputs that came out of no function that is observed: to be read now, to be copied, and to be read
        after the call.

        State of the script's own keeping completes the record before; where that is complete, it was read by then. It is all
        that is read where this step is not to be recorded.
        """
        look, open_before = call.look, self._late is not None and call.function in self._late.awaited
        outside = self._outside.inputs(call)

        def new() -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
            fresh = [index for index, origin in enumerate(look.origins) if origin is None]
            wanted = [index for index in fresh if due or index in outside]
            later = (look.lasting or frozenset()) - outside
            now = [index for index in wanted if index not in later and (open_before or index not in outside)]
            host = set(now).difference(look.inputs.arrays, outside)
            now = [index for index in now if index not in host]
            return tuple(now), tuple(sorted(host)), tuple(index for index in wanted if index in later)

        return self._once(("new", look, look.lasting, self.loop.version, open_before, outside, due), new)

    def _say_replaced(self, call: Call) -> None:
        """Name state that should be what functions of this step or the one before gave, and is not."""
        replaced = [call.look.inputs.places[index].path for index in self._replaced(call)]
        if not replaced or self._said >= REPLACED_SAID:
            return
        self._said += 1
        names, step = ", ".join(replaced[:3]) + (" and more" if len(replaced) > 3 else ""), call.step
        if replaced[0] in self.loop.carried(call.function):
            text = f"step {step} does not start from what step {step - 1} gave: {names}"
        else:
            text = f"in step {step} {call.function.name} does not get what was made for it: {names}"
        self._watch.event("state-replaced", text)

    def _replaced(self, call: Call) -> tuple[int, ...]:
        """Return the inputs that should have come out of a function, and did not."""

        def replaced() -> tuple[int, ...]:
            usual = self.loop.received(call.function)
            found = enumerate(zip(call.look.inputs.places, call.look.origins, strict=True))
            return tuple(index for index, (place, origin) in found if origin is None and place.path in usual)

        # The first step starts from what the script made.
        return () if call.step == 1 else self._once(("replaced", call.look, self.loop.version), replaced)

    @property
    def _owners(self) -> list[Function]:
        return self._once(("owners", self.loop.version), lambda: self.loop.owners)

    def _settle(self, call: Call) -> None:
        """Complete the record before, where its state is updated outside of jitted functions and only shows now."""
        if self._late is None or call.function not in self._late.awaited:
            return
        self._late.awaited.discard(call.function)
        known = {spec.path for _, selection in self._late.parts for _, spec, _ in selection.entries}
        places = call.look.inputs.places
        added = [
            ("update", path, places[index], *found)
            for index in sorted(self._outside.inputs(call))
            for path in [self._outside.name(places[index].path)]
            for found in [call.known_checksum(index)]
            if found is not None and path not in known
        ]
        self._late.parts += self._selected(added)
        if not self._late.awaited:
            self.finish()

    def _finish_call(self, call: Call) -> None:
        if call.function is not self.loop.step:
            self._along.append(call)
            call.release()
            return
        self._number += 1
        if self._watch.options.record:
            calls = [*self._along, call]
            if self._number == 1:
                self._put_init(calls)
            if self._watch.due(self._number):
                parts = self._record(calls)
                self.finish()
                awaited = {item.function for item in calls if self._outside.inputs(item)}
                if awaited:
                    self._late = Late(self._number, parts, awaited)
                else:
                    self._watch.put(self._number, parts)
            if self._watch.session is not None:
                self._watch.session.step = self._number
        self._along = []
        call.release()

    def _put_init(self, calls: list[Call]) -> None:
        leaves: dict[Any, Leaf] = {}
        for call in calls:
            outside, carried = self._outside.inputs(call), self.loop.carried(call.function)
            for index, place in enumerate(call.look.inputs.places):
                if index in outside:
                    key = name = self._outside.name(place.path)
                elif place.path in carried and not self._of_training(call.look.origins[index]):
                    key, name = carried[place.path], self.loop.name(*carried[place.path])
                else:
                    continue
                found = call.known_checksum(index)
                if found is not None:
                    leaves.setdefault(key, ("init", name, place, *found))
        if leaves:
            self._watch.put(0, self._selected(leaves.values()))

    def _of_training(self, origin: Place | None) -> bool:
        return origin is not None and origin.function in self.loop.training

    def _selected(self, leaves: Iterable[Leaf]) -> list[tuple[Any, Selection]]:
        """Return leaves as parts of a record: a selection for each run of leaves that lie in the same lanes."""
        found = []
        for lanes, run in itertools.groupby(leaves, key=lambda leaf: leaf[3]):
            entries = [(phase, renamed(place.spec, path), index) for phase, path, place, _, index in run]
            found.append((lanes, self._watch.assembly.select(entries)))
        return found

    def _record(self, calls: Sequence[Call]) -> list[Part]:
        """Return the record of a step: how it is composed is remembered, the lanes are those of its calls."""
        taken = [(call.inputs.wanted, call.kept.wanted, call.outputs.wanted if call.outputs else None) for call in calls]
        looks = [(call.look, call.outputs and call.outputs.side, self._outside.names(call.function)) for call in calls]
        composed = self._once(
            ("record", self.loop.version, self._number == 1, *looks, *taken), lambda: self._selected(self._leaves(calls))
        )
        return [(_lanes(calls[number], after), selection) for (number, after), selection in composed]

    def _leaves(self, calls: Sequence[Call]) -> list[Leaf]:
        outputs = [
            (number, index, place)
            for number, call in enumerate(calls)
            for index, place in enumerate(call.outputs.side.places if call.outputs else ())
            if self.loop.state(call.function, place.path) is None
        ]
        # What comes after a first update of state in the same step can differ because of it.
        updating = next((number for number, call in enumerate(calls) if call.function in self._owners), len(calls))
        early = [output for output in outputs if output[0] <= updating]
        loss, last = self._loss(early)
        if loss is None:
            loss, last = self._loss(outputs)
        states = {
            place.kind
            for call in calls
            for outside, carried in [(self._outside.inputs(call), self.loop.carried(call.function))]
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
                name = name if is_loss else self.loop.within(place.function, name)
                leaves.append(("update" if number > updating else phase, name, place, (number, True), at))
            leaves += self._update(number, call)
        return leaves

    def _loss(self, outputs: Sequence[tuple[int, int, Place]]) -> tuple[str | None, int]:
        """Return the path of the loss and the number of the last call that gave one."""
        path = loss_path({place.path: place.kind for _, _, place in outputs}, self._watch.options.loss)
        return path, max((number for number, _, place in outputs if place.path == path), default=-1)

    def _output(self, place: Place, states: set[Kind]) -> tuple[str, str]:
        """Return phase and name of an output that is no state."""
        loop, path = self.loop, place.path
        alone = place.function is not loop.step and place.function not in self._owners
        if is_scalar(place.kind):
            return "forward", f"metrics/{path}"
        if alone and place.kind not in states and not is_gradient(path):
            # Made along with each step, but not of a parameter's kind: augmented data, for one.
            return "batch", f"batch/{path}"
        if alone or is_gradient(path) or not self._owners:
            return "grads", gradient_path(path)
        if any(function not in self._owners for function in loop.functions):
            # The gradients come from a function of their own; what this one gives besides its state are the updates.
            return "update", f"updates/{path}"
        return "forward", f"extra/{path}"

    def _inputs(self, number: int, call: Call) -> list[Leaf]:
        outside, replaced = self._outside.inputs(call), self._replaced(call)
        carried = self.loop.carried(call.function)
        leaves = []
        taken = [(index, False, at) for at, index in enumerate(call.inputs.wanted, call.inputs.first)]
        taken += [(index, True, at) for at, index in enumerate(call.kept.wanted, call.kept.first)]
        for index, after, at in sorted(taken):
            place, origin = call.look.inputs.places[index], call.look.origins[index]
            if index in outside or (call.step == 1 and place.path in carried):
                continue
            if origin is not None and origin.function in self.loop.functions:
                continue
            phase = "rng" if is_key(place.path, place.kind) else "batch"
            name = f"{phase}/{place.path}"
            if index in replaced:
                state = self.loop.name(*carried[place.path]) if place.path in carried else place.path
                # An optimizer's state enters where it is used; all other state enters with the batch.
                phase, name = "update" if state.startswith("opt_state/") else "batch", f"{REPLACED}{state}"
            leaves.append((phase, name, place, (number, after), at))
        return leaves

    def _update(self, number: int, call: Call) -> list[Leaf]:
        found = []
        for index, place in enumerate(call.outputs.side.places if call.outputs else ()):
            at = _taken(call, index)
            if at is not None and self.loop.state(call.function, place.path) is not None:
                found.append(("update", self.loop.name(call.function, place.path), place, (number, True), at))
        # The optimizer's state comes before the parameters that it moves.
        return sorted(found, key=lambda leaf: not leaf[1].startswith("opt_state"))


def _taken(call: Call, index: int) -> int | None:
    """Return where in the lanes of a call's outputs the checksum of one is; None where it was not taken."""
    found = call.outputs.checksum(index) if call.outputs else None
    return None if found is None else found[1]


def _lanes(call: Call, after: bool) -> Lanes:
    lanes = (call.outputs.lanes if call.outputs else None) or call.kept.lanes if after else call.inputs.lanes
    assert lanes is not None
    return lanes
