"""Checkpoints of any framework: hashed, registered beside themselves, and verified; no pickle is loaded.

A thin layer over `reprotui.integrity`, for scripts that have a directory of checkpoints and no runs.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError
from reprotui.foreign import json_text, visible
from reprotui.integrity import (
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
from reprotui.integrity.files import walk
from reprotui.integrity.formats import open_checkpoint
from reprotui.integrity.manifest import SUFFIX
from reprotui.integrity.verify import check_leaves, content_as_found, of_checkpoint
from reprotui.reproduce.checkpoint_metadata import CheckpointMetadata, Verification
from reprotui.reproduce.config import json_value
from reprotui.reproduce.hashes import existing
from reprotui.run_directory import read_json, write_json, write_text

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
    return _record(path, identity or Identity(), progress)


def _record(path: Path, identity: Identity, progress: Progress | None) -> Manifest:
    manifest = build_manifest(path, identity, content_as_found(path), progress)
    sync_tree(path)
    write_manifest(manifest_path(path), manifest)
    return manifest


class CheckpointVerifier:
    """The checkpoints of a directory: registers and verifies them. Keeps no state; everything lies in the directory.

    A directory that does not exist is made: checkpoints will be written there.
    """

    def __init__(self, directory: Path | str, progress: Progress | None = None) -> None:
        self.directory = Path(directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(f"{directory} cannot be a directory of checkpoints: {error.strerror}") from None
        self._progress = progress

    def register_checkpoint(
        self, path: Path | str, metadata: CheckpointMetadata | Mapping[str, Any] | None = None, *, replace: bool = False
    ) -> str:
        """Write manifest and metadata of a checkpoint that nobody writes any more.

        Of one that is registered already and has not changed, other metadata take the place of the former ones.

        Args:
            path: an entry of the directory.
            metadata: what is said of it: a mapping of JSON values, however deep.
            replace: where it is registered already and has changed since, register it as it is now.

        Returns:
            The hash of its files, as `compute_checkpoint_hash` gives it.

        Raises:
            BadInputError: it is not in this directory, is registered already, or the metadata are no JSON values.
            IntegrityError: it is damaged or cannot be read.
        """
        checkpoint = self._locate(path)
        said = metadata if isinstance(metadata, CheckpointMetadata) else CheckpointMetadata.of(metadata or {})
        entries = json_value(said, f"the metadata of {checkpoint.name}")
        identity = Identity(step=said.step)
        if replace:
            manifest = _record(existing(checkpoint), identity, self._progress)
        elif metadata is not None and manifest_path(checkpoint).exists():
            manifest = self._unchanged(existing(checkpoint), said.step)
        else:
            manifest = create_integrity_manifest(checkpoint, identity, progress=self._progress)
        _, digest = read_manifest(manifest_path(checkpoint))
        write_json(_metadata_path(checkpoint), {"manifest": digest, "metadata": entries})
        return manifest.hash

    def _unchanged(self, checkpoint: Path, step: int | None) -> Manifest:
        """Return the manifest of a checkpoint that has not changed; with another step, where one is said now."""
        manifest, _ = read_manifest(manifest_path(checkpoint))
        if findings := check_files(checkpoint, manifest, self._progress)[0]:
            raise BadInputError(
                f"{checkpoint.name} is registered already and has changed since ({findings[0]}): verify it, or pass replace=True "
                "where it was meant to change"
            )
        if step is not None and step != manifest.identity.step:
            manifest = dataclasses.replace(manifest, identity=dataclasses.replace(manifest.identity, step=step))
            write_manifest(manifest_path(checkpoint), manifest)
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
        # A link or a FIFO in the place of a file is handed to no library.
        if manifest.content is not None and not walk(checkpoint).findings:
            try:
                findings += check_leaves(open_checkpoint(checkpoint), manifest.content)[1]
            except IntegrityError as error:
                findings.append(error.finding)
        metadata, wrong = _read_metadata(checkpoint, digest)
        found = of_checkpoint([*findings, *wrong], checkpoint)
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
        """Verify everything, write the outcome (`.json` as JSON, else Markdown), atomically, and return it."""
        found = self.verify_all_checkpoints()
        report = {
            "directory": str(self.directory.resolve()),
            "valid": bool(found) and all(found.values()),
            "checkpoints": {name: result.to_json() for name, result in found.items()},
        }
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            write_json(path, report)
        else:
            write_text(path, _markdown(self.directory, found))
        return report

    def _locate(self, path: Path | str) -> Path:
        path = Path(path)
        checkpoint = path if path.is_absolute() or path.parent.resolve() == self.directory.resolve() else self.directory / path
        if checkpoint.parent.resolve() != self.directory.resolve():
            raise BadInputError(f"{path} does not lie in {self.directory}: name one of its entries")
        return self.directory / checkpoint.name


def _markdown(directory: Path, found: Mapping[str, Verification]) -> str:
    valid = sum(map(bool, found.values()))
    lines = [f"# Checkpoints in {_said(str(directory))}", "", f"{valid} of {len(found)} are VALID."]
    for name, result in found.items():
        lines += ["", f"## {_said(name)}: {result.status}", ""]
        lines += [f"- {_said(str(finding))}" for finding in result.findings]
        lines += [f"- {kind}: `{digest}`" for kind, digest in (("files", result.files), ("content", result.content)) if digest]
        if result.metadata:
            lines += ["", "What its writer says of it:", "", *(f"    {line}" for line in json_text(result.metadata).splitlines())]
    return "\n".join(lines) + "\n"


def _said(text: str) -> str:
    """Return a name or a message as Markdown shows it, whatever stands in it."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", visible(text))


def _read_metadata(checkpoint: Path, digest: str) -> tuple[CheckpointMetadata | None, list[Finding]]:
    path = _metadata_path(checkpoint)
    if not path.exists():
        return None, []
    try:
        value = read_json(path)
        metadata = CheckpointMetadata.of(value["metadata"])
    except (BadInputError, KeyError, TypeError, AttributeError) as error:
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
