"""Make records out of the calls of a train step and of the functions that are called along with it."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from reprotui.observe.jax_calls import Call, Function, Place, take
from reprotui.observe.jax_outside import Once, OutsideState, in_optimizer
from reprotui.observe.roles import gradient_path, is_gradient, is_key, is_scalar, loss_path, renamed, state_path
from reprotui.observe.watch import Watch
from reprotui.record.assembly import Part, Selection
from reprotui.record.lanes import Lanes

REPLACED_SAID = 20
"""Events about state that was replaced between two steps, before no more is said of it."""

Leaf = tuple[str, str, Place, Any, int]
"""A leaf of a record: phase and path there, what it is, and which lanes hold its checksum where. The lanes are themselves,
or (number of the call, whether they were taken after it) where a record is worked out for all calls that look alike."""


class StepBuilder:
    """Records of one train step.

    What a record is made of is worked out once for all steps whose calls look alike, and remembered.

    Args:
        watch: the observation of this process.
        step: the train step; record k is its k-th call.
        functions: the train step, and those whose outputs go into it each time, such as a jitted gradient.
        example: a call of the train step.
    """

    def __init__(self, watch: Watch, step: Function, functions: set[Function], example: Call) -> None:
        self._watch = watch
        self.step, self.functions = step, functions
        self._outside = OutsideState(step, functions, example)
        self._number = 0
        self._along: list[Call] = []
        self._late: tuple[int, list[Part]] | None = None
        self._said = 0
        self._once = Once()

    def replay(self, call: Call) -> None:
        """Take in a call that was made before the train step was chosen; its checksums are there."""
        self._settle(call)
        self._finish_call(call)

    def begin(self, call: Call) -> None:
        """Take in a call that is about to be made, and wait here while the run is paused."""
        if self._watch.options.record:
            look = call.look
            due = self._watch.due(self._number + 1)
            if due or self._late is not None:
                now, host, later = self._new(call, due)
                if call.hold(host):
                    call.kept.wanted = tuple(sorted(later + host))
                else:
                    now, call.kept.wanted = tuple(sorted(now + host)), later
                take(self._watch.assembly, (call.inputs, now))
            replaced = self._once(("replaced", look, self.step.version), lambda: self._replaced(call))
            if replaced and self._said < REPLACED_SAID:
                self._said += 1
                self._watch.event(
                    "state-replaced", f"step {self._number + 1} does not start from what step {self._number} gave: {replaced}"
                )
            self._settle(call)
        if call.function is self.step:
            self._watch.wait()
            self._watch.tick()

    def end(self, call: Call) -> None:
        """Take in what a call gave."""
        outputs = call.outputs
        assert outputs is not None
        if self._watch.options.record and self._watch.due(self._number + 1):
            kept = call.lasting(call.kept.wanted)
            if len(kept) < len(call.kept.wanted):
                self._watch.event(
                    "inputs-gone", f"step {self._number + 1} lacks inputs whose memory {call.function.name} was given"
                )
            everything = self._once(("all", outputs.side), lambda: tuple(range(len(outputs.side.places))))
            take(self._watch.assembly, (call.kept, kept), (outputs, everything), held=call.held)
        if call.function is self.step:
            self.step.last = outputs.side, outputs.values
        self._finish_call(call)

    def finish(self) -> None:
        """Record what is still open."""
        if self._late is not None:
            number, parts = self._late
            self._late = None
            self._watch.put(number, parts)

    def _new(self, call: Call, due: bool) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Return the inputs that came out of no function that is observed: to be read now, to be copied, and to be read
        after the call.

        State of the script's own keeping completes the record before; where that is complete, it was read by then. It is all
        that is read where this step is not to be recorded.
        """
        look, open_before = call.look, self._late is not None
        outside = self._outside.inputs(call)

        def new() -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
            known = self.step.fed if call.function is self.step else {}
            found = enumerate(zip(look.inputs.places, look.origins, strict=True))
            fresh = [index for index, (place, origin) in found if origin is None and place.path not in known]
            wanted = [index for index in fresh if due or index in outside]
            later = (look.lasting or frozenset()) - outside
            now = [index for index in wanted if index not in later and (open_before or index not in outside)]
            host = set(now).difference(look.inputs.arrays, outside)
            now = [index for index in now if index not in host]
            return tuple(now), tuple(sorted(host)), tuple(index for index in wanted if index in later)

        return self._once(("new", look, look.lasting, self.step.version, open_before, outside, due), new)

    def _replaced(self, call: Call) -> str:
        """Name the inputs that should be what the step before gave, and are not."""
        known = self.step.fed if call.function is self.step else {}
        found = zip(call.look.inputs.places, call.look.origins, strict=True)
        names = [place.path for place, origin in found if place.path in known and origin is None]
        return ", ".join(names[:3]) + (" and more" if len(names) > 3 else "")

    def _settle(self, call: Call) -> None:
        """Complete the record before, where its state is updated outside of jitted functions and only shows now."""
        if self._late is None:
            return
        state = self._outside.inputs(call)
        if not state:
            return
        number, parts = self._late
        self._late = None
        known = {spec.path for _, selection in parts for _, spec, _ in selection.entries}
        places = call.look.inputs.places
        added = [
            ("update", path, places[index], *found)
            for index in state
            for path in [_outside_name(places[index].path)]
            for found in [call.known_checksum(index)]
            if found is not None and path not in known
        ]
        self._watch.put(number, [*parts, *self._selected(added)])

    def _finish_call(self, call: Call) -> None:
        if call.function is not self.step:
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
                if any(self._outside.inputs(item) for item in calls):
                    self._late = self._number, parts
                else:
                    self._watch.put(self._number, parts)
            if self._watch.session is not None:
                self._watch.session.step = self._number
        self._along = []
        call.release()

    def _put_init(self, calls: list[Call]) -> None:
        leaves: dict[str, Leaf] = {}
        for call in calls:
            outside = self._outside.inputs(call)
            for index, place in enumerate(call.look.inputs.places):
                if index in outside:
                    name = _outside_name(place.path)
                elif call.function is self.step and place.path in self.step.fed:
                    name = state_path(place.path, place.kind, in_optimizer(self.step, call, place))
                else:
                    continue
                found = call.known_checksum(index)
                if found is not None:
                    leaves.setdefault(name, ("init", name, place, *found))
        if leaves:
            self._watch.put(0, self._selected(leaves.values()))

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
        composed = self._once(("record", self.step.version, *looks, *taken), lambda: self._selected(self._leaves(calls)))
        return [(_lanes(calls[number], after), selection) for (number, after), selection in composed]

    def _leaves(self, calls: Sequence[Call]) -> list[Leaf]:
        fed = set(self.step.fed.values())
        outputs = [
            (number, index, place)
            for number, call in enumerate(calls)
            for index, place in enumerate(call.outputs.side.places if call.outputs else ())
            if not (call.function is self.step and place.path in fed)
        ]
        loss = loss_path({place.path: place.kind for _, _, place in outputs}, self._watch.options.loss)
        last = max((number for number, _, place in outputs if place.path == loss), default=None)
        states = {
            place.kind
            for call in calls
            for outside in [self._outside.inputs(call)]
            for index, place in enumerate(call.look.inputs.places)
            if (call.function is self.step and place.path in self.step.fed) or index in outside
        }
        leaves = [leaf for number, call in enumerate(calls) for leaf in self._inputs(number, call)]
        for number, index, place in outputs:
            at = _taken(calls[number], index)
            if at is None:
                continue
            path, alone = place.path, place.function is not self.step
            if path == loss and number == last:
                phase, name = "forward", "loss"
            elif is_scalar(place.kind):
                phase, name = "forward", f"metrics/{path}"
            elif alone and place.kind not in states and not is_gradient(path):
                # Made along with each step, but not of a parameter's kind: augmented data, for one.
                phase, name = "batch", f"batch/{path}"
            elif alone or is_gradient(path) or not self.step.fed:
                phase, name = "grads", gradient_path(path)
            elif len(self.functions) > 1:
                # The gradients come from a function of their own; what this one gives besides its state are the updates.
                phase, name = "update", f"updates/{path}"
            else:
                phase, name = "forward", f"extra/{path}"
            leaves.append((phase, name, place, (number, True), at))
        return leaves + self._update(len(calls) - 1, calls[-1])

    def _inputs(self, number: int, call: Call) -> list[Leaf]:
        outside = self._outside.inputs(call)
        leaves = []
        taken = [(index, False, at) for at, index in enumerate(call.inputs.wanted, call.inputs.first)]
        taken += [(index, True, at) for at, index in enumerate(call.kept.wanted, call.kept.first)]
        for index, after, at in sorted(taken):
            place, origin = call.look.inputs.places[index], call.look.origins[index]
            if index in outside or (call.function is self.step and place.path in self.step.fed):
                continue
            if origin is not None and origin.function in self.functions:
                continue
            phase = "rng" if is_key(place.path, place.kind) else "batch"
            leaves.append((phase, f"{phase}/{place.path}", place, (number, after), at))
        return leaves

    def _update(self, number: int, call: Call) -> list[Leaf]:
        inputs = {place.path: place for place in call.look.inputs.places}
        back = {output: path for path, output in self.step.fed.items()}
        found = []
        for index, place in enumerate(call.outputs.side.places if call.outputs else ()):
            at = _taken(call, index)
            if place.path in back and at is not None:
                path = back[place.path]
                in_optimizer = place.in_optimizer or (path in inputs and inputs[path].in_optimizer)
                found.append(("update", state_path(path, place.kind, in_optimizer), place, (number, True), at))
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


def _outside_name(path: str) -> str:
    """Return the name of a parameter that the script updates by itself; functions may call the argument differently."""
    first, _, rest = path.partition("/")
    return f"params/{rest or first}"
