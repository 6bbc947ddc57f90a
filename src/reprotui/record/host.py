"""Checksums of what lies in the host's memory: arrays, tensors on the CPU and numbers, read where they lie, at once."""

import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reprotui.checksum.host_form import Read, Table, in_place, kind_of, shortfall
from reprotui.checksum.leaves import numpy_dtype, to_numpy
from reprotui.errors import BadInputError

Picker = Callable[[Sequence[Any]], Sequence[Any]]
"""Picks certain elements of a sequence."""

_tensor_like = operator.attrgetter("__class__", "dtype", "shape", "is_cpu")


class HostLeaves:
    """Leaves of certain types and shapes in the host's memory: described once, and then read by one call each time.

    Nothing is remembered of where they lie: tensors are resized, replaced and given other memory between two steps.

    Args:
        leaves: those that are there now.
        firsts: for each the index of its first element in the whole, of which it is a part; None for none.

    Raises:
        BadInputError: a leaf has no fixed bits, such as an array of objects.
    """

    def __init__(self, leaves: Sequence[Any], firsts: Sequence[int] | None = None) -> None:
        plain = [index for index, leaf in enumerate(leaves) if _is_plain(leaf)]
        others = [index for index in range(len(leaves)) if index not in set(plain)]
        self._pick_plain, self._pick_others = picker(plain), picker(others)
        self._methods: tuple[Any, ...] = _methods() if plain else ()
        tensors, arrays = self._pick_plain(leaves), [to_numpy(leaf) for leaf in self._pick_others(leaves)]
        self._tensors = list(map(_tensor_like, tensors))
        self._arrays = [(array.dtype, array.shape) for array in arrays]
        dtypes = [numpy_dtype(tensor.dtype) for tensor in tensors]
        sizes = [tensor.numel() * tensor.element_size() // dtype.itemsize for tensor, dtype in zip(tensors, dtypes, strict=True)]
        # What is torch's comes first in the table, whatever stands between.
        self._places = np.argsort(np.array([*plain, *others], np.intp))
        self._ordered = bool(np.array_equal(self._places, np.arange(len(leaves))))
        kinds = [*dtypes, *(dtype.newbyteorder("=") if dtype.byteorder == ">" else dtype for dtype, _ in self._arrays)]
        bases = (
            [firsts[index] * kind_of(kind).words for index, kind in zip([*plain, *others], kinds, strict=True)]
            if firsts
            else None
        )
        self._table = Table(kinds, [*sizes, *(array.size for array in arrays)], bases)
        self._sizes = sizes
        # A view of the imaginary part of conjugated numbers is negated when it is read; of more than one they lie apart.
        self._pick_single = picker([index for index, tensor in enumerate(tensors) if tensor.numel() == 1])
        self._pick_complex = picker([index for index, tensor in enumerate(tensors) if tensor.is_complex()])

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Say whether other leaves have the same types and shapes."""
        try:
            if list(map(_tensor_like, self._pick_plain(leaves))) != self._tensors:
                return False
        except AttributeError:  # a number in the place of a tensor
            return False
        others = (to_numpy(leaf) for leaf in self._pick_others(leaves))
        return [(array.dtype, array.shape) for array in others] == self._arrays

    def read(self, leaves: Sequence[Any], statistics: bool) -> Read:
        """Read leaves that fit, with statistics if asked for."""
        addresses: list[int] = []
        kept = []  # copies must live until they are read
        if self._tensors:
            kept, addresses = self._tensor_addresses(self._pick_plain(leaves))
        for leaf in self._pick_others(leaves) if self._arrays else ():
            kept.append(in_place(to_numpy(leaf)))
            addresses.append(kept[-1].ctypes.data)
        found = self._table.read(addresses, statistics)
        del kept
        return found if self._ordered else found.at(self._places)

    def _tensor_addresses(self, tensors: Sequence[Any]) -> tuple[list[Any], list[int]]:
        """Return what was copied, and where the elements of all lie."""
        contiguous, address, negated, conjugated = self._methods
        kept: list[Any] = []
        lazy = any(map(negated, self._pick_single(tensors))) or any(map(conjugated, self._pick_complex(tensors)))
        if lazy or not all(map(contiguous, tensors)):
            kept = tensors = [tensor.detach().resolve_conj().resolve_neg().contiguous() for tensor in tensors]
        addresses = list(map(address, tensors))
        if 0 in addresses and any(not at and size for at, size in zip(addresses, self._sizes, strict=True)):
            raise BadInputError("a tensor has no memory: its storage was freed; record where it is there")
        return kept, addresses


def say_if_slow(writer: Any) -> None:
    """Say in a run's trace that its checksums on the host take long, where they do."""
    reason = shortfall()
    if reason is not None:
        writer.event("slow-checksums", f"what lies in the host's memory is read by numpy, a tenth as fast: {reason}")


def picker(indices: Sequence[int]) -> Picker:
    """Return what picks the elements at these indices out of a sequence, without a loop of Python's."""
    if len(indices) > 1:
        return operator.itemgetter(*indices)
    return (lambda values: (values[indices[0]],)) if indices else (lambda values: ())


def _is_plain(leaf: Any) -> bool:
    """Say whether a leaf is a tensor whose memory is where it says; a class of somebody's own may mean something else by it."""
    torch = sys.modules.get("torch")
    if torch is None or type(leaf) not in (torch.Tensor, torch.nn.Parameter):
        return False
    if leaf.layout != torch.strided:
        raise BadInputError(f"a {leaf.layout} tensor of dtype {leaf.dtype} has no checksum: make it dense first")
    return leaf.device.type == "cpu"


def _methods() -> tuple[Any, ...]:
    import torch

    tensor = torch.Tensor
    return tensor.is_contiguous, tensor.data_ptr, tensor.is_neg, tensor.is_conj
