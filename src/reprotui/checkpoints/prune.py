"""Remove checkpoints so that a crash at any moment leaves either a whole one or one that is known to be removed."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from reprotui.checkpoints.listing import ListedCheckpoint, latest_good, list_checkpoints
from reprotui.checkpoints.places import checkpoints_directory, signature_path, step_of
from reprotui.checkpoints.register import announce_removal
from reprotui.checkpoints.registry import REMOVED, read_registry
from reprotui.errors import BadInputError, CannotTellError
from reprotui.integrity.files import Progress, sync
from reprotui.integrity.formats.orbax import TEMPORARY
from reprotui.integrity.manifest import manifest_path
from reprotui.names import lies_below

_BURIED = ".removing-"
"""A removed directory is renamed first: what is half deleted never stands under the name of a checkpoint."""


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be: checkpoints by step, what crashes left behind, and the bytes of both.

    `left_alone` is what stays beside `kept`: damaged or unregistered, so that somebody must look at it.
    """

    steps: tuple[int, ...]
    leftovers: tuple[str, ...]
    kept: tuple[int, ...]
    size: int
    left_alone: tuple[ListedCheckpoint, ...] = ()


def remove(checkpoint: Path) -> None:
    """Remove one registered checkpoint: the registry says so first, then it goes, then its manifest and signature.

    Raises:
        IntegrityError: it has no readable manifest, or the registry is damaged; nothing is removed.
    """
    announce_removal(checkpoint)
    _bury(checkpoint)


def prune(run: Path, keep: int, *, dry_run: bool = False, progress: Progress | None = None) -> Pruned:
    """Remove all checkpoints of a run but the newest ones, and what crashes of saves and removals left.

    Args:
        run: the run (not one that trains), or its checkpoints directory.
        keep: how many of the newest stay, of those with an undamaged manifest. What is damaged is never removed: it is
            evidence, and it is not counted; neither is what is not registered.
        dry_run: only say what would be removed.
        progress: called with bytes hashed.

    Raises:
        BadInputError: the run's manifest, or a link, places its checkpoints outside the run.
        CannotTellError: none of those that would stay verifies: then an older one may be the last good one.
        IntegrityError: the registry is damaged.
    """
    directory = checkpoints_directory(run)
    if directory != run and not lies_below(directory, run):
        raise BadInputError(
            f"{run} has its checkpoints in {directory.resolve()}, outside of it: to remove there, name that directory itself"
        )
    if directory.is_dir():
        read_registry(directory)
    listed = list_checkpoints(run)
    whole = [entry for entry in listed if entry.step is not None and entry.problem is None]
    stay, go = whole[-keep:], whole[:-keep]
    if go and latest_good(run, at_least=stay[0].step, progress=progress)[0] is None:
        raise CannotTellError(f"none of the {len(stay)} newest checkpoints of {run} verifies: nothing is removed; verify --all")
    left = [entry for entry in listed if _is_leftover(directory, entry)]
    if not dry_run:
        for entry in go:
            remove(entry.path)
        clear_leftovers(run)
    return Pruned(
        tuple(entry.step for entry in go if entry.step is not None), tuple(entry.path.name for entry in left),
        tuple(entry.step for entry in stay if entry.step is not None), sum(entry.size for entry in (*go, *left)),
        tuple(entry for entry in listed if entry.problem is not None and entry not in left),
    )  # fmt: skip


def clear_unregistered(checkpoint: Path) -> None:
    """Remove what a save that was killed before its registration left under this name, in a directory with a registry."""
    registry = read_registry(checkpoint.parent)
    if registry is not None and registry.latest(checkpoint.name) is None and checkpoint.is_dir():
        _bury(checkpoint)


def clear_leftovers(run: Path) -> None:
    """Remove what saves and removals that did not end left behind; for directories into which nobody saves now."""
    directory = checkpoints_directory(run)
    for entry in list_checkpoints(run):
        if _is_leftover(directory, entry):
            _bury(entry.path)
    for grave in directory.glob(f"{_BURIED}*"):
        _discard(grave)
    registry = read_registry(directory) if directory.is_dir() else None
    for name in {entry.name for entry in registry.entries} - set(registry.names()) if registry is not None else ():
        _unlink_sidecars(directory / name)


def _is_leftover(directory: Path, entry: ListedCheckpoint) -> bool:
    if TEMPORARY in entry.path.name:
        return True
    registry = read_registry(directory) if directory.is_dir() else None
    latest = None if registry is None else registry.latest(entry.path.name)
    return step_of(entry.path.name) is not None and latest is not None and latest.kind == REMOVED and entry.path.exists()


def _bury(checkpoint: Path) -> None:
    grave = checkpoint.with_name(_BURIED + checkpoint.name)
    _discard(grave)
    checkpoint.rename(grave)
    _unlink_sidecars(checkpoint)
    sync(checkpoint.parent)
    _discard(grave)


def _discard(path: Path) -> None:
    """Delete a directory with all that is in it, or a file; of a link the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _unlink_sidecars(checkpoint: Path) -> None:
    manifest_path(checkpoint).unlink(missing_ok=True)
    signature_path(checkpoint).unlink(missing_ok=True)
