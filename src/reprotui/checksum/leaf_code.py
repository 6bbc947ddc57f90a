"""The text of the machine code for one leaf in LLVM's language: what `machine_code` compiles.

Nothing is left for LLVM to optimise: sixteen words at a time are mixed in vectors, and the rest from a copy that is filled up
with zeros. Vectors wider than the CPU's are split by LLVM.
"""

import itertools
from typing import Any

from reprotui.checksum.definition import INDEX_STEP, MASK, MIX_1, MIX_2, MIX_3
from reprotui.checksum.finite import FiniteTest

WIDTH = 16
"""Words of a vector: one of AVX-512, two of AVX2, whose additions do not wait for one another."""
AHEAD = 8192
"""Bytes that are fetched ahead of what is mixed. The CPU's own prefetching ends at each page: without this, what lies in memory
is read at 8 to 9 GB/s, with it at 11 to 13 (AVX2, one core, 64 MB). Behind the end nothing is harmed: a fetch never faults."""
WORDS = {"bool": "i8", "int2": "i8", "int4": "i8", "8": "i8", "16": "i16", "32": "i32"}
"""Kinds of words, and how they lie in memory. Of a `bool` counts whether it is zero, of narrow ones the bits that are theirs."""
NUMBERS = (
    "bool", "int8", "uint8", "int16", "uint16", "float16", "bfloat16", "int32", "uint32", "float32", "int64", "uint64", "float64",
)  # fmt: skip
"""Types of elements whose statistics can be taken."""

_NARROW = {"int2": 0x3, "int4": 0xF}
_INT, _FLOAT = f"<{WIDTH} x i32>", f"<{WIDTH} x float>"


def leaf_function(word: str, number: str | None, test: FiniteTest | None) -> str:
    """Return the function `leaf` for a kind of words.

    Args:
        word: one of `WORDS`.
        number: the type of the elements, one of `NUMBERS`, where statistics are taken.
        test: what tells the words of numbers that are not finite; None where there are none.
    """
    memory, count = WORDS[word], _elements(number)
    types = {"x": _INT, "y": _INT}
    if test is not None:
        types |= {"highest": _INT}
    if number is not None:
        types |= {"squares": f"<{count} x double>", "largest": f"<{count} x double>"}
    main, rest = _Body("m", word, number, test), _Body("r", word, number, test)
    added = main.add("%here", "%t", {name: f"%{name}" for name in types}, None)
    left = rest.op(f"insertelement {_INT} undef, i32 %left32, i32 0")
    left = rest.op(f"shufflevector {_INT} {left}, {_INT} undef, {_INT} zeroinitializer")
    inside = rest.op(f"icmp ult {_INT} {_vector(range(WIDTH))}, {left}")
    total = rest.add("%buffer", "%t1", {name: f"%{name}1" for name in types}, inside)
    at_first = "".join(
        f"  %{name} = phi {kind} [zeroinitializer, %entry], [{added[name]}, %loop]\n" for name, kind in types.items()
    )
    after = "".join(
        f"  %{name}1 = phi {kind} [zeroinitializer, %entry], [{added[name]}, %loop]\n" for name, kind in types.items()
    )
    at_end = "".join(f"  %{name}2 = phi {kind} [%{name}1, %behind], [{total[name]}, %rest]\n" for name, kind in types.items())
    declared, written = _written(number, count, test)
    return f"""
declare i32 @llvm.vector.reduce.add.v{WIDTH}i32({_INT})
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
{declared}
define void @leaf(ptr %words, i64 %size, i32 %start, ptr %out) "prefer-vector-width"="512" "min-legal-vector-width"="512" {{
entry:
  %buffer = alloca [{WIDTH} x {memory}], align 64
  %whole = and i64 %size, {-WIDTH}
  %starts0 = insertelement {_INT} undef, i32 %start, i32 0
  %starts = shufflevector {_INT} %starts0, {_INT} undef, {_INT} zeroinitializer
  %t0 = add {_INT} %starts, {_vector(index * INDEX_STEP for index in range(WIDTH))}
  %any = icmp ne i64 %whole, 0
  br i1 %any, label %loop, label %behind
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %t = phi {_INT} [%t0, %entry], [%tnext, %loop]
{at_first}  %here = getelementptr {memory}, ptr %words, i64 %i
  %ahead = getelementptr i8, ptr %here, i64 {AHEAD}
  call void @llvm.prefetch.p0(ptr %ahead, i32 0, i32 3, i32 1)
{_joined(main.lines)}
  %next = add i64 %i, {WIDTH}
  %tnext = add {_INT} %t, {_splat(WIDTH * INDEX_STEP)}
  %more = icmp ult i64 %next, %whole
  br i1 %more, label %loop, label %behind
behind:
  %t1 = phi {_INT} [%t0, %entry], [%tnext, %loop]
{after}  %left = sub i64 %size, %whole
  %left32 = trunc i64 %left to i32
  store [{WIDTH} x {memory}] zeroinitializer, ptr %buffer, align 64
  %some = icmp ne i64 %left, 0
  br i1 %some, label %copy, label %end
copy:
  %j = phi i64 [0, %behind], [%jnext, %copy]
  %k = add i64 %whole, %j
  %from = getelementptr {memory}, ptr %words, i64 %k
  %one = load {memory}, ptr %from, align 1
  %to = getelementptr {memory}, ptr %buffer, i64 %j
  store {memory} %one, ptr %to, align 1
  %jnext = add i64 %j, 1
  %again = icmp ult i64 %jnext, %left
  br i1 %again, label %copy, label %rest
rest:
{_joined(rest.lines)}
  br label %end
end:
{at_end}{written}
  ret void
}}
"""


