"""What a race costs two training scripts: two bare ones at once against the same two observed and compared."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import Progress, at_most
from reprotui.errors import WorkerFailedError
from reprotui.race.start import ended
from reprotui.run_directory import RunDirectory

ROUNDS = 4
LIMIT_SECONDS = 1800
SCRIPTS = {"torch_small": 300, "torch_large": 60, "jax_flax": 300}
"""Steps of each script in `bench/scripts`."""
BARS = {"torch_small": 1.15, "torch_large": 1.08, "jax_flax": 1.08}
"""Highest acceptable ratio of a step's time in a race to that of two bare scripts at once."""
CPU_BAR_MS, WALL_BAR, MEMORY_BAR_MB = 0.8, 1.4, 150.0
"""Of the small PyTorch script: CPU time more a step, ratio of the whole time, memory more."""

Costs = dict[str, float]


def run(count: int | None = None, seed: int = 0, *, steps: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Run all scripts in turns, bare and raced.

    Args:
        count: rounds.
        seed: not used: the scripts draw with fixed seeds.
        steps: steps by script, other than `SCRIPTS`; scripts that are not named are left out.

    Returns:
        A row a script: milliseconds a step, CPU milliseconds a step, seconds from start to end of both, and peak memory of a
        process, bare and in a race; medians over rounds and runs. Ratios are those within a round.
    """
    chosen = dict(SCRIPTS if steps is None else steps)
    rounds = count or ROUNDS
    progress = Progress("racing", 2 * rounds * len(chosen))
    found: dict[str, list[tuple[Costs, Costs]]] = {name: [] for name in chosen}
    for turn in range(rounds):
        for name, length in chosen.items():
            pair = {}
            for raced in (False, True) if turn % 2 == 0 else (True, False):
                pair[raced] = _race(name, length) if raced else _bare(name, length)
                progress.advance()
            found[name].append((pair[False], pair[True]))
    rows = [_row(name, pairs) for name, pairs in found.items()]
    notes = [at_most(f"{name}, a step", _ratio(pairs, "ms"), BARS[name], " ×") for name, pairs in found.items() if name in BARS]
    if (small := found.get("torch_small")) is not None:
        notes.append(at_most("torch_small, CPU a step more", _more(small, "cpu_ms"), CPU_BAR_MS, " ms"))
        notes.append(at_most("torch_small, the whole script", _ratio(small, "seconds"), WALL_BAR, " ×"))
        notes.append(at_most("torch_small, memory more", _more(small, "mb"), MEMORY_BAR_MB, " MB"))
    return {"rows": rows, "notes": notes}


def _row(name: str, pairs: list[tuple[Costs, Costs]]) -> dict[str, Any]:
    def median(raced: bool, what: str) -> float:
        return statistics.median(pair[raced][what] for pair in pairs)

    row: dict[str, Any] = {"script": name}
    for what, title in (("ms", "ms a step"), ("cpu_ms", "CPU ms a step"), ("seconds", "seconds"), ("mb", "MB")):
        row |= {f"{title}, bare": median(False, what), f"{title}, race": median(True, what)}
        row[f"{title}, ×"] = _ratio(pairs, what)
    return row


def _ratio(pairs: list[tuple[Costs, Costs]], what: str) -> float:
    return statistics.median(raced[what] / bare[what] for bare, raced in pairs)


def _more(pairs: list[tuple[Costs, Costs]], what: str) -> float:
    return statistics.median(raced[what] - bare[what] for bare, raced in pairs)


def _command(name: str, steps: int) -> list[str]:
    return [sys.executable, str(Path(__file__).parent / "scripts" / f"{name}.py"), str(steps)]


def _bare(name: str, steps: int) -> Costs:
    start = time.perf_counter()
    with (
        ended(subprocess.Popen(_command(name, steps), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)) as one,
        ended(subprocess.Popen(_command(name, steps), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)) as other,
    ):
        outputs = [process.communicate(timeout=LIMIT_SECONDS)[0].decode() for process in (one, other)]
        if one.returncode or other.returncode:
            raise WorkerFailedError(f"the script {name} ended with an error: its traceback is above")
    return _costs(outputs, time.perf_counter() - start)


def _race(name: str, steps: int) -> Costs:
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        command = [sys.executable, "-m", "reprotui", "race", "--runs-dir", folder, "--name", "race", "--", *_command(name, steps)]
        start = time.perf_counter()
        with ended(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        ) as process:
            _, said = process.communicate(timeout=LIMIT_SECONDS)
        seconds = time.perf_counter() - start
        logs = [RunDirectory(Path(folder) / "race" / label).log_tail(5) for label in ("a", "b")]
        if process.returncode:
            raise WorkerFailedError(f"a race of {name} ended with exit code {process.returncode}: {said.decode()[-500:]}")
        return _costs(["\n".join(lines) for lines in logs], seconds)


def _costs(outputs: list[str], seconds: float) -> Costs:
    values = [json.loads(output.splitlines()[-1]) for output in outputs]
    return {"seconds": seconds, **{name: statistics.median(value[name] for value in values) for name in ("ms", "cpu_ms", "mb")}}
