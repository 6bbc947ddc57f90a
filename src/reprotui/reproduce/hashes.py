"""The hash of a checkpoint, of its files or its content, and a checkpoint held against one known from elsewhere."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError
from reprotui.integrity import Finding, IntegrityError, Progress, Status
from reprotui.integrity.files import each_file, read_file, walk
from reprotui.integrity.formats import digest_stored, open_checkpoint
from reprotui.reproduce.checkpoint_metadata import Verification
from reprotui.reproduce.frameworks import require

HEX_DIGITS = {"sha256": 64, "sha512": 128, "blake2b": 128, "blake3": 64, "md5": 32}
"""The algorithms, with the length of their digests. md5 is broken: it is here to read manifests of others, not to make any."""


def compute_checkpoint_hash(
    path: Path | str, algorithm: str = "sha256", *, kind: str = "files", progress: Progress | None = None
) -> str:
    """Return the hash of a checkpoint in hexadecimal.

    Args:
        path: a file or a directory.
        algorithm: sha256, sha512, blake2b, blake3 (where installed), or md5 for comparing with old manifests.
        kind: `files`: of a file, what `sha256sum` and its like print; of a directory, the hash over the raw hashes of its
            files in path order. `content`: over path, dtype, shape and bits of every leaf, the same for the same state in
            any format (sha256 only).
        progress: called with the number of bytes since the last call.

    Raises:
        BadInputError: the path does not exist, or algorithm or kind is unknown.
        IntegrityError: something cannot be read, or is no plain file.
        FrameworkMissingError: blake3 is not installed.
    """
    path = existing(path)
    _check_algorithm(algorithm)
    if kind == "content":
        if algorithm != "sha256":
            raise BadInputError(f"a content hash is made with sha256, not {algorithm}")
        content, findings = digest_stored(open_checkpoint(path), progress)
        if findings:
            raise IntegrityError(findings[0])
        return content.root
    if kind != "files":
        raise BadInputError(f"kind is {kind!r}: expected files or content")
    tree = walk(path)
    if tree.findings:
        raise IntegrityError(tree.findings[0])
    make = _hasher(algorithm)

    def one(name: str, report: Progress | None) -> bytes:
        hasher = make()
        read_file(path, name, hasher.update, report)
        return hasher.digest()

    root = make()
    for digest in each_file(one, tree.files, progress):
        if isinstance(digest, IntegrityError):
            raise digest
        if not path.is_dir():
            return digest.hex()
        root.update(digest)
    return root.hexdigest()


def verify_checkpoint_integrity(
    path: Path | str, expected_hash: str, algorithm: str | None = None, *, progress: Progress | None = None
) -> Verification:
    """Hold a checkpoint against a hash that is known from elsewhere.

    Args:
        path: a file or a directory.
        expected_hash: in hexadecimal, as `compute_checkpoint_hash` gives it, or `ALGORITHM:HEX`.
        algorithm: sha256 unless given here or in the hash.
        progress: called with the number of bytes since the last call.

    Returns:
        VALID, CORRUPT, MISSING or UNREADABLE, with findings. True in a condition only where VALID.

    Raises:
        BadInputError: the expected hash is not one of that algorithm.
    """
    named, _, digest = expected_hash.strip().rpartition(":")
    if named and algorithm and named != algorithm:
        raise BadInputError(f"the hash names {named}, but {algorithm} was asked for")
    algorithm = named or algorithm or "sha256"
    _check_algorithm(algorithm)
    digest = digest.lower()
    if len(digest) != HEX_DIGITS[algorithm] or set(digest) - set("0123456789abcdef"):
        raise BadInputError(f"{digest!r} is no {algorithm}: expected {HEX_DIGITS[algorithm]} hexadecimal digits")
    path = Path(path)
    if not path.exists():
        return Verification(path, "files", (Finding(Status.MISSING, path.name, "is not there"),))
    try:
        found = compute_checkpoint_hash(path, algorithm, progress=progress)
    except IntegrityError as error:
        return Verification(path, "files", (error.finding,))
    if found != digest:
        message = f"{algorithm} is {found[:16]}…, expected was {digest[:16]}…"
        return Verification(path, "files", (Finding(Status.CORRUPT, path.name, message),))
    return Verification(path, "files", files=found)


def existing(path: Path | str) -> Path:
    """Return a path that exists; raise BadInputError for another one."""
    path = Path(path)
    if not path.exists():
        raise BadInputError(f"{path} does not exist")
    return path


def _check_algorithm(algorithm: str) -> None:
    if algorithm not in HEX_DIGITS:
        raise BadInputError(f"algorithm {algorithm!r} is unknown: expected one of {', '.join(HEX_DIGITS)}")


def _hasher(algorithm: str) -> Callable[[], Any]:
    if algorithm == "blake3":
        return require("blake3", "the algorithm blake3").blake3
    if algorithm == "md5":
        return lambda: hashlib.md5(usedforsecurity=False)
    return lambda: hashlib.new(algorithm)
