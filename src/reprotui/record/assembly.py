"""Put records together from checksums that were taken piece by piece, and hand them to the trace's writer."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reprotui.checksum import LeafSpec, numpy_form
from reprotui.record.engine import STATISTICS_EVERY, readable
from reprotui.record.lanes import Lanes, spec_of, take
from reprotui.trace import LeafTable, Record, TraceWriter
from reprotui.trace.phases import PHASE_INDEX, ROOT_BYTES, ROOTS_BYTES


class Piece(NamedTuple):
    """One leaf of a record: where it belongs, what it is, and where its checksum will be."""

    phase: str
    spec: LeafSpec
    lanes: Lanes
    index: int


class Assembly:
    """Records of one run. A scalar `loss` of the phase `forward` is kept as a number too, `metrics/…` likewise.

    Args:
        writer: the trace's writer.
        recording: `leaves_every` and `statistics_every`, as a manifest has them.
    """

    def __init__(self, writer: TraceWriter, recording: Mapping[str, Any]) -> None:
        self._writer = writer
        self._leaves_every = recording.get("leaves_every", 1)
        self._statistics_every = recording.get("statistics_every", STATISTICS_EVERY)
        self._tables: dict[Any, LeafTable] = {}
        self._records = 0

    @property
    def with_statistics(self) -> bool:
        """Say whether the next record carries norms and maxima."""
        return self._records % self._statistics_every == 0

    def pieces(self, named: Sequence[tuple[str, str, Any]]) -> list[Piece]:
        """Take the checksums of leaves now: (phase, path, leaf)."""
        taken = take([leaf for *_, leaf in named], self.with_statistics)
        return [Piece(phase, spec_of(path, leaf), taken, index) for index, (phase, path, leaf) in enumerate(named)]

    def put(self, step: int, pieces: Sequence[Piece]) -> None:
        """Queue the record of a step; phases are put into causal order, leaves of a phase keep theirs."""
        ordered = sorted(pieces, key=lambda piece: PHASE_INDEX[piece.phase])
        key = tuple((piece.phase, piece.spec) for piece in ordered)
        if key not in self._tables:
            self._tables[key] = LeafTable(tuple(phase for phase, _ in key), tuple(_distinct([spec for _, spec in key])))
        table, now = self._tables[key], time.time_ns()
        with_leaves = self._records % self._leaves_every == 0
        self._records += 1
        self._writer.put(lambda: _to_record(step, now, table, ordered, with_leaves))


def _distinct(specs: list[LeafSpec]) -> list[LeafSpec]:
    """Tell leaves with one path apart by `#2`."""
    seen: dict[str, int] = {}
    result = []
    for spec in specs:
        number = seen[spec.path] = seen.get(spec.path, 0) + 1
        result.append(spec if number == 1 else LeafSpec(f"{spec.path}#{number}", spec.dtype, spec.shape))
    return result


def _to_record(step: int, now: int, table: LeafTable, pieces: list[Piece], with_leaves: bool) -> Record:
    results = {id(piece.lanes): piece.lanes.result() for piece in {id(piece.lanes): piece for piece in pieces}.values()}
    lanes = np.array([results[id(piece.lanes)][0][piece.index] for piece in pieces], np.uint32).reshape(-1, 2)
    # [lane0, lane1] as little-endian uint32 is the little-endian uint64 of the checksum.
    checksums = np.ascontiguousarray(lanes.astype("<u4")).view("<u8").reshape(-1)
    roots = bytearray(ROOTS_BYTES)
    for phase, start, end in table.slices:
        at = PHASE_INDEX[phase] * ROOT_BYTES
        roots[at : at + ROOT_BYTES] = numpy_form.root(checksums[start:end]).to_bytes(ROOT_BYTES, "little")
    loss, metrics = None, {}
    for piece in pieces:
        value = results[id(piece.lanes)][1].get(piece.index) if piece.phase == "forward" else None
        if value is None or value.dtype.kind == "c":
            continue
        if piece.spec.path == "loss":
            loss = value
        elif piece.spec.path.startswith("metrics/"):
            metrics[piece.spec.path.removeprefix("metrics/")] = readable(value)
    rows = [(results[id(piece.lanes)][2], piece.index) for piece in pieces]
    statistics = None
    if rows and all(values is not None for values, _ in rows):
        statistics = np.array([values[index] for values, index in rows if values is not None], "<f4").tobytes()
    return Record(
        step=step, time_ns=now, table=table, roots=bytes(roots),
        loss=None if loss is None else float(loss),
        loss_bits=None if loss is None else int.from_bytes(np.asarray(loss).tobytes(), "little"),
        metrics=json.dumps(metrics, allow_nan=False) if metrics else None,
        leaf_checksums=checksums.tobytes() if with_leaves else None, leaf_stats=statistics,
    )  # fmt: skip
