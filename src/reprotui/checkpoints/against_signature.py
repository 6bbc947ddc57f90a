"""Hold a checkpoint against its signature, with its manifest or without one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reprotui.checkpoints.places import owner
from reprotui.checkpoints.registry import read_registry
from reprotui.checkpoints.signature import (
    Checked,
    Signers,
    check_signature,
    hold_files,
    hold_manifest,
    not_signed,
    signatures_inside,
)
from reprotui.checkpoints.signature.check import OFFICIAL_NAME
from reprotui.integrity.content import ContentDigest
from reprotui.integrity.files import Progress
from reprotui.integrity.manifest import Manifest
from reprotui.integrity.status import Finding, IntegrityError, SignatureInfo, Status

WRONG = (Status.TAMPERED, Status.CORRUPT, Status.MISSING, Status.EXTRA)
"""Statuses with which what was signed is not what lies there."""
UNREAD = (Status.UNREADABLE, Status.INCOMPLETE)
"""Statuses with which nobody knows."""


@dataclass(frozen=True)
class AgainstSignature:
    """What a signature says about a checkpoint.

    Attributes:
        info: what to show of it.
        findings, notes, size: as of a verification.
        inside: signatures that lie in the checkpoint and are no part of it.
        content: the content digest that was signed, None where none was, or where nobody who is trusted signed it.
        replaces_manifest: nothing says that there ever was a manifest, and every file is the signed one.
    """

    info: SignatureInfo | None
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    size: int = 0
    inside: tuple[str, ...] = ()
    content: str | None = None
    replaces_manifest: bool = False


def hold_against_signature(
    path: Path, manifest: Manifest | None, signers: Signers, progress: Progress | None = None
) -> AgainstSignature:
    """Say whether those who are trusted signed what lies there.

    With a manifest, what was signed is held against the manifest, which the level `files` holds against the files; without
    one, and where the signature is by another hash, against the files themselves.
    """
    inside = signatures_inside(path, signers.signature)
    checked = check_signature(path, signers)
    statement = checked.statement
    if statement is None:
        return AgainstSignature(
            checked.info, () if checked.finding is None else (checked.finding,), _unchecked(path, checked, signers, inside),
            inside=inside,
        )  # fmt: skip
    assert checked.info is not None
    findings, size = [], 0
    if manifest is not None:
        findings = hold_manifest(statement, manifest, checked.info.path.name, inside)
    if manifest is None or not statement.plain:
        held, size = hold_files(path, statement, inside, progress, follow=signers.allow_symlinks)
        findings += held
    state = "verified"
    if any(found.status is Status.UNCHECKED for found in findings):
        state = "unchecked"
    info = replace(checked.info, state=state, not_signed=not_signed(path, statement, inside, follow=signers.allow_symlinks))
    alone = manifest is None and not findings and not statement.ours and not _was_registered(path)
    return AgainstSignature(
        info, tuple(findings), ("it was never registered: its signature alone says what it is",) if alone else (), size, inside,
        _signed_content(statement.ours), alone,
    )  # fmt: skip


def hold_listed(path: Path, manifest: Manifest | None, signers: Signers) -> SignatureInfo | None:
    """Say what a signature is without reading the files: held against the manifest alone, it is `signed` at best."""
    checked = check_signature(path, signers)
    if checked.info is None or checked.statement is None:
        return checked.info
    inside = signatures_inside(path, signers.signature)
    if manifest is not None and hold_manifest(checked.statement, manifest, checked.info.path.name, inside):
        return replace(checked.info, state="broken")
    return replace(
        checked.info, state="signed", not_signed=not_signed(path, checked.statement, inside, follow=signers.allow_symlinks)
    )


def hold_content(signed: AgainstSignature, content: ContentDigest, recorded: ContentDigest | None) -> list[Finding]:
    """Hold the content of a checkpoint without a manifest against the digest that was signed."""
    if signed.info is None or signed.info.state != "verified":
        return []
    name = signed.info.path.name
    if signed.content is not None and signed.content != content.root:
        return [Finding(Status.CORRUPT, name, "signs another content digest than that of what was read")]
    if signed.content is None and recorded is None:
        return [Finding(Status.UNCHECKED, name, "signs files alone, no content digest: --level files checks all that it says")]
    return []


def settled(info: SignatureInfo | None, findings: list[Finding]) -> SignatureInfo | None:
    """Return what to show of a signature in the end: verified is only one whose checkpoint is what was signed."""
    if info is None or info.state != "verified":
        return info
    statuses = {found.status for found in findings}
    if statuses & {*WRONG, *UNREAD}:
        return replace(info, state="broken" if statuses & {*WRONG} else "unchecked", not_signed=())
    return info


def _unchecked(path: Path, checked: Checked, signers: Signers, inside: tuple[str, ...]) -> tuple[str, ...]:
    if checked.info is None or signers.given:
        return ()
    if checked.info.method == "none":
        return (f"{checked.info.path.name} is no signature",)
    place = "inside" if OFFICIAL_NAME in inside and checked.info.path == path / OFFICIAL_NAME else "beside it"
    how = "--certificate-chain" if checked.info.method == "certificate" else "--key"
    return (f"a signature lies {place} and was not checked: give the public key or certificates ({how})",)


def _was_registered(path: Path) -> bool:
    if owner(path) is not None:
        return True
    try:
        registry = read_registry(path.absolute().parent)
    except IntegrityError:
        return True
    return registry is not None and registry.latest(path.name) is not None


def _signed_content(ours: dict[str, Any] | None) -> str | None:
    content = (ours or {}).get("content_digest")
    return content if isinstance(content, str) else None
