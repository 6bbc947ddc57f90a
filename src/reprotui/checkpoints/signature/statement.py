"""What is signed: an in-toto statement that names every file of a model with its digest.

Format: in-toto Statement v1 with the predicate https://model_signing/signature/v1.0, as the official tool model-signing
writes it. The predicate carries a field `reprotui` besides, which other tools pass over: identity and content digest.
"""

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from reprotui.checkpoints.signature.strict import MalformedError, UnsupportedError, field, shown, strict_json
from reprotui.integrity.files import FileEntry, files_digest, order

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
OLDER_PREDICATES = "https://model_signing/"
"""Begins the types of statements that model-signing wrote before its version 0.3."""
GIT_PATHS = (".git", ".gitattributes", ".github", ".gitignore")
"""What the official tool leaves out of a signature unless told otherwise, and so do we."""
_DIGITS = {"sha256": 64, "blake2b": 128, "blake3": 64}
_ALIASES = {"blake2": "blake2b"}

Pieces = tuple[tuple[int, int | None, str], ...]
"""The digests of a file: from byte, to byte, hexadecimal. One piece without an end is the whole file."""


@dataclass(frozen=True)
class Statement:
    """A statement that does not contradict itself.

    Attributes:
        name: of the model when it was signed; for people, renaming it changes nothing.
        algorithm: `sha256`, `blake2b` or `blake3`.
        shard_size: bytes that have a digest of their own, None where each file has one.
        files: the digests of each file by its path.
        ignored: paths that the signer left out, with everything below them.
        root: SHA-256 over all digests.
        ours: what reprotui adds; None in the signature of another tool.
    """

    name: str
    algorithm: str
    shard_size: int | None
    files: dict[str, Pieces]
    ignored: tuple[str, ...]
    root: str
    ours: dict[str, Any] | None

    @property
    def plain(self) -> bool:
        """Say whether the digests are those that a manifest records: SHA-256 of whole files."""
        return self.algorithm == "sha256" and self.shard_size is None


def write_statement(
    name: str, entries: Iterable[FileEntry], ignored: Collection[str], ours: dict[str, Any], *, allow_symlinks: bool
) -> bytes:
    """Return the statement about files, as the official tool would make it, with what is ours besides."""
    listed = sorted((entry for entry in entries if not covers(ignored, entry.path)), key=lambda entry: order(entry.path))
    serialization = {
        "method": "files", "hash_type": "sha256", "allow_symlinks": allow_symlinks, "ignore_paths": sorted(ignored),
    }  # fmt: skip
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": files_digest(listed)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": serialization,
            "resources": [{"name": entry.path, "algorithm": "sha256", "digest": entry.sha256} for entry in listed],
            **({"reprotui": ours} if ours else {}),
        },
    }
    return json.dumps(statement, ensure_ascii=False, separators=(",", ":")).encode()


def read_statement(payload: bytes) -> Statement:
    """Read a statement.

    Raises:
        MalformedError: it is none, or contradicts itself.
        UnsupportedError: it is made by a method that is not known here.
    """
    value = strict_json(payload, "its statement")
    kind, about = field(value, "_type", str, "its statement"), field(value, "predicateType", str, "its statement")
    if about != PREDICATE_TYPE and about.startswith(OLDER_PREDICATES):
        raise UnsupportedError(f"a statement of the type {shown(about)}, from before model-signing 0.3")
    if kind != STATEMENT_TYPE or about != PREDICATE_TYPE:
        raise MalformedError(f"signs something else than a model: a statement of the type {shown(about)}")
    name, root = _subject(field(value, "subject", list, "its statement"))
    predicate = field(value, "predicate", dict, "its statement")
    serialization = field(predicate, "serialization", dict, "its predicate")
    method = field(serialization, "method", str, "its serialization")
    if method not in ("files", "shards"):
        raise UnsupportedError(f"the serialization method {shown(method)}")
    named = field(serialization, "hash_type", str, "its serialization")
    algorithm = _ALIASES.get(named, named)
    if algorithm not in _DIGITS:
        raise UnsupportedError(f"the hash {shown(named)}")
    field(serialization, "allow_symlinks", bool, "its serialization")
    shard_size = _shard_size(serialization) if method == "shards" else None
    files = _files(field(predicate, "resources", list, "its predicate"), algorithm, shard_size, root)
    ignored = _ignored(serialization.get("ignore_paths", []))
    if both := [path for path in files if covers(ignored, path)]:
        raise MalformedError(f"contradicts itself: it leaves out {shown(both[0])} and lists it")
    ours = predicate.get("reprotui")
    if ours is not None and not isinstance(ours, dict):
        raise MalformedError("its predicate has a reprotui of another type than the format's")
    return Statement(name, algorithm, shard_size, files, ignored, root, ours)


