"""Checksums of arrays in the host's memory: read where they lie, or from a copy when there is time."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum import jax_form, numpy_form
from reprotui.record.layout import checksum_compiler_options, device_statistics, host_statistics

if TYPE_CHECKING:
    pass

SMALL_WORDS = 8192
"""Up to so many together numpy reads host arrays faster than a compiled call can be made and waited for."""
COPIED_BESIDE_TORCH = 1 << 21
"""Bytes up to which tensors of torch are copied: more is read faster where it lies."""
COPIES_BYTES = 1 << 28
"""Memory for copies of host arrays whose checksums are to be made; beyond it they are made at once."""
ALIGNMENT = 64


def read(arrays: list[np.ndarray], statistics: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Return uint32[arrays, 2] lanes and, if asked for, float32[arrays, 2] statistics."""
    words = [numpy_form.words(array) for array in arrays]
    compiled = compiles_for_host()
    if not compiled:
        lanes = np.array([numpy_form.lanes(array) for array in arrays], np.uint32)
    elif sum(word.size for word in words) <= SMALL_WORDS:
        lanes = numpy_form.lanes_of_many(words)
    else:
        lanes = _word_lanes(words)
    if not statistics:
        return lanes, None
    values = np.zeros((len(arrays), 2), np.float32)
    narrow = [index for index, array in enumerate(arrays) if compiled and array.dtype.itemsize <= 4]
    if narrow:
        values[narrow] = np.asarray(statistics_of([arrays[index] for index in narrow]))
    for index in set(range(len(arrays))).difference(narrow):
        values[index] = host_statistics(arrays[index])
    return lanes, values


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

    def of(self, arrays: list[np.ndarray], most: int) -> Copy | None:
        """Return copies of arrays; None where they are more than so many bytes, or memory for them is not left.

        Raises:
            BadInputError: an array has no fixed bits.
        """
        if sum(array.nbytes for array in arrays) > most:
            return None
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
        sizes = [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays]
        if sum(sizes) + self._bytes() > COPIES_BYTES:
            # Arrays of other shapes were here before: a loader's last batch, another sequence length.
            self._all = {layout: kept for layout, copies in self._all.items() if (kept := [c for c in copies if not c.free])}
            if sum(sizes) + self._bytes() > COPIES_BYTES:
                return None
        raw = np.empty(sum(sizes) + ALIGNMENT, np.uint8)
        at = -raw.ctypes.data % ALIGNMENT
        views = []
        for array, size in zip(arrays, sizes, strict=True):
            views.append(raw[at : at + array.nbytes].view(array.dtype).reshape(array.shape))
            at += size
        return Copy(views)

    def _bytes(self) -> int:
        return sum(array.nbytes for copies in self._all.values() for copy in copies for array in copy.arrays)


copies = functools.cache(Copies)


def statistics_of(leaves: Sequence[Any]) -> jax.Array:
    """Return L2 norms and maxima, float32[leaves, 2]; dispatched, not waited for."""
    return _compiled()[1](list(leaves))


def compiles_for_host() -> bool:
    """Say whether compiled calls run on the host; elsewhere host arrays would travel to the accelerator first."""
    return jax.default_backend() == "cpu"


def _word_lanes(words: list[np.ndarray]) -> np.ndarray:
    with jax.enable_x64(False):
        return np.asarray(_compiled()[0](words))


@functools.cache
def _compiled() -> tuple[Any, Any]:
    def of_words(words: list[jax.Array]) -> jax.Array:
        return jnp.stack([jnp.stack(jax_form.word_lanes(word.astype(jnp.uint32))) for word in words])

    def statistics(leaves: list[jax.Array]) -> jax.Array:
        return jnp.stack([device_statistics(leaf) for leaf in leaves])

    return jax.jit(of_words, compiler_options=checksum_compiler_options()), jax.jit(statistics)
