"""Look at runs, whoever started them: states, progress, timeline and verdicts as one immutable value. Never writes."""

import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reprotui.compare import RunView, Verdict, compare_runs
from reprotui.compare.cause import config_differences
from reprotui.compare.timeline import FIRST_RECORDS, RunLine, Timeline, TimelineReader, phases_of
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.race.watched import WatchedRun
from reprotui.run_directory import RunDirectory, members_of, planned_steps, read_json
from reprotui.trace import Event

ALIVE = ("created", "starting", "running", "paused")


@dataclass(frozen=True)
class RunStatus:
    """One run at one moment. `loss` is its last one, None where it has none, NaN where it is NaN; `rate` in steps a second.

    `differs` are its config differences from the reference, as `name=value`; `problem` says what cannot be read or why
    it failed.
    """

    label: str
    path: Path
    state: str
    step: int | None
    steps: int | None
    loss: float | None
    rate: float | None
    backend: str
    threads: int | None
    differs: tuple[str, ...]
    events: tuple[Event, ...]
    log: tuple[str, ...]
    problem: str

    @property
    def alive(self) -> bool:
        """Say whether the run can go on."""
        return self.state in ALIVE

    @property
    def seconds_left(self) -> float | None:
        """Return how long the rest takes at this rate, None where that is not known."""
        if self.step is None or not self.steps or not self.rate or self.state != "running":
            return None
        return max(0, self.steps - self.step) / self.rate


@dataclass(frozen=True)
class RaceStatus:
    """A comparison at one moment; the first run is the reference. `verdicts` are of the others, in order.

    `judged` says that the verdicts rest on a comparison of the traces and name the cause; until then they are those of
    the timeline, which knows step and phase.
    """

    name: str
    experiment: str
    command: tuple[str, ...]
    runs: tuple[RunStatus, ...]
    timeline: Timeline
    verdicts: tuple[Verdict, ...]
    judged: bool

    @property
    def alive(self) -> bool:
        """Say whether any run can go on."""
        return any(run.alive for run in self.runs)

    @property
    def verdict(self) -> Verdict | None:
        """Return the verdict that matters most: the earliest divergence, else the first that is not identical."""
        diverged = [verdict for verdict in self.verdicts if verdict.kind == "diverged"]
        if diverged:
            return min(diverged, key=lambda verdict: math.inf if verdict.step is None else verdict.step)
        return next((verdict for verdict in self.verdicts if verdict.kind != "identical"), next(iter(self.verdicts), None))

    @property
    def headline(self) -> str:
        """Return the verdict in one line; of runs that go on, what holds so far."""
        verdict = self.verdict
        if verdict is None:
            run = self.runs[0]
            return f"{run.state.upper()} · {'no step yet' if run.step is None else f'step {run.step}'}"
        if verdict.kind != "incomplete" or not self.alive:
            return verdict.headline
        if verdict.equal_through is None:
            return "STARTING · no common step yet"
        return f"IDENTICAL through step {verdict.equal_through} · so far"


def members(paths: Sequence[Path]) -> list[tuple[str, RunDirectory]]:
    """Return the runs that directories mean, a race for its members, with labels that tell them apart.

    Raises:
        BadInputError: a path is neither a run nor a race, or there are more than eight runs.
    """
    found: list[tuple[str, RunDirectory]] = []
    races = [path for path in paths if (path / "race.json").exists()]
    for path in paths:
        if path in races:
            found += [(label.upper(), RunDirectory(member)) for label, member in members_of(path)]
        else:
            found.append(("", RunDirectory(path)))
    for _, run in found:
        if not run.manifest_path.exists():
            raise BadInputError(f"{run.path} is not a run directory: it has no run.json")
    if len(found) > 8:
        raise BadInputError(f"{len(found)} runs cannot be told apart on a screen: open at most 8")
    if len(paths) == 1 and races:
        return found
    return [("ABCDEFGH"[index], run) for index, (_, run) in enumerate(found)]


