"""Begin a trace with the records of another one: a resumed run has the history of the run that it goes on from."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from reprotui.errors import CannotTellError
from reprotui.trace.reader import Trace
from reprotui.trace.records import GENESIS
from reprotui.trace.verify import Fitting, fit

ROWS = 1000
"""Rows copied at a time."""


@dataclass(frozen=True)
class History:
    """What a trace holds already: chain, versions of leaf tables by digest, last step, records and leaf rows."""

    chain: bytes = GENESIS
    tables: tuple[bytes, ...] = ()
    last_step: int | None = None
    records: int = 0
    leaf_rows: int = 0


def copy_history(connection: sqlite3.Connection, source: Path, through: int) -> History:
    """Copy the records of a trace up to a step into a new one, which goes on with their chain.

    Args:
        connection: the new trace's writer.
        source: the other trace; it may be growing.
        through: the last step that is copied.

    Raises:
        CannotTellError: a record or leaf row of the other trace was edited or lost, or cannot be read.
    """
    found = Fitting()
    with Trace(source) as trace:
        try:
            fit(trace, found, through)
            digests = tuple(trace.table(version).digest for version in range(len(found.tables)))
            if found.stray:
                raise CannotTellError(f"{found.stray} leaf rows stand behind the last record: they were added")
        except CannotTellError as error:
            raise CannotTellError(f"no run can go on from {source}: {error}") from None
        # Versions are numbered by first use, so those in use here are the first ones.
        last = len(digests) - 1
        connection.execute("BEGIN")
        for table, column, limit in (
            ("leaf_tables", "version", last), ("leaves", "version", last), ("steps", "step", through),
            ("leaf_checksums", "step", through), ("leaf_stats", "step", through),
        ):  # fmt: skip
            for rows in trace.copied(table, column, limit, ROWS):
                marks = ", ".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    connection.execute("COMMIT")
    return History(found.chain, digests, found.last_step, found.records, found.leaf_rows)
