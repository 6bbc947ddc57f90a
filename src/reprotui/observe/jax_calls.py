"""The calls of jitted functions as they are made: what goes in, what comes out, and where what goes in came from.

An argument is the output of an observed function if it is the very array object that came out of that function's newest call:

    params, loss = train(params, batch)    # here the next call's `params` have their provenance
    params = jax.tree.map(jnp.copy, params)    # and these have none: state that the script replaced
    params, n = count(params, n)    # these have the one of before: count hands them back as they are
"""

import operator
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from reprotui.checksum import LeafSpec
from reprotui.observe.jax_inside import Replay
from reprotui.observe.jax_reading import Reading, Taken
from reprotui.observe.jax_signature import CallSignature, Function, Leaf, Source, TreeSignature
from reprotui.record.assembly import Part
from reprotui.record.host import picker
from reprotui.record.lanes import Lanes

BEFORE, AFTER, SOURCES = 0, 1, 2
"""The readings that hold checksums for a call, by number: its own two, then those of its sources' outputs in their order."""


@dataclass(eq=False)
class Outputs:
    """What one call gave. `step` is the number of the step that the call was part of; 0 before steps are counted."""

    signature: TreeSignature
    values: Sequence[Any]
    step: int = 0
    taken: Taken | None = None


class Checksum(NamedTuple):
    """Where the checksum of a leaf of a step is: in which reading of which call of the step, and where in that."""

    call: int
    reading: int
    index: int


class CallShape(NamedTuple):
    """All that a record's composition depends on of one call: how it looks, and what was read of it.

    `readings` are numbered as `BEFORE`, `AFTER` and `SOURCES` say; `by_hand` are the arguments that are state which the
    script updates by itself.
    """

    signature: CallSignature
    outputs: TreeSignature | None
    readings: tuple[Reading | None, ...]
    by_hand: frozenset[int]

    def argument(self, call: int, index: int) -> Checksum | None:
        """Return where the checksum of an argument is: its own, or the one that was taken when it came out of its source."""
        for number in (BEFORE, AFTER):
            reading = self.readings[number]
            at = None if reading is None else reading.argument_at(index)
            if at is not None:
                return Checksum(call, number, at)
        output = self.signature.provenance[index]
        for number, source in enumerate(self.signature.sources, SOURCES):
            reading = self.readings[number]
            if output is not None and source.function is output.function and reading is not None:
                at = reading.output_at(source.outputs.leaves.index(output))
                return None if at is None else Checksum(call, number, at)
        return None

    def output(self, call: int, index: int) -> Checksum | None:
        """Return where the checksum of an output is, if it was taken."""
        reading = self.readings[AFTER]
        at = None if reading is None else reading.output_at(index)
        return None if at is None else Checksum(call, AFTER, at)


class Captured(NamedTuple):
    """Arrays that a function captured: their names, and their checksums."""

    leaves: tuple[LeafSpec, ...]
    lanes: Lanes


@dataclass(eq=False)
class Call:
    """One call. Its values are let go when it is recorded.

    Attributes:
        number: how often its function had been called then.
        arguments: those whose bits can be compared.
        sources: what its sources gave in their newest calls.
        outputs: what it gave itself, once it is over.
        before, after: the checksums that were taken before it and after it.
        read_after: the arguments that are left to be read after it.
        step: the number of the step that it is part of; 0 before steps are counted.
        generators: the states of global generators after it, where it may end a step.
        kept: where iterations are recorded, copies of its arguments, until it is over.
        replay: where iterations are recorded, what computes them once more, or the reason why nothing does.
        unchanging: as long as the train step is looked for, the identities of float arrays among its arguments, by index.
        origins: of a call that is no part of the training, the outputs of the training that its arguments are.
        captured: what its function was seen to capture, when it was traced for this call.
    """

    signature: CallSignature
    number: int
    arguments: Sequence[Any]
    sources: Mapping[Function, Outputs]
    outputs: Outputs | None = None
    before: Taken | None = None
    after: Taken | None = None
    read_after: tuple[int, ...] = ()
    step: int = 0
    generators: Part | None = None
    kept: Sequence[Any] = ()
    replay: Replay | str | None = None
    unchanging: tuple[tuple[int, int], ...] = ()
    origins: tuple[Leaf | None, ...] = ()
    captured: "Captured | None" = None

    @property
    def function(self) -> Function:
        return self.signature.function

    def number_step(self, step: int) -> None:
        """Say which step the call is part of."""
        self.step = step
        if self.outputs is not None:
            self.outputs.step = step

    def shape(self, by_hand: frozenset[int]) -> CallShape:
        """Return all that a record's composition depends on."""
        outputs = None if self.outputs is None else self.outputs.signature
        taken = (self.before, self.after, *(given.taken for given in self.sources.values()))
        return CallShape(self.signature, outputs, tuple([None if one is None else one.reading for one in taken]), by_hand)

    def lanes(self, reading: int) -> Lanes:
        """Return the checksums of a reading that its shape names."""
        taken = (self.before, self.after, *(given.taken for given in self.sources.values()))[reading]
        assert taken is not None
        return taken.lanes

    def release(self) -> None:
        """Let the arrays go."""
        self.arguments = ()
        if self.outputs is not None:
            self.outputs.values = ()


