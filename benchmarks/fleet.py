"""Hundreds of pairs on one screen: how long until they stand there, and what it takes to follow those that go on."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Progress, at_most
from benchmarks.ui_load import _cpu_seconds
from benchmarks.ui_runs import two_writers
from benchmarks.ui_terminal import Terminal
from reprotui.run_directory import read_json, write_json

PAIRS = 500
HOSTS = 16
FAULTY = 7
"""The host whose pairs all differ."""
FOLLOWED = 4
"""Pairs that are written while the fleet is followed."""
RATE = 50.0
"""Steps a second of each of them."""
SECONDS = 20.0
ROUNDS = 5
OPEN_BAR, FOLLOW_BAR = 2.0, 10.0
"""Seconds until all pairs stand on the screen, and percent of a core to follow them."""
SAMPLES = ROOT / "sample_runs"
MODEL = ("digits-mlp", "width=32", "depth=2", "batch_size=32", "steps=80")
RECORDED = {"identical": (), "bit-flip": ("--b", "perturb=37:params/dense_1/kernel:100:20")}
"""Races that are recorded anew, as a fleet of today is; the few others are samples."""


def run(count: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Open a fleet and follow it.

    Args:
        count: pairs.
        seed: of nothing: the fleet is the same each time.

    Returns:
        Seconds from the start of the command to all pairs on the screen, the median of some, and the share of a core while some
        of the pairs are written.
    """
    pairs = count or PAIRS
    progress = Progress("fleet", ROUNDS + 1)
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as name:
        folder, runs = Path(name), Path(name) / "runs"
        make_fleet(runs, pairs)
        opened = []
        for _ in range(ROUNDS):
            with Terminal(["fleet", str(runs)], folder) as terminal:
                terminal.wait_for(f"fleet {pairs}")
                opened.append(time.perf_counter() - terminal.started)
            progress.advance()
        with ExitStack() as stack:
            for number in range(FOLLOWED):
                stack.enter_context(two_writers(runs, f"followed-{number}", RATE))
            with Terminal(["fleet", str(runs)], folder) as terminal:
                terminal.wait_for(f"fleet {pairs + FOLLOWED}")
                terminal.drain(2.0)
                before = _cpu_seconds(terminal.pid)
                written = terminal.drain(SECONDS)
                share = 100 * (_cpu_seconds(terminal.pid) - before) / SECONDS
        progress.advance()
    seconds = sorted(opened)[len(opened) // 2]
    rows = [
        {"what": f"open {pairs} pairs: all on the screen, s", "figure": round(seconds, 3)},
        {"what": f"follow {pairs} pairs, {FOLLOWED} of them at {RATE:.0f} steps/s, % of a core", "figure": round(share, 2)},
        {"what": "bytes a second to the terminal", "figure": round(written / SECONDS)},
    ]
    notes = [at_most("seconds to open", seconds, OPEN_BAR), at_most("percent of a core", share, FOLLOW_BAR)]
    return {"rows": rows, "notes": notes}


def make_fleet(runs: Path, pairs: int) -> None:
    """Write recorded pairs over some hosts: those of one host all differ, of the rest one here and there."""
    runs.mkdir(parents=True, exist_ok=True)
    recorded = runs.with_name("recorded")
    for name, words in RECORDED.items():
        race = [
            sys.executable,
            "-m",
            "reprotui",
            "race",
            *MODEL,
            *words,
            "--name",
            name,
            "--headless",
            "--runs-dir",
            str(recorded),
        ]
        subprocess.run(race, check=False, stdout=subprocess.DEVNULL)
    for number in range(pairs):
        host = number % HOSTS
        sample = "bit-flip" if host == FAULTY else {17: "nan-loss", 91: "killed", 203: "batch-order"}.get(number, "identical")
        path = runs / f"pair-{number:04d}"
        shutil.copytree((recorded if sample in RECORDED else SAMPLES) / sample, path)
        race = read_json(path / "race.json") | {"name": path.name, "created_ns": time.time_ns() - number * 10**9}
        write_json(path / "race.json", race)
        for label, at in (("a", 0), ("b", host)):
            manifest = path / label / "run.json"
            document = json.loads(manifest.read_text())
            document["process"] |= {"host": f"n{at:02d}"}
            if document.get("result") is None:
                document["process"] |= {"ended_ns": time.time_ns()}
            document["config"] |= {"seed": number // HOSTS % 8}
            write_json(manifest, document)
