"""Campaign: trainings of several processes raced with a fault on one rank, and bits flipped on one rank of four in their traces.

Is the rank that has the fault named, are clean twins identical? Of the flips: are rank, step and leaf exact, are controls silent?
A flip changes a leaf of one rank from a step on in copies of recorded traces, as a flipped bit stays in replicated state, and the
real comparison between ranks looks for it. Controls change what belongs to a rank: its batch and its loss.
"""

import json
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Progress, say
from reprotui.compare.torn import torn_of
from reprotui.errors import WorkerFailedError
from reprotui.ranks import rank_path
from reprotui.trace import LeafTable, Trace
from reprotui.trace.phases import STATE
from reprotui.trace.verify import roots_of

FLIPS = 200
ONE_IN = 10
"""For so many flips there is one race of each kind."""
RANKS = 4
FAULTS = {"ddp": ("seed", "batch", "reduce", "flip"), "fsdp": ("seed", "batch", "reduce", "flip")}
SCRIPTS = Path(__file__).parent / "scripts"
JAX = "jax"


def run(count: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Race trainings with a fault on one rank, and flip bits in traces of four ranks.

    Args:
        count: flips, half as many controls, and a tenth as many races of each kind of training.
        seed: of the flips.

    Returns:
        A row each: how many, and how many came out as they must. Each that did not is a note.
    """
    flips, generator = count or FLIPS, random.Random(seed)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        place = Path(folder)
        for how in (*FAULTS, JAX):
            rows.append(_races(how, max(1, flips // ONE_IN), place, notes))
        say(f"recording {RANKS} processes")
        _race(place, "four", _command("ddp", RANKS), _command("ddp", RANKS))
        traces = {rank: rank_path(place / "four" / "a", rank) / "trace.db" for rank in range(RANKS)}
        if missing := [rank for rank, path in traces.items() if not path.is_file()]:
            raise WorkerFailedError(f"ranks {missing} were not recorded")
        for label, times, in_copies in (("a bit flipped in a copy", flips, True), ("in batch or loss", flips // 2, False)):
            rows.append(_flips(label, times, traces, in_copies, generator, place / "flipped", notes))
    return {"rows": rows, "notes": notes}


def _command(how: str, ranks: int = 2, *fault: str) -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    if how == JAX:
        words = [f"{sys.executable} {SCRIPTS / 'two_processes.py'} {port} {rank} {' '.join(fault)}" for rank in "01"]
        return f"sh -c '{words[0]} & {words[1]} && wait $!'"
    return f"env {sys.executable} {SCRIPTS / 'data_parallel.py'} {port} {ranks} {how} {' '.join(fault)}"


def _races(how: str, times: int, place: Path, notes: list[str]) -> dict[str, Any]:
    """Race a clean training against a clean one and one with a fault, the faults in turn."""
    well = 0
    progress = Progress(f"races, {how}", times)
    for number in range(times):
        faults = FAULTS.get(how, ("batch",))
        fault = faults[number % len(faults)]
        clean, other = _race(place, f"{how}-{number}", _command(how), _command(how), _command(how, 2, fault))
        # The script for jax changes an example that lies on rank 0.
        named = other["kind"] == "diverged" and other["ranks"]["numbers"] == [0 if how == JAX else 1]
        if clean["kind"] == "identical" and not clean["torn"] and named:
            well += 1
        else:
            notes.append(f"{how}, {fault}: {clean['headline']}; {other['headline']}")
        progress.advance()
    return {"what": f"races of {how}, clean and with a fault", "times": times, "as they must": well}


def _race(place: Path, name: str, *commands: str) -> list[dict[str, Any]]:
    words = [word for label, command in zip("abcd", commands, strict=False) for word in (f"--{label}", command)]
    race = [sys.executable, "-m", "reprotui", "race", "--json", "--runs-dir", str(place), "--name", name, *words]
    done = subprocess.run(race, cwd=place, capture_output=True, check=False)
    if done.returncode not in (0, 1, 3):
        raise WorkerFailedError(f"a race of {commands[0]} ended with {done.returncode}: {done.stderr.decode()[-300:]}")
    return json.loads(done.stdout)["verdicts"]


def _flips(
    label: str, times: int, traces: Mapping[int, Path], in_copies: bool, generator: random.Random, place: Path, notes: list[str]
) -> dict[str, Any]:
    well = 0
    with Trace(traces[0]) as trace:
        last = trace.last_step() or 0
        table = trace.table(trace.recorded(last).version)
    wanted = (*STATE, "grads") if in_copies else ("batch", "forward")
    leaves = [at for at, phase in enumerate(table.phases) if phase in wanted]
    progress = Progress(label, times)
    for _ in range(times):
        rank, step, leaf, bit = (
            generator.randrange(RANKS),
            generator.randint(1, last),
            generator.choice(leaves),
            generator.randrange(64),
        )
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        copies = {number: Path(shutil.copy(path, place / f"{number}.db")) for number, path in traces.items()}
        _flip(copies[rank], step, last, table, leaf, bit)
        torn = torn_of(copies)
        found = torn and (torn.step, torn.path, torn.ranks)
        expected = (step, table.specs[leaf].path, (rank,)) if in_copies else None
        well += found == expected
        if found != expected:
            notes.append(f"{label}: rank {rank}, step {step}, {table.specs[leaf].path} was told as {found}")
        progress.advance()
    return {"what": label, "times": times, "as they must": well}


def _flip(path: Path, since: int, last: int, table: LeafTable, leaf: int, bit: int) -> None:
    """Flip a bit of the checksum of a leaf from a step on, and with it the root: what a flipped bit in the leaf does is another
    number."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for step in range(since, last + 1):
            (blob,) = connection.execute("SELECT blob FROM leaf_checksums WHERE step = ?", (step,)).fetchone()
            sums = np.frombuffer(blob, "<u8").copy()
            sums[leaf] ^= np.uint64(1 << bit)
            connection.execute("UPDATE leaf_checksums SET blob = ? WHERE step = ?", (sums.tobytes(), step))
            connection.execute("UPDATE steps SET roots = ? WHERE step = ?", (roots_of(sums.tobytes(), table), step))
