"""What the outside asks of a training process: pause, resume, advance one step, save, stop; by file and by signal."""

import time
from collections.abc import Callable
from pathlib import Path

from reprotui.run_directory import CommandFeed

PAUSE_POLL_SECONDS = 0.02
"""How often a paused worker looks for a command: a key press is answered within a frame."""


class Control:
    """The controls of a training process; `reason` says who asked it to stop."""

    def __init__(self, path: Path) -> None:
        self._feed = CommandFeed(path)
        self._paused = False
        self._advance = 0
        self._save = self._stop = False
        self.reason = ""

    def request_stop(self, reason: str) -> None:
        """Ask for a stop after the current step; safe in a signal handler."""
        self._stop, self.reason = True, reason

    def stands(self) -> bool:
        """Say whether `may_step` would wait, or say no."""
        self._apply(self._feed.poll())
        return self._stop or (self._paused and not self._advance)

    def may_step(self, announce: Callable[[str], None], save: Callable[[], None] = lambda: None) -> bool:
        """Wait while paused; return whether to take another step.

        Args:
            announce: called with `paused` or `resumed` when that changes; when paused, everything before it is flushed.
            save: called when a checkpoint of the state after the last step was asked for, paused or not.
        """
        announced = False
        while True:
            self._apply(self._feed.poll())
            if self._save:
                self._save = False
                save()
            if self._stop:
                return False
            if not self._paused:
                if announced:
                    announce("resumed")
                return True
            if self._advance:
                self._advance -= 1
                return True
            if not announced:
                announce("paused")
                announced = True
            time.sleep(PAUSE_POLL_SECONDS)

    def _apply(self, commands: list[str]) -> None:
        for command in commands:
            if command == "stop":
                self.request_stop("stop command")
            elif command == "pause":
                self._paused = True
            elif command == "resume":
                self._paused, self._advance = False, 0
            elif command == "save":
                self._save = True
            elif command == "advance":
                self._paused, self._advance = True, self._advance + 1
