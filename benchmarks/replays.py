"""Campaign: random steps of the built-in experiments replayed, each in a process of its own. Are all equal to the record?"""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import Progress, say
from reprotui.errors import WorkerFailedError
from reprotui.experiments.discovery import find_experiment
from reprotui.experiments.registry import BUILT_IN
from reprotui.race.launch import start_worker
from reprotui.race.prepare import Request, prepare_run
from reprotui.race.start import ended
from reprotui.replay import ReplayedState, replay_step
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Checkpointing

REPLAYS = 50
STEPS, EVERY = 200, 50
"""A replay then takes 25 steps on average: what it costs is the start of its process."""
SMALL: dict[str, dict[str, Any]] = {
    "digits-mlp": {"width": 64, "depth": 1}, "digits-cnn": {"width": 8, "depth": 1},
    "transformer": {"width": 32, "depth": 1, "heads": 2, "modulus": 23},
}  # fmt: skip
LIMIT_SECONDS = 600


def run(count: int | None = None, seed: int = 0, *, steps: int = STEPS) -> dict[str, Any]:
    """Train each built-in experiment once with checkpoints, then replay steps drawn at random.

    Args:
        count: replays of each experiment.
        seed: of the steps.
        steps: the runs' length.

    Returns:
        A row an experiment: replays, those that were faithful, recorded steps compared, replays that began with init, and
        seconds a replay. A replay that was not faithful is a note.
    """
    generator = random.Random(seed)
    rows, notes = [], []
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        for name in BUILT_IN:
            say(f"training {name}")
            policy = Checkpointing(every=max(1, steps * EVERY // STEPS))
            request = Request(Path(folder), name, [], checkpointing=policy)
            run_ = prepare_run(request, find_experiment(name), {**SMALL[name], "steps": steps})
            with ended(start_worker(run_)) as process:
                process.wait(LIMIT_SECONDS)
            if run_.state() != "finished":
                raise WorkerFailedError(f"the run {name} is {run_.state()}: {' / '.join(run_.log_tail(3))}")
            row, said = _campaign(run_, name, [generator.randint(0, steps) for _ in range(count or REPLAYS)])
            rows.append(row)
            notes += said
    return {"rows": rows, "notes": notes}


def _campaign(run_: RunDirectory, name: str, steps: list[int]) -> tuple[dict[str, Any], list[str]]:
    faithful = compared = from_init = 0
    notes = []
    progress = Progress(f"{name}, replays", len(steps))
    start = time.perf_counter()
    for step in steps:
        found = replay_step(run_, step, fresh=True)
        compared += found.compared
        from_init += found.started_from is None
        if isinstance(found, ReplayedState):
            faithful += 1
        else:
            notes.append(f"{name}, step {step}: {found.headline}; {'; '.join(found.reasons) or 'nothing changed'}")
        progress.advance()
    seconds = (time.perf_counter() - start) / len(steps)
    row = {
        "experiment": name, "replays": len(steps), "faithful": faithful, "steps compared": compared, "from init": from_init,
        "s a replay": seconds,
    }  # fmt: skip
    return row, notes
