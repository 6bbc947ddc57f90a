"""Verify one checkpoint, at levels that build on each other.

`files`: the bytes are those of the manifest, the manifest is the one of the registry, the identity is the run's.
`content`: besides, the leaves read back have the digests that were taken before the write.
`trace`: besides, their checksums are those that the run recorded at that step.
`replay`: besides, training resumed from it gives the steps that were recorded after it; it trains, so whoever asks for it
hands in how (`reprotui.replay.level`).
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprotui.checkpoints.against_signature import AgainstSignature, hold_against_signature, hold_content, settled
from reprotui.checkpoints.places import incompleteness, owner, step_of
from reprotui.checkpoints.register import registered_as
from reprotui.checkpoints.registry import registry_path
from reprotui.checkpoints.signature import Signers, load_signers
from reprotui.checksum import LeafSpec
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.integrity.content import ContentDigest
from reprotui.integrity.files import Progress, named, walk
from reprotui.integrity.formats import StoredCheckpoint, StoredLeaf, open_checkpoint
from reprotui.integrity.formats.orbax import TEMPORARY
from reprotui.integrity.manifest import Manifest, check_files, identity_of_run, manifest_path, read_manifest
from reprotui.integrity.status import Finding, IntegrityError, Result, Status
from reprotui.integrity.verify import check_leaves, of_checkpoint
from reprotui.run_directory import RunDirectory


@dataclass
class Subject:
    """What is being verified, and what the levels so far learned about it.

    Attributes:
        path: the checkpoint.
        run: the run that owns it, None where that is not known.
        manifest: None where there is none that can be trusted.
        progress: called with bytes hashed or read.
        stored: its structure, once `content` read it.
        content: the digests of its leaves, once `content` took them.
        checksums: `rfp1-64` of its leaves by path; taken in the same pass, where `trace` will ask for them.
        notes: what a reader should know and what changes no status.
        signed: what its signature says.
    """

    path: Path
    run: RunDirectory | None
    manifest: Manifest | None
    progress: Progress | None
    stored: StoredCheckpoint | None
    content: ContentDigest | None
    checksums: dict[str, int] | None
    notes: list[str]
    size: int = 0
    signed: AgainstSignature = field(default_factory=lambda: AgainstSignature(None))


Replay = Callable[[Subject], list[Finding]]
"""Checks the level `replay`, which needs rooms that stand above this one."""
LEVELS = ("files", "content", "trace", "replay")
"""The levels; each asks for all before it, too."""


def verify_checkpoint(
    path: Path,
    level: str | None = "content",
    *,
    run: RunDirectory | None = None,
    public_key: Path | None = None,
    signers: Signers | None = None,
    progress: Progress | None = None,
    replay: Replay | None = None,
) -> Result:
    """Verify a checkpoint: an Orbax step directory, a `.pt`, a safetensors or an npz file, or with a signature any folder.

    Args:
        path: the checkpoint; its manifest lies beside it.
        level: one of `LEVELS`; None for the deepest that it has something recorded for: `content`, else `files`.
        run: the run that it must be of; None for the one in whose `checkpoints/` it lies.
        public_key: a PEM file; the checkpoint must then carry a signature made with its private key.
        signers: instead of a public key whose signatures count, and where the signature lies (`load_signers`).
        progress: called with bytes hashed or read.
        replay: checks the level `replay`.

    Returns:
        VALID only where everything that the level asks for was recomputed and agrees; no modification time is looked at.

    Raises:
        BadInputError: the path or the level does not exist, or the key cannot be used.
    """
    known = LEVELS if replay is not None else LEVELS[:-1]
    if level is not None and level not in known:
        raise BadInputError(f"there is no level {level!r} of verification; there is {', '.join(known)}")
    path = named(path)
    if not path.is_symlink() and not path.exists() and not manifest_path(path).exists():
        raise BadInputError(f"{path} does not exist")
    signers = signers or load_signers(public_key)
    subject = Subject(path, run or owner(path), None, progress, None, None, None, [])
    findings = _identify(subject, signers)
    level = level or _deepest(subject)
    chosen = LEVELS[: LEVELS.index(level) + 1]
    if "trace" in chosen:
        subject.checksums = {}
    there = path.is_symlink() or path.exists()
    tree_findings = walk(path, follow=signers.allow_symlinks).findings if there else ()
    if not there or tree_findings:
        # Nothing that is no plain file is handed to a library.
        return _result(subject, level, list(dict.fromkeys([*findings, *tree_findings])))
    for one in chosen:
        match one:
            case "files":
                findings += _check_files(subject)
            case "content":
                findings += _check_content(subject)
            case "trace":
                findings += _check_trace(subject)
            case "replay":
                assert replay is not None
                findings += replay(subject)
    return _result(subject, level, findings)


def _deepest(subject: Subject) -> str:
    recorded = subject.signed.content if subject.manifest is None else subject.manifest.content
    return "files" if recorded is None else "content"


def _result(subject: Subject, level: str, findings: list[Finding]) -> Result:
    manifest = subject.manifest
    valid = not findings
    signature = settled(subject.signed.info, findings)
    return Result(
        subject.path, level, tuple(of_checkpoint(findings, subject.path)), tuple(subject.notes),
        step=None if manifest is None else manifest.identity.step,
        files=manifest.files_digest if manifest is not None and valid else None,
        content=subject.content.root if subject.content is not None and valid else None,
        size=subject.size,
        signature=signature,
    )  # fmt: skip


def _identify(subject: Subject, signers: Signers) -> list[Finding]:
    """Read the manifest and hold it against registry, run and signature."""
    path = subject.path
    if not path.is_symlink() and not path.exists():
        return [Finding(Status.MISSING, path.name, "the manifest is there, the checkpoint is not")]
    findings: list[Finding] = []
    try:
        subject.manifest, digest = read_manifest(manifest_path(path))
        if (wrong := registered_as(path, digest)) is not None:
            findings.append(wrong)
    except IntegrityError as error:
        findings.append(error.finding)
    if subject.manifest is None and path.is_dir() and _is_step(path) and (why := incompleteness(path)):
        findings.append(Finding(why[0], path.name, why[1]))
    if subject.manifest is not None:
        findings += _identity(subject, subject.manifest)
    signed = subject.signed = hold_against_signature(path, subject.manifest, signers, subject.progress)
    subject.size += signed.size
    subject.notes += signed.notes
    if signed.replaces_manifest:
        findings = [found for found in findings if found.status not in (Status.UNREGISTERED, Status.INCOMPLETE)]
    return [*findings, *signed.findings]


def _is_step(path: Path) -> bool:
    return step_of(path.name) is not None or TEMPORARY in path.name


def _identity(subject: Subject, manifest: Manifest) -> list[Finding]:
    name, identity = manifest_path(subject.path).name, manifest.identity
    findings = []
    named = step_of(subject.path.name)
    if named is not None and identity.step is not None and named != identity.step:
        findings.append(Finding(Status.CORRUPT, name, f"is of step {identity.step}, the checkpoint is named {named}"))
    if subject.run is not None and identity.run_id is not None:
        try:
            run = subject.run.manifest()
            expected = identity_of_run(run, identity.step or 0)
        except ReprotuiError as error:
            return [*findings, Finding(Status.UNREADABLE, "run.json", str(error))]
        # A resumed run may save beside the checkpoints that it came from.
        restore = run.restore
        inherited = restore is not None and identity.run_id == restore.run_id and (identity.step or 0) <= restore.step
        if identity.run_id != expected.run_id and not inherited:
            findings.append(Finding(Status.CORRUPT, name, f"is of the run {identity.run!r}, it lies in {expected.run!r}"))
    if subject.run is None and not registry_path(subject.path.parent).exists():
        subject.notes.append("no registry lies beside it: whether a newer one was registered under its name is not known here")
    return findings


def _check_files(subject: Subject) -> list[Finding]:
    if subject.manifest is None:
        return []
    findings, size = check_files(subject.path, subject.manifest, subject.progress, subject.signed.inside)
    subject.size += size
    return findings


def _check_content(subject: Subject) -> list[Finding]:
    try:
        stored = open_checkpoint(subject.path)
    except IntegrityError as error:
        return [error.finding]
    subject.stored = stored
    recorded = None if subject.manifest is None else subject.manifest.content
    findings = list(stored.unread)
    if stored.unsafe:
        said = f"loading it could execute {', '.join(stored.unsafe[:8])}: never load it but with weights_only"
        findings.append(Finding(Status.UNCHECKED, ".", said))
    if subject.manifest is None:
        if not stored.checksummed and stored.format in ("torch", "npz"):
            findings.append(
                Finding(Status.UNCHECKED, ".", "its entries carry no CRC, and there is no manifest to hold it against")
            )
        elif not stored.checksummed:
            subject.notes.append(f"the format {stored.format} has no checksum over its values")
    elif recorded is None:
        findings.append(Finding(Status.UNCHECKED, manifest_path(subject.path).name, "records files alone, no content digests"))
    findings += _read_leaves(subject, stored, recorded or stored.recorded)
    if subject.manifest is None and subject.content is not None:
        findings += hold_content(subject.signed, subject.content, stored.recorded)
    return findings


def _read_leaves(subject: Subject, stored: StoredCheckpoint, recorded: ContentDigest | None) -> list[Finding]:
    visit = None if subject.checksums is None else _checksums_into(subject.checksums)
    subject.content, findings = check_leaves(stored, recorded, _counting(subject), visit)
    if subject.manifest is None and stored.checksummed and len(subject.content.leaves) == len(stored.leaves):
        subject.notes.append("the CRC of every leaf fits; a CRC does not show who wrote it, nor what else was changed")
    if stored.recorded is not None and recorded is not None and recorded != stored.recorded:
        findings.append(Finding(Status.CORRUPT, "integrity/metadata", "the digest stored inside is not that of the manifest"))
    return findings


def _counting(subject: Subject) -> Progress:
    def count(size: int) -> None:
        subject.size += size
        if subject.progress is not None:
            subject.progress(size)

    return count


def _checksums_into(checksums: dict[str, int]) -> Callable[[StoredLeaf, Any], None]:
    from reprotui.checksum import host_form

    def visit(leaf: StoredLeaf, array: Any) -> None:
        # Text and opaque types have no checksum, and no record has them.
        with contextlib.suppress(BadInputError):
            checksums[leaf.spec.path] = host_form.checksum(array)

    return visit


def _check_trace(subject: Subject) -> list[Finding]:
    from reprotui.checkpoints.against_trace import check_trace

    assert subject.checksums is not None
    specs: dict[str, LeafSpec] = {leaf.spec.path: leaf.spec for leaf in subject.stored.leaves} if subject.stored else {}
    step = subject.manifest.identity.step if subject.manifest is not None else step_of(subject.path.name)
    findings, notes = check_trace(subject.run, step, subject.checksums, specs)
    subject.notes += notes
    return findings
