"""Is a script's resumed run its uninterrupted one? Run it whole; in parts, each from the checkpoint of the one before; compare.

full      python train.py --steps 100                 A
first     python train.py --steps 50 --save ck        or the same command, stopped after step 50
then      python train.py --steps 100 --resume ck     or the same command again
resumed   the records of `first` and `then`, by step  B
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reprotui.compare import Verdict, compare_runs, open_run
from reprotui.compare.resuming import Restoration, restorations
from reprotui.errors import DIFFERS, SAME, BadInputError, CannotTellError, ReprotuiError, WorkerFailedError
from reprotui.manifest import Membership, Result, RunState
from reprotui.observation import Options
from reprotui.race.joined import JoinedRun, write_joined
from reprotui.race.prepare import Request
from reprotui.race.scripts import Command, ScriptMember, prepare_scripts
from reprotui.race.start import running
from reprotui.run_directory import RunDirectory, read_json, this_process, write_json
from reprotui.trace import Trace

FULL, FIRST, THEN, RESUMED = "full", "first", "then", "resumed"
PLACE = "{dir}"
"""Stands in a command for a folder of its own: the uninterrupted run must not find the checkpoints of the other one."""
FILES = "files"
"""Where these folders are, in the race's directory."""
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Question:
    """What is run: the uninterrupted command and its parts, or one command that is interrupted.

    Attributes:
        full: the uninterrupted run.
        parts: the first part, then those that go on; where there are none, `full` is interrupted and started again.
        at, by, times: after how many steps of its own a process is interrupted, by which signal, and how many are.
        offset: after which step the last part goes on, where that cannot be found.
    """

    full: Command
    parts: tuple[Command, ...] = ()
    at: int | None = None
    by: str = "TERM"
    times: int = 1
    offset: int | None = None


@dataclass(frozen=True)
class ResumeCheck:
    """The verdict of a resume check.

    Attributes:
        path: the directory of the runs.
        verdict: of the run that is put together from its parts, against the uninterrupted one.
        goes_on: after which step each part but the first goes on.
        restored: what the last of them began with, one by one.
    """

    path: Path
    verdict: Verdict
    goes_on: tuple[int, ...] = ()
    restored: tuple[Restoration, ...] = ()

    @property
    def word(self) -> str:
        """Return `equivalent`, `not equivalent` or `cannot tell`."""
        return {SAME: "equivalent", DIFFERS: "not equivalent"}.get(self.exit_code, "cannot tell")

    @property
    def exit_code(self) -> int:
        """Return 0 equivalent, 1 not, 3 cannot tell."""
        return self.verdict.exit_code

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "verdict": self.word, "exit_code": self.exit_code, "runs": str(self.path), "goes_on_after": list(self.goes_on),
            "restored": [item.kind for item in self.restored if item.restored],
            "not_restored": [{"what": item.kind, "detail": item.detail} for item in self.restored if not item.restored],
            "comparison": self.verdict.to_json(),
        }  # fmt: skip


def prepare_check(request: Request, question: Question, options: Options) -> Path:
    """Create the directory of a check, with the runs that it is going to start.

    Raises:
        BadInputError: a script, an interpreter or the place cannot be used; nothing is left behind.
    """
    parts = question.parts or (question.full,) * (question.times + 1)
    names = [FULL, FIRST, *(THEN if number == 0 else f"{THEN}-{number + 1}" for number in range(len(parts) - 1))]
    commands = [question.full, *parts]
    members = [ScriptMember(name, command) for name, command in zip(names, commands, strict=True)]
    stem = f"resume-check-{Path(question.full.script[0]).stem}"
    path, directories = prepare_scripts(request, members, options, stem)
    for number, run in enumerate(directories):
        last = number in (0, len(directories) - 1)
        asked = options if last or question.parts else replace(options, interrupt_at=question.at, interrupt_by=question.by)
        _place(run, path / FILES / (FULL if number == 0 else FIRST), asked, interrupted=not last, apart=not question.parts)
    resumed = RunDirectory(path / RESUMED)
    resumed.path.mkdir()
    like = directories[-1].manifest()
    write_joined(resumed, like, f"{path.name}/{RESUMED}", request.command, race=Membership(path.name, RESUMED), process=None)
    race = read_json(path / "race.json")
    write_json(path / "race.json", {**race, "members": [FULL, RESUMED, FIRST], "parts": names[1:]})
    return path


def check(path: Path, offset: int | None = None, progress: Callable[[str], None] = lambda text: None) -> ResumeCheck:
    """Run what was prepared, one after the other, so that each has the whole machine, and compare.

    Args:
        path: see `prepare_check`.
        offset: after which step the last part goes on, where that is known.
        progress: called with what begins.

    Raises:
        WorkerFailedError: a run failed; its directory is left as it is.
        BadInputError: nothing is left to resume.
    """
    full, first, *others = (RunDirectory(path / name) for name in [FULL, *read_json(path / "race.json")["parts"]])
    resumed = RunDirectory(path / RESUMED)
    joined = JoinedRun(resumed, full, first)
    resumed.update_manifest(process=this_process())  # whoever looks sees that it is under way
    try:
        for run in (full, first):
            progress(_told(run))
            _run(run, lambda: None)
        _can_go_on(full, first)
        write_joined(resumed, others[-1].manifest(), f"{path.name}/{RESUMED}", resumed.manifest().command,
                     race=Membership(path.name, RESUMED))  # fmt: skip
        for number, part in enumerate(others, start=1):
            progress(_told(part))
            adding = _Adding(joined, part, number == len(others), offset)
            _run(part, adding.look)
            adding.end()
        joined.finish()
    except CannotTellError as error:
        joined.finish()
        resumed.update_manifest(result=Result(RunState.FAILED, error=str(error)))
        return _kept(path, ResumeCheck(path, Verdict("full", "resumed", "incomplete", reason=str(error))))
    finally:
        joined.close()
        for run in (full, first, *others):
            if run.state() is RunState.CREATED:  # nobody starts it any more: it ends with this process
                run.update_manifest(process=this_process())
    return _kept(path, _compared(path))


