"""Which function the arrays that are around came out of, by identity."""

import operator
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from reprotui.observe.jax_calls import Function, Leaves, Place, Source
from reprotui.record.lanes import picker


class _Given(NamedTuple):
    """The newest outputs of a function: its arrays, which are not kept alive, and where they stand by identity."""

    outputs: Leaves
    references: list[weakref.ref[Any]]
    at: dict[int, int]


class Origins:
    """The newest outputs of each function; older ones are forgotten.

    Arrays are compared without a loop of Python's: a large model has hundreds, in each call.
    """

    def __init__(self) -> None:
        self._given: dict[Function, _Given] = {}

    def replace(self, function: Function, outputs: Leaves) -> None:
        """Know the outputs of a function's newest call in the place of those before."""
        arrays = outputs.side.pick_arrays(outputs.values)
        self._given.pop(function, None)  # the newest last
        self._given[function] = _Given(
            outputs, list(map(weakref.ref, arrays)), dict(zip(map(id, arrays), range(len(arrays)), strict=True))
        )

    def are(self, sources: Sequence[Source], fresh: Sequence[Any], values: Sequence[Any]) -> bool:
        """Say whether values are the outputs that a call like this got before, the very objects, and `fresh` are none."""
        for source in sources:
            given = self._given[source.function]
            if given.outputs.side is not source.side:
                return False
            alive = map(operator.call, source.outputs(given.references))
            if not all(map(operator.is_, alive, source.inputs(values))):
                return False
        return all(self._output(value) is None for value in fresh)

    def find(self, values: Sequence[Any]) -> tuple[Place | None, ...]:
        """Return for each value the output that it is, the very object that came out; None for others."""
        return tuple(None if found is None else found[0] for found in map(self._output, values))

    def sources(self, origins: Sequence[Place | None]) -> tuple[Source, ...]:
        """Return where to find the outputs that were found, in this call and in others like it."""
        sources = []
        for function in dict.fromkeys(place.function for place in origins if place is not None):
            side = self._given[function].outputs.side
            order = {side.places[index]: number for number, index in enumerate(side.arrays)}
            mine = [(index, order[place]) for index, place in enumerate(origins) if place is not None and place in order]
            inputs, outputs = (picker(indices) for indices in zip(*mine, strict=True))
            sources.append(Source(function, side, inputs, outputs))
        return tuple(sources)

    def results(self, sources: Sequence[Source]) -> dict[Function, Leaves]:
        """Return the newest result of each function that arguments came out of."""
        return {source.function: self._given[source.function].outputs for source in sources}

    def _output(self, value: Any) -> tuple[Place, Leaves] | None:
        for given in reversed(self._given.values()):
            number = given.at.get(id(value))
            # The same identity is not enough: another array may lie where one was.
            if number is not None and given.references[number]() is value:
                side = given.outputs.side
                return side.places[side.arrays[number]], given.outputs
        return None
