"""Read a trace: sealed or live, whole or row by row. Never writes."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprotui.asked import Asked, asked_row
from reprotui.chance import Chance, chance_row
from reprotui.event_kinds import WRONG
from reprotui.trace.not_finite import NotFiniteRow, unpacked
from reprotui.trace.phases import PHASES
from reprotui.trace.rows import (
    COPIES,
    DECODERS,
    LAST_STEP,
    Event,
    Span,
    StepRow,
    at_most,
    event_row,
    in_order,
    narrowed,
)
from reprotui.trace.versions import VersionedFile


class Trace(VersionedFile):
    """A trace opened for reading: all that it holds, whole or row by row; see `TraceFile` for how it is opened.

    Records have the roots and phases of today, whatever the version of the trace; `stored_rows` have those that are stored.
    """

    def last_step(self) -> int | None:
        """Return the newest committed step, None while there is none."""
        with self._damage():
            return self._scalar("SELECT max(step) FROM steps")

    def row(self, step: int) -> StepRow | None:
        """Return the record of a step, None where it was not recorded."""
        with self._damage():
            found = self._rows_between(step, step)
            return found[0] if found else None

    def recorded(self, step: int) -> StepRow:
        """Return the record of a step that was seen to be there."""
        row = self.row(step)
        with self._damage():
            if row is None:
                raise ValueError(f"the record of step {step} is not found where it must be")
            return row

    def rows(self, after: int = -1, limit: int = -1) -> Iterator[StepRow]:
        """Yield records with a step greater than `after`, in order, at most `limit` (-1: all)."""
        with self._damage():
            yield from self._rows(after, limit)

    def stored_rows(self) -> Iterator[StepRow]:
        """Yield all records with their roots as they are stored: those of version 1 where the trace is one."""
        with self._damage():
            yield from self._stored_rows()

    def stored_roots(self, step: int) -> bytes:
        """Return the roots of a step that was seen to be there, as they are stored."""
        with self._damage():
            return bytes(self._scalar("SELECT roots FROM steps WHERE step = ?", step))

    def previous_step(self, step: int) -> int | None:
        """Return the last recorded step before this one."""
        with self._damage():
            return at_most(step - 1, self._scalar("SELECT max(step) FROM steps WHERE step < ?", step))

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint64]]:
        """Return all steps, losses (NaN where there is none) and roots as uint64[steps, phases]."""
        with self._damage():
            found = self._connection.execute("SELECT step, loss, roots FROM steps ORDER BY step").fetchall()
            steps = np.array([row[0] for row in found], np.int64)
            losses = np.array([np.nan if row[1] is None else row[1] for row in found], np.float64)
            return steps, losses, self._roots_now(steps, b"".join(row[2] for row in found))

    def span(self, after: int, limit: int) -> Span | None:
        """Describe at most `limit` records behind step `after`, without a Python object a row; None where there is none.

        A million rows take a third of a second this way, and a second row by row.
        """
        query = (
            "SELECT min(step), max(step), count(*), group_concat(coalesce(loss_bits, 'x')), "
            "sum(typeof(loss_bits) = 'integer') FROM "
            "(SELECT step, loss_bits FROM steps WHERE step > ? ORDER BY step LIMIT ?)"
        )
        with self._damage():
            first, last, count, bits, with_loss = self._connection.execute(query, (after, limit)).fetchone()
            if not count:
                return None
            if first <= after:
                raise ValueError(f"step {first} stands behind step {after}")
            steps = self._steps_between(first, last, count)
            if with_loss == count and (decode := self._loss_decoder(last)):
                return Span(steps, decode(np.fromstring(bits, np.int64, sep=",")))
            found = self._connection.execute("SELECT loss FROM steps WHERE step BETWEEN ? AND ? ORDER BY step", (first, last))
            return Span(steps, narrowed(np.array([np.nan if loss is None else loss for (loss,) in found], np.float64)))

    def roots_between(self, first: int, last: int) -> tuple[range | NDArray[np.int64], NDArray[np.uint64]]:
        """Return the steps recorded from `first` to `last`, both included, and their roots as uint64[steps, phases]."""
        query = (
            "SELECT min(step), max(step), count(*), CAST(group_concat(roots, '') AS BLOB), "
            f"sum(typeof(roots) = 'blob' AND length(roots) = {self._roots_bytes}) FROM "
            "(SELECT step, roots FROM steps WHERE step BETWEEN ? AND ? ORDER BY step)"
        )
        with self._damage():
            low, high, count, roots, whole = self._connection.execute(query, (first, last)).fetchone()
            if not count:
                return range(0), np.zeros((0, len(PHASES)), np.uint64)
            if whole != count or low < first or high > last:
                raise ValueError(f"records between steps {first} and {last} lost their form")
            steps = self._steps_between(low, high, count)
            return steps, self._roots_now(steps, roots)

    def versions_between(self, first: int, last: int) -> NDArray[np.int64]:
        """Return the version of the leaf table of each step recorded from `first` to `last`."""
        with self._damage():
            found = self._connection.execute("SELECT version FROM steps WHERE step BETWEEN ? AND ? ORDER BY step", (first, last))
            versions = [version for (version,) in found]
            if unknown := set(versions) - self.tables().keys():
                raise ValueError(f"there is no leaf table {unknown.pop()}")
            return np.array(versions, np.int64)

    def rows_between(self, first: int, last: int) -> list[StepRow]:
        """Return the records from step `first` to `last`, both included."""
        with self._damage():
            return self._rows_between(first, last)

    def _steps_between(self, first: int, last: int, count: int) -> range | NDArray[np.int64]:
        """Return these recorded steps: a range where they are evenly spaced, which takes no memory."""
        if not 0 <= first <= last <= LAST_STEP or last - first < count - 1:
            raise ValueError(f"{count} records stand between steps {first} and {last}")
        stride, rest = divmod(last - first, count - 1) if count > 1 else (1, 0)
        if rest == 0:
            if stride == 1:
                return range(first, last + 1)
            query = "SELECT count(*) FROM steps WHERE step BETWEEN ? AND ? AND (step - ?) % ? <> 0"
            if not self._scalar(query, first, last, first, stride):
                return range(first, last + 1, stride)
        found = self._connection.execute("SELECT step FROM steps WHERE step BETWEEN ? AND ? ORDER BY step", (first, last))
        return np.array([step for (step,) in in_order(found, first - 1)], np.int64)

    def _loss_decoder(self, step: int) -> Callable[[NDArray[np.int64]], NDArray[np.float32]] | None:
        """Return how the loss bits of these records become float32, None where the loss is not a float leaf."""
        version = self._scalar("SELECT version FROM steps WHERE step = ?", step)
        dtype = next((spec.dtype for spec in self.table(version).specs if spec.path == "loss"), "")
        return DECODERS.get(dtype)

    def leaf_checksums(self, step: int) -> NDArray[np.uint64] | None:
        """Return the checksums of a step's leaves in table order, None where leaf rows were not written."""
        blob = self._leaf_blob("leaf_checksums", step)
        return None if blob is None else np.frombuffer(blob, "<u8")

    def leaf_stats(self, step: int) -> NDArray[np.float32] | None:
        """Return float32[leaves, 2] of L2 norm and max |x|, None where statistics were not taken."""
        blob = self._leaf_blob("leaf_stats", step)
        return None if blob is None else np.frombuffer(blob, "<f4").reshape(-1, 2)

    def not_finite_at(self, step: int) -> NotFiniteRow | None:
        """Return which leaves hold what is not finite at a step; None where none ever did until then, or nobody looked."""
        with self._damage():
            if not self._has("not_finite"):
                return None
            (at,) = self._connection.execute("SELECT max(step) FROM not_finite WHERE step <= ?", (step,)).fetchone()
        return next(iter(self.not_finite(at - 1, 1) or ()), None) if isinstance(at, int) else None

    def not_finite(self, after: int = -1, limit: int = -1) -> list[NotFiniteRow] | None:
        """Return which leaves hold what is not finite, from which record behind a step on; None where that was not recorded."""
        query = "SELECT step, leaves, version FROM not_finite LEFT JOIN steps USING (step) WHERE step > ? ORDER BY step LIMIT ?"
        with self._damage():
            if not self._has("not_finite"):
                return None
            rows = []
            for step, leaves, version in in_order(self._connection.execute(query, (after, limit)), after):
                found, table = unpacked(leaves), self.table(version)
                if found and found[-1] >= len(table.specs):
                    raise ValueError(f"the record of step {step} has no leaf {found[-1]}")
                rows.append(NotFiniteRow(step, table, found))
            return rows

    def losses_not_finite(self) -> list[tuple[int, bool]]:
        """Return from which steps on losses are NaN or infinite, or finite again."""
        # SQLite has no NaN: it keeps one as NULL.
        lost = "(loss IS NULL OR abs(loss) > 1.7976931348623157e308)"
        query = (
            f"SELECT step, now FROM (SELECT step, {lost} AS now, lag({lost}, 1, 0) OVER (ORDER BY step) AS before FROM steps "
            "WHERE loss_bits IS NOT NULL) WHERE now <> before ORDER BY step"
        )
        with self._damage():
            return [(step, bool(now)) for step, now in in_order(self._connection.execute(query), -1)]

    def _leaf_blob(self, kind: str, step: int) -> bytes | None:
        """Return 8 bytes for each leaf of a step."""
        query = f"SELECT blob, version FROM {kind} LEFT JOIN steps USING (step) WHERE step = ?"
        with self._damage():
            found = self._connection.execute(query, (step,)).fetchone()
            if found is None:
                return None
            blob, version = found
            if not isinstance(blob, bytes) or version is None or len(blob) != 8 * len(self.table(version).specs):
                raise ValueError(f"the {kind.replace('_', ' ')} of step {step} lost their form")
            return blob

    def leaf_rows(self) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """Yield the step and the leaf checksums of every leaf row, one after the other as they lie in the file."""
        with self._damage():
            found = self._connection.execute("SELECT step, blob FROM leaf_checksums ORDER BY step")
            for step, blob in in_order(found, -1):
                yield step, np.frombuffer(blob, "<u8")

    def copied(self, table: str, column: str, through: int, rows: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield what a table holds up to a number in one of its columns, as it is stored, so many rows at once."""
        with self._damage():
            found = self._connection.execute(f"SELECT * FROM {table} WHERE {column} <= ?", (through,))
            while chunk := found.fetchmany(rows):
                yield chunk

    def calls(self, step: int) -> dict[str, int]:
        """Return how many calls of which functions lie in a step's record; empty where no observer counted them."""
        with self._damage():
            if not self._has("calls"):
                return {}
            found = self._scalar("SELECT calls FROM calls WHERE step <= ? ORDER BY step DESC LIMIT 1", step)
            return {str(name): int(count) for name, count in json.loads(found).items()} if found else {}

    def iteration_losses(self, step: int) -> list[float | str]:
        """Return the losses of the iterations of a loop inside a step's record; empty where there are none."""
        row = self.row(step)
        with self._damage():
            return [] if row is None else row.losses()

    def numbers(self, row: StepRow) -> tuple[tuple[str, float], ...]:
        """Return name and value of the metrics of a record that are one number each."""
        with self._damage():
            return row.numbers()

    def chance(self) -> list[Chance]:
        """Return where chance and data from outside entered the run, in order; empty where nobody looked."""
        query = "SELECT id, step, kind, source, path, line, text, value FROM chance ORDER BY id"
        with self._damage():
            if not self._has("chance"):
                return []
            return [chance_row(row) for row in in_order(self._connection.execute(query), 0)]

    def asked(self, first: int, last: int) -> dict[int, Asked]:
        """Return what networks were asked before the steps from `first` to `last`; empty where nobody looked."""
        query = "SELECT step, networks, which, digests FROM asked WHERE step BETWEEN ? AND ? ORDER BY step"
        with self._damage():
            if not self._has("asked"):
                return {}
            return {row[0]: asked_row(row) for row in in_order(self._connection.execute(query, (first, last)), -1)}

    def _has(self, table: str) -> bool:
        """Say whether the trace has a table that those of former versions have not."""
        return bool(self._scalar("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?", table))

    def statistics_step(self, step: int) -> int | None:
        """Return the last step, at or before this one, at which norms and maxima were taken."""
        with self._damage():
            return at_most(step, self._scalar("SELECT max(step) FROM leaf_stats WHERE step <= ?", step))

    def events(self, after: int = 0) -> list[Event]:
        """Return the events with an id greater than `after`, in order."""
        query = "SELECT id, time_ns, kind, text FROM events WHERE id > ? ORDER BY id"
        with self._damage():
            return [event_row(row) for row in in_order(self._connection.execute(query, (after,)), after)]

    def torn(self) -> tuple[str, ...]:
        """Return what the run said of values that are not right: copies on several devices that differ, corrupt steps."""
        query = "SELECT id, text FROM events WHERE kind IN (?, ?) ORDER BY id"
        with self._damage():
            return tuple(str(text) for _, text in in_order(self._connection.execute(query, WRONG), 0))

    def copies(self) -> tuple[str, ...]:
        """Return the paths of the leaves that every process of the training which has them holds alike; all below those with `/`
        at their end."""
        with self._damage():
            found = json.loads(self._scalar("SELECT value FROM meta WHERE key = ?", COPIES) or "[]")
            if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
                raise ValueError("what it says of copies lost its form")
            return tuple(found)

    def find_root(self, offset: int, root: bytes) -> int | None:
        """Return the first step whose roots hold these 8 bytes at this offset, None where none does."""
        with self._damage():
            return self._scalar("SELECT step FROM steps WHERE substr(roots, ?, ?) = ? LIMIT 1", offset + 1, len(root), root)
