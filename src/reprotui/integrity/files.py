"""Files of a checkpoint: what lies in a directory, its SHA-256, and its way to the disk."""

import hashlib
import os
import re
import stat
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from reprotui.errors import BadInputError
from reprotui.integrity.status import Finding, IntegrityError, Status
from reprotui.names import entry_problem

CHUNK = 1 << 20
"""Bytes read at a time: a file of any size is hashed in this much memory, and SHA-256 releases the interpreter meanwhile."""
HASHING_THREADS = min(4, os.cpu_count() or 1)
"""SHA-256 is bound by the processor (2 GB/s a core); more threads than this meet the disk instead."""
SINGLE_FILE = "."
"""The name under which a checkpoint that is one file is recorded: renaming it changes nothing."""

T = TypeVar("T")
Progress = Callable[[int], None]
"""Called with the number of bytes since the last call, from one thread at a time."""

_DEVICES = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}


@dataclass(frozen=True)
class FileEntry:
    """A file as recorded: path relative to the checkpoint with `/`, size in bytes, SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Tree:
    """What lies in a checkpoint: relative paths of files and directories in order, and what must not be there."""

    files: tuple[str, ...]
    directories: tuple[str, ...]
    findings: tuple[Finding, ...]


def order(path: str) -> tuple[str, ...]:
    """Return the sorting key of a relative path: part by part, as `PurePosixPath` compares."""
    return tuple(path.split("/"))


def walk(root: Path, *, follow: bool = False) -> Tree:
    """List a checkpoint (a directory, or one file as `SINGLE_FILE`) without following or opening anything.

    Symbolic links, FIFOs, sockets and devices become findings, as do directories that cannot be read. With `follow`, a
    link to a regular file is listed as the file that it means.
    """
    findings: list[Finding] = []
    files: list[str] = []
    directories: list[str] = []
    try:
        waiting = [(str(root), SINGLE_FILE, os.lstat(root).st_mode)]
    except OSError as error:  # a running worker prunes while somebody looks
        status = Status.MISSING if isinstance(error, FileNotFoundError) else Status.UNREADABLE
        return Tree((), (), (Finding(status, SINGLE_FILE, f"cannot be read: {error.strerror}"),))
    while waiting:
        path, name, mode = waiting.pop()
        if stat.S_ISLNK(mode) and follow and Path(path).is_file():
            files.append(name)
        elif stat.S_ISLNK(mode):
            findings.append(Finding(Status.CORRUPT, name, "is a symbolic link: a checkpoint holds files and directories only"))
        elif stat.S_ISREG(mode):
            files.append(name)
        elif not stat.S_ISDIR(mode):
            findings.append(Finding(Status.UNREADABLE, name, "is a FIFO, socket or device: it is not opened"))
        else:
            if name != SINGLE_FILE:
                directories.append(name)
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        inner = entry.name if name == SINGLE_FILE else f"{name}/{entry.name}"
                        waiting.append((entry.path, inner, entry.stat(follow_symlinks=False).st_mode))
            except OSError as error:
                findings.append(Finding(Status.UNREADABLE, name, f"cannot be listed: {error.strerror}"))
    findings.sort(key=lambda finding: order(finding.path))
    return Tree(tuple(sorted(files, key=order)), tuple(sorted(directories, key=order)), tuple(findings))


def name_problem(path: str) -> str | None:
    """Say why a relative path cannot stand in a manifest; None where it can.

    Refused is what leaves the checkpoint, and what another file system would store under another name or not at all.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    if path == SINGLE_FILE:
        return None
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or "\\" in path:
        return "is absolute, or not written with /"
    if any(unicodedata.category(letter) == "Cc" for letter in path):
        return "holds a control character"
    if unicodedata.normalize("NFC", path) != path:
        return "is not in Unicode's normal form NFC: another file system would store another name"
    for part in path.split("/"):
        if entry_problem(part) is not None:
            return "does not stay within the checkpoint"
        if part.split(".")[0].lower() in _DEVICES or part[-1] in ". ":
            return f"has a part {part!r} that Windows cannot store"
    return None


def names_problem(paths: Iterable[str]) -> str | None:
    """Say why paths cannot stand in one manifest: one of them is refused, or two differ only by case."""
    seen: dict[str, str] = {}
    for path in paths:
        problem = name_problem(path)
        if problem is not None:
            return f"{path!r} {problem}"
        other = seen.setdefault(path.casefold(), path)
        if other is not path:
            return f"{path!r} is named twice" if other == path else f"{other!r} and {path!r} differ only by case"
    return None


