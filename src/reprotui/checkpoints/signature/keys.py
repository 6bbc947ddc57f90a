"""Keys: EC keys in PEM files, and whose signatures count. Needs the extra `sign` (cryptography); asks no network."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.checkpoints.signature.bundle import encoded
from reprotui.errors import BadInputError
from reprotui.regular import open_regular
from reprotui.run_directory import PASSWORD_VARIABLE

CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""The curves of the format, by name: others of the same size are other curves."""
MAXIMUM_SIZE = 1 << 20
"""A larger file holds no key and no chain of certificates."""


@dataclass(frozen=True)
class Signers:
    """Whose signatures count, and which signature is meant.

    Attributes:
        key: a public key; None where signatures with a key do not count.
        chain: certificates that the signer's must lead to; empty where signatures by certificate do not count.
        signature: the bundle; None for the one in its usual place.
        allow_symlinks: read files that symbolic links point to.
        flags: the same on a command line.
    """

    key: Any = None
    chain: tuple[Any, ...] = ()
    signature: Path | None = None
    allow_symlinks: bool = False
    flags: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """Say whether any signature counts."""
        return self.key is not None or bool(self.chain)


def load_key(path: Path, password: bytes | None, *, private: bool) -> Any:
    """Read a key.

    Raises:
        BadInputError: the file holds no such key on a curve of the format.
    """
    need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    kind = "private" if private else "public"
    raw = read_small(path)
    try:
        key = serialization.load_pem_private_key(raw, password) if private else serialization.load_pem_public_key(raw)
    except TypeError:  # what cryptography raises for a password too few or too many
        if password is None:
            raise BadInputError(f"{path} is encrypted: give its password in ${PASSWORD_VARIABLE}") from None
        return load_key(path, None, private=private)
    except (ValueError, UnsupportedAlgorithm):
        why = "the password does not fit, or it" if password is not None and b"ENCRYPTED" in raw else "it"
        raise BadInputError(f"{path} is not a {kind} key in PEM that can be used: {why} is damaged or of another form") from None
    if (problem := curve_problem(key)) is not None:
        raise BadInputError(f"{path} {problem}")
    return key


def curve_problem(key: Any) -> str | None:
    """Say why a key is none that the format takes; None where it is one."""
    curve = getattr(getattr(key, "curve", None), "name", None)
    if curve in CURVES:
        return None
    return f"is {'no EC key' if curve is None else f'a key on {curve}'}: the format takes EC keys on P-256, P-384 or P-521"


def read_small(path: Path) -> bytes:
    """Return the contents of a file of keys or certificates."""
    try:
        with open_regular(path) as file:
            raw = file.read(MAXIMUM_SIZE + 1)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > MAXIMUM_SIZE:
        raise BadInputError(f"{path} is larger than {MAXIMUM_SIZE >> 20} MiB: no key or certificate is")
    return raw


def fingerprint(key: Any) -> str:
    """Return the fingerprint of a public key: SHA-256 of its PEM form, which is that of the file that openssl writes."""
    from cryptography.hazmat.primitives import serialization

    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def signed(key: Any, payload: bytes) -> bytes:
    """Sign a payload with a private key."""
    return key.sign(encoded(payload), _algorithm(key))


def verifies(key: Any, signature: bytes, payload: bytes) -> bool:
    """Say whether a signature of a payload was made with a public key's private one."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, encoded(payload), _algorithm(key))
    except InvalidSignature:
        return False
    return True


def need_cryptography() -> None:
    """Raise where the package is not installed."""
    try:
        import cryptography.x509  # noqa: F401
    except ImportError:
        raise BadInputError('signatures need the package cryptography: pip install "reprotui[sign]"') from None


def _algorithm(key: Any) -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(getattr(hashes, CURVES[key.curve.name])())
