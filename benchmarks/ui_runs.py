"""Runs for the benchmark of the dashboard: recorded ones of any length, and ones that are being written."""

import json
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import with_benchmarks
from benchmarks.divergence import contents, insert_table, write_trace
from benchmarks.trace import leaf_table
from reprotui.checksum import NAME
from reprotui.errors import WorkerFailedError
from reprotui.experiments.discovery import find_experiment
from reprotui.race.prepare import Member, Request, prepare_race
from reprotui.race.start import ended
from reprotui.run_directory import RunDirectory, this_process
from reprotui.trace import Record, TraceWriter
from reprotui.trace.phases import ROOTS_BYTES
from reprotui.trace.schema import connect_writer
from reprotui.trace.verify import roots_of

LEAVES = 24
"""Leaves a step of the runs that are being written: those of a small model with momentum."""
BATCH_SECONDS = 0.005
"""How often a writer wakes up: less than a reader could see."""
LIMIT_SECONDS = 60.0


def race_directory(runs: Path, name: str, steps: int) -> tuple[Path, list[RunDirectory]]:
    """Create a race of two runs of the default experiment, without traces."""
    members = [Member(label, {"steps": steps}) for label in "ab"]
    request = Request(runs, name, ["reprotui", "race", f"steps={steps}"])
    return prepare_race(request, find_experiment(None), members)


def recorded_pair(runs: Path, steps: int, seed: int) -> tuple[Path, int]:
    """Write a finished race of two runs; return its directory and the step, in the last tenth, from which they differ."""
    generator = np.random.default_rng(seed)
    differs = int(generator.integers(steps - max(1, steps // 10), steps))
    path, directories = race_directory(runs, f"recorded-{steps}", steps - 1)
    for index, (directory, (roots, losses)) in enumerate(zip(directories, contents(generator, steps, differs), strict=True)):
        write_trace(directory.trace_path, roots, losses, differs if index else steps)
        _finish(directory, steps - 1)
    return path, differs


def long_trace(path: Path, steps: int) -> None:
    """Write a trace of so many steps from within SQLite, roots at random: ten million take seconds, and no memory."""
    connection = connect_writer(path, {"checksum": NAME, "created_ns": "0"})
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("BEGIN")
    insert_table(connection)
    connection.execute(
        "WITH RECURSIVE counted(step) AS (SELECT 0 UNION ALL SELECT step + 1 FROM counted WHERE step + 1 < ?) "
        f"INSERT INTO steps SELECT step, 0, 0.5, 1056964608, NULL, 0, randomblob({ROOTS_BYTES}), randomblob(16) FROM counted",
        (steps,),
    )
    connection.execute("COMMIT")
    connection.close()


def _finish(directory: RunDirectory, last: int) -> None:
    digests = {"params": "0" * 64, "state": "0" * 64}
    directory.update_manifest(
        devices={"backend": "cpu", "kinds": ["cpu"], "count": 1, "processes": 1, "cpu_threads": 2},
        result={"state": "finished", "last_step": last, "digests": digests, "ended_ns": time.time_ns()},
    )


class Writer:
    """A process that writes a run as a worker does; see `write_run`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def diverge(self) -> tuple[int, float]:
        """Let the next step differ; return it, and the moment (`time.perf_counter`) at which it was committed."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"diverge\n")
        self._process.stdin.flush()
        step, moment = self._answer()
        return int(step), float(moment)

    def wait_for_start(self) -> None:
        """Return when the first record is committed."""
        self._answer()

    def _answer(self) -> list[Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], LIMIT_SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise WorkerFailedError("a process that writes a trace ended or hangs: what it said is above")
        return json.loads(line)


@contextmanager
def two_writers(runs: Path, name: str, rate: float, ahead: float = 0.0) -> Generator[tuple[Path, Writer, Writer]]:
    """Hold a race that two processes write, equal until one is asked to differ; A starts so many seconds before B."""
    path, directories = race_directory(runs, name, 10**9)
    with ExitStack() as stack:
        writers = []
        for directory in directories:
            command = [sys.executable, "-m", "benchmarks.ui_runs", str(directory.path), str(rate)]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=with_benchmarks(os.environ))
            )
            writers.append(Writer(stack.enter_context(ended(process))))
            writers[-1].wait_for_start()
            time.sleep(ahead)
        yield path, writers[0], writers[1]


def write_run(path: Path, rate: float) -> None:
    """Write a run at a rate; a line on standard input lets the next step and all later ones differ. Never returns."""
    run = RunDirectory(path)
    run.update_manifest(process=this_process(), devices={"backend": "cpu", "cpu_threads": 2})
    table = leaf_table(LEAVES)
    drawn = np.random.default_rng(0).integers(0, 2**64, (64, len(table.specs)), np.uint64)
    usual = [(row.tobytes(), roots_of(row.tobytes(), table)) for row in drawn]
    other = [(row.tobytes(), roots_of(row.tobytes(), table)) for row in drawn ^ np.uint64(1)]
    writer = TraceWriter(run.trace_path)
    writer.event("started", "")
    writer.event("compiled", "")

    def put(step: int, content: list[tuple[bytes, bytes]]) -> None:
        leaves, roots = content[step % len(content)]
        loss = np.float32(2 / (1 + 0.001 * step) + 0.05 * ((step * 7919) % 101) / 101)
        bits = struct.unpack("<I", loss.tobytes())[0]
        writer.put(lambda: Record(step, time.time_ns(), table, roots, float(loss), bits, None, leaves))

    put(0, usual)
    writer.flush()
    print(json.dumps([0, time.perf_counter()]), flush=True)
    start, step, found = time.perf_counter(), 1, usual
    while True:
        due = int((time.perf_counter() - start) * rate)
        while step < due:
            put(step, found)
            step += 1
        if select.select([sys.stdin], [], [], BATCH_SECONDS)[0]:
            if not sys.stdin.readline():
                return
            found = other
            put(step, found)
            writer.flush()
            print(json.dumps([step, time.perf_counter()]), flush=True)
            step += 1


if __name__ == "__main__":
    write_run(Path(sys.argv[1]), float(sys.argv[2]))
