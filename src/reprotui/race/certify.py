"""Prove that observing a script changes nothing: it is run with and without, and what it ends on is compared."""

import hashlib
import json
import math
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from reprotui.errors import CANNOT_TELL, DIFFERS, SAME, WORKER_FAILED, BadInputError
from reprotui.observation import OPTIONS_VARIABLE, Options
from reprotui.race.launch import start_worker
from reprotui.race.prepare import Request
from reprotui.race.scripts import Command, ScriptMember, observed, prepare_scripts
from reprotui.race.start import ended
from reprotui.run_directory import RunDirectory

TIMES_EACH = 2
"""Runs of each kind, at least: one could not tell observation from a script that never repeats itself."""
RUN_AHEAD = 40
"""Steps at the beginning that are left out of the time of a step: jax's CPU backend takes up to 32 before any has ended."""


@dataclass(frozen=True)
class Trial:
    """One run of the script. `state` digests what it ended on, `files` what it wrote; `step_seconds` is None without steps."""

    observed: bool
    exit_code: int
    seconds: float
    state: str | None
    files: Mapping[str, str]
    step_seconds: float | None
    steps: int
    log: tuple[str, ...]

    @property
    def end(self) -> tuple[str | None, tuple[tuple[str, str], ...]]:
        """Return what is compared."""
        return self.state, tuple(sorted(self.files.items()))


@dataclass(frozen=True)
class Certificate:
    """What the trials say. `changed` names what observation changed; `overhead` is a ratio of steps, `overhead_run` of runs.

    Both are medians over pairs of neighbouring runs; `overheads` are the ratios of steps of all pairs, and `interval` is where
    the median of ever more pairs would lie, with 95 % confidence: None for fewer than six pairs, which cannot tell.
    """

    trials: tuple[Trial, ...]
    kind: str
    sentence: str
    changed: tuple[str, ...]
    overhead: float | None
    overheads: tuple[float, ...]
    interval: tuple[float, float] | None
    overhead_run: float

    @property
    def exit_code(self) -> int:
        """Return 0 where nothing changed, 1 where observation did change something, 3 or 4 where that cannot be said."""
        return {"unchanged": SAME, "changed": DIFFERS, "failed": WORKER_FAILED}.get(self.kind, CANNOT_TELL)


def certify(
    command: Command, options: Options, files: Sequence[str] = (), tell: Callable[[str], None] = lambda text: None,
    times: int = TIMES_EACH,
) -> Certificate:  # fmt: skip
    """Run a command with and without observation, alternately, and compare.

    Without `files`, the runs that are not observed carry a bootstrap that leaves every step alone: it keeps hold of the
    last outputs of the train step (or of the optimizer) and digests them when the process ends. With `files`, they carry
    nothing at all, and what the script wrote is compared.

    Args:
        command: what to run.
        options: what the observers are asked to do.
        files: patterns of files, relative to the working directory, that the script writes.
        tell: gets a line before each run.
        times: runs with and without observation each.

    Raises:
        BadInputError: the command cannot be run, or `times` is too small.
    """
    if times < TIMES_EACH:
        raise BadInputError(
            f"--times {times}: it takes {TIMES_EACH} runs of each kind to tell observation from a script that never ends alike"
        )
    trials = []
    with TemporaryDirectory(prefix="reprotui-certify-") as place:
        for number in range(times):
            for with_observation in (False, True):
                tell(f"run {len(trials) + 1} of {2 * times}: {'observed' if with_observation else 'not observed'}")
                trials.append(_try(command, options, files, with_observation, Path(place) / f"{number}-{with_observation}"))
                if trials[-1].exit_code:
                    return _judge(trials, files)
    return _judge(trials, files)


