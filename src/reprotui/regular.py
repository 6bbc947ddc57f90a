"""The one door for files that somebody named: a regular file is read, anything else is refused before it is waited for."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from reprotui.errors import BadInputError

_KINDS = (
    (stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)  # fmt: skip


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; nobody is waited for who may never write into a FIFO.

    Raises:
        BadInputError: it is something else than a regular file.
        OSError: it is missing or cannot be opened.
    """
    # Looked at first, because opening a device can do something, and a socket cannot be opened at all.
    _refuse(path, path.stat().st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    try:
        _refuse(path, os.fstat(descriptor).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def read_regular(path: Path) -> bytes:
    """Return the bytes of a regular file; see `open_regular` for what is raised."""
    with open_regular(path) as file:
        return file.read()


def _refuse(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = next((name for is_it, name in _KINDS if is_it(mode)), "no regular file")
        raise BadInputError(f"{path} cannot be read: it is {what}, expected a file")
