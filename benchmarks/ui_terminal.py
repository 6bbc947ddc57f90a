"""The dashboard in a pseudo-terminal: start it, press keys, and know when what is on the screen."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from reprotui.errors import WorkerFailedError
from reprotui.tui.theme import THEMES

SIZE = 160, 40
LIMIT_SECONDS = 120.0
"""How long anything is waited for: far more than it takes on a busy machine."""
QUIET_SECONDS = 0.1
"""Silence after which the screen counts as done: six times as long as the dashboard waits between two frames."""
LEAVE_SECONDS = 2.0

CURSOR = "\x01"
"""What the colour of the row under the cursor is in the text that is searched."""
_CURSOR = re.compile(rb"\x1b\[[0-9;]*48;2;%d;%d;%dm" % tuple(bytes.fromhex(THEMES[0].variables["block-cursor-background"][1:])))
_COLOUR = re.compile(rb"\x1b\[[0-9;:]*m")
_OTHER = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])|\r\n")
FRAME_ASKED, FRAME_ANSWER = b"\x1b[?2026$p", b"\x1b[?2026;2$y"
"""Does the terminal draw whole frames? Saying yes makes the dashboard mark where each frame ends."""
FRAME_END = b"\x1b[?2026l"


def installed_command() -> list[str]:
    """Return the installed command `reprotui` of this interpreter, or its module where there is no such script."""
    script = Path(sys.executable).with_name("reprotui")
    return [str(script)] if script.exists() else [sys.executable, "-m", "reprotui"]


def terminal_environment(settings: Path) -> dict[str, str]:
    """Return the environment of a usual terminal, with settings of its own and nothing that changes what is drawn."""
    dropped = ("REPROTUI_", "LC_", "TEXTUAL", "NO_COLOR", "COLUMNS", "LINES", "PYTHONPROFILE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {
        **kept, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "REPROTUI_SETTINGS": str(settings),
    }  # fmt: skip


def _control_terminal() -> None:
    """Make the pseudo-terminal the one that controls this process, which thus ends when this benchmark is killed."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A dashboard in a pseudo-terminal; a context manager that leaves no process behind.

    Args:
        arguments: of the command `reprotui`.
        folder: the working directory; the dashboard's settings are kept in it.
        size: columns and lines.
        taken: is handed all bytes as they were written, escapes and all.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, size: tuple[int, int] = SIZE, taken: Callable[[bytes], None] | None = None
    ) -> None:
        self._taken = taken
        self._master, slave = pty.openpty()
        self.resize(*size)
        command = [*installed_command(), *arguments]
        environment = terminal_environment(folder / "settings" / "settings.toml")
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=folder, start_new_session=True,
            preexec_fn=_control_terminal,
        )  # fmt: skip
        os.close(slave)
        self.written = 0
        """Bytes that the dashboard has written so far."""
        self.frames = 0
        """Frames that were completed so far."""
        self._frame = b""
        self._text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._process.poll() is None:
            os.write(self._master, b"q")
            deadline = time.perf_counter() + LEAVE_SECONDS
            with suppress(WorkerFailedError):
                while self._process.poll() is None and time.perf_counter() < deadline:
                    self._read(0.02)
            if self._process.poll() is None:
                self._process.kill()
        self._process.wait()
        os.close(self._master)

    def resize(self, width: int, height: int) -> None:
        """Give the terminal another size, of which the dashboard is told."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    @property
    def pid(self) -> int:
        return self._process.pid

    def press(self, keys: str) -> float:
        """Send keys, forget what was drawn before, and return the moment."""
        self.drain(0)
        self._text = ""
        moment = time.perf_counter()
        os.write(self._master, keys.encode())
        return moment

    def wait_for(self, *patterns: str) -> float:
        """Return the moment at which a frame ended and these patterns had all been drawn (text without its colours).

        Raises:
            WorkerFailedError: the dashboard ended, or they never came.
        """
        wanted = [re.compile(pattern) for pattern in patterns]
        deadline = time.perf_counter() + LIMIT_SECONDS
        while wanted := [pattern for pattern in wanted if not pattern.search(self._text)]:
            if not self._read(deadline - time.perf_counter()):
                missing = ", ".join(repr(pattern.pattern) for pattern in wanted)
                raise WorkerFailedError(f"the dashboard never showed {missing}, but {self._tail}")
        return time.perf_counter()

    def wait_for_frame(self) -> float:
        """Return the moment at which the next frame ended."""
        before = self.frames
        while self.frames == before:
            if not self._read(LIMIT_SECONDS):
                raise WorkerFailedError(f"the dashboard draws nothing after {self._tail}")
        return time.perf_counter()

    def quiet(self) -> float:
        """Wait until nothing was written for `QUIET_SECONDS`; return the moment of the last byte."""
        last = time.perf_counter()
        while self._read(QUIET_SECONDS):
            last = time.perf_counter()
        return last

    def drain(self, seconds: float) -> int:
        """Read whatever is written within so many seconds; return how many bytes that were."""
        before, deadline = self.written, time.perf_counter() + seconds
        while self._read(left := max(0.0, deadline - time.perf_counter())) or left:
            pass
        return self.written - before

    @property
    def _tail(self) -> str:
        return repr((self._text + self._frame.decode(errors="replace"))[-300:])

    def _read(self, seconds: float) -> int:
        """Read what is there, at the latest after so many seconds; return how many bytes that were."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, seconds))
        if not ready:
            return 0
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # what Linux says when the last process behind the terminal has ended
            raise WorkerFailedError(f"the dashboard ended after {self._tail}") from None
        self.written += len(data)
        if self._taken is not None:
            self._taken(data)
        self._frame += data
        if FRAME_ASKED in self._frame:
            self._frame = self._frame.replace(FRAME_ASKED, b"")
            os.write(self._master, FRAME_ANSWER)
        *frames, self._frame = self._frame.split(FRAME_END)
        for frame in frames:
            # Colours change within a word, the cursor moves between two.
            self._text += _OTHER.sub(b"\n", _COLOUR.sub(b"", _CURSOR.sub(CURSOR.encode(), frame))).decode(errors="replace") + "\n"
        self.frames += len(frames)
        return len(data)
