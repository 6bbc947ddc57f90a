"""What calls of a jitted function have in common, worked out once: their call signature.

A training loop makes the same call at every step, such as `params, loss = train(params, batch)`:

    arguments   params/w  float32[4,2]    provenance: output `0/w` of train
                batch/x   float32[16,4]   provenance: none, it is new
    outputs     0/w       float32[4,2]
                1         float32[]

Whatever is decided about a call (what is read of it, what it is in a record) follows from its signature, and is worked out
once too. The next call is recognised by comparing identities, in C: observing it may not cost more.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from reprotui.checksum import LeafSpec, jax_form
from reprotui.checksum.leaves import is_leaf, part_of, spec_of
from reprotui.observe.jax_bodies import Body
from reprotui.observe.jax_likeness import Likeness
from reprotui.observe.jax_program import Passed, Programs
from reprotui.observe.names import (
    ShapeDtype,
    argument_paths,
    function_name,
    optimizer_leaves,
    outer_arguments,
    parameter_names,
    shape_dtype,
)
from reprotui.record.assembly import distinct
from reprotui.record.host import Picker, picker

NOTHING: Mapping[int, int] = {}


@dataclass(frozen=True, eq=False)
class Leaf:
    """A leaf of the arguments or the outputs of a function.

    `spec` describes it as records do; `passed` says that it is an output, and one of the arguments handed back.
    `part` is how the part of it is written that this process holds, such as `[32:64,:]`; empty where that is all of it.
    `iterations` says how many iterations of a loop inside gave one element each, if so.
    """

    function: "Function"
    path: str
    aval: ShapeDtype
    in_optimizer: bool
    spec: LeafSpec
    passed: bool = False
    part: str = ""
    iterations: int | None = None

    @property
    def each(self) -> ShapeDtype:
        """Return what one iteration gave; of what no loop inside gave, the whole."""
        return self.aval if self.iterations is None else ShapeDtype(self.aval.shape[1:], self.aval.dtype)

    @property
    def is_float_array(self) -> bool:
        """Say whether it is an array of floating-point numbers."""
        return bool(self.aval.shape) and self.aval.is_float


@dataclass(frozen=True, eq=False)
class TreeSignature:
    """The arguments, or the outputs, of calls that look alike: the leaves whose bits can be compared.

    `positions` says where they stand among all leaves, None where all can be compared; `jax_arrays` which of them are jax's;
    `passed` which outputs are arguments handed back, and which arguments.
    """

    leaves: tuple[Leaf, ...]
    positions: tuple[int, ...] | None
    jax_arrays: tuple[int, ...]
    passed: tuple[tuple[int, int], ...] = ()

    def number(self, position: int) -> int | None:
        """Return which leaf stands at a place among all leaves; None where its bits cannot be compared."""
        if self.positions is None:
            return position
        return self.positions.index(position) if position in self.positions else None

    @functools.cached_property
    def pick_jax_arrays(self) -> Picker:
        """Return what picks jax's arrays out of the leaves."""
        return picker(self.jax_arrays)

    @functools.cached_property
    def by_iteration(self) -> tuple[int, ...]:
        """Return which leaves are one number of each iteration of a loop inside."""
        return tuple(at for at, leaf in enumerate(self.leaves) if leaf.iterations is not None and leaf.each.is_scalar)

    @functools.cached_property
    def avals(self) -> dict[str, ShapeDtype]:
        """Return shape and dtype of the leaves by path."""
        return {leaf.path: leaf.aval for leaf in self.leaves}

    def comparable(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return those of all leaves whose bits can be compared."""
        return values if self.positions is None else [values[index] for index in self.positions]


class Source(NamedTuple):
    """Outputs of a function among the arguments of a call: what picks them there, and among the function's arrays."""

    function: "Function"
    outputs: TreeSignature
    pick_arguments: Picker
    pick_outputs: Picker


@dataclass(frozen=True, eq=False)
class CallSignature:
    """How calls look that are alike before they are made: their arguments, and which output each of them is.

    Attributes:
        function: the one that is called.
        arguments: what it is given.
        provenance: for each argument the output that it is, the very object; None for what no observed function gave.
        sources: those outputs, by function.
        pick_new: picks the arguments that are no output.
    """

    function: "Function"
    arguments: TreeSignature
    provenance: tuple[Leaf | None, ...]
    sources: tuple[Source, ...]
    pick_new: Picker

    @functools.cached_property
    def new(self) -> frozenset[int]:
        """Return the arguments that no observed function gave."""
        return frozenset(index for index, output in enumerate(self.provenance) if output is None)

    @property
    def pairs(self) -> list[tuple[Leaf, Leaf | None]]:
        """Return the arguments, each with the output that it is."""
        return list(zip(self.arguments.leaves, self.provenance, strict=True))


@dataclass(eq=False)
class KnownTrees:
    """The arguments that a function was given so far, or the outputs that it gave: all that look alike have one signature."""

    describe: Callable[[Any, Sequence[Any]], TreeSignature]
    _newest: tuple[Likeness, TreeSignature] | None = None
    _known: dict[Any, TreeSignature] = field(default_factory=dict)

    def signature(self, tree: Any, values: Sequence[Any], structure: Any) -> TreeSignature:
        """Return the signature of a tree, given its leaves and structure too."""
        if self._newest is not None and self._newest[0].fits(values, structure):
            return self._newest[1]
        parts = tuple(part_of(value) for value in values)
        key = structure, parts, tuple((shape_dtype(value), is_leaf(value), isinstance(value, jax.Array)) for value in values)
        if key not in self._known:
            self._known[key] = self.describe(tree, values)
        self._newest = Likeness.of(values, structure), self._known[key]
        return self._known[key]


class Function:
    """A function of the script, jitted or taken the gradient of, with the signatures of its calls so far.

    Args:
        real: what jax has made of it.
        name, module: where those of `real` say too little.

    Attributes:
        calls: how often it was called.
        differentiated: the arguments of which it gives the gradients; None where that is not known.
        handed_on: of a loop, the argument and the output that are the state which it begins and ends with.
        programs: what jax traced of it; `captured` names what it was seen to capture.
        parameters: the names of what it takes.
        arguments: the signatures of what it was given.
        static: the arguments that are part of its program, by number and by name; `static_leaves` their leaves.
        loop: the one inside its first call, None where there is none.
        stacked: as long as outputs are described, finds those that a loop inside gave element by element.
        signatures: those of its calls, by arguments and provenance; `newest` is the last one.
        final: what its newest call gave, kept alive where it may be the state that the training ends on.
    """

    def __init__(self, real: Any, name: str | None = None, module: str | None = None) -> None:
        self.name, self.module = name or function_name(real), module or str(getattr(real, "__module__", None))
        self.calls = 0
        self.differentiated: frozenset[str] | None = None
        self._differentiated_leaves: set[str] = set()
        self.static: frozenset[str] = frozenset()
        self.static_leaves: set[str] = set()
        self.handed_on: tuple[str, str] | None = None
        self.loop: Body | None = None
        self.stacked: Callable[[], Mapping[int, int]] | None = None
        self.parameters = parameter_names(real)
        # What is called without `jit` has a name from whoever found it, and no program to ask for: it is not kept alive.
        self.programs = Programs(real if name is None else None)
        self.arguments = KnownTrees(self._describe_arguments)
        self.captured: list[str] = []
        self._outputs: dict[Passed, KnownTrees] = {}
        self.signatures: dict[Any, CallSignature] = {}
        self.newest: CallSignature | None = None
        self.final: tuple[TreeSignature, Sequence[Any]] | None = None

    @property
    def names(self) -> set[str]:
        """Return what somebody may call it: without the class that it is a method of, and without what jax does with it."""
        inner = self.name.partition("(")[2].removesuffix(")") or self.name
        return {self.name, inner, inner.rpartition(".")[2]}

    def differentiate(self, numbers: Iterable[int]) -> None:
        """Know which arguments, by number, it gives the gradients of."""
        self.differentiated = frozenset(
            self.parameters[number] if number < len(self.parameters) else f"arg{number}" for number in numbers
        )

    def may_be_parameters(self, avals: Mapping[str, ShapeDtype]) -> dict[str, ShapeDtype]:
        """Return those arguments that can be parameters: those that are differentiated, where that is known."""
        known = self.differentiated
        return {path: aval for path, aval in avals.items() if known is None or path in self._differentiated_leaves}

    def _describe_arguments(self, tree: Any, values: Sequence[Any]) -> TreeSignature:
        named = jax_form.named_leaves(tree)
        parameters, outer = outer_arguments()
        outer_named = jax_form.named_leaves(outer)
        outer_paths = argument_paths([path for path, _ in outer_named], parameters)
        by_identity = {id(leaf): path for (_, leaf), path in zip(outer_named, outer_paths, strict=True)}
        plain = argument_paths([path for path, _ in named], self.parameters)
        paths = distinct([by_identity.get(id(leaf), path) for (_, leaf), path in zip(named, plain, strict=True)])
        for path, inner, (place, _) in zip(paths, plain, named, strict=True):
            if inner.partition("/")[0] in (self.differentiated or ()):
                self._differentiated_leaves.add(path)
            # `0/2/…` is the third argument, `1/name/…` a keyword.
            if inner.partition("/")[0] in self.static or place.split("/")[1] in self.static:
                self.static_leaves.add(path)
        return self._describe(tree, values, paths)

    def outputs(self, arguments: TreeSignature) -> KnownTrees:
        """Return the signatures of what it gave where it was given such arguments."""
        passed = self.programs.passed(arguments)
        if passed not in self._outputs:
            self._outputs[passed] = KnownTrees(functools.partial(self._describe_outputs, dict(passed)))
        return self._outputs[passed]

    def _describe_outputs(self, passed: dict[int, int], tree: Any, values: Sequence[Any]) -> TreeSignature:
        paths = [path or "result" for path, _ in jax_form.named_leaves(tree)]
        return self._describe(tree, values, paths, passed, self.stacked() if self.stacked is not None else NOTHING)

    def _describe(
        self,
        tree: Any,
        values: Sequence[Any],
        paths: list[str],
        passed: Mapping[int, int] = NOTHING,
        stacked: Mapping[int, int] = NOTHING,
    ) -> TreeSignature:
        in_optimizer = optimizer_leaves(tree)
        found = [(index, path, value) for index, (path, value) in enumerate(zip(paths, values, strict=True)) if is_leaf(value)]
        leaves = tuple(
            Leaf(
                self,
                path,
                shape_dtype(value),
                index in in_optimizer,
                spec_of(path, value),
                index in passed,
                (part_of(value) or ("", ()))[0],
                stacked.get(index),
            )
            for index, path, value in found
        )
        handed_back = tuple((number, passed[index]) for number, (index, _, _) in enumerate(found) if index in passed)
        positions = tuple(index for index, _, _ in found)
        jax_arrays = tuple(number for number, (_, _, value) in enumerate(found) if isinstance(value, jax.Array))
        return TreeSignature(leaves, None if len(found) == len(values) else positions, jax_arrays, handed_back)
