"""What the outside asks of a training process: pause, resume, advance, save, stop; by file and by signal."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from reprotui.run_directory import COMMANDS, LEAD

PAUSE_POLL_SECONDS = 0.02
"""How often a paused worker looks for a command: a key press is answered within a frame."""
LED_SECONDS = 5.0
"""How long a run that is led waits for word before it says that it is paused: nobody may lead it any more."""


class Asked(NamedTuple):
    """A command that was read; `to` is the step that it names, None where it names none."""

    command: str
    to: int | None = None


class CommandFeed:
    """Read the commands appended since the last look; cheap enough to ask at every step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def skip(self) -> None:
        """Read from the end of what is there on."""
        with contextlib.suppress(OSError):
            self._offset = self._path.stat().st_size

    def poll(self) -> list[Asked]:
        """Return new commands in order; an unfinished last line waits for its end, an unreadable one is skipped."""
        try:
            if self._path.stat().st_size <= self._offset:
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        commands = []
        for line in complete.splitlines():
            try:
                found = json.loads(line)
                command, to = found["command"], found.get("to")
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if command in (*COMMANDS, LEAD) and (to is None or type(to) is int):
                commands.append(Asked(command, to))
        return commands


class Control:
    """The controls of a training process; `reason` says who asked it to stop."""

    def __init__(self, path: Path) -> None:
        self._feed = CommandFeed(path)
        self._paused = self._announced = self._led = False
        self._advance = 0
        self._until: int | None = None
        self._save = self._stop = False
        self.reason = ""
        self.stopping: Callable[[], None] = lambda: None
        """Called when a stop is asked for, from a signal handler too."""

    def forget(self) -> None:
        """Leave out the commands that are there by now: they were for a process that is gone."""
        self._feed.skip()

    def request_stop(self, reason: str) -> None:
        """Ask for a stop after the current step; safe in a signal handler."""
        self._stop, self.reason = True, reason
        self.stopping()

    def stands(self, step: int) -> bool:
        """Say whether `may_step` would wait after a step, or say no."""
        self._apply(self._feed.poll())
        return self._stop or (self._paused and not self._advance and not self._on_its_way(step))

    def may_step(self, step: int, announce: Callable[[str], None], save: Callable[[], None] = lambda: None) -> bool:
        """Wait while paused; return whether to take another step.

        Args:
            step: the last step that was taken.
            announce: called with `paused` or `resumed` when that changes; when paused, everything before it is flushed.
            save: called when a checkpoint of the state after the last step was asked for, paused or not.
        """
        began = time.monotonic()
        while True:
            self._apply(self._feed.poll())
            if self._save:
                self._save = False
                save()
            if self._stop:
                return False
            if not self._paused or self._on_its_way(step):
                if self._announced:
                    announce("resumed")
                self._announced = False
                return True
            if self._advance:
                self._advance -= 1
                self._announced = False
                return True
            if not self._announced and (not self._led or time.monotonic() - began > LED_SECONDS):
                announce("paused")
                self._announced = True
            time.sleep(PAUSE_POLL_SECONDS)

    def _on_its_way(self, step: int) -> bool:
        return self._until is not None and step < self._until

    def _apply(self, commands: list[Asked]) -> None:
        for command, to in commands:
            if command == "stop":
                self.request_stop("stop command")
            elif command == "save":
                self._save = True
            elif command == "advance" and to is None:
                self._paused, self._led, self._advance = True, False, self._advance + 1
            else:
                self._paused, self._led = command != "resume", command == LEAD
                self._until, self._advance = to, 0
