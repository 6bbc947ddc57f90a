"""A compiled program as XLA prints it: its kernels in program order, what goes into them, and their lines of source.

A kernel is an instruction of the entry computation that computes something: a fusion, a product, a reduction, a whole loop or
branch. What only renames or moves (tuples, bitcasts, copies) is none.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from reprotui.explain.sources import Place, Sources

PASSES_ON = ("bitcast", "copy", "get-tuple-element", "tuple", "opt-barrier")
NO_KERNEL = (*PASSES_ON, "parameter", "constant", "iota", "after-all", "partition-id", "replica-id", "copy-start", "copy-done")
LOOPS = ("while", "conditional", "call")
TYPES = {
    "pred": "bool", "s8": "int8", "s16": "int16", "s32": "int32", "s64": "int64", "u8": "uint8", "u16": "uint16",
    "u32": "uint32", "u64": "uint64", "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64",
    "c64": "complex64", "c128": "complex128",
}  # fmt: skip
"""Names of jax for XLA's element types; outputs of other types are not read."""
LONGEST = 400
"""Characters of an instruction that are kept; of a longer one its digest stands for the rest."""

_LINE = re.compile(r"^  (ROOT )?(%[\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{[^}]*\})?")
_OPCODE = re.compile(r"^ ?([\w\-]+)\(")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|true_computation|false_computation|comparator)=(%[\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_METADATA = re.compile(r', metadata=\{(?:[^{}"]|"(?:[^"\\]|\\.)*"|\{[^{}]*\})*\}')
_FRAME = re.compile(r"\bstack_frame_id=(\d+)")
_OPERATION = re.compile(r'\bop_name="((?:[^"\\]|\\.)*)"')
_NAME = re.compile(r"%[\w.\-]+")


@dataclass(frozen=True)
class Array:
    """One output of a kernel: `dtype` as jax calls it (empty: one that cannot be read), and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype or 'unknown'}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Instruction:
    """A line of a computation; `shapes` are its arrays as XLA writes them, `index` is of a get-tuple-element or parameter."""

    name: str
    opcode: str
    operands: tuple[str, ...]
    arrays: tuple[Array, ...]
    shapes: tuple[str, ...]
    tuple_shaped: bool
    root: bool
    line: int
    text: str
    index: int = 0

    @property
    def operation(self) -> str:
        """Return the path of jax operations that it came from, such as `jit(step)/transpose(jvp())/dot_general`."""
        found = _OPERATION.search(self.text)
        return found[1] if found else ""

    @property
    def frame(self) -> int | None:
        """Return the number of its stack frame."""
        found = _FRAME.search(self.text)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Kernel:
    """A kernel.

    Attributes:
        name: as XLA calls it; two compilations of one program may give another number.
        opcode: of XLA.
        operation: of jax, of the instruction that gives its output.
        arrays: its outputs.
        place: where in the source its output came from; None where XLA kept nothing.
        body: its instructions, without names: (text, place).
        inputs: what goes in: (`kernel`, number, output), (`parameter`, number, 0), (`constant`, digest, 0).
    """

    name: str
    opcode: str
    operation: str
    arrays: tuple[Array, ...]
    place: Place | None
    body: tuple[tuple[str, Place | None], ...]
    inputs: tuple[tuple[str, int, int], ...]


@dataclass
class Module:
    """A program: `computations` by name, the entry one, and where its lines of source stand."""

    lines: list[str]
    computations: dict[str, list[Instruction]] = field(default_factory=dict)
    entry: str = ""
    sources: Sources = field(default_factory=lambda: Sources({}, {}))

    @classmethod
    def parse(cls, text: str) -> "Module":
        """Read what `HloModule.to_string` printed."""
        module = cls(text.splitlines())
        module.sources = Sources.parse(module.lines)
        current: list[Instruction] = []
        for number, line in enumerate(module.lines):
            if line.endswith("{") and not line.startswith((" ", "HloModule")) and (name := _NAME.search(line)):
                current = module.computations.setdefault(name[0], [])
                module.entry = name[0] if line.startswith("ENTRY") else module.entry
            elif match := _LINE.match(line):
                current.append(_instruction(number, line, match[2], match[3], bool(match[1])))
        return module

    @property
    def root(self) -> Instruction:
        """Return the tuple of all outputs."""
        return next(item for item in self.computations[self.entry] if item.root)

    def kernels(self, outputs: int) -> tuple[list[tuple[Instruction, Kernel]], list[tuple[str, int, int]]]:
        """Return the kernels that the first outputs need, in program order, and where those outputs come from.

        The order follows from these outputs alone: further ones change nothing of it.
        """
        by_name = {item.name: item for item in self.computations[self.entry]}
        wanted = self.root.operands[:outputs]
        numbers: dict[str, int] = {}
        found: list[tuple[Instruction, Kernel]] = []
        for item in _in_order(by_name, wanted):
            if item.opcode in NO_KERNEL:
                continue
            inputs = [source for name in item.operands for source in _sources(name, by_name, numbers)]
            numbers[item.name] = len(found)
            found.append((item, self._kernel(item, tuple(inputs))))
        ends = [next(iter(_sources(name, by_name, numbers)), ("constant", 0, 0)) for name in wanted]
        return found, ends

    def _kernel(self, item: Instruction, inputs: tuple[tuple[str, int, int], ...]) -> Kernel:
        return Kernel(
            item.name.lstrip("%"), item.opcode, item.operation, item.arrays, self.sources.place(item.frame),
            tuple(self._body(item)), inputs,
        )  # fmt: skip

    def _body(self, item: Instruction, seen: frozenset[str] = frozenset()) -> Iterator[tuple[str, Place | None]]:
        """Yield an instruction and those of what it calls; the instruction itself first."""
        text = _without_names(item.text)
        if len(text) > LONGEST:  # a large constant
            text = f"{text[: LONGEST // 2]}… sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"
        yield text, self.sources.place(item.frame)
        called = _CALLED.findall(item.text)
        called += [name for found in _BRANCHES.findall(item.text) for name in _NAME.findall(found)]
        for name in called:
            if name not in seen:
                for inner in self.computations.get(name, []):
                    if inner.opcode != "parameter":
                        yield from self._body(inner, seen | {name})


def users_of(module: Module, name: str) -> list[Instruction]:
    """Return who reads or may overwrite a value: through what only passes it on, up to what computes."""
    entry, found, seen = module.computations[module.entry], [], {name}
    for item in entry:  # operands stand before who uses them
        if seen.isdisjoint(item.operands):
            continue
        if item.opcode in ("bitcast", "get-tuple-element", "tuple", "opt-barrier"):
            seen.add(item.name)
        elif not item.root:
            found.append(item)
    return found


def _instruction(number: int, line: str, name: str, rest: str, root: bool) -> Instruction:
    shape, after = _shape(rest)
    opcode = _OPCODE.match(after)
    kind = opcode[1] if opcode else ""
    inside = _inside(after[after.index("(") :]) if opcode else ""
    parts = list(_ARRAY.finditer(shape))
    nested = "(" in shape[1:].partition(":T(")[0]  # a tuple in a tuple: its parts have no number of their own
    arrays = tuple(
        Array("" if nested else TYPES.get(found[1], ""), tuple(int(size) for size in found[2].split(",") if size))
        for found in parts
    )
    index = re.search(r"\bindex=(\d+)", after) if kind == "get-tuple-element" else None
    operands = () if kind in ("constant", "parameter") else tuple(_NAME.findall(inside))
    position = int(inside) if kind == "parameter" else int(index[1]) if index else 0
    shapes = tuple(found[0] for found in parts)
    return Instruction(name, kind, operands, arrays, shapes, shape.startswith("("), root, number, line.strip(), position)


def _shape(rest: str) -> tuple[str, str]:
    if not rest.startswith("("):
        shape, _, after = rest.partition(" ")
        return shape, f" {after}"
    inside = _inside(rest)
    return f"({inside})", rest[len(inside) + 2 :]


def _inside(text: str) -> str:
    """Return what stands between the parenthesis with which a text begins and the one that closes it."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[1:at]
    return text[1:]


def _in_order(by_name: dict[str, Instruction], wanted: tuple[str, ...]) -> Iterator[Instruction]:
    """Yield what the wanted values need, operands first."""
    done: set[str] = set()
    for first in wanted:
        stack = [(first, False)]
        while stack:
            name, entered = stack.pop()
            if name in done:
                continue
            if entered:
                done.add(name)
                yield by_name[name]
            else:
                stack.append((name, True))
                stack += [(operand, False) for operand in reversed(by_name[name].operands)]


def _sources(
    name: str, by_name: dict[str, Instruction], numbers: dict[str, int], index: int = 0
) -> Iterator[tuple[str, int, int]]:
    """Yield which kernels, parameters and constants a value is made of."""
    item = by_name[name]
    if name in numbers:
        yield "kernel", numbers[name], index
    elif item.opcode == "parameter":
        yield "parameter", item.index, 0
    elif item.opcode == "get-tuple-element" and (whole := by_name[item.operands[0]]).opcode == "tuple":
        yield from _sources(whole.operands[item.index], by_name, numbers)
    elif item.opcode in PASSES_ON:
        index = item.index if item.opcode == "get-tuple-element" else index
        for operand in item.operands:
            yield from _sources(operand, by_name, numbers, index)
    else:
        digest = hashlib.sha256(_without_names(item.text).encode()).digest()
        yield "constant", int.from_bytes(digest[:6]), 0


def _without_names(text: str) -> str:
    """Return an instruction by what it does: without its name, those of its operands, and its place in the source."""
    return _NAME.sub("%", _METADATA.sub("", text.removeprefix("ROOT "))).removeprefix("% = ")
