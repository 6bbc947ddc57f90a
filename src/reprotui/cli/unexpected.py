"""An error that nobody foresaw: no verdict, one line for the person, and a log with everything for the report."""

import contextlib
import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from reprotui import __version__
from reprotui.cli import common
from reprotui.errors import WORKER_FAILED


def tell(error: BaseException, arguments: list[str]) -> int:
    """Write the log, print the line, and return the exit code: that of our own fault, never that of a difference."""
    log = _write(_describe(error, arguments))
    where = f"the traceback is in {log}" if log else "the traceback could not be written anywhere"
    common.say(
        f"reprotui: unexpected error: {_sentence(error)}: a fault of reprotui, and no verdict; {where}, please report it",
        stderr=True,
    )
    return WORKER_FAILED


def _sentence(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno})" if frames else ""
    text = str(error)
    return f"{type(error).__name__}{f': {text}' if text else ''}{place}"


def _describe(error: BaseException, arguments: list[str]) -> str:
    head = [
        f"reprotui {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"in {os.getcwd() if Path().exists() else 'a directory that is gone'}: {shlex.join(['reprotui', *arguments])}",  # noqa: PTH109
    ]
    return "\n".join([*head, "", *traceback.format_exception(error)])


def _write(text: str) -> Path | None:
    """Write the log to the first place that can be written."""
    name = f"unexpected-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for directory in _places():
        with contextlib.suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
            path = directory / name
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return path
    return None


def _places() -> Iterator[Path]:
    with contextlib.suppress(Exception):  # a home that cannot be found must not hide the error
        import platformdirs

        yield platformdirs.user_log_path("reprotui")
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir())


def streams() -> None:
    """Make both streams such that printing cannot fail: one that is closed goes nowhere, signs without a code are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - it stays open as long as the process
        elif hasattr(stream, "reconfigure") and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
