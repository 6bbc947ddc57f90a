"""Checksums of torch tensors on accelerators: dispatched in the order of each device's work, awaited by whoever needs them."""

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np


class Part(NamedTuple):
    """What was dispatched to one device: the sums of leaves (`torch_form.sums_of_many`), and the elements of single numbers.

    All of it is on its way to the host's pinned memory; `event` is None where it is there.
    """

    positions: np.ndarray
    sums: Any
    numbers: list[tuple[list[int], Any]]
    event: Any

    def result(self) -> tuple[np.ndarray, np.ndarray, dict[int, Any]]:
        """Wait; return uint32[leaves, 2], which leaves hold what is not finite, and the numbers as tensors by position."""
        if self.event is not None:
            self.event.synchronize()
        numbers = (zip(positions, values, strict=True) for positions, values in self.numbers)
        sums = self.sums.numpy()
        return sums[:, :2].astype(np.uint32), sums[:, 2] != 0, dict(itertools.chain.from_iterable(numbers))


def dispatch(positions: np.ndarray, tensors: list[Any], numbers: Collection[int]) -> list[Part]:
    """Dispatch the checksums of tensors, which may lie on several devices.

    Args:
        positions: what each tensor is known by, in their order.
        tensors: of PyTorch.
        numbers: the positions of those whose element is wanted too.
    """
    devices = defaultdict(list)
    for position, tensor in zip(positions.tolist(), tensors, strict=True):
        devices[tensor.device].append((position, tensor))
    return [_dispatch(device, leaves, numbers) for device, leaves in devices.items()]


def _dispatch(device: Any, leaves: list[tuple[int, Any]], numbers: Collection[int]) -> Part:
    import torch

    from reprotui.checksum import torch_form

    single = defaultdict(list)
    for position, tensor in leaves:
        if position in numbers:
            single[tensor.dtype].append((position, tensor))
    with torch.no_grad(), torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        sums = _to_host(torch_form.sums_of_many([tensor for _, tensor in leaves]))
        stacked = [([at for at, _ in found], _to_host(torch.stack([value for _, value in found]))) for found in single.values()]
        event = torch.cuda.Event() if device.type == "cuda" else None
        if event is not None:
            event.record()
    return Part(np.array([position for position, _ in leaves], np.intp), sums, stacked, event)


def _to_host(tensor: Any) -> Any:
    """Copy a tensor to the host's memory; from a GPU without waiting for it."""
    import torch

    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
