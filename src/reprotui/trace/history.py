"""Begin a trace with the records of another one: a resumed run has the history of the run that it goes on from."""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reprotui.errors import CannotTellError
from reprotui.trace.former import SPLIT
from reprotui.trace.reader import Trace
from reprotui.trace.records import GENESIS, LeafTable, next_chain
from reprotui.trace.rows import StepRow
from reprotui.trace.verify import Fitting, fit, roots_of

ROWS = 1000
"""Rows copied at a time."""


@dataclass(frozen=True)
class History:
    """What a trace holds already: chain, versions of leaf tables by digest, last step, records and leaf rows.

    `not_finite` are the version of the leaf table and the leaves of the last row that says which of them are not finite.
    """

    chain: bytes = GENESIS
    tables: tuple[bytes, ...] = ()
    last_step: int | None = None
    records: int = 0
    leaf_rows: int = 0
    not_finite: tuple[int, bytes] = (0, b"")


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
        parts = [("leaf_checksums", "step", through), ("leaf_stats", "step", through)]
        if trace.one_update:
            tables = {version: trace.table(version) for version in range(len(digests))}
            found.chain = _write_as_now(connection, trace, tables, through)
        else:
            parts += [("leaf_tables", "version", last), ("leaves", "version", last), ("steps", "step", through)]
        told, not_finite = trace.not_finite(), (0, b"")
        if told is not None:
            parts.append(("not_finite", "step", through))
            if row := next((row for row in reversed(told) if row.step <= through), None):
                not_finite = trace.recorded(row.step).version, np.array(row.leaves, "<u4").tobytes()
        for table, column, limit in parts:
            for rows in trace.copied(table, column, limit, ROWS):
                marks = ", ".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    connection.execute("COMMIT")
    return History(found.chain, digests, found.last_step, found.records, found.leaf_rows, not_finite)


def write_table(connection: sqlite3.Connection, version: int, table: LeafTable) -> None:
    """Write a leaf table."""
    connection.execute("INSERT INTO leaf_tables VALUES (?, ?)", (version, table.digest))
    connection.executemany(
        "INSERT INTO leaves VALUES (?, ?, ?, ?, ?, ?)",
        [
            (version, index, phase, spec.path, spec.dtype, ",".join(map(str, spec.shape)))
            for index, (phase, spec) in enumerate(zip(table.phases, table.specs, strict=True))
        ],
    )


def signed(bits: int | None) -> int | None:
    """Return the bits of a loss as SQLite keeps them: a 64-bit integer with a sign."""
    return bits - (1 << 64) if bits is not None and bits >= 1 << 63 else bits


def _write_as_now(connection: sqlite3.Connection, trace: Trace, tables: Mapping[int, LeafTable], through: int) -> bytes:
    """Write the tables and records of a trace of version 1 as today's; return their chain."""
    for version, table in tables.items():
        write_table(connection, version, table)
    chain = GENESIS
    for row in _rows_as_now(trace, tables, through):
        chain = next_chain(chain, row.step, row.loss_bits, row.roots, tables[row.version].digest)
        values = (row.step, row.time_ns, row.loss, signed(row.loss_bits), row.metrics, row.version, row.roots, chain)
        connection.execute("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    return chain


def _rows_as_now(trace: Trace, tables: Mapping[int, LeafTable], through: int) -> Iterator[StepRow]:
    """Yield the records of a trace of version 1 with today's roots, which follow from leaf checksums alone."""
    for row in trace.rows():
        if row.step > through:
            return
        checksums, table = trace.leaf_checksums(row.step), tables[row.version]
        if checksums is not None:
            yield replace(row, roots=roots_of(checksums.tobytes(), table))
        elif trace.former or set(SPLIT) <= set(table.phases):
            raise CannotTellError(
                f"no run can go on from {trace.path}: a former reprotui recorded optimizer and parameters with one root, and "
                f"leaf checksums of step {row.step}, from which two could be made, are not stored; go on with the reprotui that "
                "recorded it, or begin anew"
            )
        else:
            yield row