def _try(command: Command, options: Options, files: Sequence[str], observe: bool, place: Path) -> Trial:
    place.mkdir()
    final, log = place / "final.json", place / "log"
    asked = replace(options, record=observe, final=str(final))
    for path in _matching(files):
        path.unlink()
    begun = time.perf_counter()
    if observe:
        member = ScriptMember("a", command)
        _, (run,) = prepare_scripts(Request(place, "run", []), [member], asked)
        log = run.log_path
        begun = time.perf_counter()
        with ended(start_worker(run)) as process:
            process.wait()
    else:
        words, variables = (list(command.words), {}) if files else observed(command.words)
        environment = {**os.environ, **command.variables, **variables}
        if variables and os.environ.get("PYTHONPATH"):
            environment["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
        if not files:
            environment[OPTIONS_VARIABLE] = asked.to_text()
        with (
            log.open("wb") as output,
            ended(
                subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
                )
            ) as process,
        ):
            process.wait()
    seconds = time.perf_counter() - begun
    found = json.loads(final.read_text()) if final.exists() else {}
    times = found.get("times") or []
    return Trial(
        observe, process.returncode, seconds, found.get("digest"),
        {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in _matching(files)},
        _step_seconds(times), len(times), tuple(RunDirectory(log.parent).log_tail() or _tail(log)),
    )  # fmt: skip


def _step_seconds(times: Sequence[float]) -> float | None:
    """Return the mean time from one step's beginning to the next, without the first ones: they compile, and a script whose
    device works asynchronously begins so many at once that single gaps say nothing."""
    rest = times[max(len(times) // 4, min(RUN_AHEAD, len(times) // 2)) :]
    return (rest[-1] - rest[0]) / (len(rest) - 1) if len(rest) > 1 else None


def _judge(trials: Sequence[Trial], files: Sequence[str]) -> Certificate:
    plain = [trial for trial in trials if not trial.observed]
    seen = [trial for trial in trials if trial.observed]
    overheads = _ratios([trial.step_seconds for trial in seen], [trial.step_seconds for trial in plain])
    overhead = statistics.median(overheads) if overheads else None
    runs = _ratios([trial.seconds for trial in seen], [trial.seconds for trial in plain])
    whole = statistics.median(runs) if runs else 0.0
    kind, sentence = "unchanged", f"the script ends on the same bits with and without observation, {len(plain)} times each"
    changed: tuple[str, ...] = ()
    compared = [trial.files if files else trial.state for trial in trials]
    if any(trial.exit_code for trial in trials):
        failed = next(trial for trial in trials if trial.exit_code)
        how = "observed" if failed.observed else "not observed"
        kind, sentence = "failed", f"the script ended with exit code {failed.exit_code}, {how}"
    elif not all(compared):
        kind = "nothing"
        sentence = (
            f"no file matches {', '.join(files)} after a run" if files else "no train step was found whose end could be digested"
        )
    elif len({str(trial.files if files else trial.state) for trial in plain}) > 1:
        kind, sentence = "irreproducible", "without observation the script already ends differently each time: race it first"
    elif len({str(item) for item in compared}) > 1:
        kind, sentence = "changed", "observation changed what the script ends on"
        changed = _changed(plain[0], seen, files)
    return Certificate(tuple(trials), kind, sentence, changed, overhead, overheads, median_interval(overheads), whole)


def _changed(plain: Trial, seen: Sequence[Trial], files: Sequence[str]) -> tuple[str, ...]:
    if not files:
        return ("the final state of the train step",)
    names = dict.fromkeys([*plain.files, *(name for trial in seen for name in trial.files)])
    return tuple(name for name in names if any(trial.files.get(name) != plain.files.get(name) for trial in seen))


def _ratios(above: Sequence[float | None], below: Sequence[float | None]) -> tuple[float, ...]:
    """Return the ratios of neighbours: a change of the machine's speed meets both runs of a pair."""
    return tuple(first / second for first, second in zip(above, below, strict=False) if first and second)


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return two of the values between which the median of their distribution lies with 95 % confidence.

    The interval of the sign test: each value is above the median with probability 1/2, whatever the distribution. None where
    there are too few values for it, fewer than six.
    """
    below, count = 0, len(values)
    while sum(math.comb(count, number) for number in range(below + 1)) <= 0.025 * 2**count:
        below += 1
    return (sorted(values)[below - 1], sorted(values)[count - below]) if below else None


def _matching(patterns: Sequence[str]) -> list[Path]:
    return sorted(path for pattern in patterns for path in Path().glob(pattern) if path.is_file())


def _tail(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:] if log.exists() else []
