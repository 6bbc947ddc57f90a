"""Record the sample runs again: `python sample_runs/make.py`. Each is a race directory; its race.json holds the command."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).resolve().parent
SMALL = ["digits-mlp", "width=32", "depth=2", "batch_size=32", "steps=80"]
RACES = {
    "identical": [*SMALL],
    "two-seeds": [*SMALL, "--a", "seed=0", "--b", "seed=1"],
    "learning-rate": [*SMALL, "--a", "lr=0.05", "--b", "lr=0.06"],
    "batch-order": [*SMALL, "--b", "shuffle_from=37"],
    "bit-flip": [*SMALL, "--b", "perturb=50:params/dense_1/kernel:100:20"],
    "nan-loss": [*SMALL, "lr=1e30"],
}
KILLED = ["digits-mlp", "width=32", "depth=2", "batch_size=32", "steps=1000", "--every", "5", "--name", "killed"]
KILL_AFTER_STEP = 250


def main() -> None:
    """Record every sample, replacing what is there."""
    for name in [*RACES, "killed"]:
        shutil.rmtree(HERE / name, ignore_errors=True)
    for name, arguments in RACES.items():
        race(["race", *arguments, "--name", name, "--headless"]).wait()
    record_killed()
    size = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    print(f"{size / 1e6:.2f} MB in all")


def race(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a reprotui command in the folder of the samples."""
    return subprocess.Popen([sys.executable, "-m", "reprotui", *arguments, "--runs-dir", "."], cwd=HERE)


def record_killed() -> None:
    """Record a race whose second run is killed in the middle, while the first one goes on to its end."""
    command = race(["race", *KILLED, "--headless"])
    trace = HERE / "killed" / "b" / "trace.db"
    while last_step(trace) < KILL_AFTER_STEP:
        time.sleep(0.01)
    os.kill(process_of("b"), signal.SIGKILL)
    command.wait()
    # A killed writer leaves its journal beside the file. Folded in, the sample is one file that opens anywhere.
    with closing(sqlite3.connect(trace)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")


def process_of(label: str) -> int:
    """Return the process id of a run of the race `killed`."""
    return json.loads((HERE / "killed" / label / "run.json").read_text())["process"]["pid"]


def last_step(trace: Path) -> int:
    """Return the newest committed step, -1 while there is none."""
    if not trace.exists() or trace.stat().st_size == 0:
        return -1
    with closing(sqlite3.connect(f"file:{trace}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT max(step) FROM steps").fetchone()[0]
    return -1 if found is None else found


if __name__ == "__main__":
    main()