class _Given(NamedTuple):
    """The newest outputs of a function: its arrays, which are not kept alive, and their numbers by identity."""

    outputs: Outputs
    references: list[weakref.ref[Any]]
    numbers: dict[int, int]


class _PassedOn(NamedTuple):
    """An array that a function handed back as it was: the bits of another function's output, with what that one gave then."""

    reference: weakref.ref[Any]
    leaf: Leaf
    outputs: Outputs


class Provenance:
    """Which function the arrays that are around came out of, by identity: the newest outputs of each; older ones are forgotten.

    Arrays are compared without a loop of Python's: a large model has hundreds, in each call.
    """

    def __init__(self) -> None:
        self._given: dict[Function, _Given] = {}
        self._passed_on: dict[int, _PassedOn] = {}

    def call(self, function: Function, arguments: TreeSignature, values: Sequence[Any]) -> Call:
        """Return a call that is about to be made, recognised by its signature."""
        signature = function.newest
        if signature is None or signature.arguments is not arguments or not self._fits(signature, values):
            found = self.find(values)
            signature = function.signatures.get((arguments, found))
            if signature is None:
                pick_new = picker([index for index, output in enumerate(found) if output is None])
                signature = CallSignature(function, arguments, found, self._sources(found), pick_new)
                function.signatures[arguments, found] = signature
            function.newest = signature
        sources = {source.function: self._given[source.function].outputs for source in signature.sources}
        return Call(signature, function.calls, values, sources)

    def gave(self, function: Function, outputs: Outputs) -> None:
        """Know the outputs of a function's newest call in the place of those before."""
        arrays = outputs.signature.pick_jax_arrays(outputs.values)
        self._given.pop(function, None)  # the newest last
        numbers = dict(zip(map(id, arrays), range(len(arrays)), strict=True))
        self._given[function] = _Given(outputs, list(map(weakref.ref, arrays)), numbers)

    def pass_on(self, call: Call, provenance: Sequence[Leaf | None], outputs: Outputs) -> bool:
        """Know what a call handed back as what its argument was: the output of another function.

        Say whether there were arrays of numbers among it.

        Args:
            call: the call, once it is over.
            provenance: which output each of its arguments was.
            outputs: what it gave.
        """
        found: dict[int, _PassedOn] = {}
        numbers = False
        for number, position in outputs.signature.passed:
            argument, value = call.signature.arguments.number(position), outputs.values[number]
            origin = None if argument is None else provenance[argument]
            if origin is not None and origin.function is not call.function and isinstance(value, jax.Array):
                found[id(value)] = _PassedOn(weakref.ref(value), origin, self._given[origin.function].outputs)
                numbers |= origin.is_float_array
        if found:
            # What came out of a function before its newest call is forgotten.
            known = {identity: item for identity, item in self._passed_on.items() if self._is_newest(item)}
            self._passed_on = known | found
        return numbers

    def find(self, values: Sequence[Any]) -> tuple[Leaf | None, ...]:
        """Return for each value the output that it is, the very object that came out; None for others."""
        return tuple(map(self._output, values))

    def _fits(self, signature: CallSignature, values: Sequence[Any]) -> bool:
        """Say whether values are the outputs that a call like this got before, the very objects, and the new ones are none."""
        for source in signature.sources:
            given = self._given[source.function]
            if given.outputs.signature is not source.outputs:
                return False
            alive = map(operator.call, source.pick_outputs(given.references))
            if not all(map(operator.is_, alive, source.pick_arguments(values))):
                return False
        return all(self._output(value) is None for value in signature.pick_new(values))

    def _sources(self, provenance: Sequence[Leaf | None]) -> tuple[Source, ...]:
        """Return where to find the outputs that were found, in this call and in others like it."""
        sources = []
        for function in dict.fromkeys(output.function for output in provenance if output is not None):
            outputs = self._given[function].outputs.signature
            numbers = {outputs.leaves[index]: number for number, index in enumerate(outputs.jax_arrays)}
            mine = [
                (index, numbers[output]) for index, output in enumerate(provenance) if output is not None and output in numbers
            ]
            sources.append(Source(function, outputs, *(picker(indices) for indices in zip(*mine, strict=True))))
        return tuple(sources)

    def gave_any(self, values: Sequence[Any]) -> bool:
        """Say whether one of these arrays came out of an observed function, and was not only handed back by one."""
        return any(output is not None and not output.passed for output in map(self._own, values))

    def _output(self, value: Any) -> Leaf | None:
        found = self._own(value)
        passed = self._passed_on.get(id(value)) if found is None or found.passed else None
        return passed.leaf if passed is not None and passed.reference() is value and self._is_newest(passed) else found

    def _own(self, value: Any) -> Leaf | None:
        for given in reversed(self._given.values()):
            number = given.numbers.get(id(value))
            # The same identity is not enough: another array may lie where one was.
            if number is not None and given.references[number]() is value:
                outputs = given.outputs.signature
                return outputs.leaves[outputs.jax_arrays[number]]
        return None

    def _is_newest(self, item: "_PassedOn") -> bool:
        return self._given[item.leaf.function].outputs is item.outputs


def outputs_of(call: Call, result: Any) -> Outputs:
    """Describe and hold the result of a call."""
    values, structure = jax.tree.flatten(result)
    signature = call.function.outputs(call.signature.arguments).signature(result, values, structure)
    return Outputs(signature, signature.comparable(values))
