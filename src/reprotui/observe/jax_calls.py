"""Calls of jitted functions as they are noticed: what went in, what came out, and what of it came out before.

What calls have in common (paths, kinds, where inputs come from) is described once and shared by all that look alike: a
training loop makes the same call at every step, and observing it may not cost more than comparing a few identities.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from reprotui.checksum import LeafSpec, jax_form
from reprotui.observe.jax_functions import argument_names, input_paths, name_of, outer_arguments
from reprotui.observe.roles import Kind, kind_of, optimizer_leaves
from reprotui.record.assembly import distinct
from reprotui.record.host import Copy
from reprotui.record.lanes import Lanes, Split, hold, is_leaf, spec_of, split_of


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
    splits: dict[Any, Split] = field(default_factory=dict)

    def leaves(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return the leaves that can be compared."""
        return values if self.at is None else [values[index] for index in self.at]


@dataclass(eq=False)
class Look:
    """How calls look that are alike before they are made: their arguments, and which output each came out of.

    `lasting` are the arrays among the inputs that such a call leaves alone: it was not given their memory (donation).
    None as long as no such call is over.
    """

    inputs: Side
    origins: tuple[Place | None, ...]
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

    def checksum(self, index: int) -> tuple[Lanes, int] | None:
        """Return where the checksum of a leaf is, if it was taken."""
        if self.lanes is None or index not in self.wanted:
            return None
        return self.lanes, self.first + self.wanted.index(index)


def take(assembly: Any, *chosen: tuple[Leaves, tuple[int, ...]], held: Copy | None = None) -> None:
    """Take the checksums of some leaves of one or several sides, all at once: each time costs a call of its own."""
    leaves = [part.values[index] for part, wanted in chosen for index in wanted]
    if not leaves:
        return
    key, splits = tuple((part.side, wanted) for part, wanted in chosen), chosen[-1][0].side.splits
    if key not in splits:
        splits[key] = split_of(leaves)
    lanes, first = assembly.take(leaves, splits[key], held), 0
    for part, wanted in chosen:
        part.wanted, part.lanes, part.first = wanted, lanes, first
        first += len(wanted)


class _Seen(NamedTuple):
    """What the newest call of a function was like, to tell at once that the next one is the same."""

    structure: Any
    types: list[Any]
    side: Side


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
    _newest: dict[str, _Seen] = field(default_factory=dict)
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

    def look(self, side: Side, origins: tuple[Place | None, ...]) -> Look:
        """Return how a call looks."""
        look = self._look
        if look is None or look.inputs is not side or look.origins != origins:
            look = self._look = self._looks.setdefault((side, origins), Look(side, origins))
        return look

    def _side(self, which: str, tree: Any, values: Sequence[Any], structure: Any) -> Side:
        types = [_type(value) for value in values]
        seen = self._newest.get(which)
        # Lists compare by identity first: a loop hands over arrays of the same abstract values each time.
        if seen is not None and seen.types == types and seen.structure == structure:
            return seen.side
        key = which, structure, tuple((kind_of(value), is_leaf(value), isinstance(value, jax.Array)) for value in values)
        if key not in self._sides:
            self._sides[key] = self._describe(which, tree, values)
        self._newest[which] = _Seen(structure, types, self._sides[key])
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
    """One call. Its values are let go when it is recorded; `sources` are the results that its inputs came out of.

    Of the inputs, `inputs` has the checksums that are taken before the call, `kept` those that are taken after it: of arrays
    that the call leaves alone, and of what lies in the host's memory as it was copied before (`held`). `step` is the number
    of the step that the call is part of, 0 before steps are counted; `constants` are the identities of arrays of numbers
    among its inputs, by index, as long as the train step is looked for.
    """

    function: Function
    number: int
    look: Look
    inputs: Leaves
    sources: Sequence[Leaves | None]
    kept: Leaves
    held: Copy | None = None
    outputs: Leaves | None = None
    step: int = 0
    constants: tuple[tuple[int, int], ...] = ()

    def number_step(self, step: int) -> None:
        """Say which step the call is part of."""
        self.step = step
        if self.outputs is not None:
            self.outputs.step = step

    def known_checksum(self, index: int) -> tuple[Lanes, int] | None:
        """Return where the checksum of an input is: its own, or the one that was taken when it came out."""
        source, origin = self.sources[index], self.look.origins[index]
        own = self.inputs.checksum(index) or self.kept.checksum(index)
        if own is not None or source is None or origin is None:
            return own
        return source.checksum(source.side.places.index(origin))

    def hold(self, wanted: tuple[int, ...]) -> bool:
        """Copy inputs that lie in the host's memory; return whether there was room for them."""
        if wanted:
            self.held = hold([self.inputs.values[index] for index in wanted])
            if self.held is None:
                return False
            self.held.owner = weakref.ref(self)
            self.kept.values = list(self.inputs.values)
            for index, array in zip(wanted, self.held.arrays, strict=True):
                self.kept.values[index] = array
        return True

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


class Origins:
    """Which function the arrays that are around came out of, by identity; dead ones and older outputs are forgotten."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Place, Leaves]] = {}
        self._of: dict[int, list[int]] = {}

    def find(self, values: Sequence[Any]) -> tuple[tuple[Place | None, ...], list[Leaves | None]]:
        """Return for each array the output that it is, the very object that came out, and the result it was part of."""
        places: list[Place | None] = []
        sources: list[Leaves | None] = []
        for value in values:
            found = self._known.get(id(value))
            known = found is not None and found[0]() is value
            places.append(found[1] if found is not None and known else None)
            sources.append(found[2] if found is not None and known else None)
        return tuple(places), sources

    def replace(self, function: Function, outputs: Leaves) -> None:
        """Know the outputs of a function's newest call in the place of those before."""
        for old in self._of.get(id(function), ()):
            known = self._known.get(old)
            if known is not None and known[1].function is function:
                del self._known[old]
        mine = self._of[id(function)] = []
        places, values = outputs.side.places, outputs.values
        for index in outputs.side.arrays:
            value = values[index]
            mine.append(id(value))
            self._known[id(value)] = weakref.ref(value), places[index], outputs


def kinds(side: Side | None) -> dict[str, Kind]:
    """Return shape and dtype by path."""
    return {} if side is None else {place.path: place.kind for place in side.places}


def _type(value: Any) -> Any:
    """Return what tells whether a leaf is described as the one before: jax hands out the same abstract values at each step."""
    # By name, because jax shows the class to nobody; a typed key would make its abstract value anew each time, 22 µs.
    if type(value).__name__ == "ArrayImpl":
        return value.aval
    dtype = getattr(value, "dtype", None)
    return type(value) if dtype is None else (dtype, value.shape)
