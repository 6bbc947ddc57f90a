"""Arrays of jax on the CPU, read where they lie by the host's form: for what is read once, such as the state after init.

Compiling a call for such leaves takes XLA 0.2 to 0.6 s a set of shapes, and most sets that a run reads come only once.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from reprotui.checksum.host_form import Read, Table, kind_of
from reprotui.checksum.numpy_form import NARROW, dtype_name
from reprotui.checksum.shards import Part, strides_of


def read(arrays: Sequence[Any], parts: Sequence[Part], statistics: bool) -> Read | None:
    """Wait for arrays, and read them; None where they do not lie in the host's memory, their elements one behind the other.

    No view of numpy is taken: while there is one, jax copies what the script donates.

    Args:
        arrays: jax arrays that lie on one device each; of keys, their words.
        parts: where each lies in the whole that it is a part of; empty where all are wholes.
        statistics: with norms and maxima.
    """
    if not all(map(_is_plain, arrays)) or not all(map(_is_row, arrays, parts)):
        return None
    dtypes = [np.dtype(array.dtype) for array in arrays]
    bases = [part.start * kind_of(dtype).words for part, dtype in zip(parts, dtypes, strict=True)] if parts else None
    table = Table(dtypes, [array.size for array in arrays], bases, lasting=False)
    for array in arrays:
        array.block_until_ready()
    return table.read([array.unsafe_buffer_pointer() for array in arrays], statistics)


def number(array: Any, dtype: np.dtype) -> Any:
    """Return the value of an array of one element that `read` has read."""
    return np.frombuffer(ctypes.string_at(array.unsafe_buffer_pointer(), dtype.itemsize), dtype)[0]


def _is_row(array: Any, part: Part) -> bool:
    """Say whether the elements of a part follow one another in the whole too."""
    own = zip(part.strides, strides_of(array.shape), array.shape, strict=True)
    return all(stride == here for stride, here, size in own if size > 1)


def _is_plain(array: Any) -> bool:
    """Say whether an array's elements lie in the host's memory, one behind the other, in the order of its dimensions."""
    if any(device.platform != "cpu" for device in array.sharding.device_set):
        return False
    if dtype_name(np.dtype(array.dtype)) in NARROW:
        return False
    layout = getattr(getattr(array, "format", None), "layout", None)
    order = getattr(layout, "major_to_minor", None)
    return order == tuple(range(array.ndim)) and not getattr(layout, "tiling", None)
