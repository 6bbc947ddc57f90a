"""The one writer of a trace: a thread that resolves records as the device finishes them, and commits them in batches."""

import contextlib
import json
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprotui.asked import Asked
from reprotui.chance import Chance
from reprotui.checksum import NAME
from reprotui.disk import ROOM, with_disk
from reprotui.errors import WorkerFailedError
from reprotui.event_kinds import CORRUPT, TORN
from reprotui.trace.courier import Courier, Local, path_of
from reprotui.trace.former import ROOTS
from reprotui.trace.history import History, copy_history, signed, write_table
from reprotui.trace.records import LeafTable, Record, next_chain
from reprotui.trace.rows import COPIES
from reprotui.trace.schema import connect_writer, folded

GATHER_SECONDS = 0.05
"""How long the writer lets records gather: 20 commits a second at most, and a reader is this far behind the newest one.
The training thread keeps the interpreter meanwhile, instead of taking turns with this one at every step."""
COMMIT_SECONDS = 0.1
"""A record is committed at the latest so long after the one before it was there, however slow the device is."""
PENDING_RECORDS = 1024
"""Records that wait before `put` blocks: each holds a few kilobytes."""
TORN_SAID = 20
"""Leaves with copies that are not equal before no more is said of others."""

RESERVE_SUFFIX = "-reserve"
"""Of a file beside the trace while it is written: room that is given back at the end. On a disk that another, or the trace
itself, has filled, a run can thus still write down why it ended."""


