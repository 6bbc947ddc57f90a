"""Calls of jitted functions as they are noticed: what went in, what came out, and what of it came out before.

What calls have in common (paths, kinds, where inputs come from) is described once and shared by all that look alike: a
training loop makes the same call at every step, and observing it may not cost more than comparing a few identities.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from reprotui.checksum import LeafSpec, jax_form
from reprotui.observe.jax_functions import argument_names, input_paths, name_of, outer_arguments
from reprotui.observe.jax_likeness import Likeness
from reprotui.observe.roles import Kind, kind_of, optimizer_leaves
from reprotui.record.assembly import distinct
from reprotui.record.lanes import Lanes, Picker, Plan, is_leaf, picker, spec_of


@dataclass(frozen=True, eq=False)
class Place:
    """Where a leaf stands in the calls of a function, and what it is there."""

    function: "Function"
    path: str
    kind: Kind
    in_optimizer: bool
    spec: LeafSpec

    @property
    def is_numbers(self) -> bool:
        """Say whether it is an array of floating-point numbers."""
        return bool(self.kind[0]) and self.kind[1].startswith(("float", "bfloat"))


@dataclass(frozen=True, eq=False)
class Side:
    """The arguments, or the result, of calls that look alike: the leaves whose bits can be compared.

    `at` says where they stand among all leaves, None where all can be compared; `arrays` which of them are jax's.
    """

    places: tuple[Place, ...]
    at: tuple[int, ...] | None
    arrays: tuple[int, ...]
    takings: dict[Any, tuple[list[Picker], Plan]] = field(default_factory=dict)

    @functools.cached_property
    def everything(self) -> tuple[int, ...]:
        """Return the indices of all leaves."""
        return tuple(range(len(self.places)))

    @functools.cached_property
    def pick_arrays(self) -> Picker:
        """Return what picks jax's arrays out of the leaves."""
        return picker(self.arrays)

    def leaves(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return the leaves that can be compared."""
        return values if self.at is None else [values[index] for index in self.at]


class Source(NamedTuple):
    """Outputs of a function among the arguments of a call: `inputs` picks them there, `outputs` among the function's arrays."""

    function: "Function"
    side: Side
    inputs: Picker
    outputs: Picker


@dataclass(eq=False)
class Look:
    """How calls look that are alike before they are made: their arguments, and which output each came out of.

    `sources` are those outputs by function, `fresh` picks the arguments that are no output. `lasting` are the arrays among
    the inputs that such a call leaves alone: it was not given their memory (donation). None as long as no such call is over.
    """

    inputs: Side
    origins: tuple[Place | None, ...]
    sources: tuple["Source", ...]
    fresh: Picker
    lasting: frozenset[int] | None = None


@dataclass(eq=False)
class Leaves:
    """The values of one side of one call. Of those that were `wanted` the checksums are in `lanes`, from `first` on.

    `step` is the number of the step that the call was part of; 0 before steps are counted.
    """

    side: Side
    values: Sequence[Any]
    wanted: tuple[int, ...] = ()
    lanes: Lanes | None = None
    first: int = 0
    step: int = 0

    def checksum(self, index: int) -> int | None:
        """Return where in the lanes the checksum of a leaf is, if it was taken."""
        if self.lanes is None or index not in self.wanted:
            return None
        return self.first + self.wanted.index(index)


def take(assembly: Any, *chosen: tuple[Leaves, tuple[int, ...]]) -> None:
    """Take the checksums of some leaves of one or several sides, all at once: each time costs a call of its own."""
    if not any(wanted for _, wanted in chosen):
        return
    key, takings = tuple((part.side, wanted) for part, wanted in chosen), chosen[-1][0].side.takings
    if key not in takings:
        takings[key] = (
            [picker(wanted) for _, wanted in chosen],
            Plan([part.values[index] for part, wanted in chosen for index in wanted]),
        )
    pickers, plan = takings[key]
    leaves = [leaf for (part, _), pick in zip(chosen, pickers, strict=True) for leaf in pick(part.values)]
    lanes, first = assembly.take(leaves, plan), 0
    for part, wanted in chosen:
        part.wanted, part.lanes, part.first = wanted, lanes, first
        first += len(wanted)


@dataclass(eq=False)
class Function:
    """A jitted function of the script: its calls, and what they are like.

    `last` is what the newest call gave, kept where it may be the state that the training ends on.
    """

    real: Any
    name: str
    arguments: tuple[str, ...]
    module: str
    calls: int = 0
    last: tuple[Side, Sequence[Any]] | None = None
    _newest: dict[str, tuple[Likeness, Side]] = field(default_factory=dict)
    _sides: dict[Any, Side] = field(default_factory=dict)
    _looks: dict[Any, Look] = field(default_factory=dict)
    _look: Look | None = None

    @classmethod
    def of(cls, real: Any) -> "Function":
        """Describe what jax has jitted."""
        return cls(real, name_of(real), argument_names(real), str(getattr(real, "__module__", None)))

    def inputs(self, args: Any, kwargs: Any, values: Sequence[Any], structure: Any) -> Side:
        """Describe the arguments of a call, given their leaves and structure."""
        return self._side("inputs", (args, kwargs), values, structure)

    def outputs(self, result: Any) -> Leaves:
        """Describe and hold the result of a call."""
        values, structure = jax.tree.flatten(result)
        side = self._side("outputs", result, values, structure)
        return Leaves(side, side.leaves(values))

    def look(self, side: Side, values: Sequence[Any], origins: Any) -> Look:
        """Return how a call looks, given its leaves and the `Origins` of this process."""
        look = self._look
        if look is None or look.inputs is not side or not origins.are(look.sources, look.fresh(values), values):
            found = origins.find(values)
            look = self._looks.get((side, found))
            if look is None:
                fresh = picker([index for index, place in enumerate(found) if place is None])
                look = self._looks[side, found] = Look(side, found, origins.sources(found), fresh)
            self._look = look
        return look

    def _side(self, which: str, tree: Any, values: Sequence[Any], structure: Any) -> Side:
        newest = self._newest.get(which)
        if newest is not None and newest[0].fits(values, structure):
            return newest[1]
        key = which, structure, tuple((kind_of(value), is_leaf(value), isinstance(value, jax.Array)) for value in values)
        if key not in self._sides:
            self._sides[key] = self._describe(which, tree, values)
        self._newest[which] = Likeness.of(values, structure), self._sides[key]
        return self._sides[key]

    def _describe(self, which: str, tree: Any, values: Sequence[Any]) -> Side:
        named = jax_form.named_leaves(tree)
        if which == "inputs":
            names, outer = outer_arguments()
            known = jax_form.named_leaves(outer)
            by_identity = {id(leaf): path for (_, leaf), path in zip(known, input_paths(known, names), strict=True)}
            plain = input_paths(named, self.arguments)
            paths = distinct([by_identity.get(id(leaf), path) for (_, leaf), path in zip(named, plain, strict=True)])
        else:
            paths = [path or "result" for path, _ in named]
        in_optimizer = optimizer_leaves(tree)
        at = tuple(index for index, value in enumerate(values) if is_leaf(value))
        places = tuple(
            Place(self, paths[index], kind_of(values[index]), index in in_optimizer, spec_of(paths[index], values[index]))
            for index in at
        )
        arrays = tuple(place for place, index in enumerate(at) if isinstance(values[index], jax.Array))
        return Side(places, None if len(at) == len(values) else at, arrays)


@dataclass(eq=False)
class Call:
    """One call. Its values are let go when it is recorded; `sources` are the results that its inputs came out of, by function.

    Of the inputs, `inputs` has the checksums that are taken before the call, `kept` those that are taken after it: of arrays
    that the call leaves alone. `step` is the number
    of the step that the call is part of, 0 before steps are counted; `constants` are the identities of arrays of numbers
    among its inputs, by index, as long as the train step is looked for.
    """

    function: Function
    number: int
    look: Look
    inputs: Leaves
    sources: Mapping[Function, Leaves]
    kept: Leaves
    outputs: Leaves | None = None
    step: int = 0
    constants: tuple[tuple[int, int], ...] = ()

    def number_step(self, step: int) -> None:
        """Say which step the call is part of."""
        self.step = step
        if self.outputs is not None:
            self.outputs.step = step

    def place_of(self, index: int) -> "tuple[Holder, int] | None":
        """Return where the checksum of an input is: its own, or the one that was taken when it came out; None for neither."""
        origin = self.look.origins[index]
        holders: list[tuple[Holder, Leaves, int]] = [(False, self.inputs, index), (True, self.kept, index)]
        if origin is not None:
            source = self.sources[origin.function]
            holders.append((origin.function, source, source.side.places.index(origin)))
        return next(((holder, at) for holder, side, leaf in holders if (at := side.checksum(leaf)) is not None), None)

    def lanes(self, holder: "Holder") -> Lanes:
        """Return the checksums that were taken before the call, after it, or of what one of its sources gave."""
        if isinstance(holder, Function):
            lanes = self.sources[holder].lanes
        else:
            after = self.kept.lanes if self.outputs is None else self.outputs.lanes or self.kept.lanes
            lanes = after if holder else self.inputs.lanes
        assert lanes is not None
        return lanes

    def lasting(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """Return which of the inputs that were to be read after the call are still there, and learn it for the next ones."""
        values, arrays = self.inputs.values, self.look.inputs.arrays
        if self.look.lasting is None:
            self.look.lasting = frozenset(index for index in arrays if not values[index].is_deleted())
        gone = [index for index in wanted if index in self.look.lasting and values[index].is_deleted()]
        if gone:
            self.look.lasting = self.look.lasting.difference(gone)
            wanted = tuple(index for index in wanted if index not in gone)
        return wanted

    def release(self) -> None:
        """Let the arrays go."""
        self.inputs.values = self.kept.values = ()
        if self.outputs is not None:
            self.outputs.values = ()


Holder = bool | Function
"""Whose lanes hold the checksum of an input: those of its call, taken before it (False) or after it (True), or its source's."""


def kinds(side: Side | None) -> dict[str, Kind]:
    """Return shape and dtype by path."""
    return {} if side is None else {place.path: place.kind for place in side.places}
