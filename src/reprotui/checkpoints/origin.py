"""The checkpoint that a run goes on from, and what is known about the run that saved it."""

from dataclasses import dataclass
from pathlib import Path

from reprotui.checkpoints.listing import latest_good
from reprotui.checkpoints.places import find_checkpoint, is_run, owner
from reprotui.checkpoints.registry import registry_path
from reprotui.checkpoints.restore import read_meta
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.errors import BadInputError, CannotTellError, ReprotuiError
from reprotui.integrity.files import Progress
from reprotui.integrity.manifest import Identity, identity_of_run, manifest_path, read_manifest
from reprotui.integrity.status import IntegrityError
from reprotui.manifest import RunManifest
from reprotui.run_directory import RunDirectory


@dataclass(frozen=True)
class Origin:
    """A checkpoint that verified.

    Attributes:
        checkpoint: its directory.
        step: the last update in it.
        content: its content digest.
        run: the directory of the run that saved it, None where it is not to be found any more.
        manifest: of that run's `run.json` what its experiment, config and recording were.
    """

    checkpoint: Path
    step: int
    content: str
    run: RunDirectory | None
    manifest: RunManifest


def find_origin(path: Path, step: int | None = None, progress: Progress | None = None) -> Origin:
    """Find and verify the checkpoint to go on from.

    Args:
        path: a run, a checkpoints directory, or one checkpoint.
        step: which one of a run; None takes the newest that verifies.
        progress: called with bytes hashed or read.

    Raises:
        BadInputError: there is no such checkpoint, or reprotui did not save it.
        CannotTellError: none of the run's checkpoints verifies.
        IntegrityError: the checkpoint is not VALID.
    """
    if step is None and (is_run(path) or registry_path(path).is_file()):
        found, passed = latest_good(path, progress=progress)
        if found is None:
            said = f"none of its {len(passed)} checkpoints verifies" if passed else "it has no checkpoint"
            raise CannotTellError(f"{path}: {said}, so nothing can go on from there")
        checkpoint = found.path
    else:
        checkpoint = find_checkpoint(path, step)
        findings = verify_checkpoint(checkpoint, "content", progress=progress).findings
        if findings:
            raise IntegrityError(findings[0])
    manifest, _ = read_manifest(manifest_path(checkpoint))
    identity, meta = manifest.identity, read_meta(checkpoint)
    run = owner(checkpoint) or _run_of(meta.get("run_directory"), identity)
    described = run.manifest() if run is not None else _described(meta.get("run"), checkpoint)
    if identity.step is None or manifest.content is None or described is None or not described.config:
        raise BadInputError(f"{checkpoint} was not saved by reprotui: it does not say which experiment and config it is of")
    return Origin(checkpoint.absolute(), identity.step, manifest.content.root, run, described)


def _described(told: object, checkpoint: Path) -> RunManifest | None:
    """Return what a checkpoint says of the run that saved it."""
    return RunManifest.parse(told, f"the run that {checkpoint} names") if isinstance(told, dict) else None


def _run_of(directory: object, identity: Identity) -> RunDirectory | None:
    """Return the run that a checkpoint names, if it still lies there and is the same one."""
    if not isinstance(directory, str):
        return None
    run = RunDirectory(Path(directory))
    try:
        same = identity_of_run(run.manifest(), identity.step or 0).run_id == identity.run_id
    except ReprotuiError:
        return None
    return run if same else None
