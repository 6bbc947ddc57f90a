"""A worker that is told to make room, and begins again later in the same directory: preempted, or at its time limit.

At SIGTERM it finishes its step, saves, and asks Slurm to put its job back into the queue. When the job begins again, the worker
finds the directory of a run that is not over: it goes on from the newest checkpoint that verifies, and its trace begins with the
records up to there, from the former trace, which lies beside it. Steps after that checkpoint are trained and recorded once more.
"""

import os
import subprocess
from pathlib import Path

from reprotui.errors import ReprotuiError
from reprotui.integrity.manifest import identity_of_run
from reprotui.manifest import Restore, RunManifest
from reprotui.run_directory import REQUEUE, RunDirectory

STILL_THERE = ("RUNNING", "PREEMPTED")
"""States of a job, as Slurm calls them, in which it is asked to make room. One that somebody cancels is in another."""
ANSWER_SECONDS = 30.0
_FILES = ("", "-wal", "-shm")


def began_before(manifest: RunManifest) -> bool:
    """Say whether a worker was in this run before this one, and the run is to go on."""
    return bool(os.environ.get(REQUEUE)) and manifest.process is not None and manifest.result is None


def put_aside(run: RunDirectory, manifest: RunManifest) -> Restore | None:
    """Move the former trace aside, and return what the run goes on from.

    Where none of its checkpoints verifies, that is what it began with: the checkpoint that it was restored from, or None.
    """
    from reprotui.checkpoints.origin import find_origin

    before = _free_name(run.path)
    if run.trace_path.is_file():
        for ending in _FILES:
            file = run.trace_path.with_name(run.trace_path.name + ending)
            if file.is_file():
                file.rename(before.with_name(before.name + ending))
    try:
        origin = find_origin(run.path)
    except ReprotuiError:
        return manifest.restore
    history = str(before.absolute()) if before.is_file() and manifest.recording.enabled else None
    return Restore(
        str(origin.checkpoint), origin.step, content=origin.content, name=manifest.name, run=str(run.path.absolute()),
        run_id=identity_of_run(manifest, origin.step).run_id, history=history,
    )  # fmt: skip


def _free_name(run: Path) -> Path:
    return next(path for number in range(1, 10**6) if not (path := run / f"trace.before-{number}.db").exists())


def ask_again() -> bool:
    """Put this process's job back into the queue, where Slurm has not done so yet; return whether it goes there.

    Slurm then ends the process. A job that somebody cancels stays where it is.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not os.environ.get(REQUEUE) or not job:
        return False
    told = dict(word.partition("=")[::2] for word in (_said("scontrol", "--oneliner", "show", "job", job) or "").split())
    if int(told.get("Restarts") or 0) > int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return True
    return told.get("JobState") in STILL_THERE and _said("scontrol", "requeue", job) is not None


def _said(*words: str) -> str | None:
    """Return what a command prints; None where it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
