"""Hold the kernels and the equations of two programs side by side."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from reprotui.explain.hlo import Array, Kernel
from reprotui.explain.sources import Place


@dataclass(frozen=True)
class Ran:
    """A kernel and what it gave: checksums of its outputs in hexadecimal (None: not read), and how many different ones in all
    repetitions."""

    number: int
    kernel: Kernel
    outputs: tuple[str | None, ...]
    distinct: int = 1

    @property
    def described(self) -> str:
        """Return it in a few words where it is no kernel of XLA's; empty where it is."""
        return ""

    @property
    def further(self) -> dict[str, str]:
        """Return what else is known of it, for the JSON form."""
        return {}

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Return by what it is found in another program: operation, shapes, function. Lines and files move between versions."""
        kernel = self.kernel
        return kernel.opcode, kernel.operation, kernel.arrays, kernel.place.function if kernel.place else ""


@dataclass(frozen=True)
class Change:
    """A place where two programs are not the same: what stands there in A and in B, either may be empty, and its line."""

    a: str
    b: str
    place: Place | None


@dataclass(frozen=True)
class Pair:
    """One kernel in both runs; `changed` is where its own instructions are not the same."""

    a: Ran
    b: Ran
    inputs_equal: bool | None
    changed: Change | None

    @property
    def equal(self) -> bool | None:
        """Say whether every output has the same bits; None where none was read."""
        read = [(x, y) for x, y in zip(self.a.outputs, self.b.outputs, strict=True) if x is not None and y is not None]
        return all(x == y for x, y in read) if read else None


def kernels_of(result: Sequence[dict]) -> list[Ran]:
    """Return the kernels of a process's result."""

    def place(found: list | None) -> Place | None:
        return None if found is None else Place(*found)

    return [
        Ran(
            number,
            Kernel(
                item["name"], item["opcode"], item["operation"],
                tuple(Array(dtype, tuple(shape)) for dtype, shape in item["arrays"]), place(item["place"]),
                tuple((text, place(at)) for text, at in item["body"]),
                tuple((kind, at, part) for kind, at, part in item["inputs"]),
            ),
            tuple(item["outputs"]), item["distinct"],
        )
        for number, item in enumerate(result)
    ]  # fmt: skip


def pair_kernels(a: Sequence[Ran], b: Sequence[Ran]) -> list[Pair]:
    """Return the kernels that both programs have, in the order of A."""
    found = [(a[x], b[y]) for x, y in matched([ran.key for ran in a], [ran.key for ran in b])]
    return [
        Pair(x, y, _same_inputs(_given(x, a), _given(y, b)), first_change(x.kernel.body, y.kernel.body)) for x, y in found
    ]  # fmt: skip


def matched(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return which keys of two sequences belong together, by their places, in order: equal ones at the same occurrence."""
    start, ends = _ends(a, b)
    middle = a[start : len(a) - ends], b[start : len(b) - ends]
    blocks = SequenceMatcher(None, *middle, autojunk=False).get_matching_blocks() if all(middle) else []
    return [
        *((at, at) for at in range(start)),
        *((start + x + at, start + y + at) for x, y, size in blocks for at in range(size)),
        *((len(a) - at, len(b) - at) for at in range(ends, 0, -1)),
    ]


def _ends(a: Sequence[Hashable], b: Sequence[Hashable]) -> tuple[int, int]:
    """Return how many items are equal at the beginning of two sequences, and how many of the others at their end."""
    shorter = min(len(a), len(b))
    start = next((at for at in range(shorter) if a[at] != b[at]), shorter)
    ends = next((at for at in range(shorter - start) if a[-1 - at] != b[-1 - at]), shorter - start)
    return start, ends


def first_change(a: Sequence[tuple[str, Place | None]], b: Sequence[tuple[str, Place | None]]) -> Change | None:
    """Return where two sequences of (text, place) are first not the same; None where they are."""
    changes = changes_of(a, b)
    return changes[0] if changes else None


def changes_of(a: Sequence[tuple[str, Place | None]], b: Sequence[tuple[str, Place | None]]) -> list[Change]:
    """Return all places where two sequences of (text, place) are not the same, in order."""
    start, ends = _ends([text for text, _ in a], [text for text, _ in b])
    if start == len(a) == len(b):
        return []
    a, b = a[start : len(a) - ends], b[start : len(b) - ends]
    blocks = SequenceMatcher(None, [text for text, _ in a], [text for text, _ in b], autojunk=False).get_opcodes()
    found = []
    for kind, a1, a2, b1, b2 in blocks:
        if kind != "equal":
            first = (a[a1:a2] or b[b1:b2])[0]
            found.append(Change(a[a1][0] if a1 < a2 else "", b[b1][0] if b1 < b2 else "", first[1]))
    return found


def _given(ran: Ran, all_kernels: Sequence[Ran]) -> list[str | None]:
    """Return what went into a kernel: checksums, parameters and constants; None for what was not read."""
    return [
        all_kernels[number].outputs[output] if kind == "kernel" else f"{kind} {number}"
        for kind, number, output in ran.kernel.inputs
    ]


def _same_inputs(a: list[str | None], b: list[str | None]) -> bool | None:
    """Say whether two kernels were given the same; a constant that only one program has is part of the kernel, no input."""
    known_a, known_b = ([item for item in given if item is not None and not item.startswith("constant")] for given in (a, b))
    if sorted(known_a) != sorted(known_b):
        return False
    return None if None in a or None in b else True
