"""`rfp1-64` in PyTorch: for tensors on the CPU or a CUDA device. Needs the extra `torch`."""

import contextlib
import functools
import sys
from collections.abc import Callable

import torch

from reprotui.checksum.definition import INDEX_START, INDEX_STEP, MASK, MIX_1, MIX_2, MIX_3, lanes_to_checksum
from reprotui.checksum.finite import finite_test
from reprotui.checksum.torch_words import tests_of, to_device, words_of

CHUNK_WORDS = 1 << 22
"""Words mixed at a time: bounds the temporaries at 64 MB beside the tensor."""

_OF_TORCH = (torch.Tensor, torch.nn.Parameter)


def lanes(tensor: torch.Tensor, base: int = 0) -> tuple[int, int]:
    """Return both lanes of a tensor.

    Args:
        tensor: any shape, strides and device; bool, integer, float and complex types, 8-bit floats included.
        base: index of its first word within the whole, where the tensor is a part of a larger leaf.

    Raises:
        BadInputError: for quantized and sparse tensors, whose bits are not those of their elements.
    """
    word = words_of(tensor.detach())
    lane0 = lane1 = 0
    for start in range(0, word.numel(), CHUNK_WORDS):
        # int32 arithmetic wraps modulo 2**32 in two's complement, the same bits as unsigned arithmetic.
        w = word[start : start + CHUNK_WORDS].to(torch.int32)
        if word.dtype == torch.int16:
            w = w & 0xFFFF
        index = torch.arange(w.numel(), dtype=torch.int32, device=w.device)
        t = index * _signed(INDEX_STEP) + _signed((base + start) * INDEX_STEP + INDEX_START)
        x, y = _mixed(w, t)
        lane0 += int(x.sum(dtype=torch.int64))
        lane1 += int(y.sum(dtype=torch.int64))
    return lane0 & MASK, lane1 & MASK


def sums_of_many(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return the sums of many tensors of one device as int64[tensors, 3] on that device, without waiting for it: both lanes, and
    in how many words a number is not finite.

    On a GPU one Triton kernel reads all of them, where there is Triton and it can compile. Elsewhere one chain of PyTorch's
    operations takes up to `CHUNK_WORDS` words: a model of many small leaves costs what one large leaf does.
    """
    device = tensors[0].device
    with torch.no_grad(), torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        # A tensor of another class may have no memory where it says so.
        plain = device.type == "cuda" and all(type(tensor) in _OF_TORCH for tensor in tensors)
        compiled = _compiled() if plain else None
        found = _sums_in_groups(tensors) if compiled is None else compiled(tensors)
        found[:, :2] &= MASK
        return found


@functools.cache
def _compiled() -> Callable[[list[torch.Tensor]], torch.Tensor] | None:
    """Return the form of the GPU; None, and a line on standard error that says why, where it does not work here."""
    try:
        from reprotui.checksum.triton_form import sums_of_tensors

        probe = torch.tensor([1.5, -2.0, float("inf"), 0.0, float("nan")], device="cuda")
        found, expected = sums_of_tensors([probe]) & MASK, _sums_in_groups([probe]) & MASK
    except Exception as error:  # Triton missing, no C compiler, a cache that cannot be written: each raises its own
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    else:
        if torch.equal(found, expected):
            return sums_of_tensors
        reason = "its result is not that of PyTorch's operations"
    print(f"reprotui: Triton's checksum is not used, PyTorch's operations are, which take longer: {reason}", file=sys.stderr)
    return None


def _sums_in_groups(tensors: list[torch.Tensor]) -> torch.Tensor:
    device = tensors[0].device
    tests = tests_of([finite_test(tensor.dtype) for tensor in tensors], device)
    totals = torch.zeros((len(tensors), 3), dtype=torch.int64, device=device)
    group: list[tuple[int, int, torch.Tensor]] = []
    size = 0
    for position, tensor in enumerate(tensors):
        word = words_of(tensor.detach())
        for start in range(0, word.numel(), CHUNK_WORDS):
            part = word[start : start + CHUNK_WORDS]
            if size + part.numel() > CHUNK_WORDS and group:
                _add_group(totals, group, tests)
                group, size = [], 0
            group.append((position, start, part))
            size += part.numel()
    if group:
        _add_group(totals, group, tests)
    return totals


def _add_group(totals: torch.Tensor, group: list[tuple[int, int, torch.Tensor]], tests: torch.Tensor) -> None:
    """Add the sums of consecutive parts, (leaf, index of the first word, words), to the totals of their leaves."""
    device = totals.device
    w = torch.cat([part.to(torch.int32) & 0xFFFF if part.dtype == torch.int16 else part.to(torch.int32) for *_, part in group])
    sizes = to_device([part.numel() for *_, part in group], device)
    ends = torch.cumsum(sizes, 0)
    bases = to_device([base for _, base, _ in group], device) - (ends - sizes)
    index = (torch.arange(w.numel(), device=device) + torch.repeat_interleave(bases, sizes, output_size=w.numel())).to(
        torch.int32
    )
    x, y = _mixed(w, index * _signed(INDEX_STEP) + _signed(INDEX_START))
    leaves = to_device([position for position, *_ in group], device)
    flip, mask, limit, last = torch.repeat_interleave(tests[leaves], sizes, dim=0, output_size=w.numel()).unbind(1)
    not_finite = (((w ^ flip) & mask) >= limit) & ((index & last) == last)
    for lane, mixed in enumerate((x, y, not_finite)):
        # A sum of one part is the difference of running sums: no atomics, and no kernel for each leaf.
        running = torch.cumsum(mixed, 0, dtype=torch.int64)[ends - 1]
        sums = running - torch.cat([running.new_zeros(1), running[:-1]])
        totals[:, lane].index_add_(0, leaves, sums)


def _mixed(w: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = w ^ t
    x = x ^ _shift(x, 16)
    x = x * _signed(MIX_1)
    x = x ^ _shift(x, 15)
    x = x * _signed(MIX_2)
    x = x ^ _shift(x, 16)
    y = (x + t) * _signed(MIX_3)
    return x, y ^ _shift(y, 15)


def checksum(tensor: torch.Tensor) -> int:
    """Return the 64-bit checksum of a tensor's bits; 0 for an empty one. Shape and dtype are not part of it."""
    return lanes_to_checksum(*lanes(tensor))


def _signed(value: int) -> int:
    value &= MASK
    return value - (1 << 32) if value >> 31 else value


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    return (x >> bits) & ((1 << (32 - bits)) - 1)