class _Body:
    """The lines that take in sixteen words, given the values of the sums before them."""

    def __init__(self, prefix: str, word: str, number: str | None, test: FiniteTest | None) -> None:
        self.lines: list[str] = []
        self._names = (f"%{prefix}{count}" for count in itertools.count())
        self._word, self._number, self._test = word, number, test

    def op(self, text: str) -> str:
        """Add an instruction; return the name of its value."""
        name = next(self._names)
        self.lines.append(f"  {name} = {text}")
        return name

    def add(self, pointer: str, t: str, sums: dict[str, str], inside: str | None) -> dict[str, str]:
        """Add the words at a pointer to the sums; where `inside` is given, those lanes only that it has."""
        raw = self.op(f"load <{WIDTH} x {WORDS[self._word]}>, ptr {pointer}, align 1")
        words = self._words(raw)
        x, y = self._mixed(words, t)
        if inside is not None:
            x, y = (self.op(f"select <{WIDTH} x i1> {inside}, {_INT} {lane}, {_INT} zeroinitializer") for lane in (x, y))
        added = {name: self.op(f"add {_INT} {sums[name]}, {value}") for name, value in (("x", x), ("y", y))}
        # Zeros change none of these.
        if self._test is not None:
            added["highest"] = self._highest(words, self._test, sums["highest"])
        if self._number is not None:
            added |= self._statistics(raw, sums)
        return added

    def _highest(self, words: str, test: FiniteTest, before: str) -> str:
        """Take the words that tell of numbers that are not finite into the largest ones before them."""
        if test.flip:
            words = self.op(f"xor {_INT} {words}, {_splat(test.flip)}")
        masked = self.op(f"and {_INT} {words}, {_vector(test.mask if test.tells(at) else 0 for at in range(WIDTH))}")
        higher = self.op(f"icmp ugt {_INT} {masked}, {before}")
        return self.op(f"select <{WIDTH} x i1> {higher}, {_INT} {masked}, {_INT} {before}")

    def _words(self, raw: str) -> str:
        memory = f"<{WIDTH} x {WORDS[self._word]}>"
        if self._word == "32":
            return raw
        if self._word == "bool":
            raw = self.op(f"icmp ne {memory} {raw}, zeroinitializer")
            return self.op(f"zext <{WIDTH} x i1> {raw} to {_INT}")
        word = self.op(f"zext {memory} {raw} to {_INT}")
        return self.op(f"and {_INT} {word}, {_splat(_NARROW[self._word])}") if self._word in _NARROW else word

    def _mixed(self, word: str, t: str) -> tuple[str, str]:
        def shifted(value: str, bits: int) -> str:
            return self.op(f"xor {_INT} {value}, {self.op(f'lshr {_INT} {value}, {_splat(bits)}')}")

        def times(value: str, factor: int) -> str:
            return self.op(f"mul {_INT} {value}, {_splat(factor)}")

        x = shifted(self.op(f"xor {_INT} {word}, {t}"), 16)
        x = shifted(times(shifted(times(x, MIX_1), 15), MIX_2), 16)
        return x, shifted(times(self.op(f"add {_INT} {x}, {t}"), MIX_3), 15)

    def _statistics(self, raw: str, sums: dict[str, str]) -> dict[str, str]:
        count = _elements(self._number)
        double = f"<{count} x double>"
        value = self.op(f"call {double} @llvm.fabs.v{count}f64({double} {self._doubles(raw, double)})")
        square = self.op(f"fmul {double} {value}, {value}")
        larger = self.op(f"fcmp ogt {double} {value}, {sums['largest']}")
        return {
            "squares": self.op(f"fadd {double} {sums['squares']}, {square}"),
            "largest": self.op(f"select <{count} x i1> {larger}, {double} {value}, {double} {sums['largest']}"),
        }

    def _doubles(self, raw: str, double: str) -> str:
        """Return the elements as numbers; of half precision by integer operations, which every CPU has."""
        number, memory = str(self._number), f"<{WIDTH} x {WORDS[self._word]}>"
        if number == "bool":
            return self.op(f"uitofp <{WIDTH} x i1> {self.op(f'icmp ne {memory} {raw}, zeroinitializer')} to {double}")
        if number in ("float32", "bfloat16", "float16"):
            if number != "float32":
                raw = self.op(f"zext {memory} {raw} to {_INT}")
                raw = self.op(f"shl {_INT} {raw}, {_splat(16)}") if number == "bfloat16" else self._half(raw)
            return self.op(f"fpext {_FLOAT} {self.op(f'bitcast {_INT} {raw} to {_FLOAT}')} to {double}")
        if number.endswith("64"):
            kind = "double" if number == "float64" else "i64"
            memory, raw = f"<{WIDTH // 2} x {kind}>", self.op(f"bitcast {_INT} {raw} to <{WIDTH // 2} x {kind}>")
            if kind == "double":
                return raw
        return self.op(f"{'uitofp' if number.startswith('uint') else 'sitofp'} {memory} {raw} to {double}")

    def _half(self, bits: str) -> str:
        """Return the float32 bits of the magnitudes of float16 bits."""
        low = self.op(f"shl {_INT} {self.op(f'and {_INT} {bits}, {_splat(0x7FFF)}')}, {_splat(13)}")
        # The exponent counts from -15 there, from -127 here; a product with 2**112 sets that right, of subnormal numbers too.
        value = self.op(f"bitcast {_INT} {low} to {_FLOAT}")
        value = self.op(f"fmul {_FLOAT} {value}, {_splat('0x46F0000000000000', 'float')}")
        scaled = self.op(f"bitcast {_FLOAT} {value} to {_INT}")
        special = self.op(f"icmp uge {_INT} {low}, {_splat(0x7C00 << 13)}")
        infinite = self.op(f"or {_INT} {low}, {_splat(0x7F800000)}")
        return self.op(f"select <{WIDTH} x i1> {special}, {_INT} {infinite}, {_INT} {scaled}")


