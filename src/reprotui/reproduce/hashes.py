"""The hash of a checkpoint, of its files or its content, and a checkpoint held against one known from elsewhere."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError
from reprotui.integrity import Finding, IntegrityError, Progress, Result, Status
from reprotui.integrity.files import CHUNK, FileEntry, files_digest, hash_files, locate, walk
from reprotui.integrity.formats import digest_stored, open_checkpoint
from reprotui.reproduce.frameworks import require

HEX_DIGITS = {"sha256": 64, "sha512": 128, "blake2b": 128, "blake3": 64, "md5": 32}
"""The algorithms, with the length of their digests. md5 is broken: it is here to read manifests of others, not to make any."""


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a checkpoint is of, as far as its writer says: JSON values. Kept beside the manifest, and bound to it."""

    step: int | None = None
    seed: int | None = None
    framework: str | None = None
    description: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification(Result):
    """The outcome of a verification: its `status`, the findings, the digests. True in a condition only where VALID."""

    metadata: CheckpointMetadata | None = None

    def __bool__(self) -> bool:
        return self.status is Status.VALID

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {**super().to_json(), "metadata": None if self.metadata is None else asdict(self.metadata)}


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
    if algorithm != "sha256":
        return _hash_with(path, tree.files, algorithm, progress)
    entries: list[FileEntry] = []
    for entry in hash_files(path, tree.files, progress):
        if isinstance(entry, IntegrityError):
            raise entry
        entries.append(entry)
    return files_digest(entries) if path.is_dir() else entries[0].sha256


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


def _hash_with(path: Path, names: tuple[str, ...], algorithm: str, progress: Progress | None) -> str:
    make = _hasher(algorithm)
    root = make()
    for name in names:
        hasher = make()
        with locate(path, name).open("rb") as file:
            while chunk := file.read(CHUNK):
                hasher.update(chunk)
                if progress is not None:
                    progress(len(chunk))
        if not path.is_dir():
            return hasher.hexdigest()
        root.update(hasher.digest())
    return root.hexdigest()
