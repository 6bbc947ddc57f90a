"""What a reader hands out: records, events, spans, and how raw bits of a loss become numbers."""

import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import LeafSpec
from reprotui.trace.phases import PHASES, ROOT_BYTES, ROOTS_BYTES
from reprotui.trace.records import CHAIN_BYTES, LOSSES, LeafTable

STEP_COLUMNS = "step, time_ns, loss, loss_bits, metrics, version, roots, chain"
COPIES = "copies"
"""Key under which a trace says which leaves every process of the training that has them holds alike."""
LAST_STEP = 1 << 53
"""No step is larger: what float64 and JSON hold exactly."""


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

    def numbers(self) -> tuple[tuple[str, float], ...]:
        """Return name and value of the metrics that are one number each, NaN and infinities too.

        Raises:
            ValueError: the metrics lost their form on a damaged page.
        """
        metrics = json.loads(self.metrics) if self.metrics else {}
        if not isinstance(metrics, dict):
            raise ValueError(f"the metrics of step {self.step} lost their form")
        return tuple((name, number) for name, value in metrics.items() if (number := _number(value)) is not None)

    def losses(self) -> list[float | str]:
        """Return the loss of each iteration where the record is a call with a loop inside; infinities and NaN as text.

        Raises:
            ValueError: the metrics lost their form on a damaged page.
        """
        metrics = json.loads(self.metrics) if self.metrics else {}
        found = metrics.get(LOSSES, []) if isinstance(metrics, dict) else None
        if not isinstance(found, list):
            raise ValueError(f"the metrics of step {self.step} lost their form")
        return found


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


SCALARS: dict[str, str] = {"float64": "<d", "float32": "<f", "float16": "<e", "bfloat16": "<f"}
"""How the bits of one loss are read, by its dtype; bfloat16 is the upper half of a float32."""


def loss_of_bits(bits: int, dtype: str) -> float | None:
    """Return a loss from its raw bits, None for NaN and for dtypes that are not read so."""
    form = SCALARS.get(dtype)
    if form is None:
        return None
    value = struct.unpack(form, (bits << 16 if dtype == "bfloat16" else bits).to_bytes(struct.calcsize(form), "little"))[0]
    return None if math.isnan(value) else value


def narrowed(losses: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return float64 losses as float32; what that cannot hold is infinite on the chart."""
    with np.errstate(over="ignore"):
        return losses.astype(np.float32)


def step_row(row: tuple[Any, ...], roots_bytes: int = ROOTS_BYTES) -> StepRow:
    """Return a row of `STEP_COLUMNS` as a record; raises ValueError for one that lost its form on a damaged page."""
    step, time_ns, loss, bits, metrics, version, roots, chain = row
    # SQLite checks the types of a STRICT table where it writes, not where it reads a damaged page.
    if not (
        type(step) is int and 0 <= step <= LAST_STEP and type(time_ns) is int and type(version) is int
        and (loss is None or type(loss) is float) and (bits is None or type(bits) is int)
        and (metrics is None or type(metrics) is str)
        and type(roots) is bytes and len(roots) == roots_bytes and type(chain) is bytes and len(chain) == CHAIN_BYTES
    ):  # fmt: skip
        raise ValueError(f"the record of step {step} lost its form")
    return StepRow(
        step, time_ns, loss, bits + (1 << 64) if bits is not None and bits < 0 else bits, metrics, version, roots, chain
    )


def _number(value: Any) -> float | None:
    """Return a metric as a number; what JSON has no number for stands there as text. None where it is no number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(value) if value in ("nan", "inf", "-inf") else None


def event_row(row: tuple[Any, ...]) -> Event:
    """Return a row of the events; raises ValueError for one that lost its form on a damaged page."""
    number, time_ns, kind, text = row
    if not (isinstance(number, int) and isinstance(time_ns, int) and isinstance(kind, str) and isinstance(text, str)):
        raise ValueError(f"event {number} lost its form")
    return Event(number, time_ns, kind, text)


@lru_cache(maxsize=8)  # hundreds of runs of one training are opened one after the other, and have the same
def leaf_table(version: int, rows: tuple[tuple[Any, ...], ...]) -> LeafTable:
    """Return rows of phase, path, dtype and shape as a leaf table; raises ValueError or KeyError where they are none."""
    if not all(isinstance(text, str) for row in rows for text in row):
        raise ValueError(f"leaf table {version} lost its form")
    shapes = [tuple(map(int, filter(None, shape.split(",")))) for *_, shape in rows]
    specs = tuple(LeafSpec(path, dtype, shape) for (_, path, dtype, _), shape in zip(rows, shapes, strict=True))
    return LeafTable(tuple(phase for phase, *_ in rows), specs)


def in_order(rows: Iterable[tuple[Any, ...]], after: int) -> Iterator[tuple[Any, ...]]:
    """Yield rows that begin with their number; raises ValueError where it does not grow, as on a page out of its place."""
    for row in rows:
        if not isinstance(row[0], int) or row[0] <= after:
            raise ValueError(f"row {row[0]} stands behind row {after}")
        after = row[0]
        yield row


def at_most(limit: int, step: int | None) -> int | None:
    """Return a step that was looked for up to a limit; raises ValueError where it is behind: a search would never end."""
    if step is not None and step > limit:
        raise ValueError(f"step {step} stands before step {limit + 1}")
    return step
