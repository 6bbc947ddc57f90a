"""The registry of a checkpoints directory: which manifest belongs to which name, in a chain that only grows.

A checkpoint that is rolled back together with its manifest is whole in itself; the registry still knows the newer one.
Rolling back the registry too can be noticed only from outside, by a `head` that was kept elsewhere.

A line begins with the number of bytes that follow in it. It is written and synced with `#` where its brace should be, and
the brace is put there last: so what a crash leaves in the middle of an append begins with `#`, and whatever begins with a
brace and is not whole was acknowledged, and is damaged. Lines of former versions have no length; where the last of those
is unfinished nobody can tell, so it counts for nothing and is set aside, never cut off.
"""

import fcntl
import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reprotui.errors import BadInputError
from reprotui.integrity.content import checked, checked_sha256
from reprotui.integrity.files import sync
from reprotui.integrity.status import Finding, IntegrityError, Status
from reprotui.names import entry_problem

NAME = "registry.jsonl"
ASIDE = "registry.jsonl.unfinished"
"""Gets the unfinished last line of a former version, before another line takes its place."""
SAVED, REMOVED = "saved", "removed"
GENESIS = "0" * 64
"""What the first entry hangs on."""
_BEGUN, _WHOLE = b"#", b"{"
"""First byte of a line while it is written, and once it is acknowledged; three bits apart."""
_LENGTH = re.compile(rb'[#{]"length":(\d{1,9}),')
_BEGINNING, _FORMER = b'#"length":', b'{"kind":'


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
    """All entries of a directory, in order.

    Attributes:
        entries: those that were acknowledged.
        unfinished: what is to be said of a last line that was begun and not finished; empty where there is none.
    """

    entries: tuple[Entry, ...]
    unfinished: str = ""

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

    A last line that was begun and not finished was never acknowledged, and is left out.

    Raises:
        IntegrityError: CORRUPT for anything that is not what was appended there, UNREADABLE where it cannot be read.
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
    read = _read(raw)
    return Registry(tuple(read.entries), read.unfinished)


def append(directory: Path, kind: str, name: str, step: int | None, manifest: str, content: str | None) -> Entry:
    """Append an entry, durably: it is on the disk when this returns.

    Args:
        directory: the checkpoints directory.
        kind: `SAVED` or `REMOVED`.
        name, step, manifest, content: see `Entry`.

    Raises:
        BadInputError: the name cannot stand in a registry.
        IntegrityError: the registry is damaged; nothing is appended to a chain that does not hold, and nothing cut off.
    """
    if (problem := entry_problem(name)) is not None:
        raise BadInputError(f"the checkpoint {name!r} {problem}: rename it before it is registered")
    with _locked(registry_path(directory)) as file:
        raw = file.read()
        read = _read(raw)
        if raw[read.end :] and not raw.startswith(_BEGUN, read.end):
            _set_aside(directory / ASIDE, raw[read.end :])
        file.truncate(read.end)
        body = {
            "kind": kind, "name": name, "step": step, "manifest": manifest, "content": content, "created_ns": time.time_ns(),
            "previous": read.entries[-1].digest if read.entries else GENESIS,
        }  # fmt: skip
        entry = Entry(**body, digest=_digest(body))
        _write(file, read.end, _BEGUN + _line(entry)[1:])
        sync(directory)
        _write(file, read.end, _WHOLE)
    return entry


@contextmanager
def _locked(path: Path) -> Generator[Any]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _write(file: Any, at: int, data: bytes) -> None:
    file.seek(at)
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _set_aside(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "ab") as file:
        file.write(data + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


class _Read(NamedTuple):
    entries: list[Entry]
    end: int
    unfinished: str


def _read(raw: bytes) -> _Read:
    """Return the entries, where the last acknowledged line ends, and what is to be said of what follows there."""
    entries: list[Entry] = []
    at, previous, announced = 0, GENESIS, False
    while at < len(raw):
        end = raw.find(b"\n", at) + 1
        if not end or raw.startswith(_BEGUN, at):
            return _Read(entries, at, _unfinished(raw[at:], len(entries) + 1, announced))
        entry = _parse(raw[at:end], len(entries) + 1, previous)
        entries.append(entry)
        announced |= _LENGTH.match(raw, at) is not None
        at, previous = end, entry.digest
    return _Read(entries, at, "")


def _parse(line: bytes, number: int, previous: str) -> Entry:
    try:
        value = json.loads(line)
        length = value.pop("length", None)
        entry = Entry(**value)
        for digest in (entry.manifest, entry.previous, entry.digest):
            checked_sha256(digest)
        checked(entry.name, str)
        body = {name: value for name, value in asdict(entry).items() if name != "digest"}
        written = _line(entry) if length is not None else _former_line(entry)
        whole = written == line and entry.previous == previous and entry.digest == _digest(body)
    except (ValueError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole or entry.kind not in (SAVED, REMOVED):
        raise _damaged(f"line {number} was edited or damaged, or a line before it is gone")
    if (problem := entry_problem(entry.name)) is not None:
        raise _damaged(f"line {number} names {entry.name[:100]!r}, which {problem}; it is not followed")
    return entry


def _unfinished(tail: bytes, number: int, announced: bool) -> str:
    """Say what an unfinished last line is where no line was lost by it.

    Raises:
        IntegrityError: CORRUPT where it was acknowledged, or nothing that this program writes.
    """
    length = _LENGTH.match(tail)
    # Both forms begin with the same two bytes.
    announced |= number == 1 and len(tail) <= 2
    body = tail.removesuffix(b"\n")
    if tail.startswith(_BEGUN):
        is_beginning = _BEGINNING.startswith(tail) or (tail.startswith(_BEGINNING) and tail[len(_BEGINNING) :].isdigit())
        fits = is_beginning if length is None else len(tail) - length.end() <= int(length[1])
        if fits and min(body) >= 0x20:
            return "its last line was begun and never finished, as by a crash while this was saved"
    elif not announced and _FORMER.startswith(tail[: len(_FORMER)]) and min(body) >= 0x20 and not _is_json(tail):
        return "its last line is unfinished: a former version was cut off while it wrote, or the line was damaged since"
    elif length is not None:
        has = f"{len(tail) - length.end()} of {int(length[1])} bytes"
        raise _damaged(f"line {number} was acknowledged and is cut off or damaged: it has {has}")
    raise _damaged(f"{len(tail)} bytes after line {number - 1} are no whole line, and not what a crash leaves")


def _is_json(raw: bytes) -> bool:
    """Say whether a text begins with a whole JSON value, whatever follows."""
    try:
        json.JSONDecoder().raw_decode(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    return True


def _damaged(message: str) -> IntegrityError:
    return IntegrityError(Finding(Status.CORRUPT, NAME, f"{message}: no checkpoint can be shown to be the newest"))


def _line(entry: Entry) -> bytes:
    rest = _former_line(entry)[1:]
    return b'{"length":%d,' % len(rest) + rest


def _former_line(entry: Entry) -> bytes:
    return json.dumps(asdict(entry), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
