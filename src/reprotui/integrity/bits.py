"""One element of two arrays with its bits: what a flipped bit looks like, and what another order of sums does."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reprotui.integrity.elements import element_bits, in_parts, is_float, show


@dataclass(frozen=True)
class ElementPair:
    """An element in A and in B.

    Attributes:
        index: where it stands, one entry a dimension; the part of a complex number is a dimension of its own.
        values: both as text, with the digits that tell them apart.
        bits: both as unsigned integers.
        fields: how many bits are what, the highest first: sign, exponent and fraction of a float, all bits of an integer.
    """

    index: tuple[int, ...]
    values: tuple[str, str]
    bits: tuple[int, int]
    fields: tuple[int, ...]

    @property
    def width(self) -> int:
        """Return how many bits an element has."""
        return sum(self.fields)

    @property
    def xor(self) -> int:
        """Return the bits that differ."""
        return self.bits[0] ^ self.bits[1]

    @property
    def flipped(self) -> tuple[int, ...]:
        """Return which bits differ, the highest first; bit 0 is the lowest."""
        return tuple(bit for bit in range(self.width - 1, -1, -1) if self.xor >> bit & 1)

    def binary(self, value: int) -> str:
        """Return bits as zeros and ones, with a space between the fields."""
        digits, parts = f"{value:0{self.width}b}", []
        for size in self.fields:
            parts.append(digits[:size])
            digits = digits[size:]
        return " ".join(part for part in parts if part)


def element_pair(a: NDArray, b: NDArray, index: tuple[int, ...]) -> ElementPair:
    """Return an element of two arrays of the same dtype and shape.

    Args:
        a, b: as in `compare_arrays`.
        index: as its figures name it: of a scalar empty, of complex numbers with the part behind.

    Raises:
        ValueError: dtype or shape differ.
        IndexError: there is no such element.
    """
    a, b = in_parts(a, b)
    at = [x[index].reshape(1) for x in (a, b)]
    bits = tuple(int(element_bits(x)[0]) for x in at)
    return ElementPair(index, (show(at[0][0]), show(at[1][0])), (bits[0], bits[1]), _fields(a.dtype))


def _fields(dtype: np.dtype) -> tuple[int, ...]:
    if not is_float(dtype):
        digits = "".join(character for character in dtype.name if character.isdigit())
        return (int(digits) if dtype.name.startswith(("int", "uint")) and digits else 8 * dtype.itemsize,)
    import ml_dtypes

    about = ml_dtypes.finfo(dtype)
    return (about.bits - about.nexp - about.nmant, about.nexp, about.nmant)