class TraceWriter:
    """Write records and events; every acknowledged step survives the death of the process.

    `put` takes a callable that returns the record: it runs on the writer's thread, so it may wait for a device. An
    error there or in SQLite (a full disk) is raised by the next call of `put`, `flush` or `seal`.

    Args:
        path: the new file.
        history: another trace and a step: its records up to there come first, and the chain goes on from them.
        local: where it grows, if not at once in the file.
    """

    def __init__(self, path: Path, history: tuple[Path, int] | None = None, local: Local | None = None) -> None:
        before, meta = History(), {"checksum": NAME, "roots": ROOTS, "created_ns": str(time.time_ns())}
        self._courier: Courier | None = None
        self._reserve = path.with_name(path.name + RESERVE_SUFFIX)
        try:
            # Bytes that no file system can leave out; an empty file of that length would reserve nothing.
            self._reserve.write_bytes(os.urandom(ROOM))
            self._connection = connect_writer(path_of(local) if local else path, meta)
            if history is not None:
                before = copy_history(self._connection, *history)
            if local is not None:
                self._courier = Courier(local, path, meta)
        except (sqlite3.Error, OSError) as error:
            with contextlib.suppress(OSError):
                self._reserve.unlink()
            raise WorkerFailedError(f"{path} cannot be created: {with_disk(error, path)}") from None
        self._path = path
        self._queue: queue.Queue[
            Callable[[], Record | Asked] | Chance | tuple[str, str, int] | frozenset[str] | threading.Event | None
        ] = queue.Queue(PENDING_RECORDS)
        self._hurry = threading.Event()
        self._error: BaseException | None = None
        self.history = before
        self._chain = before.chain
        self._tables = {digest: version for version, digest in enumerate(before.tables)}
        self._last_step = before.last_step
        self._count, self._leaf_rows = before.records, before.leaf_rows
        self._calls: str | None = None
        self._not_finite = before.not_finite
        self.memory: Callable[[], tuple[int | None, int | None] | None] = lambda: None
        """Asked at each record for the bytes in use, of the host and of accelerators; they stand beside it, not in the chain."""
        self.listeners: list[Callable[[Record], tuple[str, str] | None]] = []
        """Called with each record once it is written, on the writer's thread; one may give the kind and text of an event."""
        self._torn: dict[str, str] = {}
        self._copies: frozenset[str] = frozenset()
        self._thread = threading.Thread(target=self._run, name="trace-writer", daemon=True)
        self._thread.start()

    def put(self, pending: Callable[[], Record]) -> None:
        """Queue a record; blocks while `PENDING_RECORDS` wait."""
        self._check()
        self._queue.put(pending)

    def event(self, kind: str, text: str) -> None:
        """Queue an event: started, compiled, paused, resumed, stopped, failed, finished, ..."""
        self._check()
        if kind == CORRUPT and len(self._torn) < TORN_SAID:
            self._torn[text] = text
        self._queue.put((kind, text, time.time_ns()))

    def chance(self, found: Chance) -> None:
        """Queue a place where chance or data from outside entered the run."""
        self._check()
        self._queue.put(found)

    def asked(self, pending: Callable[[], Asked]) -> None:
        """Queue what networks were asked before a step; the callable runs on the writer's thread, like that of a record."""
        self._check()
        self._queue.put(pending)

    def copies(self, paths: frozenset[str]) -> None:
        """Queue which leaves every process that has them holds alike; a path with `/` at its end means all below it."""
        self._check()
        self._queue.put(paths)

    def flush(self) -> None:
        """Return when everything queued so far is committed."""
        done = threading.Event()
        self._queue.put(done)
        self._hurry.set()
        done.wait()
        self._check()

    def hurry(self) -> None:
        """Bring what there is to where it is read, now; safe in a signal handler."""
        if self._courier is not None:
            self._courier.hurry()

    @property
    def torn(self) -> list[str]:
        """Return what was said of values that are not right: torn or corrupt; whole once the trace is sealed."""
        return list(self._torn.values())

    def seal(self) -> dict[str, Any]:
        """Commit everything, fold the journal into the one file, close it, and return the seal for the manifest.

        Where readers hold the file for long, the journal mode stays; the content is the same.
        """
        self._finish()
        self._check()
        courier, self._courier = self._courier, None
        try:
            journal = courier.finish() if courier else folded(self._connection)
        except sqlite3.Error as error:
            raise WorkerFailedError(f"{self._path} cannot be written: {with_disk(error, self._path)}") from error
        self._end()
        return {
            "last_step": self._last_step,
            "records": self._count,
            "leaf_rows": self._leaf_rows,
            "chain": self._chain.hex(),
            "leaf_tables": [digest.hex() for digest in self._tables],
            "journal": journal,
        }

    def close(self) -> None:
        """Commit what can be committed and close, without a seal: the trace stays readable and says incomplete."""
        self._finish()
        if self._courier is not None:
            with contextlib.suppress(sqlite3.Error):
                self._courier.finish()
        self._end()

    def _end(self) -> None:
        """Close; then, and not before, give the reserve back: closing would take it for the journal."""
        self._connection.close()
        with contextlib.suppress(OSError):
            self._reserve.unlink()

    def _finish(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._hurry.set()
            self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise WorkerFailedError(f"{self._path} cannot be written: {with_disk(self._error, self._path)}") from self._error

    def _run(self) -> None:
        while True:
            items = [self._queue.get()]
            # Records gather while the training thread has the interpreter to itself: one turn for many steps.
            self._hurry.wait(GATHER_SECONDS)
            while len(items) < PENDING_RECORDS:
                try:
                    items.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            since = time.monotonic()
            for item in items:
                if item is None or isinstance(item, threading.Event):
                    self._guard(self._commit)
                    if item is None:
                        return
                    self._hurry.clear()
                    item.set()
                    continue
                self._guard(lambda item=item: self._write(item))
                # The next record may wait for its device: what is there is committed first.
                if time.monotonic() - since >= COMMIT_SECONDS:
                    self._guard(self._commit)
                    since = time.monotonic()
            self._guard(self._commit)

    def _guard(self, action: Callable[[], None]) -> None:
        """Run an action unless an earlier one failed; after a failure the queue is only drained, so nobody blocks."""
        if self._error is not None:
            return
        try:
            action()
        except Exception as error:
            self._error = error
            if self._connection.in_transaction:
                self._connection.rollback()

    def _commit(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def _write(self, item: Callable[[], Record | Asked] | Chance | tuple[str, str, int] | frozenset[str]) -> None:
        try:
            found = item if isinstance(item, Chance | tuple | frozenset) else item()
        except BaseException:
            self._commit()  # the records before the one that failed are whole
            raise
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")
        if isinstance(found, Record):
            self._write_record(found)
        elif isinstance(found, Asked):
            row = found.step, "\n".join(found.networks), found.which, found.digests
            self._connection.execute("INSERT INTO asked VALUES (?, ?, ?, ?)", row)
        elif isinstance(found, Chance):
            self._connection.execute(
                "INSERT INTO chance (step, kind, source, path, line, text, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (found.step, found.kind, found.source, found.path, found.line, found.text, found.value),
            )
        elif isinstance(found, frozenset):
            self._write_copies(found)
        else:
            self._write_event(*found)

    def _write_record(self, record: Record) -> None:
        version = self._tables.get(record.table.digest)
        if version is None:
            version = self._write_table(record.table)
        chain = next_chain(self._chain, record.step, record.loss_bits, record.roots, record.table.digest)
        execute = self._connection.execute
        execute(
            "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (record.step, record.time_ns, record.loss, signed(record.loss_bits), record.metrics, version, record.roots, chain),
        )
        if record.leaf_checksums is not None:
            execute("INSERT INTO leaf_checksums VALUES (?, ?)", (record.step, record.leaf_checksums))
            self._leaf_rows += 1
        if record.leaf_stats is not None:
            execute("INSERT INTO leaf_stats VALUES (?, ?)", (record.step, record.leaf_stats))
        if (now := (version, record.not_finite)) != self._not_finite and (record.not_finite or self._not_finite[1]):
            execute("INSERT INTO not_finite VALUES (?, ?)", (record.step, record.not_finite))
            self._not_finite = now
        if record.calls is not None and record.calls != self._calls:
            # They are the same in nearly all records: a row says what holds from its step on.
            execute("INSERT INTO calls VALUES (?, ?)", (record.step, record.calls))
            self._calls = record.calls
        self._write_torn(record)
        if (used := self.memory()) is not None:
            execute("INSERT INTO memory VALUES (?, ?, ?)", (record.step, *used))
        self._write_copies(record.copies)
        self._chain = chain
        self._last_step = record.step
        self._count += 1
        for listener in list(self.listeners):  # one may take itself out
            if (said := listener(record)) is not None:
                self._write_event(*said, record.time_ns)

    def _write_event(self, kind: str, text: str, time_ns: int) -> None:
        self._connection.execute("INSERT INTO events (time_ns, kind, text) VALUES (?, ?, ?)", (time_ns, kind, text))

    def _write_torn(self, record: Record) -> None:
        """Say once of each leaf that its copies are not equal: most stay so from there on."""
        for leaf, text in record.torn:
            if leaf not in self._torn and len(self._torn) < TORN_SAID:
                self._torn[leaf] = text
                self._write_event(TORN, text, record.time_ns)

    def _write_copies(self, paths: frozenset[str]) -> None:
        if not paths <= self._copies:
            self._copies |= paths
            row = COPIES, json.dumps(sorted(self._copies))
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)

    def _write_table(self, table: LeafTable) -> int:
        version = len(self._tables)
        write_table(self._connection, version, table)
        self._tables[table.digest] = version
        return version
