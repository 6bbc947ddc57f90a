"""Campaign: workers killed while they save and prune without a pause. Is anything VALID that is not; does it go on equal?"""

import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import Progress, say
from benchmarks.kills import CONFIG, LIMIT_SECONDS
from reprotui.checkpoints import find_origin, latest_good, list_checkpoints, verify_checkpoint
from reprotui.errors import WorkerFailedError
from reprotui.experiments.discovery import find_experiment
from reprotui.integrity import Status
from reprotui.race.launch import start_worker
from reprotui.race.prepare import Request, prepare_run
from reprotui.race.resume import prepare_resumed
from reprotui.race.start import ended
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Checkpointing
from reprotui.trace import Trace

KILLS = 200
STEPS = 100_000
"""More than a worker can reach before it is killed."""
SECONDS_AFTER_SAVE = 1.0
"""Latest kill after the first save began: twenty saves and removals."""
RESUME_EVERY, RESUME_STEPS = 10, 20
"""Every tenth killed run is resumed for so many steps; the reference covers the longest."""
REFERENCE_STEPS = 500
POLL_SECONDS = 0.005


@dataclass
class _Found:
    """Totals over all kills."""

    kills: int = 0
    with_checkpoint: int = 0
    checkpoints: Counter[str] = field(default_factory=Counter)
    false_valid: int = 0
    good_lost: int = 0
    resumed: int = 0
    resumed_equal: int = 0
    notes: list[str] = field(default_factory=list)


def run(count: int | None = None, seed: int = 0, *, reference_steps: int = REFERENCE_STEPS) -> dict[str, Any]:
    """Start workers that save after every step and keep two, and kill each while it does.

    Args:
        count: kills.
        seed: of the moments; the workers' speed decides which part of a save they meet.
        reference_steps: steps of the uninterrupted run that resumed ones are held against.

    Returns:
        One row: kills; those that left a checkpoint; checkpoints found VALID, and those found otherwise by status;
        VALID ones whose leaves are not the recorded ones; kills after which an announced checkpoint, not yet pruned, was
        not found good; runs resumed, and those equal to the uninterrupted one in every record.
    """
    generator, found = random.Random(seed), _Found()
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        runs = Path(folder)
        say("training the reference")
        request = Request(runs, "reference", [])
        reference = _train(prepare_run(request, find_experiment(None), {**CONFIG, "steps": reference_steps}))
        progress = Progress("kills", count or KILLS)
        for number in range(count or KILLS):
            killed = _kill(runs, f"killed-{number}", generator.uniform(0, SECONDS_AFTER_SAVE))
            _examine(killed, found)
            if number % RESUME_EVERY == 0:
                _resume(runs, killed, reference, found)
            progress.advance()
    row = {
        "moment": "while saving and pruning", "kills": found.kills, "left a checkpoint": found.with_checkpoint,
        "VALID": found.checkpoints["VALID"],
        "not VALID": ", ".join(f"{name} {n}" for name, n in sorted(found.checkpoints.items()) if name != "VALID") or "–",
        "VALID that is not": found.false_valid, "good one lost": found.good_lost, "resumed": found.resumed,
        "resumed equal": found.resumed_equal,
    }  # fmt: skip
    return {"rows": [row], "notes": found.notes}


def _train(run_: RunDirectory) -> RunDirectory:
    with ended(start_worker(run_)) as process:
        process.wait(LIMIT_SECONDS)
    if run_.state() != "finished":
        raise WorkerFailedError(f"the run {run_.path.name} is {run_.state()}: {' / '.join(run_.log_tail(3))}")
    return run_


def _kill(runs: Path, name: str, moment: float) -> RunDirectory:
    policy = Checkpointing(every=1, keep=2)
    run_ = prepare_run(Request(runs, name, [], checkpointing=policy), find_experiment(None), {**CONFIG, "steps": STEPS})
    with ended(start_worker(run_)) as process:
        while not (run_.path / "checkpoints").is_dir() and process.poll() is None:
            time.sleep(POLL_SECONDS)
        time.sleep(moment)
        if process.poll() is not None:
            raise WorkerFailedError(f"{name} had ended by itself: {' / '.join(run_.log_tail(3))}")
        os.killpg(process.pid, signal.SIGKILL)
    return run_


def _examine(run_: RunDirectory, found: _Found) -> None:
    found.kills += 1
    valid = []
    for entry in list_checkpoints(run_.path):
        status = verify_checkpoint(entry.path).status if entry.path.exists() else Status.MISSING
        found.checkpoints[status.value] += 1
        if status is not Status.VALID:
            continue
        valid.append(entry.step)
        against = verify_checkpoint(entry.path, "trace")
        if against.status is not Status.VALID:
            found.false_valid += 1
            found.notes.append(f"{run_.path.name}: {entry.path.name} is VALID, and {against.findings[0]}")
    found.with_checkpoint += bool(valid)
    with Trace(run_.trace_path) as trace:
        announced = [int(event.text.split()[1]) for event in trace.events() if event.kind == "saved"]
    good, _ = latest_good(run_.path)
    if announced and (good is None or good.step is None or good.step < announced[-1]):
        found.good_lost += 1
        found.notes.append(f"{run_.path.name}: step {announced[-1]} was announced, the newest good one is {good and good.step}")


def _resume(runs: Path, killed: RunDirectory, reference: RunDirectory, found: _Found) -> None:
    good, _ = latest_good(killed.path)
    if good is None or good.step is None:
        return
    steps = good.step + RESUME_STEPS
    if steps > reference.manifest().config["steps"]:
        found.notes.append(f"{killed.path.name}: saved beyond the reference, not resumed")
        return
    name = f"{killed.path.name}-resumed"
    request = Request(runs, name, [], checkpointing=Checkpointing())
    run_ = _train(prepare_resumed(request, find_origin(killed.path), {"steps": steps}))
    found.resumed += 1
    with Trace(run_.trace_path) as trace, Trace(reference.trace_path) as other:
        chains = [None if row is None else row.chain for row in (trace.row(steps), other.row(steps))]
    if chains[0] is not None and chains[0] == chains[1]:
        found.resumed_equal += 1
    else:
        found.notes.append(f"{name}: its history up to step {steps} is not that of the uninterrupted run")
