"""Begin a trace with the records of another one: a resumed run has the history of the run that it goes on from."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from reprotui.errors import CannotTellError
from reprotui.trace.reader import Trace
from reprotui.trace.records import GENESIS, next_chain
from reprotui.trace.schema import connect_reader

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
    """Copy the records of a trace up to a step into a new one, and recompute their chain on the way.

    Args:
        connection: the new trace's writer.
        source: the other trace; it may be growing.
        through: the last step that is copied.

    Raises:
        CannotTellError: a row of the other trace was edited or lost: nothing can go on from it.
    """
    with Trace(source) as trace:
        versions = set(trace.versions_between(0, through).tolist())
        # Versions are numbered by first use, so those in use here are the first ones.
        digests = [digest for version, digest in sorted(trace.tables().items()) if version in versions]
        chain, last, records = GENESIS, None, 0
        for row in trace.rows():
            if row.step > through:
                break
            chain = next_chain(chain, row.step, row.loss_bits, row.roots, digests[row.version])
            if chain != row.chain:
                raise CannotTellError(f"{source}: the chain breaks at step {row.step}, so no run can go on from it")
            last, records = row.step, records + 1
    connection.execute("BEGIN")
    with closing(connect_reader(source)) as reader:
        for table, column, limit in (
            ("leaf_tables", "version", len(digests) - 1), ("leaves", "version", len(digests) - 1), ("steps", "step", through),
            ("leaf_checksums", "step", through), ("leaf_stats", "step", through),
        ):  # fmt: skip
            cursor = reader.execute(f"SELECT * FROM {table} WHERE {column} <= ?", (limit,))
            while rows := cursor.fetchmany(ROWS):
                marks = ", ".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    leaf_rows = connection.execute("SELECT count(*) FROM leaf_checksums").fetchone()[0]
    connection.execute("COMMIT")
    return History(chain, tuple(digests), last, records, leaf_rows)
