"""Calls of jitted functions as they are noticed: what went in, what came out, and what of it came out before."""

import weakref
from dataclasses import dataclass, field
from typing import Any

import jax

from reprotui.checksum import jax_form
from reprotui.observe.jax_functions import argument_names, input_paths, name_of, outer_arguments
from reprotui.observe.roles import Kind, is_key, kind_of, optimizer_leaves
from reprotui.record.lanes import is_leaf


@dataclass(eq=False)
class Function:
    """A jitted function of the script: its calls, and which of its inputs were its own outputs.

    `fed` maps the path of an input to the path of the output that it once was.
    """

    real: Any
    name: str
    arguments: tuple[str, ...]
    calls: int = 0
    fed: dict[str, str] = field(default_factory=dict)
    names: dict[Any, tuple[list[str], frozenset[int]]] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)

    @classmethod
    def of(cls, real: Any) -> "Function":
        """Describe what jax has jitted."""
        return cls(real, name_of(real), argument_names(real))

    def input_names(self, tree: Any, structure: Any) -> tuple[list[str], frozenset[int]]:
        """Return the paths of the leaves of `(args, kwargs)` and which of them lie in an optimizer's state."""
        if structure not in self.names:
            named = jax_form.named_leaves(tree)
            names, outer = outer_arguments()
            known = jax_form.named_leaves(outer)
            by_identity = {id(leaf): path for (_, leaf), path in zip(known, input_paths(known, names), strict=True)}
            plain = input_paths(named, self.arguments)
            paths = _distinct([by_identity.get(id(leaf), path) for (_, leaf), path in zip(named, plain, strict=True)])
            self.names[structure] = paths, frozenset(optimizer_leaves(tree))
        return self.names[structure]

    def output_names(self, tree: Any, structure: Any) -> tuple[list[str], frozenset[int]]:
        """Return the paths of the leaves of the result and which of them lie in an optimizer's state."""
        key = "out", structure
        if key not in self.names:
            self.names[key] = [path or "result" for path, _ in jax_form.named_leaves(tree)], frozenset(optimizer_leaves(tree))
        return self.names[key]


@dataclass(eq=False)
class Leaf:
    """One leaf of a call. `origin` is the function and path it came out of, `source` the leaf that it was there."""

    path: str
    value: Any
    kind: Kind
    in_optimizer: bool
    origin: tuple[Function, str] | None = None
    piece: Any = None
    source: "Leaf | None" = None

    @property
    def known_piece(self) -> Any:
        """Return the leaf's checksum: its own, or the one that was taken when it came out."""
        return self.piece if self.piece is not None or self.source is None else self.source.piece


@dataclass(eq=False)
class Call:
    """One call: its leaves by path. The values are let go when the call is recorded; the pieces are checksums."""

    function: Function
    number: int
    inputs: dict[str, Leaf]
    outputs: dict[str, Leaf] = field(default_factory=dict)

    def release(self) -> None:
        """Let the arrays go."""
        for leaf in (*self.inputs.values(), *self.outputs.values()):
            leaf.value = None
        for leaf in self.inputs.values():
            if leaf.source is not None:
                leaf.source.source = None  # no chain back to the first call


def _distinct(paths: list[str]) -> list[str]:
    """Tell equal paths apart by `#2`: one array may be handed over twice."""
    seen: dict[str, int] = {}
    result = []
    for path in paths:
        seen[path] = seen.get(path, 0) + 1
        result.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return result


class Origins:
    """Which function the arrays that are around came out of, by identity; dead ones and older outputs are forgotten."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Function, Leaf]] = {}
        self._of: dict[int, list[int]] = {}

    def find(self, value: Any) -> tuple[Function, Leaf] | None:
        """Return function and output of an array that is the very one that came out."""
        found = self._known.get(id(value))
        return (found[1], found[2]) if found is not None and found[0]() is value else None

    def replace(self, function: Function, outputs: dict[str, Leaf]) -> None:
        """Know the outputs of a function's newest call in the place of those before."""
        for old in self._of.get(id(function), ()):
            if self._known.get(old, (None, None))[1] is function:
                del self._known[old]
        arrays = [leaf for leaf in outputs.values() if isinstance(leaf.value, jax.Array)]
        self._of[id(function)] = [id(leaf.value) for leaf in arrays]
        for leaf in arrays:
            self._known[id(leaf.value)] = weakref.ref(leaf.value), function, leaf


def leaves_of_inputs(function: Function, args: Any, kwargs: Any, origins: Origins) -> tuple[list[Any], dict[str, Leaf]]:
    """Return all leaves of a call's arguments, and those whose bits can be compared by path."""
    values, structure = jax.tree.flatten((args, kwargs))
    paths, in_optimizer = function.input_names((args, kwargs), structure)
    inputs = {}
    for index, (path, value) in enumerate(zip(paths, values, strict=True)):
        if is_leaf(value):
            leaf = inputs[path] = Leaf(path, value, kind_of(value), index in in_optimizer)
            if found := origins.find(value):
                leaf.origin, leaf.source = (found[0], found[1].path), found[1]
    return values, inputs


def leaves_of_outputs(function: Function, result: Any) -> dict[str, Leaf]:
    """Return the leaves of a call's result by path."""
    values, structure = jax.tree.flatten(result)
    paths, in_optimizer = function.output_names(result, structure)
    return {
        path: Leaf(path, value, kind_of(value), index in in_optimizer)
        for index, (path, value) in enumerate(zip(paths, values, strict=True))
        if is_leaf(value)
    }


def only_keys(function: Function, call: Call) -> bool:
    """Say whether all that a function hands back to itself are random keys: a splitter of keys trains nothing."""
    fed = [call.inputs[path] for path in function.fed if path in call.inputs]
    return all(is_key(leaf.path, leaf.kind) or leaf.kind[1].startswith(("int", "uint")) for leaf in fed)


def fed_size(function: Function, call: Call) -> int:
    """Return the number of elements that a function hands back to itself."""
    import math

    return sum(math.prod(call.inputs[path].kind[0]) for path in function.fed if path in call.inputs)
