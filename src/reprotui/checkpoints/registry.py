"""The registry of a checkpoints directory: which manifest belongs to which name, in a chain that only grows.

A checkpoint that is rolled back together with its manifest is whole in itself; the registry still knows the newer one.
Rolling back the registry too can be noticed only from outside, by a `head` that was kept elsewhere.
"""

import fcntl
import functools
import hashlib
import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reprotui.integrity.content import checked, checked_sha256
from reprotui.integrity.files import sync
from reprotui.integrity.status import Finding, IntegrityError, Status

NAME = "registry.jsonl"
SAVED, REMOVED = "saved", "removed"
GENESIS = "0" * 64
"""What the first entry hangs on."""


@dataclass(frozen=True)
class Entry:
    """One line of the registry.

    Attributes:
        kind: `saved`, once the manifest is on the disk; `removed`, before anything is deleted.
        name: the checkpoint's directory or file name.
        step: its step, None where it belongs to no run.
        manifest: SHA-256 of the manifest's file.
        content: the content digest, None where the manifest has none.
        created_ns: for people.
        previous: the digest of the line before.
        digest: SHA-256 over all of the above.
    """

    kind: str
    name: str
    step: int | None
    manifest: str
    content: str | None
    created_ns: int
    previous: str
    digest: str


@dataclass(frozen=True)
class Registry:
    """All entries of a directory, in order."""

    entries: tuple[Entry, ...]

    @property
    def head(self) -> str:
        """Return the digest of the last entry: whoever keeps it can prove later that nothing was rolled back."""
        return self.entries[-1].digest if self.entries else GENESIS

    def latest(self, name: str) -> Entry | None:
        """Return the last entry of a name."""
        return next((entry for entry in reversed(self.entries) if entry.name == name), None)

    def names(self) -> list[str]:
        """Return the names that are saved and were not removed, in the order in which they were saved first."""
        names = dict.fromkeys(entry.name for entry in self.entries)
        return [name for name in names if (latest := self.latest(name)) is not None and latest.kind == SAVED]


def registry_path(directory: Path) -> Path:
    """Return where the registry of a checkpoints directory lies."""
    return directory / NAME


def read_registry(directory: Path) -> Registry | None:
    """Read and verify the chain; None where there is no registry.

    A last line without its end was never acknowledged, and is left out.

    Raises:
        IntegrityError: CORRUPT for any line that is not what was appended there, UNREADABLE where it cannot be read.
    """
    path = registry_path(directory)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise IntegrityError(Finding(Status.CORRUPT, NAME, "is not a regular file, expected the registry"))
    try:
        return _registry(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IntegrityError(Finding(Status.UNREADABLE, NAME, f"cannot be read: {error.strerror}")) from None


@functools.lru_cache(maxsize=4)
def _registry(raw: bytes) -> Registry:
    """Verify a chain once for the same bytes: 30 µs a line, and every checkpoint of a run asks for all of them."""
    return Registry(tuple(_parse(raw)))


def append(directory: Path, kind: str, name: str, step: int | None, manifest: str, content: str | None) -> Entry:
    """Append an entry, durably: it is on the disk when this returns.

    Args:
        directory: the checkpoints directory.
        kind: `SAVED` or `REMOVED`.
        name, step, manifest, content: see `Entry`.

    Raises:
        IntegrityError: the registry is damaged; nothing is appended to a chain that does not hold.
    """
    with _locked(registry_path(directory)) as file:
        raw = file.read()
        entries = list(_parse(raw))
        whole = raw.rfind(b"\n") + 1
        if whole != len(raw):
            # The beginning of a line that a killed process left: cut off, or the next one would be unreadable.
            file.truncate(whole)
        body = {
            "kind": kind, "name": name, "step": step, "manifest": manifest, "content": content, "created_ns": time.time_ns(),
            "previous": entries[-1].digest if entries else GENESIS,
        }  # fmt: skip
        entry = Entry(**body, digest=_digest(body))
        file.seek(whole)
        file.write(_line(entry))
        file.flush()
        os.fsync(file.fileno())
    sync(directory)
    return entry


@contextmanager
def _locked(path: Path) -> Generator[Any]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _parse(raw: bytes) -> Iterator[Entry]:
    previous = GENESIS
    for number, line in enumerate(raw.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            return
        try:
            value = json.loads(line)
            entry = Entry(**value)
            for digest in (entry.manifest, entry.previous, entry.digest):
                checked_sha256(digest)
            checked(entry.name, str)
            body = {name: value for name, value in asdict(entry).items() if name != "digest"}
            whole = _line(entry) == line and entry.previous == previous and entry.digest == _digest(body)
        except (ValueError, TypeError, RecursionError):
            whole = False
        if not whole or entry.kind not in (SAVED, REMOVED):
            said = (
                f"line {number} was edited or damaged, or a line before it is gone: no checkpoint can be shown to be the newest"
            )
            raise IntegrityError(Finding(Status.CORRUPT, NAME, said))
        previous = entry.digest
        yield entry


def _line(entry: Entry) -> bytes:
    return json.dumps(asdict(entry), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
