"""Put records together from checksums that were taken part by part, and hand them to the trace's writer."""

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprotui.checksum import LeafSpec, numpy_form
from reprotui.checksum.leaves import spec_of
from reprotui.checksum.shards import first_element
from reprotui.record.host import say_if_slow
from reprotui.record.lanes import Lanes, Plan, Taken, take
from reprotui.record.values import readable
from reprotui.schedule import Recording, Replicas
from reprotui.trace import LeafTable, Record, TraceWriter
from reprotui.trace.not_finite import packed
from reprotui.trace.phases import PHASE_INDEX, PHASES
from reprotui.trace.records import LOSSES

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
        recording: how often leaf rows and statistics are kept; which steps are recorded is the caller's.
        records: how many the trace holds already.
    """

    def __init__(self, writer: TraceWriter, recording: Recording, records: int = 0) -> None:
        self._writer = writer
        self._recording = recording
        self._selections: dict[tuple[Entry, ...], Selection] = {}
        self._named: dict[Any, tuple[Plan, Selection]] = {}
        self._layouts: dict[tuple[Selection, ...], _Layout] = {}
        self._records = records
        self._may_be_slow = True
        self.told: Callable[[Sequence[tuple[str, str]], Sequence[Any]], None] | None = None  # called with all that is taken
        self.open = False
        """Whether a record is not complete yet: what is taken now is part of it, or of the next one."""

    def take(self, leaves: Sequence[Any], plan: Plan | None = None) -> Lanes:
        """Take the checksums of leaves now; `plan` as in `record.lanes.take`."""
        statistics = self._with_statistics(0) or (self.open and self._with_statistics(1))
        taken = take(leaves, statistics, plan, self._recording.replicas is Replicas.ALL)
        if self._may_be_slow and taken.of_host:
            self._may_be_slow = False
            say_if_slow(self._writer)
        return taken

    def select(self, entries: Sequence[Entry]) -> Selection:
        """Return the selection of these entries."""
        key = tuple(entries)
        if key not in self._selections:
            self._selections[key] = Selection(key)
        return self._selections[key]

    def part(self, names: tuple[tuple[str, str], ...], leaves: Sequence[Any]) -> Part:
        """Take the checksums of leaves that have these (phase, path)."""
        if self.told is not None:
            self.told(names, leaves)
        known = self._named.get(names)
        if known is None or not known[0].fits(leaves):
            shown = [index for index, (_, path) in enumerate(names) if _is_readable(path)]
            found = zip(names, leaves, strict=True)
            entries = [(phase, spec_of(path, leaf), index) for index, ((phase, path), leaf) in enumerate(found)]
            runs = tuple(len(list(of_phase)) for _, of_phase in itertools.groupby(phase for phase, _ in names))
            firsts = [first_element(spec.path, spec.shape) for _, spec, _ in entries]
            known = self._named[names] = Plan(leaves, shown, runs, firsts), self.select(entries)
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
        with_leaves, with_statistics = self._records % self._recording.leaves_every == 0, self._with_statistics(0)
        self._records += 1
        self._writer.put(lambda: layout.record(step, now, lanes, with_leaves, with_statistics, calls))

    def _with_statistics(self, later: int) -> bool:
        return (self._records + later) % self._recording.statistics_every == 0


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
        self._in_place = len(selections) == 1 and [index for (_, _, index), _ in leaves] == list(range(len(leaves)))
        # A root is the checksum of its phase's checksums, and of each there are two words.
        self._sizes = tuple(2 * (end - start) for _, start, end in self.table.slices)
        self._phases = np.array([PHASE_INDEX[phase] for phase, _, _ in self.table.slices], np.intp)
        self._readable = [(spec.path, number, index) for (_, spec, index), number in leaves if _is_readable(spec.path)]
        self._shared: dict[tuple[tuple[int, ...], ...], frozenset[str]] = {}
        self._paths = {(number, entry[2]): path for (entry, number), path in zip(leaves, paths, strict=True)}

    def record(
        self, step: int, now: int, lanes: Sequence[Lanes], with_leaves: bool, with_statistics: bool, calls: str | None
    ) -> Record:
        """Wait for the checksums and return the record."""
        results = {id(taken): taken.result() for taken in {id(taken): taken for taken in lanes}.values()}
        found = [results[id(taken)] for taken in lanes]
        # [lane0, lane1] as little-endian uint32 is the little-endian uint64 of the checksum.
        rows = self._joined([part.lanes for part in found], "<u4")
        spoilt = any(part.not_finite.any() for part in found)
        root_rows = found[0].roots if self._in_place else None
        roots = np.zeros((len(PHASES), 2), "<u4")
        roots[self._phases] = numpy_form.lanes_of_runs(rows.reshape(-1), self._sizes) if root_rows is None else root_rows
        loss, metrics = None, {}
        for path, number, index in self._readable:
            value = found[number].numbers.get(index)
            each = lanes[number].whole(index) if value is None else None
            if each is not None and each.size:
                value = each[-1]
                metrics[LOSSES if path == "loss" else path.removeprefix("metrics/")] = [readable(one) for one in each]
            if value is None or value.dtype.kind == "c":
                continue
            if path == "loss":
                loss = value
            elif each is None:
                metrics[path.removeprefix("metrics/")] = readable(value)
        norms = [part.norms for part in found if part.norms is not None]
        statistics = self._joined(norms, "<f4").tobytes() if with_statistics and found and len(norms) == len(found) else None
        return Record(
            step=step, time_ns=now, table=self.table, roots=roots.tobytes(),
            loss=None if loss is None else float(loss),
            loss_bits=None if loss is None else int.from_bytes(np.asarray(loss).tobytes(), "little"),
            metrics=json.dumps(metrics, allow_nan=False) if metrics else None,
            leaf_checksums=rows.tobytes() if with_leaves else None, leaf_stats=statistics, calls=calls,
            not_finite=packed(self._joined([part.not_finite for part in found], "?")) if spoilt else b"",
            torn=self._torn(step, found) if any(part.torn for part in found) else (),
            copies=self._copies(tuple(part.shared for part in found)) if any(part.shared for part in found) else frozenset(),
        )  # fmt: skip

    def _torn(self, step: int, found: Sequence[Taken]) -> tuple[tuple[str, str], ...]:
        """Return the leaves of the record whose copies are not equal, each with what is to be said of it."""
        torn = [(self._paths.get((number, item.leaf)), item) for number, part in enumerate(found) for item in part.torn]
        return tuple((path, item.text(step, path)) for path, item in torn if path is not None)

    def _copies(self, shared: tuple[tuple[int, ...], ...]) -> frozenset[str]:
        """Return the paths of the leaves that span processes; those of one layout are always the same."""
        if shared not in self._shared:
            found = ((number, leaf) for number, part in enumerate(shared) for leaf in part)
            self._shared[shared] = frozenset(self._paths[place] for place in found if place in self._paths)
        return self._shared[shared]

    def _joined(self, parts: Sequence[np.ndarray], dtype: str) -> np.ndarray:
        """Return a row for each leaf of the record, from those of its parts."""
        if self._in_place:
            return parts[0][: len(self.table.specs)].astype(dtype, copy=False)
        rows = np.empty((len(self.table.specs), *(parts[0].shape[1:] if parts else (2,))), dtype)
        for part, (here, there) in zip(parts, self._places, strict=True):
            rows[here] = part[there]
        return rows


def _is_readable(path: str) -> bool:
    """Say whether a leaf is kept as a number too, where it is one."""
    return path.split("/")[0] in ("loss", "metrics")


def distinct(paths: Sequence[str]) -> list[str]:
    """Tell equal paths apart by `#2`: one array may be handed over twice."""
    seen: dict[str, int] = {}
    result = []
    for path in paths:
        seen[path] = seen.get(path, 0) + 1
        result.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return result