def _written(number: str | None, count: int, test: FiniteTest | None) -> tuple[str, str]:
    """Return declarations, and the lines that write the sums."""
    declared, lines = [], []
    for offset, name in enumerate(("x", "y")):
        lines += [
            f"  %{name}3 = call i32 @llvm.vector.reduce.add.v{WIDTH}i32({_INT} %{name}2)",
            f"  %{name}4 = getelementptr i32, ptr %out, i64 {offset}",
            f"  store i32 %{name}3, ptr %{name}4, align 4",
        ]
    if test is not None:
        declared.append(f"declare i32 @llvm.vector.reduce.umax.v{WIDTH}i32({_INT})")
        lines += [
            f"  %highest3 = call i32 @llvm.vector.reduce.umax.v{WIDTH}i32({_INT} %highest2)",
            f"  %highest4 = icmp uge i32 %highest3, {test.limit}",
            "  %highest5 = zext i1 %highest4 to i64",
            *_stored("i64", "%highest5", 3),
        ]
    if number is None:
        return "\n".join(declared), "\n".join(lines)
    double = f"<{count} x double>"
    for offset, name, call in (
        (1, "squares", f"@llvm.vector.reduce.fadd.v{count}f64(double 0.0, {double} %squares2)"),
        (2, "largest", f"@llvm.vector.reduce.fmax.v{count}f64({double} %largest2)"),
    ):
        lines += [f"  %{name}3 = call double {call}", *_stored("double", f"%{name}3", offset)]
    declared += [
        f"declare {double} @llvm.fabs.v{count}f64({double})",
        f"declare double @llvm.vector.reduce.fadd.v{count}f64(double, {double})",
        f"declare double @llvm.vector.reduce.fmax.v{count}f64({double})",
    ]
    return "\n".join(declared), "\n".join(lines)


def _stored(kind: str, value: str, offset: int) -> list[str]:
    """Return the lines that write a value of 8 bytes behind the lanes."""
    return [f"  {value}at = getelementptr i64, ptr %out, i64 {offset}", f"  store {kind} {value}, ptr {value}at, align 8"]


def _elements(number: str | None) -> int:
    """Return how many elements sixteen words are."""
    return WIDTH // 2 if number in ("int64", "uint64", "float64") else WIDTH


def _vector(values: Any) -> str:
    return "<" + ", ".join(f"i32 {value & MASK}" for value in values) + ">"


def _splat(value: int | str, kind: str = "i32", count: int = WIDTH) -> str:
    return "<" + ", ".join([f"{kind} {value & MASK if isinstance(value, int) else value}"] * count) + ">"


def _joined(lines: list[str]) -> str:
    return "\n".join(lines)
