"""One run as it is watched: its state, events and log, and how fast it goes. Never writes."""

import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

from reprotui.errors import ReprotuiError
from reprotui.run_directory import RunDirectory
from reprotui.trace import Event, Trace

LOG_LINES = 200
"""Lines of a worker's log that are kept for the eye."""
RATE_SECONDS = 3.0
"""Span over which the rate is taken: long enough to be calm, short enough to follow."""
ELSEWHERE_SECONDS = 600.0
"""How long after its last record a run on another host, whose process cannot be asked, counts as running."""


@dataclass
class WatchedRun:
    """A run that is looked at again and again; what did not change is not read again."""

    label: str
    run: RunDirectory
    process: subprocess.Popen[bytes] | None = None
    events: list[Event] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)
    stamp: tuple[int, int] = (0, 0)
    state: str = "created"
    log: tuple[str, ...] = ()
    log_size: int = -1
    window: list[tuple[float, int]] = field(default_factory=list)
    problem: str = ""
    trained: bool = False
    written_ns: int = 0

    def look(self) -> None:
        """Read what may have changed beside the trace: manifest, state, log."""
        try:
            status = self.run.manifest_path.stat()
            stamp = status.st_mtime_ns, status.st_size
            if stamp != self.stamp:
                self.manifest, self.stamp = self.run.manifest(), stamp
            self.state = self.run.state(self.manifest)
            self.problem = str((self.manifest.get("result") or {}).get("error") or self.run.why(self.state, self.manifest))
        except (ReprotuiError, OSError) as error:
            self.problem = str(error)
            if not self.run.path.exists():
                self.state, self.problem = "gone", f"{self.run.path} does not exist any more"
        try:
            size = self.run.log_path.stat().st_size
        except OSError:
            size = 0
        if size != self.log_size:
            self.log, self.log_size = tuple(self.run.log_tail(LOG_LINES)), size

    def look_at_trace(self, trace: Trace) -> None:
        """Read the events since the last look; after `look`, because a process that has ended by then has written them all."""
        try:
            self.events += trace.events(self.events[-1].id if self.events else 0)
            if self.state == "elsewhere" or not self.trained:
                last = trace.last_step()
                row = None if last is None else trace.row(last)
                self.trained = bool(last)
                self.written_ns = row.time_ns if row is not None else 0
        except ReprotuiError as error:
            self.problem = str(error)

    def refine(self) -> None:
        """Tell apart what a running process is at, from its events; after both looks."""
        if self.process is not None and self.process.poll() is not None and self.state == "created":
            self.state = "killed"  # it died before it could write its own name
            self.problem = self.problem or self.run.why(self.state, self.manifest)
        if self.state == "elsewhere" and time.time() - self.written_ns / 1e9 < ELSEWHERE_SECONDS:
            self.state = "running"  # on another host, with the directory in common
        if self.state != "running":
            return
        kinds = [event.kind for event in self.events]
        if "compiled" not in kinds and not self.trained:
            self.state = "starting"
        elif next((kind for kind in reversed(kinds) if kind in ("paused", "resumed")), "") == "paused":
            self.state = "paused"

    def rate(self, step: int | None) -> float | None:
        """Return the steps a second of the last seconds; a run that stands still has none."""
        if step is not None and (not self.window or step != self.window[-1][1]):
            self.window.append((time.monotonic(), step))
        now = time.monotonic()
        self.window = [entry for entry in self.window if now - entry[0] <= RATE_SECONDS]
        if self.state != "running" or len(self.window) < 2:
            return None
        (first_time, first), (last_time, last) = self.window[0], self.window[-1]
        return (last - first) / (last_time - first_time)
