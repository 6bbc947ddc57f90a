"""`rfp1-64` in PyTorch: for tensors on the CPU or a CUDA device. Needs the extra `torch`."""

import torch

from reprotui.checksum.definition import INDEX_START, INDEX_STEP, MASK, MIX_1, MIX_2, MIX_3, LeafSpec, lanes_to_checksum
from reprotui.errors import BadInputError

CHUNK_WORDS = 1 << 22
"""Words mixed at a time: bounds the temporaries at 64 MB beside the tensor."""

_VIEWS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int32}


def lanes(tensor: torch.Tensor, base: int = 0) -> tuple[int, int]:
    """Return both lanes of a tensor.

    Args:
        tensor: any shape, strides and device; bool, integer, float and complex types, 8-bit floats included.
        base: index of its first word within the whole, where the tensor is a part of a larger leaf.

    Raises:
        BadInputError: for quantized and sparse tensors, whose bits are not those of their elements.
    """
    word = _words(tensor.detach())
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


def lanes_of_many(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return the lanes of many tensors of one device as int64[tensors, 2] on that device, without waiting for it.

    One chain of kernels for up to `CHUNK_WORDS` words: a model of many small leaves costs what one large leaf does.
    """
    device = tensors[0].device
    totals = torch.zeros((len(tensors), 2), dtype=torch.int64, device=device)
    group: list[tuple[int, int, torch.Tensor]] = []
    size = 0
    for position, tensor in enumerate(tensors):
        for start, part in _parts(tensor):
            if size + part.numel() > CHUNK_WORDS and group:
                _add_group(totals, group)
                group, size = [], 0
            group.append((position, start, part))
            size += part.numel()
    if group:
        _add_group(totals, group)
    return totals & MASK


def _parts(tensor: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    word = _words(tensor.detach())
    return [(start, word[start : start + CHUNK_WORDS]) for start in range(0, word.numel(), CHUNK_WORDS)]


def _add_group(totals: torch.Tensor, group: list[tuple[int, int, torch.Tensor]]) -> None:
    """Add the lanes of consecutive parts, (leaf, index of the first word, words), to the totals of their leaves."""
    device = totals.device
    w = torch.cat([part.to(torch.int32) & 0xFFFF if part.dtype == torch.int16 else part.to(torch.int32) for *_, part in group])
    sizes = torch.tensor([part.numel() for *_, part in group], device=device)
    ends = torch.cumsum(sizes, 0)
    bases = torch.tensor([base for _, base, _ in group], device=device) - (ends - sizes)
    index = (torch.arange(w.numel(), device=device) + torch.repeat_interleave(bases, sizes, output_size=w.numel())).to(
        torch.int32
    )
    x, y = _mixed(w, index * _signed(INDEX_STEP) + _signed(INDEX_START))
    leaves = torch.tensor([position for position, *_ in group], device=device)
    for lane, mixed in enumerate((x, y)):
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


def leaf_spec(path: str, tensor: torch.Tensor) -> LeafSpec:
    """Describe a tensor as a leaf; dtype names are numpy's, so that a jax and a torch leaf can be compared."""
    return LeafSpec(path, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _words(tensor: torch.Tensor) -> torch.Tensor:
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


def _signed(value: int) -> int:
    value &= MASK
    return value - (1 << 32) if value >> 31 else value


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    return (x >> bits) & ((1 << (32 - bits)) - 1)
