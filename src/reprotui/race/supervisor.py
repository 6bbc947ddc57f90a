"""Watch runs: their progress, the first divergence the moment it is committed, and their end."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprotui.compare import LiveComparison
from reprotui.errors import ReprotuiError
from reprotui.race.launch import start_worker
from reprotui.run_directory import RunDirectory, planned_steps
from reprotui.trace import Event, Follower, StepRow, watch

RATE_SECONDS = 3.0
"""Span over which the rate is taken: long enough to be calm, short enough to follow."""
STOP_SECONDS = 20.0
"""How long a worker may take to finish its step and seal before it is killed."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run is, of `steps` where that is known.

    `rate` is in steps a second, None until two records are there; `loss` None for none or NaN.
    """

    label: str
    state: str
    step: int | None
    steps: int | None
    rate: float | None
    loss: float | None
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Snapshot:
    """The race at one moment. `equal_through`, `first_step` and `first_phase` are over all runs against the first."""

    runs: tuple[RunProgress, ...]
    equal_through: int | None
    first_step: int | None
    first_phase: str | None

    @property
    def over(self) -> bool:
        """Say whether no run can go on."""
        return all(run.state not in ("created", "starting", "running", "paused") for run in self.runs)


@dataclass
class _Watched:
    label: str
    run: RunDirectory
    follower: Follower
    process: subprocess.Popen[bytes] | None
    steps: int | None
    events: list[Event] = field(default_factory=list)
    newest: StepRow | None = None
    window: list[tuple[int, int]] = field(default_factory=list)

    def progress(self) -> RunProgress:
        return RunProgress(
            self.label, self.state(), self.newest.step if self.newest else None, self.steps, self._rate(),
            self.newest.loss if self.newest else None, tuple(self.events),
        )  # fmt: skip

    def state(self) -> str:
        if self.process is not None and self.process.poll() is None:
            if not any(event.kind == "compiled" for event in self.events):
                return "starting"
            last = next((event.kind for event in reversed(self.events) if event.kind in ("paused", "resumed")), "resumed")
            return "paused" if last == "paused" else "running"
        state = self.run.state()
        # The process that never wrote its own name died before it could.
        return "killed" if self.process is not None and state == "created" else state

    def look(self) -> tuple[tuple[StepRow, ...], dict[int, bytes]]:
        news = self.follower.poll()
        self.events += news.events
        if news.rows:
            self.newest = news.rows[-1]
            # Record 0 is taken before the first step is compiled: counted in, the rate would start at nothing.
            self.window += [(row.time_ns, row.step) for row in (news.rows[0], news.rows[-1]) if row.step]
            newest_ns = self.newest.time_ns
            self.window = [entry for entry in self.window if newest_ns - entry[0] <= RATE_SECONDS * 1e9]
        return news.rows, news.tables

    def _rate(self) -> float | None:
        if len(self.window) < 2 or self.window[-1][0] <= self.window[0][0]:
            return None
        (from_ns, from_step), (to_ns, to_step) = self.window[0], self.window[-1]
        return (to_step - from_step) / (to_ns - from_ns) * 1e9


class Supervisor:
    """Start the workers of runs and watch them; as a context manager it leaves no process behind.

    Args:
        runs: (label, directory) of prepared runs, the reference first.
        directory: what holds them all; watched for changes.
    """

    def __init__(self, runs: list[tuple[str, RunDirectory]], directory: Path) -> None:
        self._directory = directory
        self._watched = [
            _Watched(label, run, Follower(run.trace_path), None, planned_steps(run.manifest())) for label, run in runs
        ]
        self._comparisons = [LiveComparison() for _ in self._watched[1:]]

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def start(self) -> None:
        """Start all workers."""
        for watched in self._watched:
            watched.process = start_worker(watched.run)

    def send(self, command: str) -> None:
        """Ask something of all runs: pause, resume, advance or stop."""
        for watched in self._watched:
            watched.run.send(command)

    def poll(self) -> Snapshot:
        """Look at every run once."""
        # State first: a run that has ended by now has committed everything that the look then finds.
        for index, watched in enumerate(self._watched):
            with contextlib.suppress(ReprotuiError):  # a damaged trace ends in the verdict, not in the watching
                rows, tables = watched.look()
                if rows and index == 0:
                    for comparison in self._comparisons:
                        comparison.feed(0, rows, tables)
                elif rows:
                    self._comparisons[index - 1].feed(1, rows, tables)
        first = min(
            (item for item in self._comparisons if item.first_step is not None),
            key=lambda item: item.first_step or 0,
            default=None,
        )
        equal = [item.equal_through for item in self._comparisons]
        return Snapshot(
            tuple(watched.progress() for watched in self._watched),
            None if not equal or None in equal else min(step for step in equal if step is not None),
            first.first_step if first else None,
            first.first_phase if first else None,
        )

    def follow(self, stop: threading.Event | None = None) -> Iterator[Snapshot]:
        """Yield a snapshot whenever a trace changed, until all runs have ended; the last one has seen everything."""
        snapshot = self.poll()
        yield snapshot
        if snapshot.over:
            return
        for _ in watch(self._directory, stop):
            over = snapshot.over
            snapshot = self.poll()
            yield snapshot
            if over:
                return

    def refused(self) -> bool:
        """Say whether a worker found its config unfit: then there is nothing to wait for."""
        return any((watched.run.manifest().get("result") or {}).get("bad_input") for watched in self._watched)

    def exit_codes(self) -> list[int | None]:
        """Return the exit codes of the workers that this supervisor started."""
        return [watched.process.poll() if watched.process else None for watched in self._watched]

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End all workers: finish the step and seal; what has not ended after `seconds` is killed with its group."""
        alive = []
        for watched in self._watched:
            process = watched.process
            if process is not None and process.poll() is None:
                process.terminate()
                alive.append(process)
        deadline = time.monotonic() + seconds
        for process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
