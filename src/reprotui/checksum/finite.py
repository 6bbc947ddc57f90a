"""Which words of a leaf stand for NaN or infinity: what every form of the checksum asks of the words that it mixes anyway.

One question for all types, `((word ^ flip) & mask) >= limit`: the largest value of the left side over a leaf answers it, and a
maximum costs a tenth of the mixing, where a count costs a sixth (XLA). So a leaf is told to hold such numbers, not
how many. Of complex numbers each part counts.
"""

import functools
from typing import Any, NamedTuple


class FiniteTest(NamedTuple):
    """How a word shows that its number is NaN or infinite. Of `words` words of a number only the last one tells."""

    flip: int
    mask: int
    limit: int
    words: int = 1

    def tells(self, index: int) -> bool:
        """Say whether the word with this index in its leaf is one that tells."""
        return index % self.words == self.words - 1


_IEEE32, _IEEE64 = FiniteTest(0, 0x7FFFFFFF, 0x7F800000), FiniteTest(0, 0x7FFFFFFF, 0x7FF00000, 2)
_ONE_NAN = FiniteTest(0x7F, 0xFF, 0xFF)
"""The bits of negative zero are the one NaN of these types."""

_TESTS = {
    "float16": FiniteTest(0, 0x7FFF, 0x7C00), "bfloat16": FiniteTest(0, 0x7FFF, 0x7F80),
    "float32": _IEEE32, "complex64": _IEEE32, "float64": _IEEE64, "complex128": _IEEE64,
    "float8_e5m2": FiniteTest(0, 0x7F, 0x7C), "float8_e4m3": FiniteTest(0, 0x7F, 0x78), "float8_e3m4": FiniteTest(0, 0x7F, 0x70),
    "float8_e4m3fn": FiniteTest(0, 0x7F, 0x7F), "float8_e8m0fnu": FiniteTest(0, 0xFF, 0xFF),
    "float8_e4m3fnuz": _ONE_NAN, "float8_e5m2fnuz": _ONE_NAN, "float8_e4m3b11fnuz": _ONE_NAN,
}  # fmt: skip


@functools.cache
def finite_test(dtype: Any) -> FiniteTest | None:
    """Return the test for a type of numpy's, jax's or torch's; None for one whose numbers are all finite."""
    name = str(getattr(dtype, "name", dtype)).removeprefix("torch.")
    return _TESTS.get({"complex32": "float16"}.get(name, name))
