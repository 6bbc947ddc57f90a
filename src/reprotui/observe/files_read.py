"""Files that a script reads and folders that it lists, asked through a `Ledger`."""

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from reprotui.observe.ledger import Ledger

FILE_LIMIT = 64 << 20
"""Bytes up to which a file is digested when it is opened: 45 ms. Of a larger one the size is kept."""
FILES = 64
"""Files and folders that are told of in one run."""
NAMES = 100_000
"""Names of a folder whose order is looked at."""
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/run/")
_CODE = (".py", ".pyc", ".pyi", ".so", ".pth", ".egg-link", ".pyd", ".dll")
_READERS = (
    "pathlib",
    "glob",
    "os",
    "gzip",
    "bz2",
    "lzma",
    "zipfile",
    "tarfile",
    "shutil",
    "fileinput",
    "codecs",
    "csv",
    "json",
    "pickle",
)
"""Modules of Python that read files and folders for whoever calls them."""


class Files:
    """Files that are opened for reading, and folders that are listed, by Python's audit hook."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: set[str] = set()
        # What jax compiled is no data.
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or sys.prefix
        self._left_out = tuple(os.path.realpath(path) + os.sep for path in {sys.prefix, sys.base_prefix, cache})

    def watch(self) -> None:
        """Begin; an audit hook stays for the life of the process."""
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, _ = arguments
            if isinstance(path, str) and mode in ("r", "rb", "rt") and not path.endswith(_CODE):
                self._reached("file", "open", path, _file)
        elif event in ("os.listdir", "os.scandir") and isinstance(arguments[0], str | os.PathLike):
            self._reached("folder", event, os.fspath(arguments[0]), _folder)

    def _reached(self, kind: str, source: str, path: Any, describe: Callable[[str], str | None]) -> None:
        if self._ledger.busy or path in self._seen or len(self._seen) >= FILES or not isinstance(path, str):
            return
        whole = os.path.realpath(path)
        if (whole + os.sep).startswith((*_SYSTEM, *self._left_out)) or "__pycache__" in whole:
            return
        told, value = f"{source}({path})", lambda: self._described(path, describe)
        self._ledger.note(sys._getframe(2), kind, told, value, through=_READERS)

    def _described(self, path: str, describe: Callable[[str], str | None]) -> str | None:
        self._seen.add(path)
        try:
            return describe(path)
        except OSError:
            return None


def _file(path: str) -> str | None:
    status = os.stat(path)  # noqa: PTH116 - a file may be a pipe, which reading would empty
    if not stat.S_ISREG(status.st_mode):
        return None
    if status.st_size > FILE_LIMIT:
        return f"{status.st_size} bytes"
    with Path(path).open("rb") as file:
        return f"{status.st_size} bytes, SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _folder(path: str) -> str | None:
    with os.scandir(path) as entries:
        names = [entry.name for entry in islice(entries, NAMES)]
    order = hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
    return f"{len(names)} names, in the order {order}"
