"""The manifest of a checkpoint: identity, files and content, written once beside it and never inside.

The file is canonical JSON and carries the digest of itself, so any other byte in it is damage.
"""

import hashlib
import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError
from reprotui.integrity.content import ContentDigest, checked, checked_sha256, content_from_json, content_to_json
from reprotui.integrity.files import (
    SINGLE_FILE,
    FileEntry,
    Progress,
    Tree,
    files_digest,
    hash_files,
    named,
    names_problem,
    walk,
)
from reprotui.integrity.status import Finding, IntegrityError, Status
from reprotui.manifest import RunManifest
from reprotui.run_directory import write_json

SUFFIX = ".manifest.json"
VERSION = 1
ALGORITHM = "sha256"
MAXIMUM_SIZE = 256 << 20
"""A larger file is no manifest: a million files take 150 MB."""


@dataclass(frozen=True)
class Identity:
    """Which state of which run it is; None where it belongs to no run.

    `run_id` is made of what no other run has in common, so that a renamed run keeps it.
    """

    run: str | None = None
    run_id: str | None = None
    step: int | None = None
    experiment: str | None = None
    experiment_digest: str | None = None
    config_digest: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What was written, and when.

    Attributes:
        identity: the run and step.
        files: every file, in path order.
        directories: every directory below the checkpoint, empty ones too.
        content: the digests of the leaves, None where nobody knew them.
        created_ns: for people; it proves nothing.
    """

    identity: Identity
    files: tuple[FileEntry, ...]
    directories: tuple[str, ...]
    content: ContentDigest | None
    created_ns: int

    @property
    def files_digest(self) -> str:
        """Return the digest `files`."""
        return files_digest(self.files)

    @property
    def hash(self) -> str:
        """Return what stands for the bytes on the disk: of one file its SHA-256, which every tool prints; else `files_digest`."""
        return self.files[0].sha256 if self.files[0].path == SINGLE_FILE else self.files_digest

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(entry.size for entry in self.files)


def manifest_path(checkpoint: Path) -> Path:
    """Return where the manifest of a checkpoint lies: beside it, `100` → `100.manifest.json`."""
    checkpoint = named(checkpoint)
    return checkpoint.with_name(checkpoint.name + SUFFIX)


def identity_of_run(run: RunManifest, step: int) -> Identity:
    """Return the identity of a step's state from the run's manifest (`run.json`)."""
    return Identity(
        run=run.name,
        run_id=_digest([run.name, run.created_ns])[:32],
        step=step,
        experiment=run.experiment.name,
        experiment_digest=run.experiment.source_digest,
        config_digest=_digest(run.document.get("config")),
    )


def build_manifest(
    checkpoint: Path, identity: Identity, content: ContentDigest | None = None, progress: Progress | None = None
) -> Manifest:
    """Hash every file of a checkpoint.

    Args:
        checkpoint: a directory, or one file.
        identity: which state it is.
        content: the digests taken from memory before the write; the stored bytes are held against them by
            `verify`, so they cover the way to the disk as well.
        progress: called with bytes hashed.

    Raises:
        IntegrityError: a symbolic link, FIFO or the like lies in it, or a file cannot be read.
        BadInputError: a name cannot stand in a manifest, or there is no file at all.
    """
    tree = walk(checkpoint)
    if tree.findings:
        raise IntegrityError(tree.findings[0])
    if problem := names_problem((*tree.files, *tree.directories)):
        raise BadInputError(f"{checkpoint}: {problem}; rename it before the checkpoint is registered")
    if not tree.files:
        raise BadInputError(f"{checkpoint} holds no file: there is nothing to register")
    entries = []
    for entry in hash_files(checkpoint, tree.files, progress):
        if isinstance(entry, IntegrityError):
            raise entry
        entries.append(entry)
    return Manifest(identity, tuple(entries), tree.directories, content, time.time_ns())


def write_manifest(path: Path, manifest: Manifest) -> str:
    """Write a manifest atomically and durably; return the SHA-256 of its file, for the registry."""
    value = _to_json(manifest)
    write_json(path, value)
    return hashlib.sha256(_text(value).encode()).hexdigest()


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """Read a manifest; return it with the SHA-256 of its file.

    Raises:
        IntegrityError: UNREGISTERED where there is none; UNREADABLE where it cannot be read, or a newer version or
            another algorithm wrote it; CORRUPT for everything else that `write_manifest` did not write.
    """

    def refuse(status: Status, message: str) -> IntegrityError:
        return IntegrityError(Finding(status, path.name, message))

    try:
        if path.is_symlink() or not path.is_file():
            if path.is_symlink() or path.exists():
                raise refuse(Status.CORRUPT, "is not a regular file, expected the manifest")
            raise refuse(Status.UNREGISTERED, "there is no manifest: nothing says what the files should be")
        if path.stat().st_size > MAXIMUM_SIZE:
            raise refuse(Status.CORRUPT, f"is larger than {MAXIMUM_SIZE} bytes: not a manifest")
        raw = path.read_bytes()
    except OSError as error:
        raise refuse(Status.UNREADABLE, f"cannot be read: {error.strerror}") from None
    try:
        value = json.loads(raw, object_pairs_hook=_unique)
        version, algorithm = value["manifest_version"], value["algorithm"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refuse(Status.CORRUPT, f"is not a manifest ({error or type(error).__name__})") from None
    if isinstance(version, int) and version > VERSION:
        raise refuse(Status.UNREADABLE, f"has manifest version {version}, this reprotui reads {VERSION}: upgrade reprotui")
    if algorithm != ALGORITHM:
        raise refuse(Status.UNREADABLE, f"is made with {algorithm!r}, accepted is {ALGORITHM} alone")
    try:
        manifest = _from_json(value)
        if _text(_to_json(manifest)).encode() != raw:
            raise ValueError("its digest or its form is not that of what it holds")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refuse(Status.CORRUPT, f"was edited or damaged: {error or type(error).__name__}") from None
    return manifest, hashlib.sha256(raw).hexdigest()


def check_files(
    checkpoint: Path, manifest: Manifest, progress: Progress | None = None, beside: Collection[str] = ()
) -> tuple[list[Finding], int]:
    """Hold the files of a checkpoint against its manifest; return the findings and the number of bytes hashed.

    What is named `beside` may lie there unrecorded: a signature that somebody put inside.
    """
    tree = walk(checkpoint)
    findings = [
        *tree.findings,
        *(found for found in _missing_and_extra(tree, manifest) if found.status is not Status.EXTRA or found.path not in beside),
    ]
    expected = {entry.path: entry for entry in manifest.files}
    size = 0
    for found in hash_files(checkpoint, [name for name in tree.files if name in expected], progress):
        if isinstance(found, IntegrityError):
            findings.append(found.finding)
            continue
        size += found.size
        recorded = expected[found.path]
        if found.size != recorded.size:
            message = f"has {found.size} bytes, recorded were {recorded.size}"
            findings.append(Finding(Status.CORRUPT, found.path, message, offset=min(found.size, recorded.size)))
        elif found.sha256 != recorded.sha256:
            message = f"SHA-256 is {found.sha256[:16]}…, recorded was {recorded.sha256[:16]}…"
            findings.append(Finding(Status.CORRUPT, found.path, message))
    return findings, size


def _missing_and_extra(tree: Tree, manifest: Manifest) -> list[Finding]:
    refused = {finding.path for finding in tree.findings}
    findings = []
    for kind, found, recorded in (
        ("file", tree.files, {entry.path for entry in manifest.files}),
        ("directory", tree.directories, set(manifest.directories)),
    ):
        for name in sorted(recorded - set(found) - refused):
            findings.append(Finding(Status.MISSING, name, f"this {kind} is recorded and not there"))
        for name in sorted(set(found) - recorded):
            findings.append(Finding(Status.EXTRA, name, f"this {kind} is there and was never recorded"))
    return findings


def _to_json(manifest: Manifest) -> dict[str, Any]:
    content = manifest.content
    body = {
        "manifest_version": VERSION,
        "algorithm": ALGORITHM,
        "identity": asdict(manifest.identity),
        "created_ns": manifest.created_ns,
        "files_digest": manifest.files_digest,
        "files": [[entry.path, entry.size, entry.sha256] for entry in manifest.files],
        "directories": list(manifest.directories),
        "content": None if content is None else content_to_json(content),
    }
    return {**body, "digest": _digest(body)}


def _from_json(value: dict[str, Any]) -> Manifest:
    files = tuple(
        FileEntry(checked(path, str), checked(size, int), checked_sha256(digest)) for path, size, digest in value["files"]
    )
    directories = tuple(checked(path, str) for path in value["directories"])
    if not files:
        raise ValueError("it holds no file")
    if problem := names_problem((*(entry.path for entry in files), *directories)):
        raise ValueError(problem)
    content = None if value["content"] is None else content_from_json(value["content"])
    return Manifest(Identity(**value["identity"]), files, directories, content, checked(value["created_ns"], int))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _text(value: dict[str, Any]) -> str:
    # As write_json writes it: reading demands these very bytes.
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()).hexdigest()
