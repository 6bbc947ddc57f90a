"""Record a checkpoint that was committed: to the disk, then its manifest, then the registry."""

from pathlib import Path

from reprotui.checkpoints.places import owner, step_of
from reprotui.checkpoints.registry import REMOVED, SAVED, Entry, append, read_registry, registry_path
from reprotui.errors import BadInputError
from reprotui.integrity.content import ContentDigest
from reprotui.integrity.files import Progress, named, sync_tree
from reprotui.integrity.manifest import (
    Identity,
    Manifest,
    build_manifest,
    check_files,
    manifest_path,
    read_manifest,
    write_manifest,
)
from reprotui.integrity.status import Finding, IntegrityError, Status
from reprotui.integrity.verify import content_as_found


def register(
    checkpoint: Path,
    identity: Identity,
    content: ContentDigest | None,
    progress: Progress | None = None,
    *,
    in_registry: bool = True,
) -> Manifest:
    """Make a committed checkpoint known, in the order in which a crash at any point leaves it unregistered or whole.

    Args:
        checkpoint: a directory or a file that nobody writes any more.
        identity: which state it is.
        content: the digests taken from memory before the write; None where nobody has them.
        progress: called with bytes hashed.
        in_registry: append it to the registry beside it, which is made where there is none.

    Raises:
        IntegrityError, BadInputError: see `build_manifest`.
    """
    checkpoint = named(checkpoint)
    sync_tree(checkpoint)
    manifest = build_manifest(checkpoint, identity, content, progress)
    digest = write_manifest(manifest_path(checkpoint), manifest)
    if in_registry:
        root = None if content is None else content.root
        append(checkpoint.absolute().parent, SAVED, checkpoint.name, identity.step, digest, root)
    return manifest


def register_as_found(checkpoint: Path, identity: Identity, progress: Progress | None = None) -> Manifest:
    """Make a checkpoint known as it is now: later changes are found, earlier damage only where the format shows it.

    Where the writer stored the content digest inside, the stored state is held against it first. Outside a run a
    registry is only appended to, not begun: a model on its own is its file and its manifest.

    A manifest that lies there without its line in the registry, as a crash between the two leaves it, is held against
    the files and registered.

    Raises:
        BadInputError: it is registered already.
        IntegrityError: it is damaged or incomplete.
    """
    if manifest_path(checkpoint).exists():
        registry = read_registry(checkpoint.absolute().parent)
        if registry is not None and registry.latest(checkpoint.name) is None:
            return _register_again(checkpoint, identity, progress)
        raise BadInputError(f"{manifest_path(checkpoint)} exists: the checkpoint is registered already; verify it instead")
    content = content_as_found(checkpoint, progress)
    in_registry = owner(checkpoint) is not None or registry_path(checkpoint.absolute().parent).exists()
    return register(checkpoint, identity, content, progress, in_registry=in_registry)


def _register_again(checkpoint: Path, identity: Identity, progress: Progress | None) -> Manifest:
    manifest, digest = read_manifest(manifest_path(checkpoint))
    if manifest.identity != identity:
        raise BadInputError(f"{manifest_path(checkpoint)} is not of this run and step: it is not registered")
    if findings := check_files(checkpoint, manifest, progress)[0]:
        raise IntegrityError(findings[0])
    content = None if manifest.content is None else manifest.content.root
    append(checkpoint.absolute().parent, SAVED, checkpoint.name, identity.step, digest, content)
    return manifest


def announce_removal(checkpoint: Path) -> Entry:
    """Say in the registry that a checkpoint is going to be deleted; to be called before the first file is.

    Raises:
        IntegrityError: it has no readable manifest, or the registry is damaged.
    """
    manifest, digest = read_manifest(manifest_path(checkpoint))
    content = None if manifest.content is None else manifest.content.root
    return append(checkpoint.absolute().parent, REMOVED, checkpoint.name, manifest.identity.step, digest, content)


def registered_steps(directory: Path) -> list[int]:
    """Return the steps of a checkpoints directory that the registry knows and that are there, in order.

    Raises:
        IntegrityError: the registry is damaged.
    """
    registry = read_registry(directory)
    names = [] if registry is None else [name for name in registry.names() if (directory / name).is_dir()]
    return sorted(step for name in names if (step := step_of(name)) is not None)


def registered_as(checkpoint: Path, manifest_digest: str) -> Finding | None:
    """Hold a manifest against the registry beside it; None where it is the newest one of its name, or there is no registry.

    Raises:
        IntegrityError: the registry is damaged.
    """
    registry = read_registry(checkpoint.absolute().parent)
    name = manifest_path(checkpoint).name
    if registry is None:
        if owner(checkpoint) is None:
            return None
        return Finding(Status.UNREGISTERED, name, "the run's registry is gone: an older pair would look the same")
    latest = registry.latest(checkpoint.name)
    if latest is None:
        said = (
            f"the registry does not know it ({registry.unfinished})" if registry.unfinished else "the registry does not know it"
        )
        return Finding(Status.UNREGISTERED, name, said)
    if latest.kind == REMOVED:
        return Finding(Status.INCOMPLETE, name, "the registry says that it was removed: its deletion did not end")
    if latest.manifest == manifest_digest:
        return None
    older = any(entry.manifest == manifest_digest for entry in registry.entries if entry.name == checkpoint.name)
    if older:
        return Finding(Status.STALE, name, "a newer checkpoint was registered under this name: this one was put back")
    return Finding(Status.CORRUPT, name, "is not the manifest that was registered under this name")
