"""Records of a training's steps, made from the calls of its functions as they come in.

Record k is the k-th call of the function that ends a step, with the calls before it. Where the script moves the parameters
itself, they show as arguments of the next call: the record of step k waits for the first calls of step k + 1.
"""

import functools
import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from reprotui.observe.jax_calls import Call, Outputs
from reprotui.observe.jax_iterations import Iterations
from reprotui.observe.jax_reading import plan_reading, reading
from reprotui.observe.jax_records import captured_parts, parts_of, plan_init, plan_late, plan_step
from reprotui.observe.jax_signature import CallSignature, Function
from reprotui.observe.jax_training import StateByHand, Training, replaced_arguments
from reprotui.observe.watch import Watch
from reprotui.record.assembly import Part

ROUND_CALLS = 256
"""Calls that one record can hold: where a step has more of them, because the function that ends it is hardly ever called, the
newest are kept. Their number is the memory that an open step takes."""
REPLACED_SAID = 20
"""Events about state that was replaced between two steps, before no more is said of it."""


@dataclass
class LateRecord:
    """A record whose state shows only when these functions are called again, because the script updates it by itself."""

    number: int
    parts: list[Part]
    calls: str
    awaited: set[Function]


class StepBuilder:
    """Records of the steps of one training.

    Args:
        watch: the observation of this process.
        training: the functions that train, and what they hand on.
    """

    def __init__(self, watch: Watch, training: Training) -> None:
        self._watch, self.training = watch, training
        self._by_hand = StateByHand()
        self.number = 0
        self._iterations = Iterations(watch) if watch.options.inside else None
        self._between: Counter[Function] = Counter()
        self._along: deque[Call] = deque(maxlen=ROUND_CALLS)
        self._begun: Call | None = None
        self._late: LateRecord | None = None
        self._captured: list[Call] = []
        self._said = 0
        self._learnt: set[CallSignature] = set()
        # Arguments that such calls leave alone: they were not given their memory. Unknown until one is over.
        self._survivors: dict[CallSignature, frozenset[int]] = {}

    def replay(self, calls: Sequence[Call]) -> None:
        """Take in the calls that were made before the training was found; their checksums are there."""
        number = 1
        for call in calls:
            call.number_step(number)
            number += call.function is self.training.step
        for call in calls:
            self._learn(call)
        for call in calls:
            self.training = self.training.learn_new(call)
        for call in calls:
            self._by_hand.arguments(self.training, call)
        for call in calls:
            self._complete_late(call)
            self._finish_call(call)

    def begin(self, call: Call) -> None:
        """Take in a call that is about to be made, and wait here while the run is paused."""
        # Without recording too: what a training ends on must be the same with and without.
        call.number_step(self.number + 1)
        self._learn(call)
        self._begun = call
        ends_step = call.function is self.training.step
        if self._watch.options.record:
            completes = self._late is not None and call.function in self._late.awaited
            if completes or self._due(self.number + 1):
                # A run that stands still has all of its last record.
                self._read_before(call, completes, at_once=completes and ends_step and self._watch.stands(self._last))
            self._say_replaced(call)
        if ends_step:
            self._watch.wait(self._last)
            self._watch.tick()

    def end(self, call: Call) -> None:
        """Take in what a call gave."""
        outputs = call.outputs
        assert outputs is not None
        outputs.step = call.step
        if self._watch.options.record:
            due = self._due(self.number + 1)
            self._read_after(call, outputs if due else None)
            call.generators = self._watch.take_generators() if due and call.function is self.training.step else None
            self._complete_late(call)
        self._begun = None
        if call.function is self.training.step or call.function in self.training.owners:
            call.function.final = outputs.signature, outputs.values
        self._finish_call(call)

    def between(self, function: Function) -> None:
        """Take in a call of a function that is no part of the training."""
        self._between[function] += 1

    def finish(self) -> None:
        """Record what is still open."""
        call, self._begun = self._begun, None
        if call is not None and self._late is not None:  # a call that raised
            self._read_after(call, None)
            self._complete_late(call)
        if any(item.function in self.training.functions for item in self._along):
            # The step that was under way counts for nothing, but what was called is recorded.
            names = ", ".join(dict.fromkeys(item.function.name for item in self._along))
            text = f"after step {self.number}, {names} was called, and the step not ended: recorded as step {self.number + 1}"
            self._watch.event("step-unfinished", text)
            self._record_step(list(self._along), self.number + 1)
        self._put_late()
        if self._watch.session is not None:
            self._watch.session.step = self._last

    @property
    def _last(self) -> int:
        """Return the number of the last step: of a call, or of an iteration inside one."""
        return self.number if self._iterations is None else self._iterations.total

    def _due(self, number: int) -> bool:
        """Say whether a call is to be read; with its iterations, each is, because they are proven by it."""
        return self._iterations is not None or self._watch.due(number)

    def _learn(self, call: Call) -> None:
        if call.signature not in self._learnt:
            self._learnt.add(call.signature)
            self.training = self.training.learn(call)

    def _read_before(self, call: Call, completes: bool, at_once: bool) -> None:
        """Read what cannot be read after the call, and leave the rest for then."""
        signature = call.signature
        survivors = self._survivors.get(signature, frozenset())
        by_hand, due = self._by_hand.arguments(self.training, call), self._due(self.number + 1)
        plan = plan_reading(signature, survivors, by_hand, due, completes, at_once)
        call.read_after = plan.after
        call.before = plan.before.take(self._watch.assembly, call.arguments)
        if at_once:
            self._complete_late(call)

    def _read_after(self, call: Call, outputs: Outputs | None) -> None:
        """Read arguments that were left for now, and the outputs of a step that is to be recorded, in one call of the device."""
        there = self._still_there(call)
        if len(there) < len(call.read_after):
            text = f"step {call.step} lacks inputs whose memory {call.function.name} was given"
            self._watch.event("inputs-gone", text)
            self._watch.coverage.note(text)  # the call is recorded, and what it gave
        chosen = reading(call.signature, there, outputs and outputs.signature)
        call.after = chosen.take(self._watch.assembly, call.arguments, outputs.values if outputs else ())
        if outputs is not None:
            outputs.taken = call.after

    def _still_there(self, call: Call) -> tuple[int, ...]:
        """Return which of the arguments that were to be read after the call are left, and learn it for the next ones."""
        signature, arguments = call.signature, call.arguments
        survivors = self._survivors.get(signature)
        if survivors is None:
            arrays = signature.arguments.jax_arrays
            survivors = self._survivors[signature] = frozenset(index for index in arrays if not arguments[index].is_deleted())
        gone = [index for index in call.read_after if index in survivors and arguments[index].is_deleted()]
        if not gone:
            return call.read_after
        self._survivors[signature] = survivors.difference(gone)
        return tuple(index for index in call.read_after if index not in gone)

    def _say_replaced(self, call: Call) -> None:
        """Name state that should be what functions of this step or the one before gave, and is not."""
        # The first step starts from what the script made.
        replaced = () if call.step == 1 else replaced_arguments(self.training, call.signature)
        if not replaced or self._said >= REPLACED_SAID:
            return
        self._said += 1
        paths, step = [call.signature.arguments.leaves[index].path for index in replaced], call.step
        names = ", ".join(paths[:3]) + (" and more" if len(paths) > 3 else "")
        if paths[0] in self.training.carried_by(call.function):
            text = f"step {step} does not start from what step {step - 1} gave: {names}"
        else:
            text = f"in step {step} {call.function.name} does not get what was made for it: {names}"
        self._watch.event("state-replaced", text)

    def _finish_call(self, call: Call) -> None:
        if call.function is not self.training.step:
            self._along.append(call)
            call.release()
            return
        self.number += 1
        self._record_step([*self._along, call], self.number)
        if self._watch.session is not None:
            self._watch.session.step = self._last
        self._along.clear()
        call.release()

    def _record_step(self, calls: list[Call], number: int) -> None:
        """Record a step, if it is to be recorded, and before the first one the state that it started from."""
        if not self._watch.options.record:
            return
        training, assembly = self.training, self._watch.assembly
        shapes = tuple([call.shape(self._by_hand.arguments(training, call)) for call in calls])
        if number == 1:
            init = plan_init(assembly, training, self._by_hand.several, shapes)
            if init:
                self._watch.put(0, parts_of(init, calls))
        self._captured += [call for call in calls if call.captured is not None]
        due = self._due(number)
        self._watch.coverage.add((call.function.name for call in calls if call.function in training.functions), due)
        if not due:
            return
        plan = plan_step(assembly, training, self._watch.options.loss, number == 1, shapes)
        awaited = {call.function for call, shape in zip(calls, shapes, strict=True) if shape.by_hand}
        captured = captured_parts(assembly, training, self._captured)  # what enters all that they compute
        self._captured.clear()
        if self._iterations is not None:
            one = self._iterations.record(training, calls, plan, captured)
            if one is None:
                return
            number = one
        parts = [*captured, *parts_of(plan, calls)]
        if calls[-1].generators is not None:
            parts.append(calls[-1].generators)
        # What is called on the way counts too: an evaluation since the step before, the loss in a line search.
        counted = _counted(tuple([call.function for call in calls]), tuple(self._between.items()))
        self._between.clear()
        self._put_late()
        if awaited:
            self._late = LateRecord(number, parts, counted, awaited)
            assembly.open = True
        else:
            self._watch.put(number, parts, counted)

    def _complete_late(self, call: Call) -> None:
        """Complete the record before, where its state is updated outside of jitted functions and only shows now."""
        late = self._late
        if late is None or call.function not in late.awaited:
            return
        late.awaited.discard(call.function)
        shape = call.shape(self._by_hand.arguments(self.training, call))
        recorded = tuple([selection for _, selection in late.parts])
        late.parts += parts_of(plan_late(self._watch.assembly, self.training, self._by_hand.several, shape, recorded), [call])
        if not late.awaited:
            self._put_late()

    def _put_late(self) -> None:
        if self._late is not None:
            self._watch.put(self._late.number, self._late.parts, self._late.calls)
            self._late = None
            self._watch.assembly.open = False


@functools.cache
def _counted(functions: tuple[Function, ...], others: tuple[tuple[Function, int], ...]) -> str:
    """Return how often functions of these names were called, as JSON."""
    found = Counter(function.name for function in functions)
    for function, calls in others:
        found[function.name] += calls
    return json.dumps(found)
