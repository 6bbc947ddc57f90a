"""What starting costs: the command line against bare Python, a worker against a bare script with the same model."""

import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import Progress, at_most, worker_environment
from reprotui.errors import WorkerFailedError
from reprotui.experiments.discovery import find_experiment
from reprotui.race.launch import start_worker
from reprotui.race.prepare import Request, prepare_run
from reprotui.race.start import ended
from reprotui.trace import Trace

ROUNDS = 5
HELP_BAR_MS = 80.0
"""Highest acceptable CPU time of `reprotui --help` beyond bare Python."""
LIMIT_SECONDS = 300
"""How long anything started here may take: far more than a cold start on a busy machine."""

HELP = "import sys; from reprotui.cli import main; sys.exit(main())"
"""What the console script does."""
BARE_SCRIPT = """
import time
import jax
from reprotui.experiments.config import MlpConfig
from reprotui.experiments.digits import DigitsMlp
experiment = DigitsMlp(MlpConfig())
state = jax.jit(experiment.init)(jax.random.key(0))
state, shown = jax.jit(experiment.train_step, donate_argnums=0)(state, experiment.batch(1), jax.random.key(1))
shown.loss.block_until_ready()
print(time.time_ns())
"""
"""The default experiment without a worker: no manifest, no hashes of the program, no recording."""

TORCH_SCRIPT = str(Path(__file__).parent / "scripts" / "torch_small.py")
"""A small PyTorch script, which is given the number of its steps."""

Costs = tuple[float, float]
"""Seconds of wall-clock time and of CPU time."""


def run(count: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Start everything in turns.

    Args:
        count: rounds.
        seed: of the worker's run.

    Returns:
        A row each: median wall-clock and CPU time in ms, children included, and CPU time beyond `python -c pass`. Of scripts
        and the worker: the wall-clock time ends at the first step, the CPU time is that of the whole process, which
        for the worker includes evaluating the model and sealing. Cold is an empty compilation cache, warm that of the
        cold start before.
    """
    commands = {
        "python -c pass": ["-c", "pass"],
        "reprotui --help": ["-c", HELP, "--help"],
        'python -c "import jax"': ["-c", "import jax"],
    }
    costs: dict[str, list[Costs]] = {name: [] for name in commands}
    rounds = count or ROUNDS
    torch = [
        (_bare_torch, "bare PyTorch script to its first step"),
        (_observed_torch, "observed PyTorch script to its first record"),
    ]
    if importlib.util.find_spec("torch") is None:
        torch = []
    progress = Progress("startup", rounds * (len(commands) + len(torch) + 4))
    for _ in range(rounds):
        for name, arguments in commands.items():
            costs[name].append(_command(arguments, worker_environment())[0])
            progress.advance()
        for measure, what in torch:
            with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
                costs.setdefault(what, []).append(measure(worker_environment(), Path(folder)))
            progress.advance()
        for start, what in ((_bare_script, "bare script to its first step"), (_worker, "worker to its first record")):
            with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
                environment = worker_environment(
                    JAX_COMPILATION_CACHE_DIR=str(Path(folder) / "cache"),
                    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
                    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
                )
                for cache in ("cold", "warm"):
                    costs.setdefault(f"{what}, {cache} cache", []).append(start(environment, Path(folder), seed))
                    progress.advance()
    medians = {name: [1e3 * statistics.median(column) for column in zip(*found, strict=True)] for name, found in costs.items()}
    base = medians["python -c pass"][1]
    rows = [
        {"start": name, "wall ms": wall, "CPU ms": cpu, "CPU ms more than python": cpu - base}
        for name, (wall, cpu) in medians.items()
    ]
    return {"rows": rows, "notes": [at_most("reprotui --help, CPU", medians["reprotui --help"][1] - base, HELP_BAR_MS, " ms")]}


def _command(arguments: list[str], environment: Mapping[str, str]) -> tuple[Costs, str]:
    start, cpu = time.perf_counter(), _cpu_of_children()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=dict(environment)
    )
    with ended(process):
        output, _ = process.communicate(timeout=LIMIT_SECONDS)
    if process.returncode:
        raise WorkerFailedError(f"python {arguments[0]} ended with exit code {process.returncode}: its traceback is above")
    return (time.perf_counter() - start, _cpu_of_children() - cpu), output.decode()


def _bare_script(environment: Mapping[str, str], _folder: Path, _seed: int) -> Costs:
    start_ns = time.time_ns()
    (_, cpu), output = _command(["-c", BARE_SCRIPT], environment)
    return (int(output) - start_ns) / 1e9, cpu


def _bare_torch(environment: Mapping[str, str], _folder: Path) -> Costs:
    start_ns = time.time_ns()
    (_, cpu), output = _command([TORCH_SCRIPT, "1"], environment)
    return (json.loads(output)["at_ns"] - start_ns) / 1e9, cpu


def _observed_torch(environment: Mapping[str, str], folder: Path) -> Costs:
    start_ns = time.time_ns()
    arguments = ["-m", "reprotui.observe", "--name", "run", TORCH_SCRIPT, "1"]
    (_, cpu), _ = _command(arguments, {**environment, "REPROTUI_RUNS": str(folder)})
    with Trace(folder / "run" / "trace.db") as trace:
        row = trace.row(1)
    if row is None:
        raise WorkerFailedError("an observed PyTorch script recorded no step")
    return (row.time_ns - start_ns) / 1e9, cpu


def _worker(environment: Mapping[str, str], folder: Path, seed: int) -> Costs:
    run_ = prepare_run(Request(folder, None, []), find_experiment(None), {"steps": 1, "seed": seed})
    start_ns, cpu = time.time_ns(), _cpu_of_children()
    with ended(start_worker(run_, environment)) as process:
        process.wait(LIMIT_SECONDS)
    cpu = _cpu_of_children() - cpu
    with Trace(run_.trace_path) as trace:
        row = trace.row(1)
    if row is None:
        raise WorkerFailedError(f"a worker recorded no step: {' / '.join(run_.log_tail(3))}")
    return (row.time_ns - start_ns) / 1e9, cpu


def _cpu_of_children() -> float:
    """Return the CPU seconds of all children that have ended; one is started at a time."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
