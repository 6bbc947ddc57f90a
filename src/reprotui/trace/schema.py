"""The schema of trace.db, and how its file is opened. docs: ARCHITECTURE.md."""

import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from reprotui.disk import mount_of

SCHEMA_VERSION = 2
"""Traces of version 1 have one root for optimizer and parameters: `trace.former` reads them."""
APPLICATION_ID = 0x52505455
"""`RPTU`: tells a trace from any other SQLite file."""

JOURNAL_VARIABLE = "REPROTUI_JOURNAL"
FOLD_SECONDS = 2.0
"""How long the seal waits for readers that look at the trace just then: each look takes milliseconds."""
BUSY_MS = 2000
"""How long a lock is waited for: readers hold theirs for milliseconds, so two seconds mean that something is stuck."""

CREATE = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE leaf_tables (version INTEGER PRIMARY KEY, digest BLOB NOT NULL) STRICT;
CREATE TABLE leaves (
    version INTEGER NOT NULL, id INTEGER NOT NULL, phase TEXT NOT NULL, path TEXT NOT NULL, dtype TEXT NOT NULL,
    shape TEXT NOT NULL, PRIMARY KEY (version, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE steps (
    step INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, loss REAL, loss_bits INTEGER, metrics TEXT,
    version INTEGER NOT NULL, roots BLOB NOT NULL, chain BLOB NOT NULL
) STRICT;
CREATE TABLE leaf_checksums (step INTEGER PRIMARY KEY, blob BLOB NOT NULL) STRICT;
CREATE TABLE leaf_stats (step INTEGER PRIMARY KEY, blob BLOB NOT NULL) STRICT;
CREATE TABLE not_finite (step INTEGER PRIMARY KEY, leaves BLOB NOT NULL) STRICT;
CREATE TABLE calls (step INTEGER PRIMARY KEY, calls TEXT NOT NULL) STRICT;
CREATE TABLE chance (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL, path TEXT NOT NULL,
    line INTEGER NOT NULL, text TEXT NOT NULL, value TEXT
) STRICT;
CREATE TABLE asked (step INTEGER PRIMARY KEY, networks TEXT NOT NULL, which BLOB NOT NULL, digests BLOB NOT NULL) STRICT;
CREATE TABLE memory (step INTEGER PRIMARY KEY, host INTEGER, accelerators INTEGER) STRICT;
CREATE TABLE events (id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL) STRICT;
CREATE VIEW roots AS SELECT step,
    hex(substr(roots, 1, 8)) AS init, hex(substr(roots, 9, 8)) AS batch, hex(substr(roots, 17, 8)) AS rng,
    hex(substr(roots, 25, 8)) AS forward, hex(substr(roots, 33, 8)) AS grads,
    hex(substr(roots, 41, 8)) AS optimizer, hex(substr(roots, 49, 8)) AS params FROM steps;
"""

_NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "9p", "ncpfs", "panfs",
    "orangefs", "pvfs2", "wekafs", "virtiofs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.juicefs", "fuse.gcsfuse",
    "fuse.s3fs", "davfs", "fuse.rclone", "fuse.weka",
}  # fmt: skip
"""File systems on which WAL does not work: its shared memory needs all processes on one host."""


def file_system(path: Path) -> str:
    """Return the type of the file system that holds a path (`ext4`, `nfs4`), or `unknown` where /proc does not tell."""
    return mount_of(path).kind


def journal_mode(path: Path) -> str:
    """Return the journal mode for a trace in this directory: WAL, or TRUNCATE on network file systems.

    `$REPROTUI_JOURNAL` (`wal` or `truncate`) overrides, for file systems that do not say what they are.
    """
    asked = os.environ.get(JOURNAL_VARIABLE, "").upper()
    if asked in ("WAL", "TRUNCATE"):
        return asked
    return "TRUNCATE" if file_system(path) in _NETWORK else "WAL"


def connect_writer(path: Path, meta: Mapping[str, str]) -> sqlite3.Connection:
    """Create a trace file that holds `meta`, and return the one read-write connection to it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    try:
        # The schema comes first, in one transaction and before WAL: a reader sees an empty file or a whole trace, never
        # half of one, and a copy of the file without its WAL is a trace still.
        connection.execute("BEGIN")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        for statement in CREATE.split(";\n"):
            if statement.strip():
                connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA journal_mode={journal_mode(path.parent)}")
        connection.execute("PRAGMA synchronous=NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def folded(connection: sqlite3.Connection) -> str:
    """Fold the journal into the one file; return the journal mode, `delete` where that was done in time."""
    deadline = time.monotonic() + FOLD_SECONDS
    while True:
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
        except sqlite3.OperationalError:
            # SQLite waits for no reader here, whatever its timeout: one that looks at this very moment is enough.
            if time.monotonic() > deadline:
                return connection.execute("PRAGMA journal_mode").fetchone()[0]
            time.sleep(0.02)


def connect_reader(path: Path) -> sqlite3.Connection:
    """Return a read-only connection; it cannot create, recover or checkpoint anything."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=BUSY_MS / 1000)
    connection.execute("PRAGMA query_only=ON")
    return connection
