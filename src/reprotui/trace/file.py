"""The file of a trace, opened for reading: what it is, whether it is whole, and its damage in words. Never writes."""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reprotui.checksum import NAME
from reprotui.errors import BadInputError, CannotTellError
from reprotui.trace.former import FORMER_ROOTS_BYTES, ROOTS
from reprotui.trace.phases import ROOTS_BYTES
from reprotui.trace.records import LeafTable
from reprotui.trace.rows import STEP_COLUMNS, StepRow, in_order, step_row
from reprotui.trace.schema import APPLICATION_ID, SCHEMA_VERSION, connect_reader

DAMAGE = (sqlite3.Error, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError)
"""What comes of reading a damaged page: SQLite's own errors, some of them in words that are no text, and lost forms."""


MOST_LOOKED = 200_000
"""Records that are read to say how far a damaged trace can be read: a third of a second."""


class TraceFile:
    """A trace opened for reading; use as a context manager, and for short: a long reader keeps the journal growing.

    Everything that it hands out has its form: SQLite checks types where it writes, not where it reads a damaged page.

    Args:
        path: the file.
        tables: leaf tables of this very file by version, which never change: what was read before, and is read now.

    Attributes:
        one_update: it is of version 1, with one root for the optimizer and the parameters: what is handed out has both.
        former: its roots may have the carry that `trace.former` describes.

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
        except DAMAGE as error:
            raise BadInputError(f"{path} cannot be opened: {error}") from None
        try:
            try:
                application, version = (self._scalar(f"PRAGMA {name}") for name in ("application_id", "user_version"))
            except DAMAGE as error:
                raise BadInputError(f"{path} is not a trace, or its beginning is damaged: {error}") from None
            if application != APPLICATION_ID:
                raise BadInputError(f"{path} is an SQLite file, but not a trace of reprotui")
            if version > SCHEMA_VERSION:
                raise CannotTellError(
                    f"{path} has trace schema {version}, this reprotui reads {SCHEMA_VERSION}: upgrade reprotui"
                )
            self.one_update = version < 2
            self._roots_bytes = FORMER_ROOTS_BYTES if self.one_update else ROOTS_BYTES
            with self._damage():
                meta = dict(self._connection.execute("SELECT key, value FROM meta WHERE key IN ('checksum', 'roots')"))
            checksum, roots = meta.get("checksum"), meta.get("roots")
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

    def attach(self, other: Path) -> sqlite3.Connection:
        """Return this trace's connection with another trace attached read-only as `other`."""
        self._connection.execute("ATTACH DATABASE ? AS other", (f"{other.absolute().as_uri()}?mode=ro",))
        return self._connection

    def detach(self) -> None:
        """Undo `attach`."""
        self._connection.execute("DETACH DATABASE other")

    def check_structure(self, table: str = "", sealed: bool = False) -> None:
        """Let SQLite look at every page: are all reached, in their order, and of their form.

        Args:
            table: the one table that is looked at; empty for the whole file.
            sealed: nothing may follow the last page.

        Raises:
            CannotTellError: it is not whole.
        """
        with self._damage():
            found = self._scalar(f"PRAGMA main.quick_check({table or 1})")
            if found != "ok":
                raise ValueError(found)
            size = self._scalar("PRAGMA main.page_count") * self._scalar("PRAGMA main.page_size")
            journal = self.path.with_name(f"{self.path.name}-wal")
            if sealed and not journal.exists() and self.path.stat().st_size != size:
                raise ValueError(f"the file has {self.path.stat().st_size} bytes, its pages have {size}")

    def readable_through(self) -> int | None:
        """Return the last step up to which records can be read one after the other, in a damaged file."""
        return self._readable()[0]

    def _readable(self, limit: int = -1) -> tuple[int | None, int]:
        """Return that step among so many records, and how many of them there are."""
        last, count = None, 0
        with suppress(*DAMAGE):
            for row in self._stored_rows(limit=limit):
                last, count = row.step, count + 1
        return last, count

    def _scalar(self, query: str, *arguments: Any) -> Any:
        found = self._connection.execute(query, arguments).fetchone()
        return found[0] if found else None

    @contextmanager
    def _damage(self) -> Generator[None]:
        try:
            yield
        except DAMAGE as error:
            # A long one is not looked through: whoever draws a page of it asks for each line that cannot be read.
            last, count = self._readable(MOST_LOOKED)
            far = f"{'at least ' if count == MOST_LOOKED else ''}steps up to {last} can be read"
            said = " ".join(str(error).split())
            raise CannotTellError(
                f"{self.path} is damaged ({said}): {'no record can be read' if last is None else far}"
            ) from None

    def _stored_rows(self, after: int = -1, limit: int = -1) -> Iterator[StepRow]:
        query = f"SELECT {STEP_COLUMNS} FROM steps WHERE step > ? ORDER BY step LIMIT ?"
        found = in_order(self._connection.execute(query, (after, limit)), after)
        return (step_row(row, self._roots_bytes) for row in found)
