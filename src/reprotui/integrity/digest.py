"""SHA-256 digests of files and of the content of training state."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from reprotui.checksum import LeafSpec

Buffer = bytes | bytearray | memoryview


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal, equal to what `sha256sum` prints."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def leaf_digest(spec: LeafSpec, data: Buffer) -> bytes:
    """Return the SHA-256 of one leaf: canonical JSON of path, dtype and shape, a newline, then its bits.

    Args:
        spec: path, dtype (a PRNG key's dtype names its implementation) and shape.
        data: the elements' bytes, little-endian, C order; bf16 and fp8 as raw bits, so that NaN payloads and -0.0 count.
    """
    header = json.dumps([spec.path, spec.dtype, list(spec.shape)], ensure_ascii=False, separators=(",", ":"))
    hasher = hashlib.sha256(header.encode() + b"\n")
    hasher.update(data)
    return hasher.digest()


def content_digest(leaves: Iterable[tuple[LeafSpec, Buffer]]) -> str:
    """Return the content digest of a state in hexadecimal: SHA-256 over the leaf digests, leaves sorted by path.

    Equal digests mean that path, dtype, shape and bits of every leaf are equal, whatever the format or layout they
    were stored in. The digest of a state without leaves is the SHA-256 of nothing.
    """
    digests = sorted((spec.path, leaf_digest(spec, data)) for spec, data in leaves)
    hasher = hashlib.sha256()
    for _, digest in digests:
        hasher.update(digest)
    return hasher.hexdigest()
