"""Checksums of large arrays in the host's memory, read where they lie, by compiled calls on the calling thread."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from reprotui.checksum import jax_form, numpy_form
from reprotui.record.kernels import WIDE_VECTORS, checksum_compiler_options, device_statistics, host_statistics

ALIGNMENT = 64
"""XLA reads memory in place where it begins at a multiple of so many bytes, and copies it otherwise."""
SPLIT_WORDS = 1 << 14
"""From so many words on, what is not aligned at the beginning and the end is read by numpy, and the rest in place."""


class _Calls(NamedTuple):
    lanes: Any
    statistics: Any


def waits() -> bool:
    """Say whether calls wait for what the script's device does: this jaxlib does not give a client of our own."""
    return _own_calls() is None


def lanes(words: Sequence[np.ndarray]) -> np.ndarray:
    """Return the lanes of leaves, given as their `numpy_form.words`, as uint32[leaves, 2]."""
    calls = _calls()
    if calls is None:
        return np.array([numpy_form.word_lanes(word) for word in words], np.uint32)
    return _lanes(calls.lanes, words)


def statistics(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return L2 norms and maxima, float32[leaves, 2]."""
    values, calls = np.zeros((len(arrays), 2), np.float32), _calls()
    narrow = [index for index, array in enumerate(arrays) if calls is not None and array.dtype.itemsize <= 4]
    if calls is not None and narrow:
        values[narrow] = np.asarray(calls.statistics([arrays[index] for index in narrow]))
    for index in set(range(len(arrays))).difference(narrow):
        values[index] = host_statistics(arrays[index])
    return values


def _calls() -> _Calls | None:
    """Return the compiled calls: our own, or the script's where that computes on the host; otherwise None."""
    return _own_calls() or (_script_calls() if jax.default_backend() == "cpu" else None)


@functools.cache
def _script_calls() -> _Calls:
    return _Calls(jax.jit(_lanes_of, compiler_options=checksum_compiler_options()), jax.jit(_statistics_of))


@functools.cache
def _own_calls() -> _Calls | None:
    """Return calls that belong to a client of our own, which computes on the calling thread; tried once.

    A call of the script's client would have to wait for the step that is under way there, and the script would lose the time
    in which it runs ahead of its device.
    """
    sample = np.arange(SPLIT_WORDS + 5, dtype=np.uint32)
    for options in (WIDE_VECTORS, None):
        try:
            from jaxlib import xla_client

            # Not public: what another version calls it, or whether it has it, is not known.
            client: Any = xla_client.make_cpu_client(asynchronous=False, num_devices=1)
            here = SingleDeviceSharding(client.local_devices()[0])
            calls = _Calls(
                *(
                    jax.jit(function, in_shardings=here, out_shardings=here, compiler_options=options)
                    for function in (_lanes_of, _statistics_of)
                )
            )
            if tuple(_lanes(calls.lanes, [sample[1:]])[0]) == numpy_form.lanes(sample[1:]):
                return calls
        except Exception:
            continue
    return None


def _lanes(compiled: Any, words: Sequence[np.ndarray]) -> np.ndarray:
    heads, sizes = zip(*(_aligned(word) for word in words), strict=True)
    inner = [word[head : head + size] for word, head, size in zip(words, heads, sizes, strict=True)]
    with jax.enable_x64(False):
        result = np.asarray(compiled(inner, np.array(heads, np.uint32)))
    edges = [
        (part, number, base) for number, word in enumerate(words) for part, base in _edges(word, heads[number], sizes[number])
    ]
    if edges:
        parts, numbers, bases = zip(*edges, strict=True)
        result = result.copy()
        np.add.at(result, list(numbers), numpy_form.lanes_of_many(parts, bases))
    return result


def _aligned(word: np.ndarray) -> tuple[int, int]:
    """Return where the part of an array that can be read in place begins, and its size: the same wherever the array lies."""
    if word.size < SPLIT_WORDS:
        return 0, word.size
    step = ALIGNMENT // word.itemsize
    return -word.ctypes.data % ALIGNMENT // word.itemsize, (word.size - step + 1) // step * step


def _edges(word: np.ndarray, head: int, size: int) -> list[tuple[np.ndarray, int]]:
    """Return what lies before and behind the part that is read in place, with the index of its first word."""
    return [(word[start:end], start) for start, end in ((0, head), (head + size, word.size)) if end > start]


def _lanes_of(words: list[jax.Array], bases: jax.Array) -> jax.Array:
    return jnp.stack(
        [jnp.stack(jax_form.word_lanes(word.astype(jnp.uint32), bases[number])) for number, word in enumerate(words)]
    )


def _statistics_of(arrays: list[jax.Array]) -> jax.Array:
    return jnp.stack([device_statistics(array) for array in arrays])
