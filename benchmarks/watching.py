"""Campaign: bits flipped while a training is watched. Are they found at the rate of the sampling, are clean checks silent?

And the price: the same script with steps of 20 ms and more, bare, recorded, and watched, in turns.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import at_most, say
from reprotui.cli.watch import follow
from reprotui.errors import WorkerFailedError
from reprotui.event_kinds import CORRUPT
from reprotui.observation import Options
from reprotui.observe.checks import drawn
from reprotui.race.certify import median_interval
from reprotui.race.prepare import Request
from reprotui.race.scripts import parse_command, prepare_script
from reprotui.run_directory import RUNS_VARIABLE, RunDirectory
from reprotui.trace import Trace

FLIPS = 300
"""Over both frameworks, parameters, gradients and activations in turns."""
ONE_OF = 5
"""Of so many steps of the campaign one is recomputed: enough of its flips are met to hold the rate against its bounds."""
EVERY = 9
CLEAN = 500
"""Steps of each framework without a flip, all of them recomputed."""
PAIRS = 6
BAR = 3.0
"""Percent that a check of one step in a hundred may cost."""
CHECKED, WARM = 10, 40
"""Of the timed steps one of so many is recomputed, and so many are not counted at first."""
SCRIPT = Path(__file__).parent.parent / "tests/scripts/flipped.py"
TIMED = Path(__file__).parent / "scripts/watched.py"


def run(count: int | None = None, seed: int = 0, *, clean: int = CLEAN, pairs: int = PAIRS) -> dict[str, Any]:
    """Watch trainings in which bits are flipped, trainings in which none is, and time steps.

    Args:
        count: flips, over both frameworks.
        seed: nothing is drawn from it here; the script has a seed of its own.
        clean: steps of each framework without a flip.
        pairs: runs of each kind and framework that are timed; 0 for none.

    Returns:
        A row a framework and kind: flips, how many were found, the bounds that 95 % of such counts lie in, and whether they do; a
        row a framework without flips, with its false alarms; and the price of a step.
    """
    rows: list[dict[str, Any]] = []
    flips = (count or FLIPS) // 2
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        for framework in ("torch", "jax"):
            say(f"{flips} flips in {framework}")
            planted, found = watched(Path(folder), framework, 20 + EVERY * flips, EVERY, ONE_OF)
            for kind in ("params", "grads", "activation"):
                steps = [step for step, what in planted if what == kind]
                rate = 1.0 if kind == "params" else 1 / ONE_OF
                low, high = bounds(len(steps), rate)
                seen = sum(step in found for step in steps)
                rows.append(_row(f"{framework}, {kind}", len(steps), seen, f"{low} to {high}", low <= seen <= high))
            stray = found - {step for step, _ in planted}
            rows.append(_row(f"{framework}, steps without a flip, told as corrupt", None, len(stray), "0", not stray))
            say(f"{clean} clean steps in {framework}")
            _, found = watched(Path(folder), framework, clean, 0, 1)
            rows.append(_row(f"{framework}, clean checks, false alarms", clean, len(found), "0", not found))
        notes = [line for framework in ("torch", "jax") if pairs for line in price(Path(folder), framework, pairs)]
    return {"rows": rows, "notes": notes}


def watched(folder: Path, framework: str, steps: int, every: int, one_of: int) -> tuple[list[tuple[int, str]], set[int]]:
    """Watch the script that flips bits; return the flips it made as (step, kind), and the steps that are told as corrupt."""
    run = _watch(folder, f"{sys.executable} {SCRIPT} {framework} {steps} {every}", one_of)
    planted = [json.loads(line) for line in run.log_path.read_text().splitlines() if line.startswith('{"step"')]
    with Trace(run.trace_path) as trace:
        texts = [event.text for event in trace.events() if event.kind == CORRUPT]
    return [(item["step"], item["kind"]) for item in planted], {int(text.split()[3]) for text in texts}


def expected(planted: list[tuple[int, str]], one_of: int) -> set[int]:
    """Return at which steps a flip must be found: those of state at each step, others where the step is drawn."""
    return {step for step, kind in planted if kind == "params" or drawn(step, one_of)}


def bounds(trials: int, rate: float) -> tuple[int, int]:
    """Return between which counts 95 % of the outcomes of so many trials of this rate lie (binomial, exact)."""
    chances = [math.comb(trials, hits) * rate**hits * (1 - rate) ** (trials - hits) for hits in range(trials + 1)]
    total, low, high = 0.0, None, trials
    for hits, chance in enumerate(chances):
        total += chance
        if low is None and total > 0.025:
            low = hits
        if total >= 0.975:
            high = hits
            break
    return low or 0, high


def price(folder: Path, framework: str, pairs: int) -> list[str]:
    """Time steps of a script that is watched and of one that is not, at once, each on a processor of its own, and then exchanged.

    A step is the processor's time of all its threads. What a check costs is taken from a run with more of them than there are at
    `--check 1%`: medians of those that are drawn and of those that are not, one in a hundred of the former.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    ratios: dict[str, list[float]] = {"recorded": [], "bare": []}
    for number in range(pairs):
        for other in ratios:
            say(f"{framework}: pair {number + 1} of {pairs}, against a {other} one")
            turns = [cores, cores[::-1]]
            found = [_at_once(folder, framework, other, *turn) for turn in turns]
            ratios[other].append(math.sqrt(math.prod(watched / alone for watched, alone in found)))
    lines = []
    for other, found in ratios.items():
        interval = median_interval(found)
        told = f"95 % interval {interval[0]:.3f} to {interval[1]:.3f}" if interval else f"{min(found):.3f} to {max(found):.3f}"
        what = f"{framework}: a watched step (1 %) computes × {statistics.median(found):.3f} as long as a {other} one"
        lines.append(f"{what} ({told}, {pairs} pairs)")
    lines.append(
        at_most(f"{framework}: percent more than a recorded step", 100 * (statistics.median(ratios["recorded"]) - 1), BAR)
    )
    return lines