class _Adding:
    """Takes the records of a part while it runs."""

    def __init__(self, joined: JoinedRun, part: RunDirectory, last: bool, step: int | None) -> None:
        self._joined, self._part, self._last = joined, part, last
        self._step = step if last else None
        self._added, self._problem = False, None

    def look(self, ended: bool = False) -> None:
        """Take what is there by now; of a part that goes on, once its first step is recorded."""
        if self._problem is None and self._part.trace_path.exists():
            try:
                if not self._added and (ended or self._has_step()):
                    self._joined.add(self._part, self._step)
                    self._added = True
                if self._added and self._last:  # what goes on from another one may go on before its end
                    self._joined.advance()
            except ReprotuiError as error:
                self._problem = error

    def end(self) -> None:
        """Take the rest; raise what stood in the way."""
        self.look(ended=True)
        if self._problem is not None:
            raise self._problem
        if not self._added:
            name = self._part.path.name
            raise CannotTellError(f"{name} took no step: nothing was left to train when it went on, or no step of it was seen")

    def _has_step(self) -> bool:
        try:
            with Trace(self._part.trace_path) as trace:
                last = trace.last_step()
        except ReprotuiError:
            return False  # it is being made
        return last is not None and last > 0


def _run(run: RunDirectory, look: Callable[[], None]) -> None:
    """Start a run and follow it to its end.

    Raises:
        WorkerFailedError: it failed, other than by the signal that it was sent.
    """
    with running([(run.path.name, run)]) as processes:
        process = processes[run.path.name]
        while True:
            try:
                process.wait(LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                look()
    manifest = run.manifest()
    state, interrupt = run.state(manifest), _interrupt_of(run)
    if interrupt is not None and _last_step(run) >= interrupt:
        return
    if state is RunState.FINISHED and interrupt is None:
        return
    if state is RunState.FINISHED:
        raise BadInputError(
            f"{run.path.name} ended by itself after step {_last_step(run)}, before it could be interrupted after step {interrupt}"
        )
    result = manifest.result
    said = (
        (result.error if result else "") or run.why(state, manifest) or " / ".join(run.log_tail(3)) or "it ended without a word"
    )
    raise WorkerFailedError(f"{run.path.name} {state}: {said} (in {run.path})")


def _can_go_on(full: RunDirectory, first: RunDirectory) -> None:
    """Raise where the interrupted run has nothing left to train, or did not begin as the other one did."""
    ends = _last_step(full), _last_step(first)
    if ends[0] < 0:
        raise CannotTellError(
            "no step of the uninterrupted run was seen: the records do not tell whether a resumed run is like it"
        )
    if ends[1] >= ends[0]:
        raise BadInputError(
            f"the first part ends after step {ends[1]} and the uninterrupted run after step {ends[0]}: nothing is left to resume"
        )


def _compared(path: Path) -> ResumeCheck:
    full, resumed = open_run(path / FULL, FULL), open_run(path / RESUMED, RESUMED)
    verdict = compare_runs(full, resumed)
    parts = resumed.manifest.parts[1:]
    with Trace(full.run.trace_path) as a, Trace(resumed.run.trace_path) as b:
        found = tuple(restorations(a, b, parts[-1])) if parts else ()
    return ResumeCheck(path, verdict, tuple(part.begins_after for part in parts), found)


def _kept(path: Path, found: ResumeCheck) -> ResumeCheck:
    """Write the verdicts of a check down, so that lists show them."""
    verdicts = [found.verdict, compare_runs(open_run(path / FULL, FULL), open_run(path / FIRST, FIRST))]
    race = read_json(path / "race.json")
    write_json(path / "race.json", {**race, "verdicts": [verdict.to_json() for verdict in verdicts]})
    return found


def _place(run: RunDirectory, folder: Path, options: Options, interrupted: bool, apart: bool) -> None:
    """Say where a run is started, and what its observers are asked; one folder for the uninterrupted run, one for all parts."""
    launch = run.manifest().launch
    assert launch is not None
    words = tuple(word.replace(PLACE, str(folder.absolute())) for word in launch.words)
    directory = launch.directory
    if words != launch.words:
        folder.mkdir(parents=True, exist_ok=True)
    elif apart:
        directory = str(_linked(Path(directory), folder))
    launch = replace(launch, words=words, directory=directory, options=options.to_text())
    run.update_manifest(launch=launch, interrupted=interrupted, working_directory=directory)


def _linked(working: Path, folder: Path) -> Path:
    """Make a folder in which all of another one stands as links: what is written there anew stays there."""
    folder = folder.absolute()
    if not folder.exists():
        folder.mkdir(parents=True)
        for entry in working.absolute().iterdir():
            if entry.resolve() not in (folder, *folder.parents):
                (folder / entry.name).symlink_to(entry)
    return folder


def _interrupt_of(run: RunDirectory) -> int | None:
    launch = run.manifest().launch
    return Options.from_text(launch.options).interrupt_at if launch is not None else None


def _last_step(run: RunDirectory) -> int:
    try:
        with Trace(run.trace_path) as trace:
            step = trace.last_step()
    except ReprotuiError:
        step = None
    return -1 if step is None else step


def _told(run: RunDirectory) -> str:
    launch = run.manifest().launch
    return f"{run.path.name}: {' '.join(launch.words) if launch else ''}"
