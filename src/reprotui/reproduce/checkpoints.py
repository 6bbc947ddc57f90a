"""Checkpoints of any framework: hashed, registered beside themselves, and verified; no pickle is loaded.

A thin layer over `reprotui.integrity`, for scripts that have a directory of checkpoints and no runs.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError
from reprotui.integrity import (
    ContentDigest,
    Finding,
    Identity,
    IntegrityError,
    Manifest,
    Progress,
    Status,
    build_manifest,
    check_files,
    manifest_path,
    read_manifest,
    sync_tree,
    write_manifest,
)
from reprotui.integrity.content import compare_digests, compare_specs
from reprotui.integrity.formats import digest_stored, open_checkpoint
from reprotui.integrity.manifest import SUFFIX
from reprotui.reproduce.hashes import CheckpointMetadata, Verification, existing
from reprotui.run_directory import read_json, write_json

_METADATA_SUFFIX = ".metadata.json"
_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".npz", ".msgpack")
"""Files that count as checkpoints though nobody registered them; of directories, all do."""


def create_integrity_manifest(
    directory: Path | str, identity: Identity | None = None, *, progress: Progress | None = None
) -> Manifest:
    """Hash a checkpoint (a directory, or one file) and write its manifest beside it: `100` → `100.manifest.json`.

    Where the format can be read, the content digests of its leaves are in it too.

    Raises:
        BadInputError: it does not exist, holds no file, or has a manifest already, which is not replaced.
        IntegrityError: something in it is damaged, cannot be read, or is no plain file.
    """
    path = existing(directory)
    if manifest_path(path).exists():
        raise BadInputError(f"{manifest_path(path)} exists: verify the checkpoint, or remove the manifest to register it anew")
    manifest = build_manifest(path, identity or Identity(), _content(path), progress)
    sync_tree(path)
    write_manifest(manifest_path(path), manifest)
    return manifest


class CheckpointVerifier:
    """The checkpoints of a directory: registers and verifies them. Keeps no state; everything lies in the directory."""

    def __init__(self, directory: Path | str, progress: Progress | None = None) -> None:
        self.directory = existing(directory)
        self._progress = progress

    def register_checkpoint(self, path: Path | str, metadata: CheckpointMetadata | None = None) -> Manifest:
        """Write manifest and metadata of a checkpoint that nobody writes any more.

        Raises:
            BadInputError: it is not in this directory, is registered already, or the metadata are no JSON values.
            IntegrityError: it is damaged or cannot be read.
        """
        checkpoint = self._locate(path)
        metadata = metadata or CheckpointMetadata()
        manifest = create_integrity_manifest(checkpoint, Identity(step=metadata.step), progress=self._progress)
        try:
            bound = {"manifest": read_manifest(manifest_path(checkpoint))[1], "metadata": asdict(metadata)}
            write_json(_metadata_path(checkpoint), bound)
        except (TypeError, ValueError) as error:
            manifest_path(checkpoint).unlink()
            raise BadInputError(f"the metadata of {checkpoint.name} are no JSON values: {error}") from error
        return manifest

    def verify_checkpoint(self, path: Path | str) -> Verification:
        """Recompute all digests of a checkpoint and hold them against its manifest. Modification times prove nothing."""
        checkpoint = self._locate(path)
        try:
            manifest, digest = read_manifest(manifest_path(checkpoint))
        except IntegrityError as error:
            return Verification(checkpoint, "content", (error.finding,))
        if not checkpoint.exists():
            found = Finding(Status.MISSING, checkpoint.name, "the manifest is there, the checkpoint is not")
            return Verification(checkpoint, "content", (found,))
        findings, size = check_files(checkpoint, manifest, self._progress)
        if not findings and manifest.content is not None:
            findings = _check_content(checkpoint, manifest.content)
        metadata, wrong = _read_metadata(checkpoint, digest)
        found = [replace(item, path=checkpoint.name) if item.path == "." else item for item in (*findings, *wrong)]
        return Verification(
            checkpoint, "content" if manifest.content else "files", tuple(found), step=manifest.identity.step,
            files=None if found else manifest.files_digest,
            content=None if found or manifest.content is None else manifest.content.root, size=size, metadata=metadata,
        )  # fmt: skip

    def verify_all_checkpoints(self) -> dict[str, Verification]:
        """Verify every checkpoint of the directory, by name; those without a manifest are UNREGISTERED, never left out."""
        names = {path.name.removesuffix(SUFFIX) for path in self.directory.glob(f"*{SUFFIX}")}
        names |= {path.name for path in self.directory.iterdir() if _is_checkpoint(path)}
        return {name: self.verify_checkpoint(name) for name in sorted(names)}

    def export_verification_report(self, path: Path | str) -> dict[str, Any]:
        """Verify everything, write the outcome as JSON, atomically, and return it."""
        found = self.verify_all_checkpoints()
        report = {
            "directory": str(self.directory.resolve()),
            "valid": bool(found) and all(found.values()),
            "checkpoints": {name: result.to_json() for name, result in found.items()},
        }
        write_json(Path(path), report)
        return report

    def _locate(self, path: Path | str) -> Path:
        path = Path(path)
        checkpoint = path if path.is_absolute() or path.parent.resolve() == self.directory.resolve() else self.directory / path
        if checkpoint.parent.resolve() != self.directory.resolve():
            raise BadInputError(f"{path} does not lie in {self.directory}: name one of its entries")
        return self.directory / checkpoint.name


def _content(path: Path) -> ContentDigest | None:
    """Return the content digests of a checkpoint whose format is known; None for another one."""
    try:
        stored = open_checkpoint(path)
    except IntegrityError as error:
        if error.finding.status is Status.UNCHECKED:
            return None
        raise
    content, findings = digest_stored(stored)
    if findings:
        raise IntegrityError(findings[0])
    return None if stored.unread else content


def _check_content(path: Path, recorded: ContentDigest) -> list[Finding]:
    try:
        stored = open_checkpoint(path)
        content, findings = digest_stored(stored)
    except IntegrityError as error:
        return [error.finding]
    places = {leaf.spec.path: leaf.place for leaf in stored.leaves}

    def place(leaf: str) -> str:
        return places.get(leaf, path.name)

    findings += compare_specs(recorded, {leaf.spec.path: leaf.spec for leaf in stored.leaves}, place)
    return findings + compare_digests(recorded, content, place)


def _read_metadata(checkpoint: Path, digest: str) -> tuple[CheckpointMetadata | None, list[Finding]]:
    path = _metadata_path(checkpoint)
    if not path.exists():
        return None, []
    try:
        value = read_json(path)
        metadata = CheckpointMetadata(**value["metadata"])
    except (BadInputError, KeyError, TypeError) as error:
        return None, [Finding(Status.CORRUPT, path.name, f"is not what was written: {error}")]
    if value.get("manifest") != digest:
        return metadata, [Finding(Status.CORRUPT, path.name, "belongs to another manifest than the one beside it")]
    return metadata, []


def _metadata_path(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name + _METADATA_SUFFIX)


def _is_checkpoint(path: Path) -> bool:
    if path.name.startswith(".") or path.name.endswith((SUFFIX, _METADATA_SUFFIX)):
        return False
    return path.is_dir() or path.suffix in _CHECKPOINTS
