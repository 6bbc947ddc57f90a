"""The operations of a step of a script, as a process that took it again read them, and those of two runs side by side."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from reprotui.explain.align import Change, Pair, Ran, matched
from reprotui.explain.hlo import Array, Kernel
from reprotui.explain.sources import Place, short_path

MADE = ("aten.lift_fresh", "aten.lift_fresh_copy")
"""What torch calls when a tensor is made of numbers of Python's: they are given at that line."""


@dataclass(frozen=True)
class Operation(Ran):
    """An operation that torch called. Its kernel's `body` is the operation with its arguments, its `inputs` the operations before
    that a difference may have come from.

    Attributes:
        given: checksums of the inputs as they were before it, None for what has none.
        sources: where each input came from: (`operation`, number, output) or (`given`, how-manieth, 0).
        senders: for each input the operations before that wrote to its storage, or showed it in that way.
        generator: the checksum of the state of the generator that it drew from; None where it drew nothing.
        module: the module that was being called; empty outside of one.
        of: of the backward pass, the operation of the forward pass that it belongs to.
        node: of the backward pass, what autograd calls this part of it.
        unset: it gives memory that holds no numbers yet.
        number_out: it hands a number to Python, which may go anywhere from there.
        view: it shows its input in another way.
    """

    given: tuple[str | None, ...] = ()
    sources: tuple[tuple[str, int, int], ...] = ()
    senders: tuple[tuple[int, ...], ...] = ()
    generator: str | None = None
    module: str = ""
    of: str = ""
    node: str = ""
    unset: bool = False
    number_out: bool = False
    view: bool = False

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Return by what it is found in another program: operation, pass, and type and shape of its first output."""
        arrays = self.kernel.arrays
        return self.kernel.opcode, bool(self.node), len(arrays), arrays[0] if arrays else None

    def kept(self, output: int) -> bool:
        """Say whether an output is an array of its own, whose elements a process keeps."""
        return not self.view and not (self.number_out and output == len(self.outputs) - 1)

    @property
    def described(self) -> str:
        """Return its name, and what of the forward pass it belongs to."""
        of = (
            f"backward of {self.of}" if self.of else "gradients are added up" if self.node.startswith("Accumulate") else self.node
        )
        return f"{self.kernel.name} ({of})" if of else self.kernel.name

    @property
    def further(self) -> dict[str, str]:
        """Return what else is known of it, for the JSON form."""
        return {"module": self.module, "backward_of": self.of, "text": self.text}

    @property
    def text(self) -> str:
        """Return it with its arguments."""
        return self.kernel.body[0][0]


@dataclass(frozen=True)
class Listing:
    """The operations of one run's step.

    Attributes:
        operations: in the order in which they were called.
        given: names of what came from elsewhere, as far as records name it, by its number.
        ends: which leaf an output ends as: (operation, output, path).
    """

    operations: tuple[Operation, ...]
    given: tuple[str, ...]
    ends: tuple[tuple[int, int, str], ...]

    @classmethod
    def parse(cls, result: Mapping[str, Any]) -> "Listing":
        """Read what a process left."""
        operations: list[Operation] = []
        for number, item in enumerate(result["operations"]):
            operations.append(_operation(number, item, operations))
        ends = tuple((number, output, path) for number, output, path in result["ends"])
        return cls(tuple(operations), tuple(result["given"]), ends)

    @cached_property
    def reaching(self) -> frozenset[int]:
        """Return the operations from which tensors lead to a leaf."""
        return self._behind({number for number, _, _ in self.ends})

    @cached_property
    def reaching_python(self) -> frozenset[int]:
        """Return the operations from which tensors lead to a number that Python holds."""
        return self._behind({operation.number for operation in self.operations if operation.number_out})

    def _behind(self, ends: set[int]) -> frozenset[int]:
        found, todo = set(ends), list(ends)
        while todo:
            for sender in {sender for senders in self.operations[todo.pop()].senders for sender in senders}:
                if sender not in found:
                    found.add(sender)
                    todo.append(sender)
        return frozenset(found)


def pair_operations(a: Listing, b: Listing) -> list[Pair]:
    """Return the operations that both runs have, in the order of A."""
    found = matched([operation.key for operation in a.operations], [operation.key for operation in b.operations])
    places = dict(found)
    same_lists = len(found) == len(a.operations) == len(b.operations)
    return [_pair(a.operations[x], b.operations[y], places, same_lists) for x, y in found]


def where(operation: Operation) -> str:
    """Return the line of an operation, and its module."""
    place = operation.kernel.place or "an unknown line"
    return f"{place} (module {operation.module})" if operation.module else str(place)


def _pair(x: Operation, y: Operation, places: Mapping[int, int], same_lists: bool) -> Pair:
    given = list(zip(x.given, y.given, strict=False))
    unequal = len(x.given) != len(y.given) or any(one != other for one, other in given) or x.generator != y.generator
    unread = any(None in one for one in given)
    return Pair(x, y, False if unequal else None if unread else True, _changed(x, y, places, same_lists))


def _changed(x: Operation, y: Operation, places: Mapping[int, int], same_lists: bool) -> Change | None:
    """Return in what the operation itself is another one: its arguments, or what it is given."""
    if x.text != y.text:
        return Change(x.text, y.text, x.kernel.place)
    for at, ((kind, number, output), other) in enumerate(zip(x.sources, y.sources, strict=False)):
        mine = (kind, places.get(number, -1) if kind == "operation" else number, output)
        theirs = other if kind == other[0] == "operation" or same_lists else (other[0], number, output)
        if mine != theirs:
            texts = [f"input {at + 1} of {x.text} is {_source(source)}" for source in (x.sources[at], other)]
            return Change(texts[0], texts[1], x.kernel.place)
    return None


def _source(source: tuple[str, int, int]) -> str:
    kind, number, output = source
    if kind == "operation":
        return f"output {output + 1} of operation {number + 1}"
    return f"tensor {number + 1} of those that came from elsewhere" if kind == "given" else "a tensor without storage"


def _operation(number: int, item: Mapping[str, Any], before: Sequence[Operation]) -> Operation:
    forward = before[item["of"]] if item["of"] is not None and item["of"] < number else None
    place = _place(item["line"], item["through"])
    module, of = item["module"], ""
    if forward is not None:
        of = forward.kernel.name
        if not item.get("within"):
            place, module = forward.kernel.place, forward.module
    senders = tuple(tuple(dict.fromkeys(sender for sender, _ in senders)) for senders in item["from"])
    edges = tuple(dict.fromkeys(("kernel", sender, output) for senders in item["from"] for sender, output in senders))
    arrays = tuple(Array(dtype, tuple(shape)) for dtype, shape in item["arrays"])
    kernel = Kernel(item["name"], item["operation"], item["node"], arrays, place, ((item["text"], place),), edges)
    return Operation(
        number, kernel, tuple(item["outputs"]), 1, tuple(item["given"]),
        tuple((kind, of_number, output) for kind, of_number, output in item["sources"]), senders, item.get("generator"),
        module, of, item["node"], item["unset"], item["number"], item["view"],
    )  # fmt: skip


def _place(line: Sequence[Any] | None, through: Sequence[Any] | None) -> Place | None:
    if line is None:
        return None
    return Place(line[0], line[1], line[2], "" if through is None else f"{short_path(through[0])}:{through[1]}")


def repeated(listings: Sequence[Listing]) -> tuple[Operation, ...] | None:
    """Return the operations of the first of several runs of a step, each with how many outcomes it had for the same inputs.

    None where they are not the same operations each time.
    """
    first = listings[0]
    outcomes: list[set[Any]] = [{operation.outputs} for operation in first.operations]
    for other in listings[1:]:
        pairs = pair_operations(first, other)
        if not len(pairs) == len(first.operations) == len(other.operations):
            return None
        for pair in pairs:
            if pair.inputs_equal is not False and pair.changed is None:
                outcomes[pair.a.number].add(pair.b.outputs)
    return tuple(replace(operation, distinct=len(seen)) for operation, seen in zip(first.operations, outcomes, strict=True))
