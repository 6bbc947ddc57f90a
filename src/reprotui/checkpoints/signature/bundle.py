"""The file that carries a signature: a Sigstore bundle v0.3 around a DSSE envelope.

Formats: https://docs.sigstore.dev/about/bundle and https://github.com/secure-systems-lab/dsse.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.checkpoints.signature.strict import MalformedError, UnsupportedError, field, only, shown, strict_json
from reprotui.regular import open_regular

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MEDIA_TYPES = "application/vnd.dev.sigstore.bundle"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAXIMUM_SIZE = 16 << 20
"""A larger file is not read: 60,000 files take this much."""


@dataclass(frozen=True)
class Bundle:
    """A signature with what it signs, and by what it says that it was made.

    Attributes:
        payload, signature: what was signed, and the signature.
        method: `key`, `certificate`, or `keyless` (a certificate of an hour, from Sigstore's public services).
        hint: the fingerprint of the key that must fit, None where the bundle names none.
        certificates: in DER, the signer's first.
        key: the key itself in PEM, which versions before 1.1 gave; it only says which one it was.
    """

    payload: bytes
    signature: bytes
    method: str
    hint: str | None
    certificates: tuple[bytes, ...]
    key: bytes | None = None

    @property
    def fingerprint(self) -> str | None:
        """Return by what people tell signers apart: SHA-256 of the key's PEM form, or of the certificate."""
        shown_as = self.certificates[0] if self.certificates else self.key
        return self.hint if shown_as is None else hashlib.sha256(shown_as).hexdigest()


def read_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Raises:
        OSError: the file cannot be read.
        MalformedError: it is no bundle.
        UnsupportedError: it is one of a kind that is not known here.
    """
    if path.is_symlink() or not path.is_file():
        raise MalformedError("is not a regular file")
    with open_regular(path) as file:
        raw = file.read(MAXIMUM_SIZE + 1)
    if len(raw) > MAXIMUM_SIZE:
        raise UnsupportedError(f"a bundle of more than {MAXIMUM_SIZE >> 20} MiB, which is not read")
    bundle = strict_json(raw, "the file")
    media_type = field(bundle, "mediaType", str, "the file")
    if media_type != MEDIA_TYPE:
        if media_type.startswith(MEDIA_TYPES):
            raise UnsupportedError(f"a bundle of the type {shown(media_type)}")
        raise MalformedError(f"the file is of the type {shown(media_type)}")
    only(bundle, ("mediaType", "verificationMaterial", "dsseEnvelope", "messageSignature"), "the bundle")
    if "dsseEnvelope" not in bundle and "messageSignature" in bundle:
        raise UnsupportedError("a bundle that signs a digest and no statement")
    only(bundle, ("mediaType", "verificationMaterial", "dsseEnvelope"), "the bundle")
    payload, signature = _envelope(field(bundle, "dsseEnvelope", dict, "the bundle"))
    return Bundle(payload, signature, *_material(field(bundle, "verificationMaterial", dict, "the bundle")))


def write_bundle(payload: bytes, signature: bytes, fingerprint: str) -> dict[str, Any]:
    """Return the bundle of a signature with a key."""
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": fingerprint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def size_of_bundle(bundle: dict[str, Any]) -> int:
    """Return how large the file of a bundle will be at most."""
    return len(json.dumps(bundle, indent=2)) + 1


def encoded(payload: bytes) -> bytes:
    """Return what DSSE signs: type and payload with their lengths, so that neither can be taken for the other."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _envelope(envelope: dict[str, Any]) -> tuple[bytes, bytes]:
    only(envelope, ("payload", "payloadType", "signatures"), "the envelope")
    kind = field(envelope, "payloadType", str, "the envelope")
    if kind != PAYLOAD_TYPE:
        raise MalformedError(f"signs something else than a model: {shown(kind)}")
    signatures = field(envelope, "signatures", list, "the envelope")
    if len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise MalformedError("the envelope has not exactly one signature")
    only(signatures[0], ("sig", "keyid"), "the signature")
    return (
        _decoded(field(envelope, "payload", str, "the envelope"), "the statement"),
        _decoded(field(signatures[0], "sig", str, "the envelope"), "the signature"),
    )


def _material(material: dict[str, Any]) -> tuple[str, str | None, tuple[bytes, ...], bytes | None]:
    """Return the method, the hint, the certificates and the key."""
    ways = ("publicKey", "x509CertificateChain", "certificate")
    only(material, (*ways, "tlogEntries", "timestampVerificationData"), "the bundle")
    found = [way for way in ways if material.get(way) is not None]
    if len(found) != 1:
        raise MalformedError("the bundle does not say by exactly one key or certificate how it was made")
    inner = field(material, found[0], dict, "the bundle")
    if found == ["publicKey"]:
        only(inner, ("hint", "rawBytes", "keyDetails"), "the bundle")
        hint = inner.get("hint")
        if hint is not None and not isinstance(hint, str):
            raise MalformedError("the bundle has a hint that is no text")
        raw = inner.get("rawBytes")
        return "key", hint or None, (), _decoded(raw, "the key") if isinstance(raw, str) else None
    if found == ["certificate"]:
        return "keyless", None, (_certificate(inner),), None
    only(inner, ("certificates",), "the bundle")
    chain = tuple(map(_certificate, field(inner, "certificates", list, "the bundle")))
    if not chain:
        raise MalformedError("the bundle has a chain without certificates")
    return ("keyless" if material.get("tlogEntries") else "certificate"), None, chain, None


def _certificate(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise MalformedError("the bundle has a certificate of another type than the format's")
    only(value, ("rawBytes",), "a certificate of the bundle")
    return _decoded(field(value, "rawBytes", str, "a certificate of the bundle"), "a certificate")


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(f"holds {what} in something else than base64") from None