class Monitor:
    """Watch the runs of a comparison.

    Args:
        runs: (label, directory), the reference first.
        processes: those that this process started, by label, so that one which dies at once is noticed.
    """

    def __init__(
        self, runs: Sequence[tuple[str, RunDirectory]], processes: Mapping[str, subprocess.Popen[bytes]] | None = None
    ) -> None:
        started = processes or {}
        self._watched = [WatchedRun(label, run, started.get(label)) for label, run in runs]
        self._reader = TimelineReader([run.trace_path for _, run in runs])
        self._verdicts: tuple[Verdict, ...] = ()
        self._judged: tuple[Any, ...] | None = None
        self.directories = tuple(run.path for _, run in runs)

    def look(self, records: int = FIRST_RECORDS) -> RaceStatus:
        """Look at every run once; what a comparison of the traces would add is left to `judge`.

        Args:
            records: how many of each run are read at most; more make a later look complete sooner, and the first one
                later.
        """
        for watched in self._watched:
            # State first: a run that has ended by now has committed everything that the timeline then finds.
            watched.look()
        timeline = self._reader.advance(records, lambda index, trace: self._watched[index].look_at_trace(trace))
        for watched in self._watched:
            watched.refine()
        runs = tuple(self._run_status(index, line, timeline.complete) for index, line in enumerate(timeline.runs))
        judged = timeline.complete and self._judged == self._question(timeline)
        reference = self._watched[0].manifest
        return RaceStatus(
            self._name(), str((reference.get("experiment") or {}).get("name", "?")), self._command, runs, timeline,
            self._verdicts if judged else self._provisional(timeline), judged,
        )  # fmt: skip

    def judge(self, status: RaceStatus) -> RaceStatus:
        """Compare the traces, and return the status with verdicts that name leaves and cause. May take a while."""
        question = self._question(status.timeline)
        try:
            views = [RunView(item.label, item.run, item.manifest, item.run.state(item.manifest)) for item in self._watched]
        except ReprotuiError:
            return status
        self._verdicts = tuple(compare_runs(views[0], view) for view in views[1:])
        self._judged = question
        return RaceStatus(
            status.name, status.experiment, status.command, status.runs, status.timeline, self._verdicts, judged=True
        )  # fmt: skip

    def needs_judging(self, status: RaceStatus) -> bool:
        """Say whether `judge` would add something: a divergence that has no cause yet, or an end that has no verdict."""
        if status.judged or len(self._watched) < 2 or not status.timeline.complete:
            return False
        found = any(pair.first is not None for pair in status.timeline.pairs)
        return found or not status.alive

    def _question(self, timeline: Timeline) -> tuple[Any, ...]:
        """Return what a verdict depends on: it holds as long as this is equal."""
        places = tuple(pair.first for pair in timeline.pairs)
        ends = tuple(
            (watched.state, len(line.steps)) if place is None else None
            for watched, line, place in zip(self._watched[1:], timeline.runs[1:], places, strict=True)
        )
        alive = any(watched.state in ALIVE for watched in self._watched)
        return places, ends if not alive else None, len(timeline.runs[0].steps) if not alive and None in places else 0

    def _provisional(self, timeline: Timeline) -> tuple[Verdict, ...]:
        a = self._watched[0].label
        verdicts = []
        for watched, pair in zip(self._watched[1:], timeline.pairs, strict=True):
            if pair.first is None:
                through = int(pair.steps[-1]) if len(pair.steps) else None
                verdicts.append(Verdict(a, watched.label, "incomplete", through, reason="not judged yet"))
            else:
                phases = phases_of(pair.mask(pair.first) or 0)
                verdicts.append(Verdict(a, watched.label, "diverged", None, pair.first, phases[0], phases))
        return tuple(verdicts)

    def _run_status(self, index: int, line: RunLine, complete: bool) -> RunStatus:
        watched = self._watched[index]
        manifest = watched.manifest
        step = int(line.steps[-1]) if len(line.steps) else None
        loss = float(line.losses[-1]) if step else None  # record 0 is taken before any loss
        differs = () if index == 0 else config_differences(self._watched[0].manifest, manifest)
        devices = manifest.get("devices") or {}
        return RunStatus(
            watched.label, watched.run.path, watched.state, step, planned_steps(manifest), loss,
            watched.rate(step if complete else None), str(devices.get("backend", "")), devices.get("cpu_threads"),
            tuple(f"{item.name}={'none' if item.b is None else item.b}" for item in differs), tuple(watched.events),
            watched.log, self._reader.problems.get(index, watched.problem),
        )  # fmt: skip

    def _name(self) -> str:
        races = {(watched.manifest.get("race") or {}).get("name") for watched in self._watched}
        if len(races) == 1 and None not in races:
            return str(races.pop())
        return " · ".join(str(watched.manifest.get("name", watched.run.path.name)) for watched in self._watched)

    @cached_property
    def _command(self) -> tuple[str, ...]:
        parents = {watched.run.path.parent for watched in self._watched}
        race = parents.pop() / "race.json"
        if not parents and race.exists():
            try:
                return tuple(str(word) for word in read_json(race).get("command", []))
            except ReprotuiError:
                return ()
        return "reprotui", "open", *(str(watched.run.path) for watched in self._watched)
