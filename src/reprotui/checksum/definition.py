"""The definition of `rfp1-64`, free of any framework.

Words are the bits of each element in C order, zero-extended to unsigned 32 bits: bool is 0 or 1; 8- and 16-bit types
are bit-cast to the unsigned integer of that width; 64-bit types give two words, low then high; complex numbers are
real, imaginary interleaved; types under one byte are bit-cast to their unsigned form; a typed PRNG key gives its
`key_data`, and the implementation's name is part of the leaf's dtype. For the word `w` with index `i`, all arithmetic
modulo 2**32:

    t = i * 0x9E3779B9 + 0x243F6A88
    x = w ^ t;  x ^= x >> 16;  x *= 0x7FEB352D;  x ^= x >> 15;  x *= 0x846CA68B;  x ^= x >> 16
    y = (x + t) * 0x27D4EB2F;  y ^= y >> 15
    lane0 = sum of x      lane1 = sum of y      checksum = lane1 << 32 | lane0

An empty leaf has checksum 0. Both lanes are modular sums, so order, chunking and sharding cannot change them, and the
lanes of parts, each taken with the part's index base, add up to the whole's. The root of a phase is the checksum of
the uint32 vector `[lane0, lane1]` of its leaves in leaf order.
"""

from typing import NamedTuple

NAME = "rfp1-64"
"""Name of the definition; written into every trace. Another definition needs another name."""

INDEX_STEP = 0x9E3779B9
INDEX_START = 0x243F6A88
MIX_1 = 0x7FEB352D
MIX_2 = 0x846CA68B
MIX_3 = 0x27D4EB2F
MASK = 0xFFFFFFFF


class LeafSpec(NamedTuple):
    """What identifies a leaf beside its bits: compared wherever checksums are compared.

    `dtype` is numpy's name of the element type, or `key<IMPLEMENTATION>` for typed PRNG keys; `shape` is the shape as
    the program sees it (a key array's shape excludes the words of its `key_data`).
    """

    path: str
    dtype: str
    shape: tuple[int, ...]


def lanes_to_checksum(lane0: int, lane1: int) -> int:
    """Join the two 32-bit lanes into the 64-bit checksum."""
    return (int(lane1) & MASK) << 32 | (int(lane0) & MASK)
