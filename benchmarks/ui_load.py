"""What the dashboard takes: memory, processor time, bytes to the terminal, and steps of the workers that it watches."""

import os
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.common import Progress
from benchmarks.ui_latency import CHART_DRAWN, HOME_DRAWN, JUDGED, TABLE_DRAWN
from benchmarks.ui_runs import two_writers
from benchmarks.ui_terminal import Terminal
from reprotui.errors import WorkerFailedError
from reprotui.experiments.discovery import find_experiment
from reprotui.race.launch import start_worker
from reprotui.race.prepare import Member, Request, prepare_race
from reprotui.race.start import ended
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

SETTLE_SECONDS = 2.0
"""From a screen that is complete to one that is at rest: what is imported and collected once is over."""
WARM_STEPS = 50
"""Steps of a worker before its rate counts."""
LIMIT_SECONDS = 300.0


def memory_and_idle(arguments: Sequence[str], drawn: tuple[str, ...], folder: Path, seconds: float) -> tuple[float, float, float]:
    """Open the dashboard and leave it alone.

    Returns:
        Resident memory in MB, the share of a core in percent, and bytes a second to the terminal.
    """
    with Terminal(arguments, folder) as terminal:
        terminal.wait_for(*drawn)
        terminal.drain(SETTLE_SECONDS)
        cpu = _cpu_seconds(terminal.pid)
        written = terminal.drain(seconds)
        return _resident_mb(terminal.pid), 100 * (_cpu_seconds(terminal.pid) - cpu) / seconds, written / seconds


def home_idle(folder: Path, seconds: float) -> tuple[float, float, float]:
    """Measure Home on an empty runs directory; see `memory_and_idle`."""
    return memory_and_idle(["--runs-dir", str(folder / "empty")], HOME_DRAWN, folder, seconds)


def pair_idle(pair: Path, folder: Path, seconds: float) -> tuple[float, float, float]:
    """Measure a recorded pair that was read and judged; see `memory_and_idle`."""
    return memory_and_idle(["open", str(pair)], (JUDGED,), folder, seconds)


def following(runs: Path, folder: Path, seconds: float, rate: float) -> tuple[float, float]:
    """Follow two runs that are written; return the share of a core in percent, and bytes a second to the terminal."""
    with two_writers(runs, "followed", rate) as (path, _, _), Terminal(["open", str(path)], folder) as terminal:
        terminal.wait_for(TABLE_DRAWN, CHART_DRAWN)
        terminal.drain(SETTLE_SECONDS)
        cpu = _cpu_seconds(terminal.pid)
        written = terminal.drain(seconds)
        return 100 * (_cpu_seconds(terminal.pid) - cpu) / seconds, written / seconds


def watched_workers(
    runs: Path, folder: Path, rounds: int, seconds: float, model: Mapping[str, Any], generator: random.Random
) -> tuple[list[float], list[float]]:
    """Race two workers of the default experiment, and look at them every other while.

    Returns:
        Steps a second of both workers together, in each while with a dashboard and in each without; they alternate,
        which comes first is drawn, and the dashboard's own start counts for neither.
    """
    members = [Member(label, {**model, "steps": 10**8}) for label in "ab"]
    path, directories = prepare_race(Request(runs, "watched", []), find_experiment(None), members)
    spans: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    progress = Progress("ui, workers", 2 * rounds)
    with ExitStack() as stack:
        processes = [stack.enter_context(ended(start_worker(directory))) for directory in directories]
        _wait_until_warm(directories)
        for _ in range(rounds):
            first = generator.random() < 0.5
            for watched in (first, not first):
                spans[watched].append(_while_watched(path, folder, seconds) if watched else _while_alone(seconds))
                progress.advance()
        for directory in directories:
            directory.send("stop")
        for process in processes:
            process.wait(LIMIT_SECONDS)
    times = sorted(time_ns for directory in directories for time_ns in _step_times(directory))
    watched_rates, alone_rates = ([_rate(times, span) for span in spans[watched]] for watched in (True, False))
    return watched_rates, alone_rates


def noise(rates: Sequence[float]) -> float:
    """Return how far apart two equal measurements are, as a share: the median over neighbours."""
    pairs = list(pairwise(rates))
    return statistics.median(abs(a - b) / max(a, b) for a, b in pairs) if pairs else 0.0


def _while_watched(path: Path, folder: Path, seconds: float) -> tuple[int, int]:
    with Terminal(["open", str(path)], folder) as terminal:
        terminal.wait_for(TABLE_DRAWN, CHART_DRAWN)
        terminal.drain(SETTLE_SECONDS)
        start = time.time_ns()
        terminal.drain(seconds)
        return start, time.time_ns()


def _while_alone(seconds: float) -> tuple[int, int]:
    start = time.time_ns()
    time.sleep(seconds)
    return start, time.time_ns()


def _wait_until_warm(directories: Sequence[RunDirectory]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if all(_last_step(directory) >= WARM_STEPS for directory in directories):
            return
        time.sleep(0.1)
    raise WorkerFailedError(f"a worker did not begin to train: {' / '.join(directories[0].log_tail(3))}")


def _last_step(directory: RunDirectory) -> int:
    if not directory.trace_path.exists() or not directory.trace_path.stat().st_size:
        return -1
    with Trace(directory.trace_path) as trace:
        return trace.last_step() or 0


def _step_times(directory: RunDirectory) -> list[int]:
    with Trace(directory.trace_path) as trace:
        return [row.time_ns for row in trace.rows()]


def _rate(times: Sequence[int], span: tuple[int, int]) -> float:
    start, end = span
    return sum(start <= time_ns < end for time_ns in times) / (end - start) * 1e9


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its threads, to the nanosecond where the kernel counts them."""
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9
    except (OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise WorkerFailedError(f"/proc/{pid}/status names no resident memory")
