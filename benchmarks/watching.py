"""Campaign: bits flipped while a training is watched. Are they found at the rate of the sampling, are clean checks silent?

And the price: the same script with steps of 20 ms and more, bare, recorded, and watched, in turns.
"""

import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import say
from reprotui.cli.watch import follow
from reprotui.event_kinds import CORRUPT
from reprotui.observation import Options
from reprotui.observe.checks import drawn
from reprotui.race.certify import median_interval
from reprotui.race.prepare import Request
from reprotui.race.scripts import parse_command, prepare_script
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

FLIPS = 300
"""Over both frameworks, parameters, gradients and activations in turns."""
ONE_OF = 5
"""Of so many steps of the campaign one is recomputed: enough of its flips are met to hold the rate against its bounds."""
EVERY = 9
CLEAN = 500
"""Steps of each framework without a flip, all of them recomputed."""
PAIRS = 6
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
    """Time steps of a script with recording alone and with `--check 1%`, in turns; and against the bare script.

    What is held against each other is the processor's time, of all threads: it does not hang on what else the machine does.
    """
    ratios: dict[str, list[float]] = {"recorded": [], "bare": []}
    for number in range(pairs):
        say(f"{framework}: pair {number + 1} of {pairs}")
        seconds = {
            "watched": _step_seconds(folder, framework, 100),
            "recorded": _step_seconds(folder, framework, None),
            "bare": _bare_seconds(framework),
        }
        for other, found in ratios.items():
            found.append(seconds["watched"] / seconds[other])
    lines = []
    for other, found in ratios.items():
        interval = median_interval(found)
        told = f"95 % interval {interval[0]:.3f} to {interval[1]:.3f}" if interval else f"{min(found):.3f} to {max(found):.3f}"
        what = f"{framework}: a watched step (1 %) computes × {statistics.median(found):.3f} as long as a {other} one"
        lines.append(f"{what} ({told}, {pairs} pairs)")
    return lines


def _step_seconds(folder: Path, framework: str, one_of: int | None) -> float:
    run = _watch(folder, f"{sys.executable} {TIMED} {framework}", one_of)
    return float(run.log_path.read_text().split("computing ")[1].split()[0])


def _bare_seconds(framework: str) -> float:
    import subprocess

    done = subprocess.run([sys.executable, str(TIMED), framework], capture_output=True, text=True, check=True)
    return float(done.stdout.split("computing ")[1].split()[0])


def _watch(folder: Path, command: str, one_of: int | None) -> RunDirectory:
    import contextlib
    import io

    run = prepare_script(Request(folder, None, ["watching"]), parse_command(command), Options(check=one_of))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        follow(run.path, as_json=True)
    return run


def _row(what: str, flips: int | None, found: int, within: str, met: bool) -> dict[str, Any]:
    return {"what": what, "of": flips, "found": found, "95 % bounds": within, "met": met}
