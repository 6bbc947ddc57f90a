"""What a reader hands out: records, events, spans, and how raw bits of a loss become numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprotui.trace.phases import PHASES, ROOT_BYTES, ROOTS_BYTES

STEP_COLUMNS = "step, time_ns, loss, loss_bits, metrics, version, roots, chain"


@dataclass(frozen=True, slots=True)
class StepRow:
    """One recorded step; see `Record` for the fields. `loss_bits` is unsigned here; `loss` is None for NaN and no loss."""

    step: int
    time_ns: int
    loss: float | None
    loss_bits: int | None
    metrics: str | None
    version: int
    roots: bytes
    chain: bytes

    def root(self, phase: str) -> int:
        """Return the root of a phase, 0 where the phase is absent."""
        start = PHASES.index(phase) * ROOT_BYTES
        return int.from_bytes(self.roots[start : start + ROOT_BYTES], "little")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the run, in words."""

    id: int
    time_ns: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """Records in a row: their steps, and float32 losses for the eye (NaN where there is none; equality rests on bits)."""

    steps: range | NDArray[np.int64]
    losses: NDArray[np.float32]


DECODERS: dict[str, Callable[[NDArray[np.int64]], NDArray[np.float32]]] = {
    "float64": lambda bits: narrowed(bits.view(np.float64)),
    "float32": lambda bits: bits.astype(np.uint32).view(np.float32),
    "float16": lambda bits: bits.astype(np.uint16).view(np.float16).astype(np.float32),
    "bfloat16": lambda bits: (bits.astype(np.uint32) << 16).view(np.float32),
}
"""Losses as float32 from their raw bits, by the dtype of the loss."""


def narrowed(losses: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return float64 losses as float32; what that cannot hold is infinite on the chart."""
    with np.errstate(over="ignore"):
        return losses.astype(np.float32)


def step_row(row: tuple[Any, ...]) -> StepRow:
    """Return a row of `STEP_COLUMNS` as a record; raises ValueError for one that lost its form on a damaged page."""
    bits, roots = row[3], row[6]
    # SQLite checks the types of a STRICT table where it writes, not where it reads a damaged page.
    if not isinstance(bits, int | None) or not isinstance(roots, bytes) or len(roots) != ROOTS_BYTES:
        raise ValueError(f"the record of step {row[0]} lost its form")
    return StepRow(*row[:3], bits + (1 << 64) if bits is not None and bits < 0 else bits, *row[4:])
