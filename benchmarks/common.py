"""What the benchmarks share: a process with a worker's environment, interleaved rounds, progress, and bars."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reprotui.errors import INTERRUPTED, WorkerFailedError
from reprotui.race.start import ended

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: where Python finds the benchmarks."""
PROGRESS_SECONDS = 2.0
"""How often progress is printed: nothing for what takes a second, one line now and then for what takes minutes."""


def in_child(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Run a benchmark in a process of its own, with the environment of a worker in default config.

    Raises:
        WorkerFailedError: it ended without a result; what it said is on stderr.
    """
    command = [sys.executable, "-m", "benchmarks.child", name, json.dumps(options)]
    # Its files lie in a folder of this process: where the other is killed, as on ctrl-C, they are still removed.
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        environment = with_benchmarks(worker_environment(TMPDIR=folder))
        with ended(subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment)) as process:
            answer, _ = process.communicate()
    if process.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode:
        raise WorkerFailedError(f"the benchmark {name} failed with exit code {process.returncode}: its traceback is above")
    return json.loads(answer)


def worker_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a worker in default config; `variables` are set in what it inherits."""
    from reprotui.experiments.config import MlpConfig
    from reprotui.race.launch import launch_environment

    return launch_environment(MlpConfig().model_dump(mode="json"), {**os.environ, **variables})


def with_benchmarks(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Python finds the benchmarks, wherever it is started."""
    paths = (str(ROOT), environment.get("PYTHONPATH", ""))
    return {**environment, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def interleaved(variants: Mapping[str, Callable[[], float]], rounds: int, what: str) -> dict[str, list[float]]:
    """Take the time of variants in turns, so that a change of the machine's speed meets all of them.

    Args:
        variants: by name, a callable that runs one block and returns its seconds.
        rounds: blocks of each; every round begins with another variant.
        what: named in the progress.

    Returns:
        Seconds by variant, one entry a round.
    """
    names = list(variants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    progress = Progress(what, rounds * len(names))
    for turn in range(rounds):
        for index in range(len(names)):
            name = names[(turn + index) % len(names)]
            seconds[name].append(variants[name]())
            progress.advance()
    return seconds


def ratio(of: list[float], to: list[float]) -> float:
    """Return the median over the rounds of one variant's seconds over another's in the same round."""
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


def at_most(what: str, value: float, limit: float, unit: str = "") -> str:
    """Return the note that says whether a bar is met that is an upper one."""
    return _bar(what, value, "≤", limit, unit, value <= limit)


def at_least(what: str, value: float, limit: float, unit: str = "") -> str:
    """Return the note that says whether a bar is met that is a lower one."""
    return _bar(what, value, "≥", limit, unit, value >= limit)


def _bar(what: str, value: float, sign: str, limit: float, unit: str, met: bool) -> str:
    return f"{what}: {value:.3g}{unit}, bar {sign} {limit:g}{unit}: {'met' if met else 'NOT met'}"


class Progress:
    """Say on stderr how far something is, every `PROGRESS_SECONDS`."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._said = time.monotonic()

    def advance(self, done: int = 1) -> None:
        """Count so many more as done."""
        self._done += done
        if time.monotonic() - self._said >= PROGRESS_SECONDS:
            self._said = time.monotonic()
            print(f"  {self._what}: {self._done} of {self._total}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print what begins now on stderr."""
    print(f"  {text} …", file=sys.stderr, flush=True)
