"""Search the cause of a difference by intervention: race again with one thing changed, until changing it makes the runs equal.

runs/<race>/                the race that is diagnosed, whose runs are the first pair without a change
            diagnosis.json  what was tried and what came of it, written after each pair: a search that ended early goes on
            pairs/02-…      each pair a race of its own, stopped at its first difference or a little after the step of the first
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from reprotui.compare import Verdict, compare_runs, open_run
from reprotui.compare.diagnosis import BUDGET, CTRL_C, PAIRS, Diagnosis, read_diagnosis, write_diagnosis
from reprotui.compare.ledger import chance_of
from reprotui.compare.search import Answer, Outcome, Pair
from reprotui.compare.verdict import most_telling
from reprotui.errors import BadInputError, CannotTellError, WorkerFailedError
from reprotui.experiments.discovery import recorded_experiment
from reprotui.manifest import Kind, RunManifest, RunState
from reprotui.observation import Options
from reprotui.race.interventions import First, Intervention, as_change, by_name, changed_script, interventions_for
from reprotui.race.lockstep import Leader
from reprotui.race.monitor import Monitor, RaceStatus
from reprotui.race.prepare import Member, Request, prepare_race
from reprotui.race.scripts import Command, ScriptMember, prepare_scripts
from reprotui.race.start import STOP_SECONDS, labelled, running
from reprotui.race.versions import Version
from reprotui.run_directory import RunDirectory, members_of, this_process
from reprotui.trust import need_trust

A_LITTLE = 20
"""Steps that a pair goes on behind the step of the first difference, at least; behind a later one, as many as came before it."""


@dataclass(frozen=True)
class Asked:
    """How a search is made.

    Attributes:
        least: pairs of each kind that a proof has at least; None for 3, or as many as the search that goes on has.
        seconds: after how many seconds it ends with what is known.
        whole: pairs that are equal go on to their end.
        trusted: what was not recorded here may be run, see `reprotui.trust`.
        begun: the race was started for this search. Otherwise its runs are why somebody asks: they lead the search, and count for
            nothing, because a race whose runs differ was chosen.
    """

    least: int | None = None
    seconds: float | None = None
    whole: bool = False
    trusted: bool = False
    begun: bool = False


Tell = Callable[[Diagnosis], None]


class _CutError(Exception):
    """A pair was ended before it said anything."""


def diagnose(
    race: Path, asked: Asked | None = None, tell: Tell = lambda found: None, stop: Callable[[], bool] = bool
) -> Diagnosis:
    """Search the cause of a race's difference, or go on with a search that ended early.

    Args:
        race: its directory; its runs have ended.
        asked: how.
        tell: called with what is known, before each pair and after it.
        stop: asked several times a second whether to end now.

    Returns:
        What was found, which is kept in the race's directory too.

    Raises:
        BadInputError: it is no race, its runs go on, or what they ran cannot be run again.
        UntrustedError: it was not recorded here, and nobody said that it may be run.
        WorkerFailedError, CannotTellError: its runs are no first pair: one failed, or the records do not tell.
    """
    asked = asked or Asked()
    subject = _Subject(race, asked.trusted)
    found = read_diagnosis(race) or subject.begin(asked.least or Diagnosis.least, asked.begun)
    found = replace(found, least=asked.least or found.least, process=this_process(), ended="")
    until = None if asked.seconds is None else time.monotonic() + asked.seconds
    try:
        while (decision := found.decision).answer is Answer.RUN:
            if over := CTRL_C if stop() else BUDGET if until is not None and time.monotonic() >= until else "":
                found = replace(found, ended=over)
                break
            found = _told(race, replace(found, running=decision.changes), tell)
            try:
                pair = subject.run(found, decision.changes, asked.whole, lambda: stop() or _past(until))
            except _CutError:
                continue
            found = _told(race, replace(found, running=None, pairs=(*found.pairs, pair)), tell)
    except KeyboardInterrupt:
        found = replace(found, ended=CTRL_C)
    finally:
        found = _told(race, replace(found, running=None), tell)
    return found


def first_pair(request: Request, command: Command, options: Options) -> tuple[Path, list[RunDirectory]]:
    """Create the race of a command with itself that a diagnosis begins with; see `prepare_scripts`."""
    return prepare_scripts(request, [ScriptMember(label, command) for label in "ab"], options)


def race_pair(
    path: Path, directories: Sequence[RunDirectory], through: int | None = None, stop: Callable[[], bool] = bool
) -> Verdict:
    """Run two runs to their first difference, to their end, or a little further than a step.

    Args:
        path: their race.
        directories: the runs.
        through: where both are stopped once they have come so far; None lets them go on to their end.
        stop: see `diagnose`.

    Raises:
        _CutError: it was stopped.
    """
    runs = labelled(directories)
    leader, stopping = Leader(runs, lambda text: None), False
    with running(runs) as processes:
        monitor = Monitor(runs, processes, columns=False)
        for status in monitor.follow(path):
            if stop():
                raise _CutError
            if not stopping and _far_enough(status, through):
                stopping = True
                leader.ask("stop", range(len(runs)))
            if monitor.refused:
                break
        if not stopping:
            for process in processes.values():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)  # its run is sealed, and it may still save what it trained
    a, b = (open_run(run.path, label) for label, run in runs)
    return compare_runs(a, b)


def _far_enough(status: RaceStatus, through: int | None) -> bool:
    if any(pair.first is not None for pair in status.timeline.pairs):
        return True
    return through is not None and all((run.step or 0) >= through for run in status.runs)


class _Subject:
    """What is diagnosed: the first two runs of a race that differ, and how to run them again."""

    def __init__(self, race: Path, trusted: bool) -> None:
        self.race = race
        members = [RunDirectory(path) for _, path in members_of(race)]
        if len(members) < 2:
            raise BadInputError(f"{race} has one run: a diagnosis is of two that should be the same")
        views = [open_run(run.path, run.path.name.upper()) for run in members]
        if alive := [view.label for view in views if view.state.alive]:
            raise BadInputError(f"{', '.join(alive)} of {race} goes on: wait for its end, or stop it")
        verdicts = [compare_runs(views[0], view) for view in views[1:]]
        telling = most_telling(verdicts)
        other = views[1 + verdicts.index(telling)] if telling is not None else views[1]
        self.a, self.b = views[0].manifest, other.manifest
        ledgers = [chance_of(view.run.trace_path) or [] for view in (views[0], other)]
        self.first = First(self.a, self.b, verdicts[views.index(other) - 1], (ledgers[0], ledgers[1]))
        for view in (views[0], other):
            _can_run_again(view.run.path, view.manifest)
            need_trust(view.run.path, view.manifest, trusted)
        if self.a.launch is not None and self.b.launch is not None:
            kept = [(launch.words, dict(launch.variables), launch.directory) for launch in (self.a.launch, self.b.launch)]
            if kept[0] != kept[1]:
                raise BadInputError(
                    f"the runs of {race} are different commands: a diagnosis is of one command that is not repeatable"
                )

    def begin(self, least: int, counts: bool) -> Diagnosis:
        """Return the search before its first own pair; `counts`: the race is its first one.

        Raises:
            WorkerFailedError, CannotTellError: the race is no pair that says something.
        """
        pair = _pair((), self.first.verdict, [self.a, self.b], "")
        if pair.outcome is Outcome.FAILED:
            raise WorkerFailedError(f"a run failed, there is nothing to compare: {pair.reason} (in {self.race})")
        if pair.outcome is Outcome.UNCLEAR:
            raise CannotTellError(f"there is nothing to begin with: {pair.reason} (in {self.race})")
        return Diagnosis(
            tuple(as_change(item, self.first) for item in interventions_for(self.first)), (pair,) if counts else (), least
        )

    def run(self, found: Diagnosis, changes: tuple[str, ...], whole: bool, stop: Callable[[], bool]) -> Pair:
        """Race a pair with changes."""
        name = f"{len(found.pairs) + 1:02}-{'+'.join(changes)[:60] or 'as-it-is'}"
        shutil.rmtree(self.race / PAIRS / name, ignore_errors=True)  # one whose searcher was killed
        request = Request(self.race / PAIRS, name, self.a.command, self.a.recording)
        path, directories = self._prepare(request, [by_name(change, self.a) for change in changes])
        try:
            verdict = race_pair(path, directories, None if whole else _through(found.pairs), stop)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):  # others are in it
                path.parent.rmdir()
            raise
        return _pair(changes, verdict, [run.manifest() for run in directories], str(path.relative_to(self.race)))

    def _prepare(self, request: Request, changes: Sequence[Intervention]) -> tuple[Path, list[RunDirectory]]:
        launch = self.a.launch
        if launch is None:
            fields = {name: value for item in changes for name, value in item.fields.items()}
            reference = recorded_experiment(self.a.experiment)
            configs = [{**run.config, **fields} for run in (self.a, self.b)]
            return prepare_race(request, reference, [Member(label, config) for label, config in zip("ab", configs, strict=True)])
        named = {name: str(value) for name, value in launch.variables.items()}
        command, options = changed_script(Command(launch.words, named), Options.from_text(launch.options), changes)
        place = Version(Path(launch.directory))
        return prepare_scripts(request, [ScriptMember(label, command, place) for label in "ab"], options)


def _can_run_again(path: Path, manifest: RunManifest) -> None:
    """Raise where a manifest does not say how to run it again from its beginning."""
    if manifest.kind is Kind.SCRIPT and manifest.launch is None:
        raise BadInputError(
            f"{path} was started by hand, and its manifest does not say how: reprotui diagnose -- COMMAND starts it itself"
        )
    if manifest.parts or manifest.interrupted or manifest.restore is not None:
        raise BadInputError(f"{path} went on from a checkpoint: a diagnosis is of runs that begin at the beginning")
    if manifest.launch is not None and not Path(manifest.launch.directory).is_dir():
        raise BadInputError(f"{path} ran in {manifest.launch.directory}, which is gone")


def _pair(changes: tuple[str, ...], verdict: Verdict, manifests: Sequence[RunManifest], path: str) -> Pair:
    """Return what a pair came to. Runs that were stopped here are equal as far as both came."""
    if verdict.kind == "diverged":
        return Pair(changes, Outcome.DIFFERS, verdict.step, verdict.phase, verdict.equal_through, path=path)
    if verdict.kind == "identical":
        return Pair(changes, Outcome.EQUAL, through=verdict.equal_through, whole=True, path=path)
    results = [manifest.result for manifest in manifests]
    states = [None if result is None else result.state for result in results]
    if any(state in (None, RunState.FAILED) for state in states):
        why = (
            next((result.error for result in results if result is not None and result.error), "")
            or verdict.reason
            or "it ended early"
        )
        return Pair(changes, Outcome.FAILED, through=verdict.equal_through, reason=why.strip().splitlines()[0], path=path)
    stopped = RunState.STOPPED in states and verdict.kind == "incomplete" and verdict.equal_through
    if stopped:
        return Pair(changes, Outcome.EQUAL, through=verdict.equal_through, path=path)
    return Pair(changes, Outcome.UNCLEAR, through=verdict.equal_through, reason=verdict.reason, path=path)


def _through(pairs: Sequence[Pair]) -> int | None:
    """Return the step to which pairs that stay equal go on, from where those without a change differ; None for their end."""
    steps = [pair.step for pair in pairs if not pair.changes and pair.outcome is Outcome.DIFFERS]
    if not steps or None in steps:
        return None
    last = max(step for step in steps if step is not None)
    return last + max(A_LITTLE, last)


def _told(race: Path, found: Diagnosis, tell: Tell) -> Diagnosis:
    with suppress(FileNotFoundError):  # the race may have been deleted meanwhile
        write_diagnosis(race, found)
    tell(found)
    return found


def _past(until: float | None) -> bool:
    return until is not None and time.monotonic() >= until
