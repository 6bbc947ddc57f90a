"""What explaining a step found, as a value that the command line, the dashboard and reports show."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from reprotui.errors import CANNOT_TELL, DIFFERS, SAME
from reprotui.explain.align import Change, Pair, Ran
from reprotui.explain.hlo import LOOPS
from reprotui.explain.sources import Place
from reprotui.explain.words import describe, last, lines_of, place_json
from reprotui.integrity.leaves import LeafDifference
from reprotui.numbers import whole

_SUMS = ("dot", "convolution", "reduce_sum", "reduce_prod", "reduce_window_sum", "cumsum", "scatter-add")
_WHY_SUM = "the sum is taken in another order: a number of threads, a vector width or a compiler flag does that"
_WHY_ELSEWHERE = "the same operations were compiled to other instructions: fused multiply-add, vector width or fast math"
_WHY_PROGRAM = "the kernel itself is not the same in both programs"
_WHY_COMPILED = "XLA compiled the same operations to another kernel: a number of threads, a flag or another version does that"
_WHY_LOOP = "it is a loop, a branch or a call, which is not opened: the difference began within it"


@dataclass(frozen=True)
class Explanation:
    """One step of two runs, kernel by kernel.

    Attributes:
        step: the step.
        labels: of A and B.
        inputs_differ: leaves of what entered the step that are not the same; then nothing else is said.
        changes: where the traced programs are not the same, in order.
        kernels: of A, of B.
        pairs: the kernels that both have, in program order.
        ends: which leaf a kernel's output of A ends as: (kernel, output, path).
        outputs: how many outputs the step has in A and B: all of them are bit-identical with taps.
        unread: kernels that could not be read, of both.
        difference: how the elements of the first different kernel differ.
        recorded_differ: whether the records of this step differ.
        cause: what `compare` says of why the runs differ, where this is their first difference.
    """

    step: int
    labels: tuple[str, str]
    inputs_differ: tuple[str, ...]
    changes: tuple[Change, ...]
    kernels: tuple[tuple[Ran, ...], tuple[Ran, ...]]
    pairs: tuple[Pair, ...]
    ends: tuple[tuple[int, int, str], ...]
    outputs: tuple[int, int]
    unread: tuple[str, ...] = ()
    difference: LeafDifference | None = None
    recorded_differ: bool = True
    cause: str = ""

    noun: ClassVar[str] = "kernel"
    """What the parts of a step are called."""

    @cached_property
    def different(self) -> list[Pair]:
        """Return the kernels whose outputs differ, in program order."""
        return [pair for pair in self.pairs if pair.equal is False]

    @cached_property
    def origins(self) -> list[Pair]:
        """Return those of them whose inputs agree: there it began; the others received it."""
        return [pair for pair in self.different if pair.inputs_equal]

    @property
    def first(self) -> Pair | None:
        """Return the first kernel whose inputs agree and whose output differs; None where there is none."""
        return self.origins[0] if self.origins else None

    @property
    def alone(self) -> tuple[int, int]:
        """Return how many kernels only A and only B have."""
        return len(self.kernels[0]) - len(self.pairs), len(self.kernels[1]) - len(self.pairs)

    @property
    def exit_code(self) -> int:
        """Return 0 where no kernel differs, 1 where the origin is known, 3 where it is not."""
        if self.first is not None or (self.changes and (self.different or any(self.alone))):
            return DIFFERS
        clear = not self.inputs_differ and not self.different and not any(self.alone) and not self.unread
        return SAME if clear and not self.recorded_differ else CANNOT_TELL

    @property
    def place(self) -> Place | None:
        """Return the line that the first difference came from."""
        first = self.first
        if first is None:
            return self.changes[0].place if self.changes else None
        if first.changed is not None:
            # Where the traced programs are the same, the kernels were only compiled in another way: no line was changed.
            lines = {(place.file, place.line) for place in (*lines_of(first.a), *lines_of(first.b))}
            places = [change.place for change in self.changes if change.place is not None]
            written = next((place for place in places if (place.file, place.line) in lines), None)
            return written or first.a.kernel.place
        return first.a.kernel.place

    @property
    def likely(self) -> bool:
        """Say whether the line is only likely: the kernel holds several, or kernels before it have no counterpart."""
        first = self.first
        if first is None:
            return False
        if self.place is not None and self.place in [change.place for change in self.changes]:
            return False
        return any(self.alone) or bool(self.unread) or len(lines_of(first.a)) > 1

    @property
    def headline(self) -> str:
        """Return the answer in one line."""
        if self.inputs_differ:
            named = ", ".join(self.inputs_differ[:3]) + (" …" if len(self.inputs_differ) > 3 else "")
            return f"what enters step {self.step} is not the same: {named}"
        first = self.first
        if first is not None:
            return f"first different: {describe(first.a)} {self._at}"
        if self.changes and (self.different or any(self.alone)):
            return f"the programs are not the same, first {self._at}; no {self.noun} that both have differs with equal inputs"
        if self.different:
            return f"{len(self.different)} of {self._count} {self.noun}s differ, and none of them with equal inputs"
        if any(self.alone):
            return f"the {len(self.pairs)} {self.noun}s that both have give the same bits; {self._alone}"
        said = f"no {self.noun} differs: {self._count} of {self._count} give the same bits" if not self.unread else (
            f"no {self.noun} that could be read differs; {len(self.unread)} could not"
        )  # fmt: skip
        return f"{said}, although the records of step {self.step} differ" if self.recorded_differ else said

    @property
    def figures(self) -> list[str]:
        """Return what is known of the first different kernel and of the others, each in a few words."""
        said = []
        if self.first is not None:
            said.append("inputs equal")
            if self.difference is not None and (found := self.difference.elements) is not None:
                said.append(f"{whole(found.different)} of {whole(found.elements)} elements")
                said += [] if found.max_ulp is None else [f"max {whole(found.max_ulp)} ulp"]
        if self.different:
            said.append(f"{len(self.different)} of {self._count} {self.noun}s differ: {self._received}")
        if any(self.alone):
            said.append(self._alone)
        return said

    @property
    def why(self) -> str:
        """Return why the first kernel may differ; empty where there is none."""
        first = self.first
        if first is None:
            return ""
        if first.changed is not None:
            return _WHY_PROGRAM if self.changes else _WHY_COMPILED
        if first.a.kernel.opcode in LOOPS:
            return _WHY_LOOP
        return f"likely {_WHY_SUM if last(first.a) in _SUMS else _WHY_ELSEWHERE}"

    @property
    def path(self) -> list[Pair]:
        """Return the shortest way of the difference from its origin to a leaf, the origin first."""
        if self.first is None:
            return []
        by_number = {pair.a.number: pair for pair in self.different}
        receivers: dict[int, list[int]] = {}
        for number, pair in by_number.items():
            for kind, at, _ in pair.a.kernel.inputs:
                if kind == "kernel":
                    receivers.setdefault(at, []).append(number)
        ends = {number for number, _, _ in self.ends}
        ways = [[self.first.a.number]]
        seen = {self.first.a.number}
        while ways:
            way = ways.pop(0)
            if way[-1] in ends:
                return [by_number[number] for number in way]
            for number in receivers.get(way[-1], ()):
                if number not in seen:
                    seen.add(number)
                    ways.append([*way, number])
        return [self.first]

    @property
    def leaf(self) -> str:
        """Return the leaf at the end of that way; empty where it ends at none."""
        way = self.path
        if not way:
            return ""
        a, b = way[-1].a, way[-1].b
        found = [path for number, output, path in self.ends if number == a.number and a.outputs[output] != b.outputs[output]]
        return found[0] if found else ""

    @property
    def told_changes(self) -> Sequence[Change]:
        """Return where the programs are not the same, as far as it is told."""
        return self.changes

    @property
    def same_programs(self) -> bool:
        """Say whether both runs have the same program."""
        return not self.changes

    @property
    def reading(self) -> str:
        """Say that reading the kernels changed nothing."""
        sides = zip(self.labels, self.outputs, strict=True)
        texts = [f"{count} of {count} outputs of {label} identical with taps" for label, count in sides]
        texts += [f"{len(self.unread)} kernels not read: {', '.join(self.unread[:3])}"] if self.unread else []
        return " · ".join(texts)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        first = self.first
        return {
            "step": self.step, "headline": self.headline, "figures": self.figures, "why": self.why, "likely": self.likely,
            "place": place_json(self.place), "inputs_differ": list(self.inputs_differ), "cause": self.cause or None,
            "first": None if first is None else {
                **_kernel_json(first), "inputs_equal": first.inputs_equal, "changed": _change_json(first.changed),
                "elements": None if self.difference is None or self.difference.elements is None
                else self.difference.elements.to_json(),
                "path": [pair.a.kernel.name for pair in self.path], "leaf": self.leaf or None,
                "lines": [place_json(place) for place in lines_of(first.a)],
            },
            "programs": {"same": self.same_programs, "changes": [_change_json(change) for change in self.told_changes]},
            "reading": self.reading,
            "outputs": dict(zip("ab", self.outputs, strict=True)),
            "kernels": {
                "count": [len(side) for side in self.kernels], "paired": len(self.pairs), "different": len(self.different),
                "origins": [pair.a.kernel.name for pair in self.origins], "unread": list(self.unread),
                "list": [{**_kernel_json(pair), "equal": pair.equal, "inputs_equal": pair.inputs_equal} for pair in self.pairs],
            },
        }  # fmt: skip

    @property
    def _count(self) -> int:
        return len(self.kernels[0])

    @property
    def _received(self) -> str:
        """Say how many of the different kernels began it, and how many were given it."""
        began, received = len(self.origins), len(self.different) - len(self.origins)
        if began == 0:
            return "all received it"
        if began > 1:
            return f"{began} began with equal inputs, {received or 'none'} received it"
        return f"the other {received} received it" if received else "no other received it"

    @property
    def _at(self) -> str:
        where = "an unknown line" if self.place is None else str(self.place)
        return f"{'likely ' if self.likely else ''}at {where}"

    @property
    def _alone(self) -> str:
        a, b = self.alone
        return f"{a} {self.noun}s only in {self.labels[0]}, {b} only in {self.labels[1]}"


def _kernel_json(pair: Pair) -> dict[str, Any]:
    kernel = pair.a.kernel
    return {
        "name": kernel.name, "name_b": pair.b.kernel.name, "operation": kernel.operation, "opcode": kernel.opcode,
        "arrays": list(map(str, kernel.arrays)), "place": place_json(kernel.place), **pair.a.further,
    }  # fmt: skip


def _change_json(change: Change | None) -> dict[str, Any] | None:
    return None if change is None else {"a": change.a or None, "b": change.b or None, "place": place_json(change.place)}
