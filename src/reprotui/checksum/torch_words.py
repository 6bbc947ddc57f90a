"""The words of a tensor, and integers on its device: what both of torch's forms are made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from reprotui.checksum.finite import FiniteTest
from reprotui.errors import BadInputError

_VIEWS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int32}


def words_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return a detached tensor's words, one-dimensional and contiguous: uint8, int16 or int32.

    Raises:
        BadInputError: for quantized and sparse tensors.
    """
    if tensor.is_quantized or tensor.layout != torch.strided:
        raise BadInputError(f"a {tensor.layout} tensor of dtype {tensor.dtype} has no checksum: make it dense first")
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    flat = tensor.contiguous().reshape(-1)
    if flat.dtype == torch.bool:
        return flat.to(torch.uint8)
    if flat.dtype.is_complex:
        flat = torch.view_as_real(flat).reshape(-1)
    return flat.view(_VIEWS[flat.element_size()])


def tests_of(tests: Sequence[FiniteTest | None], device: torch.device) -> torch.Tensor:
    """Return int32[tests, 4] on a device: flip, mask and limit of each, and which bit of a word's index says that it tells."""
    rows = [(0, 0, 1, 0) if test is None else (test.flip, test.mask, test.limit, test.words - 1) for test in tests]
    return to_device(rows, device).to(torch.int32)


def to_device(values: Any, device: torch.device) -> torch.Tensor:
    """Copy a few integers to a device as int64; from pinned memory, or the host would wait for all that the device has to do."""
    tensor = torch.from_numpy(np.asarray(values, np.int64))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
