"""Put records together from checksums that were taken part by part, and hand them to the trace's writer."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reprotui.checksum import LeafSpec
from reprotui.checksum.host_form import Table
from reprotui.record.host import say_if_slow
from reprotui.record.lanes import Lanes, Plan, spec_of, take
from reprotui.record.values import STATISTICS_EVERY, readable
from reprotui.trace import LeafTable, Record, TraceWriter
from reprotui.trace.phases import PHASE_INDEX, PHASES

Entry = tuple[str, LeafSpec, int]
"""A leaf of a record: its phase, what it is, and its place in the lanes that hold its checksum."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Leaves of one `Lanes` as a record has them. Equal ones are the same object, so a record's layout is found at once."""

    entries: tuple[Entry, ...]


Part = tuple[Lanes, Selection]


class Assembly:
    """Records of one run. A scalar `loss` is kept as a number too, `metrics/…` likewise.

    Args:
        writer: the trace's writer.
        recording: `leaves_every` and `statistics_every`, as a manifest has them.
    """

    def __init__(self, writer: TraceWriter, recording: Mapping[str, Any]) -> None:
        say_if_slow(writer)
        self._writer = writer
        self._leaves_every = recording.get("leaves_every", 1)
        self._statistics_every = recording.get("statistics_every", STATISTICS_EVERY)
        self._selections: dict[tuple[Entry, ...], Selection] = {}
        self._named: dict[Any, tuple[Plan, Selection]] = {}
        self._layouts: dict[tuple[Selection, ...], _Layout] = {}
        self._records = 0
        self.open = False
        """Whether a record is not complete yet: what is taken now is part of it, or of the next one."""

    def take(self, leaves: Sequence[Any], plan: Plan | None = None) -> Lanes:
        """Take the checksums of leaves now; `plan` as in `record.lanes.take`."""
        return take(leaves, self._with_statistics(0) or (self.open and self._with_statistics(1)), plan)

    def select(self, entries: Sequence[Entry]) -> Selection:
        """Return the selection of these entries."""
        key = tuple(entries)
        if key not in self._selections:
            self._selections[key] = Selection(key)
        return self._selections[key]

    def part(self, names: tuple[tuple[str, str], ...], leaves: Sequence[Any]) -> Part:
        """Take the checksums of leaves that have these (phase, path)."""
        known = self._named.get(names)
        if known is None or not known[0].fits(leaves):
            shown = [index for index, (_, path) in enumerate(names) if _is_readable(path)]
            found = zip(names, leaves, strict=True)
            entries = [(phase, spec_of(path, leaf), index) for index, ((phase, path), leaf) in enumerate(found)]
            known = self._named[names] = Plan(leaves, shown), self.select(entries)
        return self.take(leaves, known[0]), known[1]

    def put(self, step: int, parts: Sequence[Part], calls: str | None = None) -> None:
        """Queue the record of a step; phases are put into causal order, leaves of a phase keep theirs.

        `calls` as in `Record`.
        """
        parts = [part for part in parts if part[1].entries]
        key = tuple(selection for _, selection in parts)
        if key not in self._layouts:
            self._layouts[key] = _Layout(key)
        layout, lanes, now = self._layouts[key], [taken for taken, _ in parts], time.time_ns()
        with_leaves, with_statistics = self._records % self._leaves_every == 0, self._with_statistics(0)
        self._records += 1
        self._writer.put(lambda: replace(layout.record(step, now, lanes, with_leaves, with_statistics), calls=calls))

    def _with_statistics(self, later: int) -> bool:
        return (self._records + later) % self._statistics_every == 0


class _Layout:
    """Where the checksums of a record's parts go; worked out once for all records that are put together alike."""

    def __init__(self, selections: tuple[Selection, ...]) -> None:
        entries = [(entry, number) for number, selection in enumerate(selections) for entry in selection.entries]
        leaves = sorted(entries, key=lambda found: PHASE_INDEX[found[0][0]])
        paths = distinct([spec.path for (_, spec, _), _ in leaves])
        specs = tuple(spec._replace(path=path) for ((_, spec, _), _), path in zip(leaves, paths, strict=True))
        self.table = LeafTable(tuple(phase for (phase, _, _), _ in leaves), specs)
        # Where the leaves of each part stand in the record, and in their lanes.
        self._places = [
            tuple(np.array([(at, entry[2]) for at, (entry, of) in enumerate(leaves) if of == number], np.intp).reshape(-1, 2).T)
            for number in range(len(selections))
        ]
        # A root is the checksum of its phase's checksums, read where the record puts them together.
        self._roots = Table(
            [np.dtype("<u4")] * len(self.table.slices), [2 * (end - start) for _, start, end in self.table.slices]
        )
        self._starts = [8 * start for _, start, _ in self.table.slices]
        self._phases = [PHASE_INDEX[phase] for phase, _, _ in self.table.slices]
        self._readable = [(spec.path, number, index) for (_, spec, index), number in leaves if _is_readable(spec.path)]

    def record(self, step: int, now: int, lanes: Sequence[Lanes], with_leaves: bool, with_statistics: bool) -> Record:
        """Wait for the checksums and return the record."""
        results = {id(taken): taken.result() for taken in {id(taken): taken for taken in lanes}.values()}
        found = [results[id(taken)] for taken in lanes]
        # [lane0, lane1] as little-endian uint32 is the little-endian uint64 of the checksum.
        rows = np.empty((len(self.table.specs), 2), "<u4")
        for part, (here, there) in zip(found, self._places, strict=True):
            rows[here] = part[0][there]
        checksums = rows.view("<u8").reshape(-1)
        roots = np.zeros(len(PHASES), "<u8")
        first = rows.ctypes.data
        roots[self._phases] = self._roots.lanes([first + start for start in self._starts]).view("<u8").reshape(-1)
        loss, metrics = None, {}
        for path, number, index in self._readable:
            value = found[number][1].get(index)
            if value is None or value.dtype.kind == "c":
                continue
            if path == "loss":
                loss = value
            else:
                metrics[path.removeprefix("metrics/")] = readable(value)
        statistics = None
        norms = [part[2] for part in found if part[2] is not None]
        if with_statistics and found and len(norms) == len(found):
            values = np.empty((len(self.table.specs), 2), "<f4")
            for taken, (here, there) in zip(norms, self._places, strict=True):
                values[here] = taken[there]
            statistics = values.tobytes()
        return Record(
            step=step, time_ns=now, table=self.table, roots=roots.tobytes(),
            loss=None if loss is None else float(loss),
            loss_bits=None if loss is None else int.from_bytes(np.asarray(loss).tobytes(), "little"),
            metrics=json.dumps(metrics, allow_nan=False) if metrics else None,
            leaf_checksums=checksums.tobytes() if with_leaves else None, leaf_stats=statistics,
        )  # fmt: skip


def _is_readable(path: str) -> bool:
    """Say whether a leaf is kept as a number too, where it is one."""
    return path == "loss" or path.startswith("metrics/")


def distinct(paths: Sequence[str]) -> list[str]:
    """Tell equal paths apart by `#2`: one array may be handed over twice."""
    seen: dict[str, int] = {}
    result = []
    for path in paths:
        seen[path] = seen.get(path, 0) + 1
        result.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return result
