"""A resume check as it is asked for in the dashboard: its commands, what is wrong with them, and its start. No textual here."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reprotui.errors import BadInputError, WorkerFailedError

if TYPE_CHECKING:
    from reprotui.race.start import Started

READY_SECONDS = 60.0
"""How long the check may take to make its directory: it looks at interpreters other than this one."""


@dataclass(frozen=True)
class ResumeForm:
    """What was typed: the whole run, and its parts or the step after which it is interrupted."""

    full: str = ""
    first: str = ""
    then: str = ""
    at: str = ""

    @property
    def problem(self) -> str:
        """Return what is missing or wrong; empty where the check can start."""
        if not self.full:
            return "give the command of the uninterrupted run"
        if self.at:
            if self.first or self.then:
                return "give the parts, or the step to interrupt at, not both"
            return "" if self.at.isdecimal() and int(self.at) > 0 else f"{self.at!r} is no step: a whole number from 1 on"
        if not self.first or not self.then:
            return "give both parts, or the step after which it is interrupted"
        try:
            shlex.split(self.full)
        except ValueError as error:
            return f"{self.full}: {error}"
        return ""

    def command(self, runs: Path, name: str = "") -> list[str]:
        """Return the command line of the same check."""
        words = ["reprotui", "resume-check", "--runs-dir", str(runs), *(["--name", name] if name else [])]
        if self.at:
            return [*words, "--interrupt-at", self.at, "--", *shlex.split(self.full)]
        return [*words, "--full", self.full, "--first", self.first, "--then", self.then]

    def start(self, runs: Path) -> Started:
        """Start the check as a process of its own, which outlives the dashboard, and return its race once it is there.

        Raises:
            BadInputError: it cannot be started as it was asked for.
            WorkerFailedError: it came to nothing.
        """
        from reprotui.race.priority import at_full_priority
        from reprotui.race.start import Started

        if self.problem:
            raise BadInputError(self.problem)
        name = f"resume-check-{time.strftime('%Y%m%d-%H%M%S')}"
        words = [sys.executable, "-m", *self.command(runs, name)]
        with tempfile.TemporaryFile("w+b") as said:
            process = at_full_priority(
                lambda: subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
                )
            )
            # Somebody must wait for it to the end: what nobody waits for stays a zombie.
            threading.Thread(target=process.wait, name=f"reprotui-{process.pid}", daemon=True).start()
            deadline = time.monotonic() + READY_SECONDS
            while time.monotonic() < deadline:
                if (runs / name / "resumed" / "run.json").exists():
                    return Started(runs / name, {})
                if process.poll() is not None:
                    said.seek(0)
                    lines = said.read().decode("utf-8", "replace").strip().splitlines() or ["it ended without a word"]
                    raise BadInputError(lines[-1].removeprefix("reprotui: "))
                time.sleep(0.05)
        process.terminate()
        raise WorkerFailedError(f"the check did not make {runs / name} within {READY_SECONDS:.0f} s")
