"""Read a trace: sealed or live, whole or row by row. Never writes."""

import json
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import NAME, LeafSpec
from reprotui.errors import BadInputError, CannotTellError
from reprotui.trace.former import ROOTS
from reprotui.trace.phases import PHASES
from reprotui.trace.records import LeafTable
from reprotui.trace.rows import DECODERS, STEP_COLUMNS, Event, Span, StepRow, narrowed, step_row
from reprotui.trace.schema import APPLICATION_ID, SCHEMA_VERSION, connect_reader


class Trace:
    """A trace opened for reading; use as a context manager, and for short: a long reader keeps the journal growing.

    Args:
        path: the file.
        tables: leaf tables of this very file by version, which never change: what was read before, and is read now.

    Attributes:
        former: its roots may be those that `trace.former` describes.

    Raises:
        BadInputError: the file is missing, not a trace, or its beginning is damaged.
        CannotTellError: it was written by a newer reprotui or with another checksum definition, or a page that is
            needed is damaged; the message says up to which step it can be read.
    """

    def __init__(self, path: Path, tables: dict[int, LeafTable] | None = None) -> None:
        self.path = path
        self._tables: dict[int, LeafTable] = {} if tables is None else tables
        if not path.is_file():
            raise BadInputError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
        try:
            self._connection = connect_reader(path)
        except sqlite3.DatabaseError as error:
            raise BadInputError(f"{path} cannot be opened: {error}") from None
        try:
            try:
                application, version = (self._scalar(f"PRAGMA {name}") for name in ("application_id", "user_version"))
            except sqlite3.DatabaseError as error:
                raise BadInputError(f"{path} is not a trace, or its beginning is damaged: {error}") from None
            if application != APPLICATION_ID:
                raise BadInputError(f"{path} is an SQLite file, but not a trace of reprotui")
            if version > SCHEMA_VERSION:
                raise CannotTellError(
                    f"{path} has trace schema {version}, this reprotui reads {SCHEMA_VERSION}: upgrade reprotui"
                )
            with self._damage():
                checksum, roots = (self._scalar("SELECT value FROM meta WHERE key = ?", key) for key in ("checksum", "roots"))
            if checksum != NAME:
                raise CannotTellError(f"{path} holds checksums {checksum}, this reprotui compares {NAME}")
            self.former = roots != ROOTS
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; reading afterwards is an error."""
        self._connection.close()

    def last_step(self) -> int | None:
        """Return the newest committed step, None while there is none."""
        with self._damage():
            return self._scalar("SELECT max(step) FROM steps")

    def row(self, step: int) -> StepRow | None:
        """Return the record of a step, None where it was not recorded."""
        with self._damage():
            found = self._connection.execute(f"SELECT {STEP_COLUMNS} FROM steps WHERE step = ?", (step,)).fetchone()
            return step_row(found) if found else None

    def rows(self, after: int = -1, limit: int = -1) -> Iterator[StepRow]:
        """Yield records with a step greater than `after`, in order, at most `limit` (-1: all)."""
        query = f"SELECT {STEP_COLUMNS} FROM steps WHERE step > ? ORDER BY step LIMIT ?"
        with self._damage():
            for found in self._connection.execute(query, (after, limit)):
                yield step_row(found)

    def previous_step(self, step: int) -> int | None:
        """Return the last recorded step before this one."""
        with self._damage():
            return self._scalar("SELECT max(step) FROM steps WHERE step < ?", step)

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint64]]:
        """Return all steps, losses (NaN where there is none) and roots as uint64[steps, phases]."""
        with self._damage():
            found = self._connection.execute("SELECT step, loss, roots FROM steps ORDER BY step").fetchall()
            steps = np.array([row[0] for row in found], np.int64)
            losses = np.array([np.nan if row[1] is None else row[1] for row in found], np.float64)
            roots = np.frombuffer(b"".join(row[2] for row in found), "<u8").reshape(len(found), len(PHASES))
            return steps, losses, roots

    def span(self, after: int, limit: int) -> Span | None:
        """Describe at most `limit` records behind step `after`, without a Python object a row; None where there is none.

        A million rows take a third of a second this way, and a second row by row.
        """
        query = (
            "SELECT min(step), max(step), count(*), group_concat(coalesce(loss_bits, 'x')), count(loss_bits) FROM "
            "(SELECT step, loss_bits FROM steps WHERE step > ? ORDER BY step LIMIT ?)"
        )
        with self._damage():
            first, last, count, bits, with_loss = self._connection.execute(query, (after, limit)).fetchone()
            if not count:
                return None
            steps = self._steps_between(first, last, count)
            if with_loss == count and (decode := self._loss_decoder(last)):
                return Span(steps, decode(np.fromstring(bits, np.int64, sep=",")))
            found = self._connection.execute("SELECT loss FROM steps WHERE step BETWEEN ? AND ? ORDER BY step", (first, last))
            return Span(steps, narrowed(np.array([np.nan if loss is None else loss for (loss,) in found], np.float64)))

    def roots_between(self, first: int, last: int) -> tuple[range | NDArray[np.int64], NDArray[np.uint64]]:
        """Return the steps recorded from `first` to `last`, both included, and their roots as uint64[steps, phases]."""
        query = (
            "SELECT min(step), max(step), count(*), CAST(group_concat(roots, '') AS BLOB) FROM "
            "(SELECT step, roots FROM steps WHERE step BETWEEN ? AND ? ORDER BY step)"
        )
        with self._damage():
            low, high, count, roots = self._connection.execute(query, (first, last)).fetchone()
            if not count:
                return range(0), np.zeros((0, len(PHASES)), np.uint64)
            return self._steps_between(low, high, count), np.frombuffer(roots, "<u8").reshape(count, len(PHASES))

    def versions_between(self, first: int, last: int) -> NDArray[np.int64]:
        """Return the version of the leaf table of each step recorded from `first` to `last`."""
        with self._damage():
            found = self._connection.execute("SELECT version FROM steps WHERE step BETWEEN ? AND ? ORDER BY step", (first, last))
            return np.array([version for (version,) in found], np.int64)

    def rows_between(self, first: int, last: int) -> list[StepRow]:
        """Return the records from step `first` to `last`, both included."""
        query = f"SELECT {STEP_COLUMNS} FROM steps WHERE step BETWEEN ? AND ? ORDER BY step"
        with self._damage():
            return [step_row(found) for found in self._connection.execute(query, (first, last))]

    def _steps_between(self, first: int, last: int, count: int) -> range | NDArray[np.int64]:
        """Return these recorded steps: a range where they are evenly spaced, which takes no memory."""
        stride, rest = divmod(last - first, count - 1) if count > 1 else (1, 0)
        if rest == 0:
            if stride == 1:
                return range(first, last + 1)
            query = "SELECT count(*) FROM steps WHERE step BETWEEN ? AND ? AND (step - ?) % ? <> 0"
            if not self._scalar(query, first, last, first, stride):
                return range(first, last + 1, stride)
        found = self._connection.execute("SELECT step FROM steps WHERE step BETWEEN ? AND ? ORDER BY step", (first, last))
        return np.array([step for (step,) in found], np.int64)

    def _loss_decoder(self, step: int) -> Callable[[NDArray[np.int64]], NDArray[np.float32]] | None:
        """Return how the loss bits of these records become float32, None where the loss is not a float leaf."""
        version = self._scalar("SELECT version FROM steps WHERE step = ?", step)
        dtype = next((spec.dtype for spec in self.table(version).specs if spec.path == "loss"), "")
        return DECODERS.get(dtype)

    def tables(self) -> dict[int, bytes]:
        """Return the digest of every version of the leaf table."""
        with self._damage():
            return dict(self._connection.execute("SELECT version, digest FROM leaf_tables").fetchall())

    def table(self, version: int) -> LeafTable:
        """Return a version of the leaf table."""
        if version not in self._tables:
            query = "SELECT phase, path, dtype, shape FROM leaves WHERE version = ? ORDER BY id"
            with self._damage():
                found = self._connection.execute(query, (version,)).fetchall()
                shapes = [tuple(map(int, filter(None, row[3].split(",")))) for row in found]
                specs = tuple(LeafSpec(row[1], row[2], shape) for row, shape in zip(found, shapes, strict=True))
                self._tables[version] = LeafTable(tuple(row[0] for row in found), specs)
        return self._tables[version]

    def leaf_checksums(self, step: int) -> NDArray[np.uint64] | None:
        """Return the checksums of a step's leaves in table order, None where leaf rows were not written."""
        with self._damage():
            blob = self._scalar("SELECT blob FROM leaf_checksums WHERE step = ?", step)
            return None if blob is None else np.frombuffer(blob, "<u8")

    def leaf_rows(self) -> int:
        """Return how many steps have leaf checksums."""
        with self._damage():
            return self._scalar("SELECT count(*) FROM leaf_checksums")

    def leaf_stats(self, step: int) -> NDArray[np.float32] | None:
        """Return float32[leaves, 2] of L2 norm and max |x|, None where statistics were not taken."""
        with self._damage():
            blob = self._scalar("SELECT blob FROM leaf_stats WHERE step = ?", step)
            return None if blob is None else np.frombuffer(blob, "<f4").reshape(-1, 2)

    def calls(self, step: int) -> dict[str, int]:
        """Return how many calls of which functions lie in a step's record; empty where no observer counted them."""
        with self._damage():
            if not self._scalar("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'calls'"):
                return {}  # a trace of a former version
            found = self._scalar("SELECT calls FROM calls WHERE step <= ? ORDER BY step DESC LIMIT 1", step)
            return {str(name): int(count) for name, count in json.loads(found).items()} if found else {}

    def statistics_step(self, step: int) -> int | None:
        """Return the last step, at or before this one, at which norms and maxima were taken."""
        with self._damage():
            return self._scalar("SELECT max(step) FROM leaf_stats WHERE step <= ?", step)

    def events(self, after: int = 0) -> list[Event]:
        """Return the events with an id greater than `after`, in order."""
        query = "SELECT id, time_ns, kind, text FROM events WHERE id > ? ORDER BY id"
        with self._damage():
            return [Event(*row) for row in self._connection.execute(query, (after,))]

    def find_root(self, offset: int, root: bytes) -> int | None:
        """Return the first step whose roots hold these 8 bytes at this offset, None where none does."""
        with self._damage():
            return self._scalar("SELECT step FROM steps WHERE substr(roots, ?, ?) = ? LIMIT 1", offset + 1, len(root), root)

    def attach(self, other: Path) -> sqlite3.Connection:
        """Return this trace's connection with another trace attached read-only as `other`."""
        self._connection.execute("ATTACH DATABASE ? AS other", (f"{other.absolute().as_uri()}?mode=ro",))
        return self._connection

    def common_records(self, other: Path) -> int:
        """Return how many steps both traces have a record of."""
        connection = self.attach(other)
        try:
            with self._damage():
                return connection.execute("SELECT count(*) FROM main.steps JOIN other.steps USING (step)").fetchone()[0]
        finally:
            self.detach()

    def detach(self) -> None:
        """Undo `attach`."""
        self._connection.execute("DETACH DATABASE other")

    def readable_through(self) -> int | None:
        """Return the last step up to which records can be read one after the other, in a damaged file."""
        last = None
        try:
            for (step,) in self._connection.execute(
                "SELECT step FROM steps WHERE length(chain) + length(roots) > 0 ORDER BY step"
            ):
                last = step
        except sqlite3.DatabaseError:
            pass
        return last

    def _scalar(self, query: str, *arguments: Any) -> Any:
        found = self._connection.execute(query, arguments).fetchone()
        return found[0] if found else None

    @contextmanager
    def _damage(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError, AttributeError) as error:
            last = self.readable_through()
            readable = "no record can be read" if last is None else f"steps up to {last} can be read"
            raise CannotTellError(f"{self.path} is damaged ({error}): {readable}") from None
