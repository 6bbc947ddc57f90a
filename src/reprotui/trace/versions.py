"""Leaf tables and roots of a trace with the phases of today, whatever the version in which they were written."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reprotui.trace.file import TraceFile
from reprotui.trace.former import FORMER_PHASES, SPLIT, roots_now, table_now
from reprotui.trace.phases import PHASES
from reprotui.trace.records import TABLE_DIGEST_BYTES, LeafTable
from reprotui.trace.rows import SCALARS, STEP_COLUMNS, StepRow, in_order, leaf_table, loss_of_bits, step_row

ROWS = 1024
"""Records of version 1 whose leaf checksums are read at once."""


class VersionedFile(TraceFile):
    """A trace whose records of version 1 are read as what they would be today, and whose losses are what their bits say."""

    def __init__(self, path: Path, tables: dict[int, LeafTable] | None = None) -> None:
        super().__init__(path, tables)
        self._loss_dtypes: dict[int, str] = {}

    def tables(self) -> dict[int, bytes]:
        """Return the digest of every version of the leaf table."""
        with self._damage():
            found = self._connection.execute("SELECT version, digest FROM leaf_tables").fetchall()
            if not all(isinstance(digest, bytes) and len(digest) == TABLE_DIGEST_BYTES for _, digest in found):
                raise ValueError("the digests of the leaf tables lost their form")
            return dict(found)

    def table(self, version: int) -> LeafTable:
        """Return a version of the leaf table, with the phases of today."""
        if version not in self._tables:
            table = self.written_table(version)
            with self._damage():
                if self.tables().get(version) != table.digest:
                    raise ValueError(f"leaf table {version} is not the one that its digest stands for")
            self._tables[version] = table_now(table) if self.one_update else table
        return self._tables[version]

    def written_table(self, version: int) -> LeafTable:
        """Return a version of the leaf table as it stands there, with the phases of its time and whatever its digest says; empty
        where there is none."""
        query = "SELECT phase, path, dtype, shape FROM leaves WHERE version = ? ORDER BY id"
        with self._damage():
            table = leaf_table(version, tuple(self._connection.execute(query, (version,))))
            if unknown := set(table.phases) - set(FORMER_PHASES if self.one_update else PHASES):
                raise ValueError(f"leaf table {version} has a phase {unknown.pop()!r}")
            return table

    def _rows(self, after: int, limit: int) -> Iterator[StepRow]:
        rows = self._stored_rows(after, limit)
        while some := list(islice(rows, ROWS)):
            yield from self._as_now(some)

    def _rows_between(self, first: int, last: int) -> list[StepRow]:
        query = f"SELECT {STEP_COLUMNS} FROM steps WHERE step BETWEEN ? AND ? ORDER BY step"
        found = in_order(self._connection.execute(query, (first, last)), first - 1)
        return self._as_now([step_row(row, self._roots_bytes) for row in found])

    def _as_now(self, rows: Sequence[StepRow]) -> list[StepRow]:
        """Return records with the roots of today's phases, and the loss that their bits say: these hang in the chain."""
        rows = [self._with_own_loss(row) for row in rows]
        if not self.one_update or not rows:
            return rows
        roots = self._roots_now([row.step for row in rows], b"".join(row.roots for row in rows))
        return [replace(row, roots=own.tobytes()) for row, own in zip(rows, roots, strict=True)]

    def _with_own_loss(self, row: StepRow) -> StepRow:
        dtype = self._loss_dtype(row.version) if row.loss_bits is not None else ""
        if dtype not in SCALARS or row.loss_bits is None:
            return row
        loss = loss_of_bits(row.loss_bits, dtype)
        return row if loss == row.loss else replace(row, loss=loss)

    def _loss_dtype(self, version: int) -> str:
        """Return the dtype of the loss in a leaf table, empty where there is none."""
        if version not in self._loss_dtypes:
            specs = self.table(version).specs
            self._loss_dtypes[version] = next((spec.dtype for spec in specs if spec.path == "loss" and not spec.shape), "")
        return self._loss_dtypes[version]

    def _roots_now(self, steps: Sequence[int] | NDArray[np.int64], stored: bytes) -> NDArray[np.uint64]:
        """Return the roots of records in a row as uint64[records, phases], from those that are stored."""
        if not self.one_update:
            return np.frombuffer(stored, "<u8").reshape(len(steps), len(PHASES))
        former = np.frombuffer(stored, "<u8").reshape(len(steps), len(FORMER_PHASES))
        found = np.zeros((len(steps), len(PHASES)), "<u8")
        for at in range(0, len(steps), ROWS):
            here = slice(at, at + ROWS)
            found[here] = self._some_roots_now(np.asarray(steps[here], np.int64), former[here])
        return found

    def _some_roots_now(self, steps: NDArray[np.int64], former: NDArray[np.uint64]) -> NDArray[np.uint64]:
        between = int(steps[0]), int(steps[-1])
        query = "SELECT version FROM steps WHERE step BETWEEN ? AND ? ORDER BY step"
        versions = np.array([version for (version,) in self._connection.execute(query, between)], np.int64)
        found = np.zeros((len(steps), len(PHASES)), "<u8")
        leaves: dict[int, bytes] | None = None
        for version in np.unique(versions).tolist():
            table = self.table(version)
            here = np.flatnonzero(versions == version)
            if not set(SPLIT) <= set(table.phases):
                found[here] = roots_now(former[here], table, None)
                continue
            if leaves is None:
                query = "SELECT step, blob FROM leaf_checksums WHERE step BETWEEN ? AND ?"
                leaves = dict(self._connection.execute(query, between))
            known = np.array([int(step) in leaves for step in steps[here]], bool)
            if not known.all():
                found[here[~known]] = roots_now(former[here[~known]], table, None)
            if known.any():
                blobs = b"".join(leaves[int(step)] for step in steps[here[known]])
                checksums = np.frombuffer(blobs, "<u8").reshape(-1, len(table.specs))
                found[here[known]] = roots_now(former[here[known]], table, checksums)
        return found