def named(path: Path) -> Path:
    """Return a checkpoint's path so that it ends in a name: what lies beside it is called after that.

    Raises:
        BadInputError: it is the root of the file system, which lies beside nothing.
    """
    if path.name in ("", ".."):
        path = path.resolve()
    if not path.name:
        raise BadInputError(f"{path} is the root of the file system, and no checkpoint")
    return path


def locate(root: Path, name: str) -> Path:
    """Return the path of a recorded file."""
    return root if name == SINGLE_FILE else root / name


def read_file(
    root: Path, name: str, take: Callable[[memoryview], object], progress: Progress | None = None, *, follow: bool = False
) -> int:
    """Hand a regular file to `take` piece by piece; return its size. Never waits for a FIFO.

    Args:
        root, name: the checkpoint, and the file in it.
        take: called with each piece, whose memory is used again for the next.
        progress: called with bytes read.
        follow: read what a symbolic link points to; else a link is an error.

    Raises:
        IntegrityError: it cannot be read, is no regular file, or was replaced or grew while it was read.
    """
    path = locate(root, name)
    try:
        descriptor = os.open(path, os.O_RDONLY | (0 if follow else os.O_NOFOLLOW) | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise IntegrityError(Finding(Status.UNREADABLE, name, "is not a regular file"))
            size = 0
            buffer = bytearray(min(CHUNK, before.st_size + 1))
            view = memoryview(buffer)
            while count := file.readinto(buffer):
                take(view[:count])
                size += count
                if progress is not None:
                    progress(count)
        after = path.stat(follow_symlinks=follow)
    except FileNotFoundError:
        raise IntegrityError(Finding(Status.MISSING, name, "is not there")) from None
    except OSError as error:
        raise IntegrityError(Finding(Status.UNREADABLE, name, f"cannot be read: {error.strerror}")) from None
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino) or not size == before.st_size == after.st_size:
        raise IntegrityError(Finding(Status.CORRUPT, name, "changed while it was read: verify again when nobody writes"))
    return size


def hash_file(root: Path, name: str, progress: Progress | None = None, *, follow: bool = False) -> FileEntry:
    """Hash one regular file, streaming; see `read_file`."""
    hasher = hashlib.sha256()
    size = read_file(root, name, hasher.update, progress, follow=follow)
    return FileEntry(name, size, hasher.hexdigest())


def each_file(
    one: Callable[[str, Progress | None], T], names: Iterable[str], progress: Progress | None = None
) -> Iterator[T | IntegrityError]:
    """Read files on several cores; yield, in the given order, what `one` returns for each, or its error."""
    lock = threading.Lock()

    def report(count: int) -> None:
        with lock:
            if progress is not None:
                progress(count)

    def caught(name: str) -> T | IntegrityError:
        try:
            return one(name, report if progress is not None else None)
        except IntegrityError as error:
            return error

    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        try:
            yield from pool.map(caught, names)
        finally:
            pool.shutdown(cancel_futures=True)


def hash_files(
    root: Path, names: Iterable[str], progress: Progress | None = None, *, follow: bool = False
) -> Iterator[FileEntry | IntegrityError]:
    """Hash files on several cores; yield, in the given order, the entry or the error of each."""
    yield from each_file(lambda name, report: hash_file(root, name, report, follow=follow), names, progress)


def files_digest(entries: Iterable[FileEntry]) -> str:
    """Return the digest `files` of a checkpoint: SHA-256 over the raw digests of its files, in path order.

    It is the root that the OpenSSF model-signing format signs.
    """
    hasher = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: order(entry.path)):
        hasher.update(bytes.fromhex(entry.sha256))
    return hasher.hexdigest()


def sync_tree(root: Path) -> None:
    """Bring a checkpoint to the disk: fsync of every file, every directory from the leaves up, and the parent.

    Orbax syncs the array data, but neither its metadata files nor the parent after the final rename: after a power loss
    a checkpoint that was announced could be gone.

    Raises:
        IntegrityError: something in it is neither a file nor a directory.
    """
    tree = walk(root)
    if tree.findings:
        raise IntegrityError(tree.findings[0])
    for name in (*tree.files, *reversed(tree.directories)):
        sync(root / name)
    sync(root)
    sync(root.parent)


def sync(path: Path) -> None:
    """Fsync one file or directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
