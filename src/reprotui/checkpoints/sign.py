"""Signatures in the OpenSSF model-signing format: an in-toto statement in a DSSE envelope in a Sigstore bundle.

Formats: in-toto Statement v1, DSSE v1 (https://github.com/secure-systems-lab/dsse), Sigstore bundle v0.3 with a public
key, predicate https://model_signing/signature/v1.0. Keys are EC keys in PEM files; no network is asked. Needs the extra
`sign` (cryptography).
"""

import base64
import binascii
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reprotui.checkpoints.places import signature_path
from reprotui.errors import BadInputError
from reprotui.integrity.files import FileEntry, files_digest
from reprotui.integrity.manifest import Identity, Manifest, build_manifest, manifest_path, read_manifest
from reprotui.integrity.status import Finding, IntegrityError, Status
from reprotui.regular import read_regular
from reprotui.run_directory import write_json

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAXIMUM_SIZE = 256 << 20
"""A larger file is no signature."""


def sign_checkpoint(checkpoint: Path, private_key: Path, password: bytes | None = None) -> Path:
    """Sign the files of a registered checkpoint; return the bundle, which lies beside it.

    The statement also carries the identity and the content digest of the manifest; other tools pass over them. What is
    signed are the digests of the manifest: verify the checkpoint first.

    Args:
        checkpoint: a directory or a file with a manifest.
        private_key: an EC private key (P-256, P-384 or P-521) in a PEM file.
        password: of the key, where it is encrypted.

    Raises:
        IntegrityError: there is no manifest, or it is damaged.
        BadInputError: the key cannot be used, or cryptography is not installed.
    """
    manifest, _ = read_manifest(manifest_path(checkpoint))
    key = _load(private_key, password, private=True)
    payload = json.dumps(_statement(checkpoint, manifest), ensure_ascii=False, indent=1).encode()
    signature = key.sign(_encoded(payload), _algorithm(key))
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": _hint(key.public_key())}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    path = signature_path(checkpoint)
    write_json(path, bundle)
    return path


def check_signature(checkpoint: Path, public_key: Path) -> list[Finding]:
    """Hold the signature beside a checkpoint against a public key and against the manifest.

    Returns:
        Nothing where the signature is made with that key over exactly the recorded files; else one finding, TAMPERED.
        That the files are the recorded ones is for the level `files` to say.

    Raises:
        BadInputError: the key cannot be used, or cryptography is not installed.
    """
    key = _load(public_key, None, private=False)
    path = signature_path(checkpoint)

    def tampered(message: str) -> list[Finding]:
        return [Finding(Status.TAMPERED, path.name, message)]

    if path.is_symlink() or not path.is_file():
        return tampered("there is no signature: it was never signed, or the signature was taken away")
    try:
        payload, signature, hint = _parse(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return tampered(f"is no signature of a model ({str(error)[:120] or type(error).__name__})")
    if hint != _hint(key):
        return tampered("was made with another key")
    if not _verifies(key, signature, payload):
        return tampered("does not fit what it claims to sign")
    try:
        statement = json.loads(payload)
        signed, root = _signed(statement)
        ours = statement["predicate"].get("reprotui")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return tampered(f"signs something else ({str(error)[:120] or type(error).__name__})")
    try:
        manifest, _ = read_manifest(manifest_path(checkpoint))
    except IntegrityError:
        manifest = build_manifest(checkpoint, Identity())
    recorded = {entry.path: entry.sha256 for entry in manifest.files}
    if signed != recorded or root != manifest.files_digest:
        names = sorted(name for name in {*signed, *recorded} if signed.get(name) != recorded.get(name))
        return tampered(f"signs other files than those recorded: {', '.join(names[:4]) or 'in another order'}")
    if ours is not None and ours != _ours(manifest):
        return tampered("signs another identity or content than the manifest records")
    return []


def _statement(checkpoint: Path, manifest: Manifest) -> dict[str, Any]:
    resources = [{"name": entry.path, "algorithm": "sha256", "digest": entry.sha256} for entry in manifest.files]
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": checkpoint.name, "digest": {"sha256": manifest.files_digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"serialization": serialization, "resources": resources, "reprotui": _ours(manifest)},
    }


def _ours(manifest: Manifest) -> dict[str, Any]:
    return {"identity": asdict(manifest.identity), "content_digest": None if manifest.content is None else manifest.content.root}


def _signed(statement: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Return the files that a statement names, and their root; raise ValueError where it contradicts itself."""
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise ValueError(f"a statement of type {statement['predicateType']}")
    (subject,) = statement["subject"]
    files = {}
    for resource in statement["predicate"]["resources"]:
        if resource["algorithm"] != "sha256":
            raise ValueError(f"a digest of type {resource['algorithm']}")
        files[resource["name"]] = resource["digest"]
    root = subject["digest"]["sha256"]
    if files_digest(FileEntry(name, 0, digest) for name, digest in files.items()) != root:
        raise ValueError("the digests of the files do not give the root")
    return files, root


def _parse(path: Path) -> tuple[bytes, bytes, str]:
    if path.stat().st_size > MAXIMUM_SIZE:
        raise ValueError("too large")
    bundle = json.loads(read_regular(path))
    envelope = bundle["dsseEnvelope"]
    if bundle["mediaType"] != MEDIA_TYPE or envelope["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"media type {bundle['mediaType']}, payload {envelope['payloadType']}")
    (signature,) = envelope["signatures"]
    try:
        payload, raw = (base64.b64decode(text, validate=True) for text in (envelope["payload"], signature["sig"]))
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None
    return payload, raw, bundle["verificationMaterial"]["publicKey"]["hint"]


def _encoded(payload: bytes) -> bytes:
    """Return what DSSE signs: type and payload with their lengths, so that neither can be taken for the other."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _load(path: Path, password: bytes | None, *, private: bool) -> Any:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise BadInputError('signatures need the package cryptography: pip install "reprotui[sign]"') from None
    kind = "private" if private else "public"
    try:
        raw = read_regular(path)
        key = serialization.load_pem_private_key(raw, password) if private else serialization.load_pem_public_key(raw)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInputError(f"{path} is not a {kind} key in PEM that can be used: {str(error).splitlines()[0][:120]}") from None
    wanted = ec.EllipticCurvePrivateKey if private else ec.EllipticCurvePublicKey
    if not isinstance(key, wanted) or key.curve.key_size not in (256, 384, 521):
        raise BadInputError(f"{path} is not an EC key on P-256, P-384 or P-521")
    return key


def _algorithm(key: Any) -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    sizes: dict[int, Any] = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}
    return ec.ECDSA(sizes[key.curve.key_size]())


def _verifies(key: Any, signature: bytes, payload: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, _encoded(payload), _algorithm(key))
    except InvalidSignature:
        return False
    return True


def _hint(key: Any) -> str:
    """Return by which a bundle names its key: SHA-256 of its PEM form."""
    from cryptography.hazmat.primitives import serialization

    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()
