"""What verification says: a status, never a bool, and the findings that it rests on."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from reprotui.errors import CANNOT_TELL, DIFFERS, SAME, ReprotuiError


class Status(StrEnum):
    """What is known about a checkpoint, worst first; where several hold, the first of them is said."""

    TAMPERED = "TAMPERED"
    """The signature is missing or wrong, or does not cover what is there."""
    CORRUPT = "CORRUPT"
    """Bytes, content or identity are not those that were recorded."""
    MISSING = "MISSING"
    """A recorded file, directory or leaf is not there."""
    EXTRA = "EXTRA"
    """A file, directory or leaf is there that was never recorded."""
    STALE = "STALE"
    """Whole in itself, but older than what the registry holds under this name."""
    INCOMPLETE = "INCOMPLETE"
    """Left over by a save or a removal that did not end."""
    UNREADABLE = "UNREADABLE"
    """Input or output failed, permission is missing, or it was written by a newer version."""
    UNCHECKED = "UNCHECKED"
    """What was asked for cannot be checked: the format or the manifest has nothing to check against."""
    UNREGISTERED = "UNREGISTERED"
    """There is no manifest, or the registry does not know it."""
    VALID = "VALID"
    """Everything that the level asks for was recomputed and agrees."""

    @property
    def exit_code(self) -> int:
        """Return 0 for VALID alone, 1 for damage, 3 where nobody can tell."""
        if self is Status.VALID:
            return SAME
        return DIFFERS if self in _DAMAGE else CANNOT_TELL


_DAMAGE = (Status.TAMPERED, Status.CORRUPT, Status.MISSING, Status.EXTRA, Status.STALE)
_ORDER = {status: index for index, status in enumerate(Status)}


def worst(statuses: list[Status]) -> Status:
    """Return the status that is said where several hold; VALID where there is none."""
    return min(statuses, key=_ORDER.__getitem__, default=Status.VALID)


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        status: what this finding alone makes of the checkpoint.
        path: the file or directory, relative to the checkpoint where it lies inside.
        message: what was found and what was expected.
        leaf: the leaf's path, where known.
        offset: the first byte in the file that is concerned, where known.
    """

    status: Status
    path: str
    message: str
    leaf: str | None = None
    offset: int | None = None

    def __str__(self) -> str:
        leaf = f", leaf {self.leaf}" if self.leaf is not None else ""
        offset = f", byte {self.offset}" if self.offset is not None else ""
        return f"{self.path}{leaf}{offset}: {self.message}"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as a JSON object."""
        return {
            "status": self.status.value, "path": self.path, "leaf": self.leaf, "offset": self.offset, "message": self.message,
        }  # fmt: skip


@dataclass(frozen=True)
class SignatureInfo:
    """What is known of the signature of a checkpoint.

    Attributes:
        path: the bundle.
        state: `verified`: whoever was named signed what lies there; `signed`: they signed what the manifest records, and
            the files were not read; `broken`: they signed something else; `refused`: somebody else signed, or it is no
            signature; `unchecked`: nobody was named, or the method is not known here.
        method: `key`, `certificate`, `keyless`, `unknown`, or `none` where it is no signature.
        fingerprint: SHA-256 of the key's PEM form, or of the certificate; of an unchecked one by its own account.
        signer: for whom the certificate was made; empty for a key.
        not_signed: what the signature leaves out, in words; empty unless it is verified or signed.
    """

    path: Path
    state: str
    method: str
    fingerprint: str | None = None
    signer: str = ""
    not_signed: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.method == "none":
            return f"{self.state} · no signature"
        who = {"keyless": "keyless, certificate", "unknown": "an unknown method,"}.get(self.method, self.method)
        of = f" of {self.signer}," if self.signer else ""
        return f"{self.state} · {who}{of} fingerprint {self.fingerprint or 'not named'}"

    @property
    def brief(self) -> str:
        """Return it in the width of a column."""
        if self.method == "none":
            return "no signature"
        return f"{self.method} {(self.fingerprint or 'not named')[:12]}{'' if self.state == 'unchecked' else ' ' + self.state}"

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "path": str(self.path), "state": self.state, "method": self.method, "fingerprint": self.fingerprint,
            "signer": self.signer, "not_signed": list(self.not_signed),
        }  # fmt: skip


@dataclass(frozen=True)
class Result:
    """The outcome of a verification.

    Attributes:
        path: the checkpoint.
        level: what was asked for: `files`, `content`, `trace`, or a level registered elsewhere.
        findings: what is wrong; empty for VALID.
        notes: what a reader should know and what changes no status.
        step: the step that the manifest names, None where there is none.
        files, content: the digests that were recomputed and agree, None where they were not, or do not.
        size: bytes that were hashed.
        signature: what is known of its signature, None where there is none.
    """

    path: Path
    level: str
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    step: int | None = None
    files: str | None = None
    content: str | None = None
    size: int = 0
    signature: SignatureInfo | None = None

    @property
    def status(self) -> Status:
        """Return the worst finding's status, VALID where there is none."""
        return worst([finding.status for finding in self.findings])

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {
            "path": str(self.path), "status": self.status.value, "level": self.level, "step": self.step, "files": self.files,
            "content": self.content, "bytes": self.size, "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes), "signature": None if self.signature is None else self.signature.to_json(),
        }  # fmt: skip


class IntegrityError(ReprotuiError):
    """Something to be read is not what it must be; `finding` says what, and its status gives the exit code."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.status}: {finding}")
        self.finding = finding
        self.exit_code = finding.status.exit_code
