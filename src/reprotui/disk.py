"""The disk that a path lies on, and whether it is full: what a process that dies of it can hardly write down itself."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

ROOM = 1 << 16
"""Bytes below which a disk counts as full: the last words of a run, its log and its manifest, take about as much."""
MOUNTS = Path("/proc/self/mountinfo")
"""Where Linux says which file system lies where."""
_SAID = (*map(os.strerror, (errno.ENOSPC, errno.EDQUOT)), "database or disk is full")
"""How the system, libraries that hand its words on, and SQLite say that there is no room."""
_NO_ROOM_FOR_INDEX = "SQLITE_IOERR_SHMSIZE"
"""How SQLite names that the index of its journal, a file beside the trace, could not grow; its words are `disk I/O error`."""


@dataclass(frozen=True)
class Mount:
    """A mounted file system: where, and of which type; `unknown` where /proc does not tell."""

    point: str
    kind: str


def mount_of(path: Path) -> Mount:
    """Return the file system that holds a path, which need not exist."""
    resolved = str(path.resolve())
    found = Mount("", "unknown")
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found.point):
            found = Mount(point, after.split()[0])
    return found


def full_disk(path: Path) -> str | None:
    """Say which disk holds a path, in words, where hardly anything more can be written there; None where there is room."""
    try:
        status = os.statvfs(_existing(path))
    except OSError:
        return None
    blocks = status.f_bfree if hasattr(os, "geteuid") and os.geteuid() == 0 else status.f_bavail
    if status.f_files and not status.f_favail:
        return f"{_name(path)} is full: it takes no further file"
    return f"{_name(path)} is full" if blocks * status.f_frsize < ROOM else None


def with_disk(error: BaseException, path: Path) -> str:
    """Return the words of an error, and where it says that there was no room also the disk of which that is true.

    Room may be there again when somebody looks, as soon as what was half written is removed: the error's word counts.
    """
    return f"{error}; {_name(path)} is full" if no_room(error) else str(error)


def no_room(error: BaseException) -> bool:
    """Say whether an error tells that a disk had no room."""
    index = getattr(error, "sqlite_errorname", "") == _NO_ROOM_FOR_INDEX  # of sqlite3.Error, which is not imported for this
    return index or any(said in str(error) for said in _SAID)


def _name(path: Path) -> str:
    mount = mount_of(path)
    try:
        status = os.statvfs(_existing(path))
    except OSError:
        return f"the disk of {path}"
    total = status.f_blocks * status.f_frsize
    size = f"{total / 1e9:.3g} GB" if total >= 1e9 else f"{total / 1e6:.3g} MB"
    return f"the disk at {mount.point} ({mount.kind}, {size})" if mount.point else f"the disk of {path} ({size})"


def _existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next((place for place in (path, *path.parents) if place.exists()), path)