def covers(ignored: Iterable[str], path: str) -> bool:
    """Say whether a path, or a folder that it lies in, is left out."""
    return any(left_out in (".", path) or path.startswith(left_out + "/") for left_out in ignored)


def inside(path: str) -> str | None:
    """Return a path below a model in its plain form, None where it leaves the model."""
    plain = PurePosixPath(path)
    return None if plain.is_absolute() or ".." in plain.parts else str(plain)


def _subject(subjects: list[Any]) -> tuple[str, str]:
    if len(subjects) != 1 or not isinstance(subjects[0], dict):
        raise MalformedError("its statement has not exactly one subject")
    name = field(subjects[0], "name", str, "its subject")
    root = field(field(subjects[0], "digest", dict, "its subject"), "sha256", str, "its subject")
    return name, _checked_digest(root, "sha256")


def _shard_size(serialization: dict[str, Any]) -> int:
    # A number in protobuf's JSON: 4.0 stands for 4.
    size = serialization.get("shard_size")
    if isinstance(size, bool) or not isinstance(size, int | float) or not 1 <= size < 2**53 or size != int(size):
        raise MalformedError("its serialization has no shard_size that is a whole number")
    return int(size)


def _files(resources: list[Any], algorithm: str, shard_size: int | None, root: str) -> dict[str, Pieces]:
    """Return the digests by path; the order of the list counts, because the root is made in it."""
    expected = algorithm if shard_size is None else f"{algorithm}-sharded-{shard_size}"
    hasher = hashlib.sha256()
    pieces: dict[str, list[tuple[int, int | None, str]]] = {}
    listed = set()
    for resource in resources:
        if not isinstance(resource, dict):
            raise MalformedError("its predicate lists something that is no file")
        name = field(resource, "name", str, "a file of its list")
        found = field(resource, "algorithm", str, "a file of its list")
        if found != expected:
            raise MalformedError(f"contradicts itself: it hashes by {expected}, and {shown(name)} by {shown(found)}")
        if name in listed:
            raise MalformedError(f"lists {shown(name)} twice")
        listed.add(name)
        digest = _checked_digest(field(resource, "digest", str, "a file of its list"), algorithm)
        hasher.update(bytes.fromhex(digest))
        path, start, end = (name, 0, None) if shard_size is None else _shard(name)
        pieces.setdefault(path, []).append((start, end, digest))
    if hasher.hexdigest() != root:
        raise MalformedError("contradicts itself: the digests of the files, in their order, do not give the digest of the model")
    return {path: tuple(sorted(found, key=lambda piece: piece[0])) for path, found in pieces.items()}


def _shard(name: str) -> tuple[str, int, int]:
    path, *ends = name.rsplit(":", 2)
    if len(ends) != 2 or not all(end.isascii() and end.isdigit() and len(end) < 20 for end in ends):
        raise MalformedError(f"lists {shown(name)}, which is no part of a file")
    return path, int(ends[0]), int(ends[1])


def _ignored(paths: Any) -> tuple[str, ...]:
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise MalformedError("its serialization has ignore_paths of another type than the format's")
    return tuple(sorted({plain for path in paths if (plain := inside(path)) is not None}))


def _checked_digest(text: str, algorithm: str) -> str:
    if len(text) != _DIGITS[algorithm] or set(text) - set("0123456789abcdef"):
        raise MalformedError(f"has a digest that is not {_DIGITS[algorithm]} hexadecimal digits")
    return text
