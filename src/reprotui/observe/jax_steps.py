"""Make records out of the calls of a train step and of the functions that are called along with it."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reprotui.observe.jax_calls import Call, Function, take
from reprotui.observe.jax_loop import Loop
from reprotui.observe.jax_outside import OutsideState
from reprotui.observe.jax_records import Composer, Leaf
from reprotui.observe.once import Once
from reprotui.observe.roles import renamed
from reprotui.observe.watch import Watch
from reprotui.record.assembly import Part, Selection
from reprotui.record.lanes import Lanes

REPLACED_SAID = 20
"""Events about state that was replaced between two steps, before no more is said of it."""


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
        self._composer = Composer(loop, self._outside, watch.options.loss)
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
        # Without recording too: what a training ends on must be the same with and without.
        call.number_step(self._number + 1)
        self.loop.learn(call)
        if self._watch.options.record:
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
        if call.function is self.loop.step or call.function in self.loop.owners:
            call.function.last = outputs.side, outputs.values
        self._finish_call(call)

    def finish(self) -> None:
        """Record what is still open."""
        if self._late is not None:
            self._watch.put(self._late.number, self._late.parts)
            self._late = None
            self._watch.assembly.open = False

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
        replaced = [call.look.inputs.places[index].path for index in self.loop.replaced(call)]
        if not replaced or self._said >= REPLACED_SAID:
            return
        self._said += 1
        names, step = ", ".join(replaced[:3]) + (" and more" if len(replaced) > 3 else ""), call.step
        if replaced[0] in self.loop.carried(call.function):
            text = f"step {step} does not start from what step {step - 1} gave: {names}"
        else:
            text = f"in step {step} {call.function.name} does not get what was made for it: {names}"
        self._watch.event("state-replaced", text)

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
                found = self._composer.init(calls)
                if found:
                    self._watch.put(0, self._selected(found))
            if self._watch.due(self._number):
                parts = self._record(calls)
                self.finish()
                awaited = {item.function for item in calls if self._outside.inputs(item)}
                if awaited:
                    self._late = Late(self._number, parts, awaited)
                    self._watch.assembly.open = True
                else:
                    self._watch.put(self._number, parts)
            if self._watch.session is not None:
                self._watch.session.step = self._number
        self._along = []
        call.release()

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
            ("record", self.loop.version, self._number == 1, *looks, *taken), lambda: self._selected(self._composer.leaves(calls))
        )
        return [(_lanes(calls[number], after), selection) for (number, after), selection in composed]


def _lanes(call: Call, after: bool) -> Lanes:
    lanes = (call.outputs.lanes if call.outputs else None) or call.kept.lanes if after else call.inputs.lanes
    assert lanes is not None
    return lanes
