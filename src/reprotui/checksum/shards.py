"""Arrays of jax that span devices: what each device of this process holds of the whole, and which of that are copies.

An array float32[4, 6] on four devices, its columns divided in two, each half on two devices:

    device 0   [:, 0:3]   strides (6, 1), first element 0
    device 1   [:, 3:6]   strides (6, 1), first element 3
    device 2   [:, 0:3]   a copy of what device 0 holds
    device 3   [:, 3:6]   a copy of what device 1 holds

The index of a word in the whole follows from strides and first element, and the lanes of a checksum are sums: parts that are
taken where they lie add up to the checksum of the whole, and no device has to ask another one.
"""

import functools
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_ROWS = re.compile(r".*\[(\d+):\d+(?:,:)*\]")

Box = tuple[tuple[int, int], ...]
"""First element and end of a part in each dimension of the whole."""


class Part(NamedTuple):
    """Where the elements of a part lie in the whole: the stride of each of its dimensions, and the index of the first."""

    strides: tuple[int, ...]
    start: int


class Piece(NamedTuple):
    """What one device holds.

    Attributes:
        shard: its number among the shards of the array in this process.
        device: the number of the device.
        box: what it is of the whole; pieces of one box are copies of one another.
        part: the same, as indices of elements.
    """

    shard: int
    device: int
    box: Box
    part: Part


class Placement(NamedTuple):
    """What this process holds of an array.

    Attributes:
        pieces: device by device.
        held: the parts of the whole that they make up: one for all of it, or for a part that is a block.
        whole: nothing of it is elsewhere.
        sums: each device holds a summand of the elements, so none is a copy.
    """

    pieces: tuple[Piece, ...]
    held: tuple[Box, ...]
    whole: bool
    sums: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of what is held; of several parts that make up no block, as a row."""
        if len(self.held) == 1:
            return tuple(end - start for start, end in self.held[0])
        return (sum(map(_volume, self.held)),)


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Return how far apart neighbours in each dimension of an array lie, in elements."""
    return tuple(math.prod(shape[dimension + 1 :]) for dimension in range(len(shape)))


def shard_arrays(array: Any) -> Sequence[Any]:
    """Return the shards that this process holds, as arrays of one device each; of an array that is no array of keys."""
    # What `addressable_shards` hands out too, with an object around each that it would leave behind in the script's array.
    arrays = getattr(array, "_arrays", None)
    return [shard.data for shard in array.addressable_shards] if arrays is None else arrays


@functools.lru_cache(1 << 12)
def placement(sharding: Any, shape: tuple[int, ...]) -> Placement:
    """Say what this process holds of an array with this sharding and shape."""
    found = sharding.addressable_devices_indices_map(shape)
    pieces = tuple(_piece(number, device.id, index or (), shape) for number, (device, index) in enumerate(found.items()))
    boxes = list(dict.fromkeys(piece.box for piece in pieces))
    whole = sum(map(_volume, boxes)) == math.prod(shape)
    block = tuple((min(starts), max(ends)) for starts, ends in (zip(*bounds, strict=True) for bounds in zip(*boxes, strict=True)))
    held = (block,) if boxes and _volume(block) == sum(map(_volume, boxes)) else tuple(boxes)
    spec = getattr(sharding, "spec", None)
    return Placement(pieces, held, whole, bool(getattr(spec, "unreduced", None)))


def slice_text(box: Box, shape: tuple[int, ...]) -> str:
    """Return a part of an array of this shape as Python writes it, `[32:64,:]`; nothing for all of it."""
    if all(bounds == (0, size) for bounds, size in zip(box, shape, strict=True)):
        return ""
    bounds = (":" if found == (0, size) else f"{found[0]}:{found[1]}" for found, size in zip(box, shape, strict=True))
    return f"[{','.join(bounds)}]"


def first_element(path: str, shape: Sequence[int]) -> int:
    """Return the index, in the whole, of the first element of a part of this shape that consists of whole rows; else 0.

    >>> first_element("params/w[4:8,:]", (4, 6)), first_element("params/w", (8, 6))
    (24, 0)
    """
    found = _ROWS.fullmatch(path)
    return int(found[1]) * math.prod(shape[1:]) if found else 0


def held(leaf: Any) -> tuple[str, tuple[int, ...]] | None:
    """Return how the part of an array of jax that this process holds is written, and its shape; None where it holds all."""
    sharding = getattr(leaf, "sharding", None)
    if sharding is None or sharding.is_fully_addressable:
        return None
    shape = tuple(leaf.shape)
    found = placement(sharding, shape)
    if found.whole:
        return None
    return "+".join(slice_text(box, shape) for box in found.held) or "[]", found.shape


def held_elements(array: Any) -> np.ndarray:
    """Return the elements of an array, of which this process holds a part, that are here; as `Placement.shape` has them."""
    found = placement(array.sharding, tuple(array.shape))
    shards = shard_arrays(array)
    parts = {piece.box: np.asarray(shards[piece.shard]) for piece in found.pieces}
    if len(found.held) != 1:
        return np.concatenate([parts[box].reshape(-1) for box in found.held] or [np.zeros(0, array.dtype)])
    block = np.empty(found.shape, array.dtype)
    for box, part in parts.items():
        at = tuple(slice(start - first, end - first) for (start, end), (first, _) in zip(box, found.held[0], strict=True))
        block[at] = part.reshape(block[at].shape)
    return block


def _piece(number: int, device: int, index: tuple[Any, ...], shape: tuple[int, ...]) -> Piece:
    bounds, strides = [], []
    for place, size, stride in zip(itertools.chain(index, itertools.repeat(slice(None))), shape, strides_of(shape), strict=False):
        if isinstance(place, slice):
            start, end, _ = place.indices(size)
            strides.append(stride)
        else:  # a dimension that the shard lacks, as older versions have it in `pmap`
            start, end = int(place), int(place) + 1
        bounds.append((start, end))
    start = sum(first * stride for (first, _), stride in zip(bounds, strides_of(shape), strict=True))
    return Piece(number, device, tuple(bounds), Part(tuple(strides), start))


def _volume(box: Box) -> int:
    return math.prod(end - start for start, end in box)
