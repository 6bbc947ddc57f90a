"""Bring a trace that is written on a disk of its host to where it is read: what is new, again and again."""

import contextlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from reprotui.trace.schema import connect_writer, folded

LOOK_SECONDS = 0.2
"""How soon somebody who is in a hurry is heard: by a flag, because a signal's handler must not wait for a lock."""
TRIES = 5
"""How often the last copy is tried: a reader may hold the file, or a file system be away, for some seconds."""
_TABLES = (
    ("leaf_tables", "version"), ("leaves", "version"), ("steps", "step"), ("leaf_checksums", "step"), ("leaf_stats", "step"),
    ("not_finite", "step"), ("calls", "step"), ("asked", "step"), ("memory", "step"), ("chance", "id"), ("events", "id"),
)  # fmt: skip
"""Tables whose rows never change once they are there, and the column by which they come."""


class Local(NamedTuple):
    """A folder on a disk of this host, and every how many seconds what is new in it is copied."""

    folder: Path
    seconds: float


class Courier:
    """Copies a growing trace into another one, of which it is the one writer; what it cost depends on what is new alone.

    Each copy is one transaction of both, so the other trace is at any time what this one was. A copy that fails is made up for
    by the next one.

    Args:
        local: where the trace grows.
        target: the file that others read; made here.
        meta: what both hold of themselves.
    """

    def __init__(self, local: Local, target: Path, meta: Mapping[str, str]) -> None:
        self._local = local
        self._connection = connect_writer(target, meta)
        try:
            # Others may read it from other hosts, where a journal in shared memory does not reach.
            self._connection.execute("PRAGMA journal_mode=TRUNCATE")
            self._connection.execute("ATTACH DATABASE ? AS grown", (str(path_of(local)),))
            self.copy()
        except BaseException:
            self._connection.close()
            raise
        self._hurry = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trace-courier", daemon=True)
        self._thread.start()

    def hurry(self) -> None:
        """Copy at once; safe in a signal handler."""
        self._hurry = True

    def copy(self) -> None:
        """Copy what is new."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for table, column in _TABLES:
                newest = execute(f"SELECT max({column}) FROM main.{table}").fetchone()[0]
                newer = "" if newest is None else f" WHERE {column} > {int(newest)}"
                execute(f"INSERT INTO main.{table} SELECT * FROM grown.{table}{newer} ORDER BY {column}")
            execute("INSERT OR REPLACE INTO main.meta SELECT * FROM grown.meta EXCEPT SELECT * FROM main.meta")
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise

    def finish(self) -> str:
        """Copy the rest, and take the folder away; return the journal mode of what others read.

        Raises:
            sqlite3.Error: it cannot be copied; the folder stays.
        """
        self._over.set()
        self._thread.join()
        try:
            for number in range(TRIES):
                try:
                    self.copy()
                    break
                except sqlite3.Error:
                    if number == TRIES - 1:
                        raise
                    time.sleep(number)
            self._connection.execute("DETACH DATABASE grown")
            journal = folded(self._connection)
        finally:
            self._connection.close()
        shutil.rmtree(self._local.folder, ignore_errors=True)
        return journal

    def _run(self) -> None:
        due = time.monotonic() + self._local.seconds
        while not self._over.wait(min(LOOK_SECONDS, self._local.seconds)):
            if self._hurry or time.monotonic() >= due:
                self._hurry = False
                with contextlib.suppress(sqlite3.Error):
                    self.copy()
                due = time.monotonic() + self._local.seconds


def path_of(local: Local) -> Path:
    """Return the trace in a folder of this host."""
    return local.folder / "trace.db"
