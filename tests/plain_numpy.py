"""The numpy forms of the checksum against the text of the definition, in Python integers. Needs numpy and nothing else.

`PYTHONPATH=src python tests/plain_numpy.py [DRAWS]` runs it by itself: also with the oldest numpy that is supported, in an
environment where nothing of pytest or jax is.
"""

import random
import sys
from collections.abc import Iterable

import numpy as np

from reprotui.checksum import numpy_form

MASK = 0xFFFFFFFF


def plain_lanes(words: Iterable[int], base: int = 0) -> tuple[int, int]:
    """Return both lanes by the definition's text."""
    lane0 = lane1 = 0
    for i, w in enumerate(words, base):
        t = (i * 0x9E3779B9 + 0x243F6A88) & MASK
        x = w ^ t
        x ^= x >> 16
        x = x * 0x7FEB352D & MASK
        x ^= x >> 15
        x = x * 0x846CA68B & MASK
        x ^= x >> 16
        y = ((x + t) & MASK) * 0x27D4EB2F & MASK
        y ^= y >> 15
        lane0, lane1 = lane0 + x, lane1 + y
    return lane0 & MASK, lane1 & MASK


def plain_checksum(words: Iterable[int], base: int = 0) -> int:
    """Return the checksum of words."""
    lane0, lane1 = plain_lanes(words, base)
    return lane1 << 32 | lane0


def plain_root(checksums: Iterable[int]) -> int:
    """Return the root of checksums."""
    return plain_checksum(half for checksum in checksums for half in (checksum & MASK, checksum >> 32))


def check(draw: random.Random) -> None:
    """Hold every numpy form against the definition, on drawn words, parts and leaves."""
    dtype = draw.choice([np.uint8, np.uint16, np.uint32])
    leaves = [
        np.array([draw.getrandbits(8 * np.dtype(dtype).itemsize) for _ in range(draw.choice([0, 1, 2, 3, 17, 100]))], dtype)
        for _ in range(draw.randint(1, 9))
    ]
    bases = [draw.getrandbits(34) for _ in leaves]
    expected = [plain_lanes(map(int, leaf), base) for leaf, base in zip(leaves, bases, strict=True)]
    assert [numpy_form.lanes(leaf, base) for leaf, base in zip(leaves, bases, strict=True)] == expected, "lanes"
    runs = [leaf.astype(np.uint32) for leaf in leaves if leaf.size]
    found = numpy_form.lanes_of_runs(np.concatenate([np.empty(0, np.uint32), *runs]), tuple(run.size for run in runs))
    assert [tuple(map(int, pair)) for pair in found] == [plain_lanes(map(int, run)) for run in runs], "lanes of runs"
    whole = [plain_checksum(map(int, leaf)) for leaf in leaves]
    assert [numpy_form.checksum(leaf) for leaf in leaves] == whole, "checksum"
    for leaf, checksum in zip(leaves, whole, strict=True):
        cut = draw.randint(0, len(leaf))
        parts = [numpy_form.lanes(leaf[:cut]), numpy_form.lanes(leaf[cut:], cut)]
        joined = [sum(lanes) & MASK for lanes in zip(*parts, strict=True)]
        assert joined[1] << 32 | joined[0] == checksum, "joined parts"

    sizes = tuple(draw.choice([1, 1, 2, 5, 40]) for _ in range(draw.randint(1, 6)))
    checksums = [draw.getrandbits(64) for _ in range(sum(sizes))]
    row, ends = np.array(checksums, np.uint64), np.cumsum(sizes).tolist()
    runs = [checksums[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    roots = [plain_root(run) for run in runs]
    assert [numpy_form.root(np.array(run, np.uint64)) for run in runs] == roots, "root"
    assert numpy_form.roots(np.stack([row, row[::-1]])).tolist() == [plain_root(checksums), plain_root(checksums[::-1])], "roots"


if __name__ == "__main__":
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    for seed in range(draws):
        check(random.Random(seed))
    print(f"numpy {np.__version__}: every form is the definition in {draws} draws")
