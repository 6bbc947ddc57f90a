"""Signatures by certificate: the signer's certificate must lead to one that was given, at the time when it began to hold.

That time is the official tool's choice: a bundle proves no time, and a model outlives the certificate that it was signed by.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprotui.checkpoints.signature.bundle import Bundle
from reprotui.checkpoints.signature.keys import curve_problem, need_cryptography, read_small
from reprotui.checkpoints.signature.strict import MalformedError, UnsupportedError
from reprotui.errors import BadInputError


class IssuerError(Exception):
    """A certificate does not lead to one that was given, or may not sign; the text ends a sentence."""


def load_chain(paths: Sequence[Path]) -> tuple[Any, ...]:
    """Read certificates in PEM, one or more a file.

    Raises:
        BadInputError: a file holds none, or cryptography is not installed.
    """
    if not paths:
        return ()
    need_cryptography()
    from cryptography import x509

    found = []
    for path in paths:
        raw = read_small(path)
        try:
            found += x509.load_pem_x509_certificates(raw)
        except ValueError:
            raise BadInputError(f"{path} holds no certificate in PEM that can be read") from None
    return tuple(found)


def holds_certificates(path: Path) -> bool:
    """Say whether a file is one of certificates, rather than of a key."""
    return b"-----BEGIN CERTIFICATE-----" in read_small(path)


def trusted_key(bundle: Bundle, chain: Sequence[Any]) -> Any:
    """Return the key of a bundle's certificate, once that leads to a certificate of the chain.

    Raises:
        IssuerError: it does not, or may not sign.
        UnsupportedError: its key is none of the format's.
        MalformedError: the bundle's certificates are none.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import verification

    try:
        signer, *sent = [x509.load_der_x509_certificate(raw) for raw in bundle.certificates]
        may_sign, key, begins = _may_sign(signer), signer.public_key(), signer.not_valid_before_utc
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MalformedError("holds a certificate that cannot be read") from None
    roots = [found for found in chain if found.issuer == found.subject]
    if not roots:
        raise IssuerError("leads to no root: none of the certificates given is one")
    if signer not in roots:
        policy = verification.ExtensionPolicy.permit_all()
        authority = policy.require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, _may_issue)
        authority = authority.may_be_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_sign_certificates)
        builder = verification.PolicyBuilder().store(verification.Store(roots)).time(begins)
        verifier = builder.extension_policies(ca_policy=authority, ee_policy=policy).build_client_verifier()
        try:
            verifier.verify(signer, [*sent, *(found for found in chain if found not in roots)])
        except verification.VerificationError:
            raise IssuerError("does not lead to a certificate that was given") from None
    if not may_sign:
        raise IssuerError("may not sign: neither its key usage nor its extended key usage says so")
    if (problem := curve_problem(key)) is not None:
        raise UnsupportedError(f"a certificate whose key {problem}")
    return key


def subject_of(certificate: bytes) -> str:
    """Return for whom a certificate was made: its subject, or where that is empty its alternative name."""
    from cryptography import x509

    try:
        loaded = x509.load_der_x509_certificate(certificate)
        if subject := loaded.subject.rfc4514_string():
            return subject
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return ", ".join(str(name.value) for name in names)
    except (ValueError, x509.ExtensionNotFound):
        return ""


def _may_sign(certificate: Any) -> bool:
    """Say what the official tool asks of a signer: the usage `digitalSignature`, or the extended usage `codeSigning`."""
    from cryptography import x509

    extensions = certificate.extensions
    for kind, allows in (
        (x509.KeyUsage, lambda usage: usage.digital_signature),
        (x509.ExtendedKeyUsage, lambda usage: x509.oid.ExtendedKeyUsageOID.CODE_SIGNING in usage),
    ):
        try:
            if allows(extensions.get_extension_for_class(kind).value):
                return True
        except x509.ExtensionNotFound:
            continue
    return False


def _may_issue(_policy: Any, _certificate: Any, constraints: Any) -> None:
    if not constraints.ca:
        raise ValueError("no authority")


def _may_sign_certificates(_policy: Any, _certificate: Any, usage: Any) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an authority that may not sign certificates")
