"""Delete a run or race from disk, and nothing else."""

import os
import shutil
import time
from pathlib import Path

from reprotui.errors import BadInputError, ReprotuiError
from reprotui.manifest import RunState
from reprotui.run_directory import RunDirectory

STARTING_SECONDS = 120
"""How long a run without a process counts as starting: a worker imports jax before it writes its own name."""
QUIET_SECONDS = 3600
"""How long a run on another host must have written nothing before it may be deleted."""


def why_not_delete(runs: Path, path: Path) -> str | None:
    """Return why a directory must not be deleted, None where it may be.

    Args:
        runs: the runs directory.
        path: what is asked for; only a run or race directly inside `runs` may go.
    """
    if path.parent.absolute() != runs.absolute() or path.name in ("", ".", ".."):
        return f"{path} is not directly inside the runs directory {runs}"
    if path.is_symlink():
        return None  # only the link goes, what it points to stays
    if not path.is_dir():
        return f"{path} is not a directory" if path.exists() else f"{path} does not exist any more"
    if not (path / "race.json").is_file() and not (path / "run.json").is_file():
        return f"{path} is neither a run nor a race: it has no run.json and no race.json"
    reasons = [reason for manifest in _manifests(path) if (reason := _may_write(RunDirectory(manifest.parent)))]
    return "; ".join(reasons) or None


def delete(runs: Path, path: Path) -> None:
    """Delete a run or race; of a symbolic link only the link.

    Raises:
        BadInputError: it must not be deleted, or the system refuses; the message says what is left.
    """
    if reason := why_not_delete(runs, path):
        raise BadInputError(f"not deleted: {reason}")
    hidden = path.with_name(f".{path.name}.deleted-{os.getpid()}")
    try:
        if path.is_symlink():
            path.unlink()
            return
        # Out of every list at once, whole: what is half deleted would be listed as damaged.
        path.rename(hidden)
    except OSError as error:
        raise BadInputError(f"{path} cannot be deleted: {error.strerror}") from None
    try:
        shutil.rmtree(hidden)
    except OSError as error:
        raise BadInputError(f"{hidden} (it was {path.name}) is deleted in part: {error.filename}: {error.strerror}") from None


def _manifests(path: Path) -> list[Path]:
    """Return the manifests of a run, or of a race's members, also where race.json is damaged."""
    return [manifest for manifest in (path / "run.json", *path.glob("*/run.json")) if manifest.is_file()]


def _may_write(run: RunDirectory) -> str | None:
    try:
        manifest = run.manifest()
        state = run.state(manifest)
    except ReprotuiError:
        return None  # damaged: nothing of ours goes on writing there
    if state is RunState.RUNNING:
        return f"{run.path.name} is still running: stop it first"
    if state is RunState.CREATED and time.time_ns() - (manifest.created_ns or 0) < STARTING_SECONDS * 10**9:
        return f"{run.path.name} is starting: stop it first"
    if state is RunState.ELSEWHERE and manifest.process is not None and time.time() - _last_write(run) < QUIET_SECONDS:
        return f"{run.path.name} may be running on {manifest.process.host}: it wrote within the last hour"
    return None


def _last_write(run: RunDirectory) -> float:
    times = [path.stat().st_mtime for path in (run.trace_path, run.path / "trace.db-wal") if path.exists()]
    return max(times, default=0.0)
