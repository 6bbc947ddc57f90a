"""Trainings besides the one that is recorded: a second phase, a step that was jitted anew. They are noticed, not recorded.

After the train step is chosen, other functions are looked at for their first calls only: enough to see whether they hand on
arrays of numbers among themselves, as a training does and an evaluation does not.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from reprotui.observe.jax_calls import Call, Function, Leaves, Look, Place
from reprotui.observe.jax_loop import Loop, find_loops
from reprotui.observe.jax_origins import Origins
from reprotui.observe.watch import Watch
from reprotui.record.lanes import picker

LOOKED_AT = 4
"""Calls of a function after which it is known whether its outputs come back to it."""


class Elsewhere:
    """Functions that are no part of the training that is recorded."""

    def __init__(self) -> None:
        self._origins = Origins()
        self._calls: list[Call] = []
        self._looked: Counter[Function] = Counter()
        self._following: set[Function] = set()

    def learn(self, calls: Iterable[Call], training: Iterable[Function]) -> None:
        """Take in calls that were made before the training was chosen."""
        chosen = set(training)
        for call in calls:
            self._note(call, any(origin is not None and origin.function in chosen for origin in call.look.origins))

    def curious(self, function: Function) -> bool:
        """Say whether a function's next call is to be looked at."""
        return self._looked[function] < LOOKED_AT

    def begin(self, function: Function, inputs: Leaves, origins: Sequence[Place | None]) -> Call:
        """Take in a call that is about to be made; `origins` are those of its inputs that the training gave."""
        look = Look(inputs.side, self._origins.find(inputs.values), (), picker(()))
        call = Call(function, function.calls, look, inputs, {}, Leaves(inputs.side, ()))
        self._note(call, any(origin is not None for origin in origins))
        return call

    def end(self, call: Call) -> None:
        """Take in what a call gave."""
        assert call.outputs is not None
        self._origins.replace(call.function, call.outputs)
        call.release()

    def report(self, watch: Watch) -> None:
        """Say which of them hand on state of their own, now that the process ends."""
        for loop in find_loops(self._calls):
            if not self._hands_on_numbers(loop):
                continue
            names = ", ".join(dict.fromkeys(function.name for function in self._looked if function in loop.training))
            calls = max(function.calls for function in loop.training)
            text = f"{names} ({calls:,} calls) hands on state of its own, which is not recorded: --step-function chooses"
            # An average of the parameters follows from what is recorded; who named the step, knows of the others.
            if loop.training & self._following or watch.options.step_function is not None:
                watch.coverage.note(text)
            else:
                watch.coverage.gap(text)

    def _note(self, call: Call, follows: bool) -> None:
        # The first call of a second phase starts from what the first one gave; an average is given it again and again.
        if follows and self._looked[call.function]:
            self._following.add(call.function)
        self._looked[call.function] += 1
        self._calls.append(call)

    def _hands_on_numbers(self, loop: Loop) -> bool:
        return any(
            place.is_numbers and origin is not None and origin.function in loop.training
            for call in self._calls
            if call.function in loop.training
            for place, origin in zip(call.look.inputs.places, call.look.origins, strict=True)
        )
