"""`rfp1-64` for many tensors of one accelerator as one Triton kernel for each width of word: each is read once.

Triton comes with PyTorch's builds for CUDA and ROCm. PyTorch's own operations need a dozen passes over memory for the same.
"""

import functools
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from reprotui.checksum.definition import INDEX_START, INDEX_STEP, MIX_1, MIX_2, MIX_3
from reprotui.checksum.finite import FiniteTest, finite_test
from reprotui.checksum.torch_words import tests_of, to_device, words_of

BLOCK_WORDS = 4096
"""Words that one program of the kernel adds up."""
WARPS = 8
"""With these blocks the fastest of nine choices measured on an H200: 2.0 TB/s of float32."""

_PLAIN = {
    **dict.fromkeys((torch.float32, torch.int32), (torch.int32, 1)),
    **dict.fromkeys((torch.float16, torch.bfloat16, torch.int16), (torch.int16, 1)),
    **dict.fromkeys((torch.int8, torch.uint8), (torch.uint8, 1)),
    **dict.fromkeys((torch.float64, torch.int64), (torch.int32, 2)),
}
"""Of the common element types: the type of their words, and the words of an element."""
_UNSIGNED = {torch.uint8: tl.uint8, torch.int16: tl.uint16, torch.int32: tl.uint32}


@triton.jit
def _add_sums(
    totals, addresses, sizes, tests, leaves, starts, word_type: tl.constexpr, block_words: tl.constexpr, index_step: tl.constexpr,
    index_start: tl.constexpr, mix_1: tl.constexpr, mix_2: tl.constexpr, mix_3: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0)
    leaf = tl.load(leaves + place)
    index = tl.load(starts + place) + tl.arange(0, block_words)
    there = index < tl.load(sizes + leaf)
    words = tl.load(addresses + leaf).to(tl.pointer_type(word_type))  # ty: ignore[invalid-argument-type]
    w = tl.load(words + index, mask=there, other=0).to(tl.uint32)
    t = index.to(tl.uint32) * index_step + index_start
    x = w ^ t
    x = x ^ (x >> 16)
    x = x * mix_1
    x = x ^ (x >> 15)
    x = x * mix_2
    x = x ^ (x >> 16)
    y = (x + t) * mix_3
    y = y ^ (y >> 15)
    # Integers add up to the same in any order.
    tl.atomic_add(totals + 3 * leaf, tl.sum(tl.where(there, x, 0).to(tl.int64)))
    tl.atomic_add(totals + 3 * leaf + 1, tl.sum(tl.where(there, y, 0).to(tl.int64)))
    flip = tl.load(tests + 4 * leaf).to(tl.uint32)
    mask = tl.load(tests + 4 * leaf + 1).to(tl.uint32)
    limit = tl.load(tests + 4 * leaf + 2).to(tl.uint32)
    last = tl.load(tests + 4 * leaf + 3)
    not_finite = there & (((w ^ flip) & mask) >= limit) & ((index & last) == last)
    tl.atomic_add(totals + 3 * leaf + 2, tl.sum(not_finite.to(tl.int64)))


def sums_of_tensors(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return the sums of leaves as int64[leaves, 3], in the order of the device's work, without waiting for it: both lanes, which
    wrap, and in how many words a number is not finite.

    Args:
        tensors: with memory of their own, all on the current device.

    Raises:
        BadInputError: for quantized and sparse tensors.
        Exception: whatever Triton raises where it cannot compile, such as where there is no C compiler.
    """
    device = tensors[0].device
    words: list[tuple[torch.dtype, int, FiniteTest | None]] = []
    addresses, kept = [], []
    for tensor in tensors:
        # Most leaves are read where they lie: a view of each as words would take longer than all else here.
        plain = _PLAIN.get(tensor.dtype)
        if plain is None or tensor.layout != torch.strided or tensor.is_neg() or not tensor.is_contiguous():
            kept.append(words_of(tensor))
            words.append((kept[-1].dtype, kept[-1].numel(), finite_test(tensor.dtype)))
            addresses.append(kept[-1].data_ptr())
        else:
            words.append((plain[0], tensor.numel() * plain[1], finite_test(tensor.dtype)))
            addresses.append(tensor.data_ptr())
    totals = torch.zeros((len(tensors), 3), dtype=torch.int64, device=device)
    addresses = to_device(addresses, device)
    kernel: Any = _add_sums  # called with values for the constants that it declares
    for word_type, (leaves, starts, sizes, tests) in _plan(tuple(words), device).items():
        kernel[(len(leaves),)](
            totals, addresses, sizes, tests, leaves, starts, word_type=_UNSIGNED[word_type], block_words=BLOCK_WORDS,
            index_step=INDEX_STEP, index_start=INDEX_START, mix_1=MIX_1, mix_2=MIX_2, mix_3=MIX_3, num_warps=WARPS,
        )  # fmt: skip
    return totals


@functools.lru_cache(maxsize=64)
def _plan(
    words: tuple[tuple[torch.dtype, int, FiniteTest | None], ...], device: torch.device
) -> dict[torch.dtype, tuple[torch.Tensor, ...]]:
    """Return on the device, by type of word: for each block its leaf and its first word; sizes and tests of all leaves."""
    sizes, tests = to_device([size for _, size, _ in words], device), tests_of([test for *_, test in words], device)
    plan = {}
    for word_type in dict.fromkeys(word_type for word_type, size, _ in words if size):
        places = [(leaf, -(-size // BLOCK_WORDS)) for leaf, (kind, size, _) in enumerate(words) if kind == word_type]
        leaves = np.repeat([leaf for leaf, _ in places], [blocks for _, blocks in places])
        starts = np.concatenate([np.arange(blocks) * BLOCK_WORDS for _, blocks in places])
        plan[word_type] = to_device(leaves, device), to_device(starts, device), sizes, tests
    return plan
