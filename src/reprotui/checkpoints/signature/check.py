"""Whether a signature was made by whom one trusts, and what it says: without a look at the files that it is about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reprotui.checkpoints.places import signature_path
from reprotui.checkpoints.signature.bundle import Bundle, read_bundle
from reprotui.checkpoints.signature.certificates import load_chain
from reprotui.checkpoints.signature.keys import Signers, load_key
from reprotui.checkpoints.signature.statement import Statement, read_statement
from reprotui.checkpoints.signature.strict import MalformedError, UnsupportedError
from reprotui.errors import BadInputError
from reprotui.integrity.status import Finding, SignatureInfo, Status

OFFICIAL_NAME = "model.sig"
"""What the official tool calls a signature unless told otherwise."""
KEYLESS = "it was made keyless (Sigstore), which needs the network: check it with `model_signing verify sigstore`"


def load_signers(
    public_key: Path | None = None,
    certificate_chain: Sequence[Path] = (),
    signature: Path | None = None,
    allow_symlinks: bool = False,
) -> Signers:
    """Read the public key and the certificates.

    Raises:
        BadInputError: one of them cannot be used, there is no such signature, or cryptography is not installed.
    """
    if signature is not None and not (signature.is_file() or signature.is_symlink()):
        raise BadInputError(f"{signature} is not a file: --signature names the signature's file")
    key = None if public_key is None else load_key(public_key, None, private=False)
    flags = [] if public_key is None else ["--key", str(public_key)]
    flags += [part for path in certificate_chain for part in ("--certificate-chain", str(path))]
    return Signers(key, load_chain(certificate_chain), signature, allow_symlinks, tuple(flags))


@dataclass(frozen=True)
class Checked:
    """A signature that was looked at.

    Attributes:
        info: what to show; None where there is no signature and nobody asked for one.
        finding: why it does not count, None where it does, or where nobody is trusted.
        statement: what was signed by whoever is trusted; None where nothing was, or it cannot be read.
    """

    info: SignatureInfo | None
    finding: Finding | None = None
    statement: Statement | None = None


def find_signature(checkpoint: Path, named: Path | None = None) -> Path:
    """Return the signature of a checkpoint: the one that was named, or beside it, or `model.sig` inside where that is one."""
    if named is not None:
        return named
    usual, official = signature_path(checkpoint), checkpoint / OFFICIAL_NAME
    return official if not _there(usual) and _is_signature(official) else usual


def signatures_inside(checkpoint: Path, named: Path | None = None) -> tuple[str, ...]:
    """Return which files inside a checkpoint are signatures of it, by their relative paths: they are no part of it."""
    found = [OFFICIAL_NAME] if _is_signature(checkpoint / OFFICIAL_NAME) else []
    if named is not None and named.absolute() != checkpoint.absolute():
        place, root = named.parent.resolve() / named.name, checkpoint.resolve()
        if place.is_relative_to(root):
            found.append(place.relative_to(root).as_posix())
    return tuple(dict.fromkeys(found))


def check_signature(checkpoint: Path, signers: Signers) -> Checked:
    """Say by whom a signature was made, and read what it signs.

    That the files are the signed ones is for `hold_files` and for the level `files` to say.
    """
    path = find_signature(checkpoint, signers.signature)
    if not _there(path):
        if not signers.given:
            return Checked(None)
        said = "there is no signature: it was never signed, or the signature was taken away"
        return Checked(None, Finding(Status.TAMPERED, path.name, said))
    info = SignatureInfo(path, "unchecked", "none")
    try:
        bundle = read_bundle(path)
        info = SignatureInfo(path, "unchecked", bundle.method, bundle.fingerprint, _signer(bundle))
        if not signers.given:
            return Checked(info)
        key = _key(bundle, signers)
        statement = read_statement(bundle.payload)
        if not _fits(key, bundle):
            raise _RefusedError("does not fit what it claims to sign")
    except UnsupportedError as error:
        finding = Finding(Status.UNCHECKED, path.name, f"cannot be checked here: {error}") if signers.given else None
        return Checked(info if info.method != "none" else replace(info, method="unknown"), finding)
    except (MalformedError, _RefusedError) as error:
        if not signers.given:
            return Checked(info)
        said = str(error) if isinstance(error, _RefusedError) else f"is no signature of a model: {error}"
        return Checked(replace(info, state="refused"), Finding(Status.TAMPERED, path.name, said))
    except OSError as error:
        finding = Finding(Status.UNREADABLE, path.name, f"cannot be read: {error.strerror}")
        return Checked(replace(info, method="unknown"), finding if signers.given else None)
    return Checked(replace(info, state="verified"), None, statement)


class _RefusedError(Exception):
    """The signature was made by somebody else, or over something else; the text is a sentence about it."""


def _key(bundle: Bundle, signers: Signers) -> Any:
    """Return the key by which the bundle must have been made.

    Raises:
        UnsupportedError: it was made in another way than those that count.
        _RefusedError: it was made by somebody else.
    """
    from reprotui.checkpoints.signature.certificates import IssuerError, trusted_key
    from reprotui.checkpoints.signature.keys import fingerprint

    if bundle.method == "keyless":
        raise UnsupportedError(KEYLESS)
    if bundle.method == "certificate":
        if not signers.chain:
            raise UnsupportedError("it was made by certificate: give the certificates of its root with --certificate-chain")
        try:
            return trusted_key(bundle, signers.chain)
        except IssuerError as error:
            raise _RefusedError(f"was made with a certificate that {error}") from None
    if signers.key is None:
        raise UnsupportedError("it was made with a key, not by certificate: give the public key with --key")
    if bundle.hint is not None and bundle.hint != fingerprint(signers.key):
        raise _RefusedError("was made with another key")
    return signers.key


def _fits(key: Any, bundle: Bundle) -> bool:
    from reprotui.checkpoints.signature.keys import verifies

    return verifies(key, bundle.signature, bundle.payload)


def _signer(bundle: Bundle) -> str:
    if not bundle.certificates:
        return ""
    try:
        from reprotui.checkpoints.signature.certificates import subject_of

        return subject_of(bundle.certificates[0])
    except ImportError:  # without cryptography nobody is named
        return ""


def _there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _is_signature(path: Path) -> bool:
    try:
        read_bundle(path)
    except (OSError, MalformedError, UnsupportedError):
        return False
    return True
