"""List the runs and races of a runs directory, and list them again at the cost of what changed."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from reprotui.compare import RunView, compare_runs
from reprotui.compare.around import deviations
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.manifest import RunManifest, RunState
from reprotui.race.entries import Entry, Outcome, RunEntry, in_order
from reprotui.race.notes import NOTE, read_note
from reprotui.race.outcomes import outcome_of, stored_outcome
from reprotui.ranks import hosts_of
from reprotui.run_directory import RunDirectory, members_in, read_json
from reprotui.trace.columns import Columns

COMPARING_SHARE = 0.05
"""Part of the time that comparing a race which still grows may take; a million steps cost 0.2 s each time."""

_FILES = ("run.json", "trace.db", "trace.db-wal")
_FORM = {"created_ns": int, "command": list}

RATE_STEPS = 100
"""Steps over which the rate of a run is taken."""

Stamp = tuple[tuple[int, int], ...]


class Last(NamedTuple):
    """What the trace of a run says now; see `RunEntry` for the fields."""

    step: int | None = None
    loss: float | None = None
    rate: float | None = None
    torn: tuple[str, ...] = ()


@dataclass
class _Known:
    """What was read of a run, and the state of its files then."""

    stamp: Stamp = ()
    manifest: RunManifest | None = None
    last: Last = field(default_factory=Last)
    hosts: tuple[str, ...] = ()
    problem: str = ""


@dataclass
class _Compared:
    """Outcomes of a race, the files that they rest on, and when they may be taken anew."""

    stamp: tuple[Any, ...] = ()
    outcomes: tuple[Outcome | None, ...] = ()
    not_before: float = 0.0


class Listing:
    """The entries of one runs directory. Files that did not change since the last `read` are not opened again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._runs: dict[Path, _Known] = {}
        self._races: dict[Path, tuple[Stamp, dict[str, Any], str]] = {}
        self._compared: dict[Path, _Compared] = {}
        self._settled: dict[str, tuple[tuple[str, ...], Stamp, Entry]] = {}

    def read(self) -> tuple[Entry, ...]:
        """Return an entry for every race and single run, newest first; one that cannot be read says why in `problem`.

        Raises:
            BadInputError: the directory cannot be read. A missing one is empty.
        """
        try:
            with os.scandir(self.directory) as found:
                paths = [item.path for item in found if not item.name.startswith(".") and item.is_dir()]
        except FileNotFoundError:
            paths = []
        except OSError as error:
            raise BadInputError(f"{self.directory} cannot be read: {error.strerror}") from None
        entries = [entry for path in paths if (entry := self._known_entry(path))]
        self._forget(set(paths))
        return tuple(sorted(entries, key=lambda entry: (-(entry.created_ns // 10**9), entry.name)))

    def entry(self, path: Path) -> Entry | None:
        """Return the entry of one race or run of the directory; None where it is neither."""
        return self._known_entry(str(path))

    def _known_entry(self, path: str) -> Entry | None:
        """Return an entry without opening a file where nothing of it can change by itself, and its files did not."""
        files, stamp, entry = self._settled.get(path, ((), (), None))
        if entry is not None and _stamp(*files) == stamp:
            return entry
        self._settled.pop(path, None)
        files = (f"{path}/race.json", f"{path}/run.json", f"{path}/{NOTE}")
        entry = self._entry(Path(path))
        if entry is not None and (note := read_note(entry.path)):
            entry = replace(entry, note=note)
        # What a dead run's full disk says may end without a change of its files.
        if entry is not None and not entry.alive and not any(run.why and run.state is RunState.KILLED for run in entry.members):
            files += tuple(f"{member.path}/{name}" for member in entry.members for name in _FILES)
            self._settled[path] = files, _stamp(*files), entry
        return entry

    def _entry(self, path: Path) -> Entry | None:
        try:
            if (path / "race.json").exists():
                return self._race(path)
            if not (path / "run.json").exists():
                return None
        except OSError as error:
            return Entry(path.name, path, False, 0, (), problem=f"{path} cannot be read: {error.strerror}")
        run = self._run(path, "")
        manifest = self._runs[path].manifest
        return Entry(path.name, path, False, run.created_ns, (run,), (), manifest.command if manifest else (), run.problem)

    def _race(self, path: Path) -> Entry:
        stamp = _stamp(f"{path}/race.json")
        if self._races.get(path, ((),))[0] != stamp:
            try:
                race = read_json(path / "race.json")
                members_in(path, race)
                _check(path / "race.json", race)
                self._races[path] = stamp, race, ""
            except ReprotuiError as error:
                self._races[path] = stamp, {}, str(error)
            self._compared.pop(path, None)
        _, race, problem = self._races[path]
        if problem:
            return Entry(path.name, path, True, 0, (), problem=problem)
        reference = path / race["members"][0] if race["members"] else path
        members = tuple(self._run(path / label, label, reference) for label in race["members"])
        created = race.get("created_ns") or 0
        command = tuple(map(str, race.get("command") or ()))
        return Entry(path.name, path, True, created, members, self._outcomes(path, race, members), command)

    def _run(self, path: Path, label: str, reference: Path | None = None) -> RunEntry:
        run = RunDirectory(path)
        known = self._runs.setdefault(path, _Known())
        stamp = _stamp(*(f"{path}/{name}" for name in _FILES))
        # A journal that grows in mapped memory leaves its time as it is: a run without a result is looked at anyway.
        if known.stamp != stamp or known.manifest is None or known.manifest.result is None:
            fresh, known.stamp, known.problem = known.stamp[:1] != stamp[:1], stamp, ""
            try:
                known.manifest = run.manifest()
                known.last = _last(run)
                if fresh:  # those of many ranks are in as many files, and do not change from step to step
                    known.hosts = hosts_of(run, known.manifest)
            except ReprotuiError as error:
                known.problem = str(error)
            except OSError as error:
                known.problem = f"{path} cannot be read: {error.strerror}"
        manifest = known.manifest
        if known.problem or manifest is None:
            return RunEntry(label, path, problem=known.problem)
        other = self._runs[reference].manifest if reference else None
        state = run.state(manifest)
        last = known.last
        return RunEntry(
            label, path, manifest.created_ns or 0, manifest.experiment.name or "?", state, last.step, manifest.planned_steps,
            last.loss, deviations(other, manifest) if other else (), why=run.why(state, manifest), rate=last.rate,
            hosts=known.hosts, torn=last.torn, config=manifest.config,
        )  # fmt: skip

    def _outcomes(self, path: Path, race: dict[str, Any], members: tuple[RunEntry, ...]) -> tuple[Outcome | None, ...]:
        stored = race.get("verdicts")
        if isinstance(stored, list) and len(stored) == len(members) - 1 and all(isinstance(item, dict) for item in stored):
            # Those of before say nothing of what is not finite: runs that agree in being broken are compared again.
            broken = any(member.loss is not None and not math.isfinite(member.loss) for member in members)
            if not broken or all("not_finite" in item for item in stored):
                return tuple(map(stored_outcome, stored))
        compared = self._compared.setdefault(path, _Compared())
        if compared.outcomes and all(outcome and outcome.kind == "diverged" for outcome in compared.outcomes):
            return compared.outcomes  # later steps cannot change the first difference
        stamp = tuple((self._runs[member.path].stamp, member.state, member.step) for member in members)
        if stamp == compared.stamp or time.monotonic() < compared.not_before:
            return compared.outcomes or (None,) * (len(members) - 1)
        began = time.monotonic()
        compared.stamp, compared.outcomes = stamp, self._compare(members)
        if any(member.state.alive for member in members):
            compared.not_before = began + (time.monotonic() - began) / COMPARING_SHARE
        return compared.outcomes

    def _compare(self, members: Sequence[RunEntry]) -> tuple[Outcome | None, ...]:
        views = [self._view(member) for member in members]
        reference = views[0]
        if reference is None:
            return (None,) * (len(members) - 1)
        alive = any(member.state.alive for member in members)
        return tuple(None if view is None else outcome_of(compare_runs(reference, view), alive) for view in views[1:])

    def _view(self, member: RunEntry) -> RunView | None:
        manifest = self._runs[member.path].manifest
        if member.problem or manifest is None:
            return None
        return RunView(member.label.upper(), RunDirectory(member.path), manifest, member.state)

    def _forget(self, paths: set[str]) -> None:
        for path in self._settled.keys() - paths:
            del self._settled[path]
        for kept in (self._runs, self._races, self._compared):
            gone = [path for path in kept if str(path) not in paths and str(path.parent) not in paths]
            for path in gone:
                del kept[path]


def list_runs(directory: Path, order: str = "age", backwards: bool = False) -> list[dict[str, Any]]:
    """Return an entry for every run, those of races too, as JSON; one that cannot be read says why in `state`.

    Args:
        directory: the runs directory.
        order, backwards: see `reprotui.race.entries.in_order`.

    Raises:
        BadInputError: the directory cannot be read. A missing one is empty.
    """
    found = []
    for entry in in_order(Listing(directory).read(), order, backwards):
        outcomes = (None, *entry.outcomes)
        if not entry.members:
            found.append({**_json(entry.name, RunEntry("", entry.path, problem=entry.problem), None), "note": entry.note})
        for member, outcome in zip(entry.members, outcomes, strict=False):
            name = f"{entry.name}/{member.label}" if entry.race else entry.name
            told = _json(name, replace(member, created_ns=entry.created_ns or member.created_ns), outcome)
            found.append({**told, "note": entry.note})
    return found


def _json(name: str, run: RunEntry, outcome: Outcome | None) -> dict[str, Any]:
    loss = run.loss if run.loss is None or math.isfinite(run.loss) else str(run.loss)
    return {
        "name": name, "path": str(run.path), "created_ns": run.created_ns, "experiment": run.experiment,
        "state": f"unreadable: {run.problem}" if run.problem else run.state, "step": run.step, "steps": run.steps, "loss": loss,
        "verdict": outcome.headline if outcome else None, "why": run.why,
    }  # fmt: skip


def _last(run: RunDirectory) -> Last:
    """Read the last record of a run."""
    if not run.trace_path.exists() or run.trace_path.stat().st_size == 0:
        return Last()
    with Columns(run.trace_path) as trace:
        torn, newest = trace.torn(), trace.newest()
        if newest is None:
            return Last(torn=torn)
        step, time_ns, loss = newest
        steps, began = trace.times(max(step - RATE_STEPS - 1, 0), 1)  # the first record took the compilation
    seconds = (time_ns - float(began[0])) / 1e9 if len(steps) else 0.0
    rate = (step - int(steps[0])) / seconds if seconds > 0 else None
    return Last(step, loss, rate, torn)


def _check(path: Path, value: dict[str, Any]) -> None:
    """Raise BadInputError where an entry is there and not of its type: the file is JSON, but somebody's own."""
    for name, kind in _FORM.items():
        if not isinstance(value.get(name), kind | None):
            raise BadInputError(f"{path}: {name} is a {type(value[name]).__name__}, expected {kind.__name__}")


def _stamp(*files: str) -> Stamp:
    """Return time and size of files, zeros where one is missing."""
    found = []
    for file in files:
        try:
            status = os.stat(file)  # noqa: PTH116 - half the time of Path.stat, thousands of times
            found.append((status.st_mtime_ns, status.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)
