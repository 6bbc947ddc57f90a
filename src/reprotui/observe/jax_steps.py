"""Make records out of the calls of a train step and of the functions that are called along with it."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from reprotui.observe.jax_calls import Call, Function, Place, kinds
from reprotui.observe.roles import gradient_path, is_gradient, is_key, is_scalar, loss_path, outside_state, renamed, state_path
from reprotui.observe.watch import Watch
from reprotui.record.assembly import Part, Selection
from reprotui.record.lanes import Lanes

REPLACED_SAID = 20
"""Events about state that was replaced between two steps, before no more is said of it."""

Leaf = tuple[str, str, Place, Any, int]
"""A leaf of a record: phase and path there, what it is, and which lanes hold its checksum where. The lanes are themselves,
or (number of the call, whether they are of its outputs) where a record is worked out for all calls that look alike."""
T = TypeVar("T")


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
        self._keeps_parameters = any(
            state_path(place.path, place.kind, self._in_optimizer(example, place)).startswith("params/")
            for place in example.look.inputs.places
            if place.path in step.fed
        )
        self._number = 0
        self._along: list[Call] = []
        self._late: tuple[int, list[Part]] | None = None
        self._said = 0
        self._outside_names: dict[Function, frozenset[str]] = {}
        self._memory: dict[Any, Any] = {}

    def replay(self, call: Call) -> None:
        """Take in a call that was made before the train step was chosen; its checksums are there."""
        self._settle(call)
        self._finish_call(call)

    def begin(self, call: Call) -> None:
        """Take in a call that is about to be made, and wait here while the run is paused."""
        if self._watch.options.record:
            look = call.look
            if self._watch.due(self._number + 1) or self._late is not None:
                call.inputs.take(self._watch.assembly, self._once(("new", look, self.step.version), lambda: self._new(call)))
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
            outputs.take(self._watch.assembly, self._once(("all", outputs.side), lambda: tuple(range(len(outputs.side.places)))))
        if call.function is self.step:
            self.step.last = outputs.side, outputs.values
        self._finish_call(call)

    def finish(self) -> None:
        """Record what is still open."""
        if self._late is not None:
            number, parts = self._late
            self._late = None
            self._watch.put(number, parts)

    def _once(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def _new(self, call: Call) -> tuple[int, ...]:
        """Return the inputs that came out of no function that is observed."""
        known = self.step.fed if call.function is self.step else {}
        found = enumerate(zip(call.look.inputs.places, call.look.origins, strict=True))
        return tuple(index for index, (place, origin) in found if origin is None and place.path not in known)

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
        state = self._outside(call)
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
                if any(self._outside(item) for item in calls):
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
            outside = self._outside(call)
            for index, place in enumerate(call.look.inputs.places):
                if index in outside:
                    name = _outside_name(place.path)
                elif call.function is self.step and place.path in self.step.fed:
                    name = state_path(place.path, place.kind, self._in_optimizer(call, place))
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
        key = [
            (call.look, call.inputs.wanted, call.outputs and (call.outputs.side, call.outputs.wanted), self._names(call))
            for call in calls
        ]
        composed = self._once(("record", self.step.version, *key), lambda: self._selected(self._leaves(calls)))
        return [(_lanes(calls[number], is_output), selection) for (number, is_output), selection in composed]

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
            for outside in [self._outside(call)]
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
        outside = self._outside(call)
        leaves = []
        for at, index in enumerate(call.inputs.wanted):
            place, origin = call.look.inputs.places[index], call.look.origins[index]
            if index in outside or (call.function is self.step and place.path in self.step.fed):
                continue
            if origin is not None and origin.function in self.functions:
                continue
            phase = "rng" if is_key(place.path, place.kind) else "batch"
            leaves.append((phase, f"{phase}/{place.path}", place, (number, False), at))
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

    def _in_optimizer(self, call: Call, place: Place) -> bool:
        """Say whether a leaf of the state is the optimizer's, as what goes in or what comes out tells."""
        output = self.step.fed[place.path]
        outputs = call.outputs.side.places if call.outputs else ()
        return place.in_optimizer or any(other.in_optimizer for other in outputs if other.path == output)

    def _names(self, call: Call) -> frozenset[str]:
        """Return which inputs of a function looked like state when its outputs were last seen."""
        return self._outside_names.get(call.function, frozenset())

    def _outside(self, call: Call) -> frozenset[int]:
        """Return the inputs that are state of the script's own keeping: none where parameters come back by themselves."""
        if self._keeps_parameters:
            return frozenset()
        outputs = call.outputs.side if call.outputs else None
        if outputs is not None:
            key = "names", call.look, outputs, self.step.version
            self._outside_names[call.function] = self._once(
                key, lambda: frozenset(outside_state(self._foreign(call), kinds(outputs)))
            )
        # Before a call its outputs are not there: what was state in the call before is state now.
        names = self._names(call)
        places = call.look.inputs.places
        return self._once(
            ("outside", call.look, self.step.version, names),
            lambda: frozenset(index for index, place in enumerate(places) if place.path in names & set(self._foreign(call))),
        )

    def _foreign(self, call: Call) -> dict[str, Any]:
        """Return the kinds of the inputs that are no output of the functions of a step."""
        own = self.step.fed if call.function is self.step else {}
        return {
            place.path: place.kind
            for place, origin in zip(call.look.inputs.places, call.look.origins, strict=True)
            if place.path not in own and not (origin is not None and origin.function in self.functions)
        }


def _taken(call: Call, index: int) -> int | None:
    """Return where in the lanes of a call's outputs the checksum of one is; None where it was not taken."""
    found = call.outputs.checksum(index) if call.outputs else None
    return None if found is None else found[1]


def _lanes(call: Call, is_output: bool) -> Lanes:
    side = call.outputs if is_output else call.inputs
    assert side is not None and side.lanes is not None
    return side.lanes


def _outside_name(path: str) -> str:
    """Return the name of a parameter that the script updates by itself; functions may call the argument differently."""
    first, _, rest = path.partition("/")
    return f"params/{rest or first}"
