"""Trainings besides the one that is recorded, and what evaluations do to its state: noticed, not recorded."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from reprotui.observe.jax_calls import Call, Outputs, Provenance
from reprotui.observe.jax_choice import find_loops
from reprotui.observe.jax_signature import CallSignature, Function, TreeSignature
from reprotui.observe.jax_training import Training
from reprotui.observe.watch import Watch
from reprotui.record.host import picker

LOOKED_AT = 4
"""Calls of another function after which it is known whether its outputs come back to it."""


class Elsewhere:
    """Trainings besides the one that is recorded: a second phase, a step that was jitted anew. They are noticed, not recorded.

    After the train step is chosen, other functions are looked at for their first calls only: enough to see whether they hand
    on arrays of numbers among themselves, as a training does and an evaluation does not. Those that hand the state of the
    training back are looked at to the end: the next step starts from what they give.
    """

    def __init__(self) -> None:
        self._provenance = Provenance()
        self._calls: list[Call] = []
        self._looked_at: Counter[Function] = Counter()
        self._following: set[Function] = set()
        self._passing: set[Function] = set()  # whoever hands arrays of numbers back as they were
        self._handing_back: set[Function] = set()  # and those of the training

    def learn(self, calls: Iterable[Call], training: Collection[Function]) -> None:
        """Take in calls that were made before the training was chosen."""
        for call in calls:
            origins = call.signature.provenance
            self._note(call, any(output is not None and output.function in training for output in origins))
            if call.outputs is None:
                continue
            self._note_passing(call.function, call.outputs)
            for _, position in call.outputs.signature.passed:
                argument = call.signature.arguments.number(position)
                origin = None if argument is None else origins[argument]
                if origin is not None and origin.function in training and origin.is_float_array:
                    self._handing_back.add(call.function)

    def curious(self, function: Function) -> bool:
        """Say whether a function's next call is to be looked at."""
        return self._looked_at[function] < LOOKED_AT or function in self._passing

    def begin(self, function: Function, arguments: TreeSignature, values: Sequence[object], of_training: Provenance) -> Call:
        """Take in a call that is about to be made."""
        signature = CallSignature(function, arguments, self._provenance.find(values), (), picker(()))
        call = Call(signature, function.calls, values, {}, origins=of_training.find(values))
        self._note(call, of_training.gave_any(values))
        return call

    def end(self, call: Call, outputs: Outputs, of_training: Provenance) -> None:
        """Take in what a call gave, and what of it is the training's state as it was."""
        self._note_passing(call.function, outputs)
        self._provenance.gave(call.function, outputs)
        self._provenance.pass_on(call, call.signature.provenance, outputs)
        if of_training.pass_on(call, call.origins, outputs):
            self._handing_back.add(call.function)
        call.release()

    def report(self, watch: Watch) -> None:
        """Say which of them hand on state of their own, and which only write into that of the training."""
        training: set[Function] = set()
        for loop in find_loops(self._calls):
            if not self._hands_on_numbers(loop):
                continue
            training |= loop.functions
            names = ", ".join(dict.fromkeys(function.name for function in self._looked_at if function in loop.functions))
            calls = max(function.calls for function in loop.functions)
            text = f"{names} ({calls:,} calls) hands on state of its own, which is not recorded: --step-function chooses"
            # An average of the parameters follows from what is recorded; who named the step, knows of the others.
            if loop.functions & self._following or watch.options.step_function is not None:
                watch.coverage.note(text)
            else:
                watch.coverage.gap(text)
        for function in self._looked_at:
            if function in self._handing_back - training:
                calls = f"{function.calls:,} {'call' if function.calls == 1 else 'calls'}"
                text = f"{function.name} ({calls}) takes no step: it hands parameters back as they were"
                watch.coverage.note(f"{text}; what it writes into the state is recorded with the step that follows")

    def _note(self, call: Call, from_training: bool) -> None:
        # The first call of a second phase starts from what the first one gave; an average is given it again and again.
        if from_training and self._looked_at[call.function]:
            self._following.add(call.function)
        self._looked_at[call.function] += 1
        if self._looked_at[call.function] <= LOOKED_AT:
            self._calls.append(call)

    def _note_passing(self, function: Function, outputs: Outputs) -> None:
        if any(outputs.signature.leaves[number].is_float_array for number, _ in outputs.signature.passed):
            self._passing.add(function)

    def _hands_on_numbers(self, loop: Training) -> bool:
        return any(
            argument.is_float_array and output is not None and not output.passed and output.function in loop.functions
            for call in self._calls
            if call.function in loop.functions
            for argument, output in call.signature.pairs
        )
