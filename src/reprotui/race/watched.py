"""One run as it is watched: its state, events and log, and how fast it goes. Never writes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reprotui.errors import ReprotuiError
from reprotui.event_kinds import WRONG
from reprotui.manifest import RunManifest, RunState
from reprotui.race.ranked import WatchedRanks
from reprotui.run_directory import RunDirectory
from reprotui.trace import Event, Trace

if TYPE_CHECKING:  # starting runs needs pydantic
    from reprotui.race.launch import Worker

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
    process: Worker | None = None
    events: list[Event] = field(default_factory=list)
    manifest: RunManifest | None = None
    stamp: tuple[int, int] = (0, 0)
    state: RunState = RunState.CREATED
    log: tuple[str, ...] = ()
    log_size: int = -1
    window: list[tuple[float, int]] = field(default_factory=list)
    problem: str = ""
    trained: bool = False
    last: int | None = None
    written_ns: int = 0
    metrics: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        self.ranks = WatchedRanks(self.run)

    def look(self) -> None:
        """Read what may have changed beside the trace: manifest, state, log."""
        try:
            status = self.run.manifest_path.stat()
            stamp = status.st_mtime_ns, status.st_size
            if stamp != self.stamp:
                self.manifest, self.stamp = self.run.manifest(), stamp
            assert self.manifest is not None
            self.state = self.run.state(self.manifest)
            self.ranks.look(self.manifest)
            if self.state is RunState.FINISHED and self.ranks.alive:
                self.state = RunState.RUNNING  # other processes of it
            result = self.manifest.result
            self.problem = (result.error if result else "") or self.run.why(self.state, self.manifest)
        except (ReprotuiError, OSError) as error:
            self.problem = str(error)
            if not self.run.path.exists():
                self.state, self.problem = RunState.GONE, f"{self.run.path} does not exist any more"
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
            last = trace.last_step()
            if last != self.last:
                row = None if last is None else trace.row(last)
                self.last, self.trained = last, last is not None and last > self._inherited
                self.written_ns = row.time_ns if row is not None else 0
                self.metrics = trace.numbers(row) if row is not None else ()
        except ReprotuiError as error:
            self.problem = str(error)

    def refine(self) -> None:
        """Tell apart what a running process is at, from its events; after both looks."""
        if self.process is not None and self.state is RunState.CREATED and self.manifest is not None:
            # It has not written its own name; one that died before it could never will.
            self.state = RunState.STARTING if self.process.poll() is None else RunState.KILLED
            self.problem = self.problem or self.process.said or self.run.why(self.state, self.manifest)
        if self.state is RunState.ELSEWHERE and self.process is not None:
            self.state = RunState.RUNNING if self.process.poll() is None else RunState.KILLED
            self.state = RunState.STARTING if self.process.waits else self.state
            self.problem = self.problem or self.process.said
        if self.state is RunState.ELSEWHERE and time.time() - self.written_ns / 1e9 < ELSEWHERE_SECONDS:
            self.state = RunState.RUNNING  # on another host, with the directory in common
        if self.state is not RunState.RUNNING:
            return
        kinds = [event.kind for event in self.events]
        if "compiled" not in kinds and not self.trained:
            self.state = RunState.STARTING
        elif next((kind for kind in reversed(kinds) if kind in ("paused", "resumed")), "") == "paused":
            self.state = RunState.PAUSED

    @property
    def in_turn(self) -> bool:
        """Say whether no process of it was ever there, and one may still come."""
        return self.state in (RunState.CREATED, RunState.STARTING) and (self.manifest is None or self.manifest.process is None)

    @property
    def torn(self) -> tuple[str, ...]:
        """Return what the run said of values that are not right: torn, on devices or ranks, or corrupt."""
        return (*(event.text for event in self.events if event.kind in WRONG), *filter(None, [self.ranks.torn]))

    @property
    def _inherited(self) -> int:
        """Return the last step whose record is none of its own: the trace of a resumed run begins with those of the old one."""
        restore = self.manifest.restore if self.manifest is not None else None
        return restore.step if restore is not None and restore.history is not None else 0

    def rate(self, step: int | None) -> float | None:
        """Return the steps a second of the last seconds; a run that stands still has none."""
        if step is not None and (not self.window or step != self.window[-1][1]):
            self.window.append((time.monotonic(), step))
        now = time.monotonic()
        self.window = [entry for entry in self.window if now - entry[0] <= RATE_SECONDS]
        if self.state is not RunState.RUNNING or len(self.window) < 2:
            return None
        (first_time, first), (last_time, last) = self.window[0], self.window[-1]
        return (last - first) / (last_time - first_time)