def _at_once(folder: Path, framework: str, other: str, mine: int, theirs: int) -> tuple[float, float]:
    """Return the time of a step that is watched, one in a hundred recomputed, and of one that is not, taken at the same time."""
    place = Path(tempfile.mkdtemp(dir=folder))
    script = [sys.executable, str(TIMED), framework]
    commands = {
        "watched": [
            sys.executable,
            "-m",
            "reprotui",
            "watch",
            "--check",
            f"{100 / CHECKED:g}%",
            "--name",
            "watched",
            "--",
            *script,
        ],
        "recorded": [sys.executable, "-m", "reprotui.observe", "--name", "recorded", *script[1:]],
        "bare": script,
    }
    started = {
        kind: subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *commands[kind]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {RUNS_VARIABLE: str(place)},
        )
        for kind, core in (("watched", mine), (other, theirs))
    }
    outputs = {kind: process.communicate()[0] for kind, process in started.items()}
    steps = {}
    for kind, output in outputs.items():
        if started[kind].returncode:
            raise WorkerFailedError(f"the {kind} run of {TIMED.name} failed: {output[-500:]}")
        text = RunDirectory(place / kind).log_path.read_text() if kind == "watched" else output
        steps[kind] = dict(enumerate(json.loads(text.split("computing ")[1].splitlines()[0]), 1))
    counted = {step: seconds for step, seconds in steps["watched"].items() if step > WARM}
    plain = statistics.median(seconds for step, seconds in counted.items() if not drawn(step, CHECKED))
    checked = statistics.median(seconds for step, seconds in counted.items() if drawn(step, CHECKED))
    return plain + (checked - plain) / 100, statistics.median(seconds for step, seconds in steps[other].items() if step > WARM)


def _watch(folder: Path, command: str, one_of: int | None) -> RunDirectory:
    import contextlib
    import io

    run = prepare_script(Request(folder, None, ["watching"]), parse_command(command), Options(check=one_of))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        follow(run.path, as_json=True)
    return run


def _row(what: str, flips: int | None, found: int, within: str, met: bool) -> dict[str, Any]:
    return {"what": what, "of": flips, "found": found, "95 % bounds": within, "met": met}
