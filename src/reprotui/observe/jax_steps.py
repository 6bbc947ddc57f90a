"""Make records out of the calls of a train step and of the functions that are called along with it."""

import itertools
import json
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reprotui.observe.jax_calls import Call, Function, Leaves, take
from reprotui.observe.jax_loop import Loop
from reprotui.observe.jax_outside import OutsideState
from reprotui.observe.jax_records import Composer, Leaf
from reprotui.observe.once import Once
from reprotui.observe.roles import renamed
from reprotui.observe.watch import Watch
from reprotui.record.assembly import Part, Selection

ROUND_CALLS = 256
"""Calls that one record can hold: where a step has more of them, because the function that ends it is hardly ever called, the
newest are kept. Their number is the memory that an open step takes."""
REPLACED_SAID = 20
"""Events about state that was replaced between two steps, before no more is said of it."""


@dataclass
class Late:
    """A record whose state shows only when these functions are called again, because the script updates it by itself."""

    number: int
    parts: list[Part]
    calls: str
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
        self._along: deque[Call] = deque(maxlen=ROUND_CALLS)
        self._begun: Call | None = None
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
        self._begun = call
        ends_step = call.function is self.loop.step
        if self._watch.options.record:
            late = self._late is not None and call.function in self._late.awaited
            if late or self._watch.due(self._number + 1):
                # A run that stands still has all of its last record.
                self._read_before(call, late, at_once=late and ends_step and self._watch.stands)
            self._say_replaced(call)
        if ends_step:
            self._watch.wait()
            self._watch.tick()

    def end(self, call: Call) -> None:
        """Take in what a call gave."""
        outputs = call.outputs
        assert outputs is not None
        outputs.step = call.step
        if self._watch.options.record:
            self._read_after(call, outputs if self._watch.due(self._number + 1) else None)
            self._settle(call)
        self._begun = None
        if call.function is self.loop.step or call.function in self.loop.owners:
            call.function.last = outputs.side, outputs.values
        self._finish_call(call)

    def finish(self) -> None:
        """Record what is still open."""
        call, self._begun = self._begun, None
        if call is not None and self._late is not None:  # a call that raised
            self._read_after(call, None)
            self._settle(call)
        if any(item.function in self.loop.training for item in self._along):
            # The step that was under way counts for nothing, but what was called is recorded.
            names = ", ".join(dict.fromkeys(item.function.name for item in self._along))
            text = f"after step {self._number}, {names} was called, and the step not ended: recorded as step {self._number + 1}"
            self._watch.event("step-unfinished", text)
            self._record_step(list(self._along), self._number + 1)
        self._put_late()
        if self._watch.session is not None:
            self._watch.session.step = self._number

    def _put_late(self) -> None:
        if self._late is not None:
            self._watch.put(self._late.number, self._late.parts, self._late.calls)
            self._late = None
            self._watch.assembly.open = False

    def _read_before(self, call: Call, late: bool, at_once: bool) -> None:
        """Read what cannot be read after the call, and say what is read after it."""
        due, outside = self._watch.due(self._number + 1), self._outside.inputs(call)
        now, call.kept.wanted = self._once(
            ("inputs", call.look, call.look.lasting, outside, self.loop.version, late, at_once, due),
            lambda: self._inputs(call, outside, late, at_once, due),
        )
        take(self._watch.assembly, (call.inputs, now))
        if at_once:
            self._settle(call)

    def _inputs(
        self, call: Call, outside: frozenset[int], late: bool, at_once: bool, due: bool
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the inputs that came out of no function that is observed: to be read before the call, and after it.

        State of the script's own keeping completes the record before (`late`); where that is complete, it was read by then.
        It is all that is read where this step is not `due` to be recorded.
        """
        look = call.look
        fresh = [index for index, origin in enumerate(look.origins) if origin is None]
        wanted = {index for index in fresh if (late if index in outside else due)}
        after = wanted & (look.lasting or frozenset())
        if at_once:
            after -= outside
        return tuple(sorted(wanted - after)), tuple(sorted(after))

    def _read_after(self, call: Call, outputs: Leaves | None) -> None:
        """Read inputs that were left for now, and the outputs of a step that is to be recorded, in one call of the device."""
        kept = call.lasting(call.kept.wanted)
        if len(kept) < len(call.kept.wanted):
            text = f"step {call.step} lacks inputs whose memory {call.function.name} was given"
            self._watch.event("inputs-gone", text)
            self._watch.coverage.note(text)  # the call is recorded, and what it gave
        call.kept.wanted = kept
        chosen = [(call.kept, kept)]
        if outputs is not None:
            chosen.append((outputs, outputs.side.everything))
        take(self._watch.assembly, *chosen)

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
        late = self._late
        if late is None or call.function not in late.awaited:
            return
        late.awaited.discard(call.function)
        outside, parts = self._outside.inputs(call), tuple(selection for _, selection in late.parts)
        taken = [(side.wanted, side.first) for side in (call.inputs, call.kept, *call.sources.values())]
        added = self._once(
            ("late", call.look, outside, self.loop.version, parts, *taken), lambda: self._late_leaves(call, outside, parts)
        )
        late.parts += [(call.lanes(holder), selection) for holder, selection in added]
        if not late.awaited:
            self._put_late()

    def _late_leaves(self, call: Call, outside: frozenset[int], parts: Iterable[Selection]) -> list[tuple[Any, Selection]]:
        known = {spec.path for selection in parts for _, spec, _ in selection.entries}
        places = call.look.inputs.places
        return self._selected(
            ("update", path, places[index], *found)
            for index in sorted(outside)
            for path in [self._outside.name(places[index].path)]
            for found in [call.place_of(index)]
            if found is not None and path not in known
        )

    def _finish_call(self, call: Call) -> None:
        if call.function is not self.loop.step:
            self._along.append(call)
            call.release()
            return
        self._number += 1
        self._record_step([*self._along, call], self._number)
        if self._watch.session is not None:
            self._watch.session.step = self._number
        self._along.clear()
        call.release()

    def _record_step(self, calls: list[Call], number: int) -> None:
        """Record a step, if it is to be recorded, and before the first one the state that it started from."""
        if not self._watch.options.record:
            return
        if number == 1:
            found = self._composer.init(calls)
            if found:
                self._watch.put(0, self._selected(found))
        due = self._watch.due(number)
        self._watch.coverage.add((item.function.name for item in calls if item.function in self.loop.training), due)
        if not due:
            return
        parts = self._record(calls, number)
        functions = tuple(item.function for item in calls)
        counted = self._once(("calls", functions), lambda: json.dumps(Counter(item.name for item in functions)))
        self._put_late()
        awaited = {item.function for item in calls if self._outside.inputs(item)}
        if awaited:
            self._late = Late(number, parts, counted, awaited)
            self._watch.assembly.open = True
        else:
            self._watch.put(number, parts, counted)

    def _selected(self, leaves: Iterable[Leaf]) -> list[tuple[Any, Selection]]:
        """Return leaves as parts of a record: a selection for each run of leaves that lie in the same lanes."""
        found = []
        for lanes, run in itertools.groupby(leaves, key=lambda leaf: leaf[3]):
            entries = [(phase, renamed(place.spec, path), index) for phase, path, place, _, index in run]
            found.append((lanes, self._watch.assembly.select(entries)))
        return found

    def _record(self, calls: Sequence[Call], number: int) -> list[Part]:
        """Return the record of a step: how it is composed is remembered, the lanes are those of its calls."""
        taken = [(call.inputs.wanted, call.kept.wanted, call.outputs.wanted if call.outputs else None) for call in calls]
        looks = [(call.look, call.outputs and call.outputs.side, self._outside.names(call.function)) for call in calls]
        composed = self._once(
            ("record", self.loop.version, number == 1, *looks, *taken), lambda: self._selected(self._composer.leaves(calls))
        )
        return [(calls[place].lanes(after), selection) for (place, after), selection in composed]
