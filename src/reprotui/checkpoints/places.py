"""Where checkpoints lie: the run that owns one, and the ways to name one."""

from pathlib import Path

from reprotui.checkpoints.registry import registry_path
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.integrity.files import locate, named, walk
from reprotui.integrity.formats.orbax import TEMPORARY, TREE
from reprotui.integrity.manifest import manifest_path
from reprotui.integrity.status import Status
from reprotui.run_directory import RunDirectory
from reprotui.schedule import CHECKPOINTS, Checkpointing

SIGNATURE_SUFFIX = ".sig.json"


def checkpoints_directory(path: Path) -> Path:
    """Return the directory of a run's checkpoints, which its manifest may place elsewhere; a checkpoints directory is its own."""
    if not (path / "run.json").is_file():
        return path
    try:
        return RunDirectory(path).manifest().checkpointing.place(path)
    except ReprotuiError:
        return Checkpointing().place(path)  # a damaged manifest has errors of its own; the usual place is the best guess


def owner(checkpoint: Path) -> RunDirectory | None:
    """Return the run in whose `checkpoints/` a checkpoint lies, None where it lies elsewhere."""
    parent = checkpoint.absolute().parent
    run = RunDirectory(parent.parent)
    return run if parent.name == CHECKPOINTS and run.manifest_path.is_file() else None


def run_of(path: Path) -> RunDirectory | None:
    """Return the run that a path is, None where it is something else."""
    return RunDirectory(path) if (path / "run.json").is_file() else None


def step_of(name: str) -> int | None:
    """Return the step that a directory's name says, None where it is no plain number."""
    return int(name) if name.isascii() and name.isdigit() and str(int(name)) == name else None


def is_run(path: Path) -> bool:
    """Say whether a path is a run, or a checkpoints directory, rather than one checkpoint."""
    return path.is_dir() and ((path / "run.json").is_file() or path.name == CHECKPOINTS or registry_path(path).is_file())


def find_checkpoint(path: Path, step: int | None = None) -> Path:
    """Return the checkpoint that a path means: itself, or with `step` the one of a run.

    Raises:
        BadInputError: there is no such step.
    """
    if step is None:
        return path
    checkpoint = checkpoints_directory(path) / str(step)
    if not checkpoint.exists() and not manifest_path(checkpoint).exists():
        steps = sorted(number for entry in candidates(path) if (number := step_of(entry.name)) is not None)
        there = f"there is {', '.join(map(str, steps))}" if steps else "it has no checkpoint"
        raise BadInputError(f"{path} has no checkpoint of step {step}: {there}")
    return checkpoint


def candidates(path: Path) -> list[Path]:
    """Return what lies in a run's checkpoints directory and could be a checkpoint: directories, and files with a manifest."""
    directory = checkpoints_directory(path)
    if not directory.is_dir():
        return []
    entries = [entry for entry in directory.iterdir() if not entry.name.startswith(".")]
    return sorted(entry for entry in entries if entry.is_dir() or manifest_path(entry).exists())


def step_directories(path: Path) -> list[int]:
    """Return the steps whose directories lie in a run's checkpoints directory, whatever their state, in order."""
    return sorted(step for entry in candidates(path) if (step := step_of(entry.name)) is not None)


def incompleteness(directory: Path) -> tuple[Status, str] | None:
    """Say what a save or a removal that did not end left undone in a step directory; None where nothing shows."""
    if TEMPORARY in directory.name:
        return Status.INCOMPLETE, "a save that did not end left it"
    try:
        below = list(directory.iterdir())
    except OSError as error:
        return Status.UNREADABLE, f"cannot be listed: {error.strerror}"
    if not below:
        return Status.INCOMPLETE, "the directory is empty"
    if not any((place / TREE).is_file() for place in (directory, *below)):
        return Status.INCOMPLETE, "it holds no state"
    return None


def size_of(checkpoint: Path) -> int:
    """Return the bytes of all files that lie in a checkpoint now."""
    total = 0
    for name in walk(checkpoint).files:
        try:
            total += locate(checkpoint, name).lstat().st_size
        except OSError:
            continue
    return total


def signature_path(checkpoint: Path) -> Path:
    """Return where the signature of a checkpoint lies: beside it, like its manifest."""
    checkpoint = named(checkpoint)
    return checkpoint.with_name(checkpoint.name + SIGNATURE_SUFFIX)
