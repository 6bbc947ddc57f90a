"""Checksums of arrays in the host's memory: read where they lie, or from a copy when there is time."""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprotui.checksum import numpy_form
from reprotui.record import at_once

SMALL_WORDS = 8192
"""Up to so many together numpy reads host arrays faster than a compiled call can be made and waited for."""
COPIED_BYTES = 1 << 21
"""Bytes up to which arrays of the host are copied: more is read faster where it lies, and copies take memory from the step."""
COPIES_BYTES = 1 << 28
"""Memory for copies of host arrays whose checksums are to be made; beyond it they are made at once."""


def read(arrays: list[np.ndarray], statistics: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Return uint32[arrays, 2] lanes and, if asked for, float32[arrays, 2] statistics."""
    words = [numpy_form.words(array) for array in arrays]
    small = sum(word.size for word in words) <= SMALL_WORDS
    lanes = numpy_form.lanes_of_many(words) if small else at_once.lanes(words)
    return lanes, at_once.statistics(arrays) if statistics else None


def copied(arrays: list[np.ndarray], tensors: bool) -> Copy | None:
    """Return copies of arrays, to be read later; None where they are to be read at once.

    Args:
        arrays: what lies in the host's memory.
        tensors: some are torch's, whose device does not run ahead of the script.

    Raises:
        BadInputError: an array has no fixed bits.
    """
    if sum(array.nbytes for array in arrays) > COPIED_BYTES and (tensors or not at_once.waits()):
        return None
    return _copies().of(arrays)


@dataclass
class Copy:
    """Memory for copies of arrays of certain shapes and dtypes, and who still has to make checksums from it."""

    arrays: list[np.ndarray]
    owner: weakref.ref[Any] | None = None

    @property
    def free(self) -> bool:
        return self.owner is None or self.owner() is None


class Copies:
    """Memory that is used again and again, because new memory costs more than copying; `COPIES_BYTES` at most."""

    def __init__(self) -> None:
        self._all: dict[Any, list[Copy]] = {}

    def of(self, arrays: list[np.ndarray]) -> Copy | None:
        """Return copies of arrays; None where memory for them is not left."""
        layout = tuple((array.shape, array.dtype) for array in arrays)
        found = next((copy for copy in self._all.get(layout, ()) if copy.free), None)
        if found is None:
            found = self._new(arrays)
            if found is None:
                return None
            self._all.setdefault(layout, []).append(found)
        for copy, array in zip(found.arrays, arrays, strict=True):
            np.copyto(copy, array)
        return found

    def _new(self, arrays: list[np.ndarray]) -> Copy | None:
        for array in arrays:
            numpy_form.words(np.empty(0, array.dtype))  # raises where there are none
        sizes = [-(-array.nbytes // at_once.ALIGNMENT) * at_once.ALIGNMENT for array in arrays]
        if sum(sizes) + self._bytes() > COPIES_BYTES:
            # Arrays of other shapes were here before: a loader's last batch, another sequence length.
            self._all = {layout: kept for layout, copies in self._all.items() if (kept := [c for c in copies if not c.free])}
            if sum(sizes) + self._bytes() > COPIES_BYTES:
                return None
        raw = np.empty(sum(sizes) + at_once.ALIGNMENT, np.uint8)
        at = -raw.ctypes.data % at_once.ALIGNMENT
        views = []
        for array, size in zip(arrays, sizes, strict=True):
            views.append(raw[at : at + array.nbytes].view(array.dtype).reshape(array.shape))
            at += size
        return Copy(views)

    def _bytes(self) -> int:
        return sum(array.nbytes for copies in self._all.values() for copy in copies for array in copy.arrays)


_copies = functools.cache(Copies)
