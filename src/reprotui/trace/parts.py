"""Put the records of runs that went on from one another together, by step, as one trace."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from reprotui.event_kinds import TORN
from reprotui.trace.reader import Trace
from reprotui.trace.records import Record
from reprotui.trace.rows import StepRow
from reprotui.trace.writer import TraceWriter

RECORDS = 1024
"""Records that are read at once."""


class Joined:
    """A trace that begins with the records of one run and goes on with those of others, as they come.

    Args:
        path: the new trace.
        first: the trace that it begins with.
        through: the last step that is taken of it.

    Raises:
        CannotTellError: a record of the first trace was edited or lost, or cannot be read.
        WorkerFailedError: the new one cannot be written.
    """

    def __init__(self, path: Path, first: Path, through: int) -> None:
        self._writer = TraceWriter(path, history=(first, through))
        self._source, self._offset, self._after = first, 0, through

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._writer.close()

    def go_on(self, source: Path, offset: int, after: int) -> None:
        """Go on with another run.

        Args:
            source: its trace, which may be growing.
            offset: what is added to its numbers of steps.
            after: the step, in its own numbers, behind which its records are taken.
        """
        self._source, self._offset, self._after = source, offset, after
        self._writer.event("resumed", f"after step {after + offset}, by {source.parent.name}")

    def advance(self, through: int | None = None) -> None:
        """Take what the run has recorded by now, up to a step in its own numbers; None for all.

        Raises:
            CannotTellError: its trace is damaged.
        """
        with Trace(self._source) as trace:
            while True:
                limit = RECORDS if through is None else min(RECORDS, max(0, through - self._after))
                rows = [row for row in trace.rows(self._after, limit) if through is None or row.step <= through]
                if not rows:
                    break
                for record in _records(trace, rows, self._offset):
                    self._writer.put(lambda record=record: record)
                self._after = rows[-1].step
        self._writer.flush()

    def end(self, kind: str, text: str, torn: tuple[str, ...] = ()) -> dict[str, object]:
        """Write how the last run ended and return the seal, as `TraceWriter.seal`."""
        for said in torn:
            self._writer.event(TORN, said)
        self._writer.event(kind, text)
        return self._writer.seal()


def _records(trace: Trace, rows: list[StepRow], offset: int) -> Iterator[Record]:
    spoilt = trace.not_finite() or []
    for row in rows:
        found = next((item for item in reversed(spoilt) if item.step <= row.step), None)
        sums, stats, calls = trace.leaf_checksums(row.step), trace.leaf_stats(row.step), trace.calls(row.step)
        yield Record(
            row.step + offset, row.time_ns, trace.table(row.version), row.roots, row.loss, row.loss_bits, row.metrics,
            None if sums is None else sums.tobytes(), None if stats is None else stats.tobytes(),
            b"" if found is None else np.array(found.leaves, "<u4").tobytes(), json.dumps(calls) if calls else None,
        )  # fmt: skip
