"""What lies in a checkpoint, held against what was signed."""

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from reprotui.checkpoints.signature.statement import Pieces, Statement, covers
from reprotui.checkpoints.signature.strict import UnsupportedError
from reprotui.integrity.files import Progress, each_file, name_problem, order, read_file, walk
from reprotui.integrity.manifest import Manifest
from reprotui.integrity.status import Finding, IntegrityError, Status

NAMED = 4
"""Paths that a sentence names before it counts."""


def hold_manifest(statement: Statement, manifest: Manifest, signature: str, beside: Collection[str]) -> list[Finding]:
    """Hold a manifest against what was signed; only its files where the signature is by another hash."""

    def tampered(message: str) -> list[Finding]:
        return [Finding(Status.TAMPERED, signature, message)]

    recorded = {
        entry.path: ((0, None, entry.sha256),)
        for entry in manifest.files
        if entry.path not in beside and not covers(statement.ignored, entry.path)
    }
    if statement.plain and statement.files != recorded:
        differing = {name for name in {*statement.files, *recorded} if statement.files.get(name) != recorded.get(name)}
        return tampered(f"signs other files than those recorded: {some(sorted(differing, key=order))}")
    if statement.ours and statement.ours != ours(manifest):
        return tampered("signs another identity or content than the manifest records")
    return []


def hold_files(
    checkpoint: Path, statement: Statement, beside: Collection[str], progress: Progress | None = None, *, follow: bool = False
) -> tuple[list[Finding], int]:
    """Hash what lies in a checkpoint by the method of the signature; return what differs, and the bytes that were read.

    Args:
        checkpoint: a directory or a file.
        statement: what was signed.
        beside: signatures that lie inside, and are no part of it.
        progress: called with bytes hashed.
        follow: read the files that symbolic links point to.
    """
    tree = walk(checkpoint, follow=follow)
    findings = [found for found in tree.findings if not covers(statement.ignored, found.path)]
    if not statement.files:
        findings.append(Finding(Status.UNCHECKED, ".", "the signature names no file"))
    refused_names = {name: problem for name in statement.files if (problem := name_problem(name)) is not None}
    for name, problem in refused_names.items():
        findings.append(Finding(Status.UNCHECKED, ascii(name), f"the signature names a file whose name {problem}"))
    there = [name for name in tree.files if name not in beside and not covers(statement.ignored, name)]
    refused = {found.path for found in tree.findings}
    for name in sorted(set(statement.files) - set(there) - refused - set(refused_names), key=order):
        findings.append(Finding(Status.MISSING, name, "this file is signed and not there"))
    size = 0

    def count(read: int) -> None:
        nonlocal size
        size += read
        if progress is not None:
            progress(read)

    try:
        for name, found in _digests(checkpoint, there, statement, count, follow):
            if isinstance(found, IntegrityError):
                findings.append(found.finding)
            elif name not in statement.files and found:
                findings.append(Finding(Status.EXTRA, name, "this file is there and was never signed"))
            elif name in statement.files and found != statement.files[name]:
                findings.append(Finding(Status.CORRUPT, name, f"its {statement.algorithm} is not the signed one"))
    except UnsupportedError as error:
        findings.append(Finding(Status.UNCHECKED, ".", f"the signature cannot be checked here: {error}"))
    return findings, size


def not_signed(checkpoint: Path, statement: Statement, beside: Collection[str], *, follow: bool = False) -> tuple[str, ...]:
    """Return what a signature leaves out of what lies there, in words for people."""
    tree = walk(checkpoint, follow=follow)
    left_out = _topmost([name for name in (*tree.files, *tree.directories) if covers(statement.ignored, name)])
    filled = {"/".join(parts[:end]) for name in tree.files for parts in [name.split("/")] for end in range(1, len(parts))}
    empty = [name for name in tree.directories if name not in filled and not covers(statement.ignored, name)]
    unnamed = [name for name in tree.files if name not in statement.files and name not in beside]
    unnamed = [name for name in unnamed if not covers(statement.ignored, name)]
    said = ["the time"]
    if left_out := [name for name in left_out if name not in beside]:
        said.append(f"what the signer left out: {some(left_out)}")
    if empty:
        said.append(f"empty folders: {some(_topmost(empty))}")
    if statement.shard_size is not None and unnamed:
        said.append(f"empty files: {some(unnamed)}")
    if not statement.ours:
        said.append("the step and the run")
    return tuple(said)


def _topmost(names: list[str]) -> list[str]:
    """Return the names without those that lie below another."""
    found = set(names)
    above = ((name, ("/".join(name.split("/")[:end]) for end in range(1, name.count("/") + 1))) for name in names)
    return [name for name, folders in above if found.isdisjoint(folders)]


def ours(manifest: Manifest) -> dict[str, Any]:
    """Return what reprotui signs besides the files."""
    from dataclasses import asdict

    return {"identity": asdict(manifest.identity), "content_digest": None if manifest.content is None else manifest.content.root}


def some(names: list[str]) -> str:
    """Return names for a sentence, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(name if name_problem(name) is None else ascii(name) for name in names[:NAMED]) + more


def _digests(
    checkpoint: Path, names: list[str], statement: Statement, progress: Progress, follow: bool
) -> Iterator[tuple[str, Pieces | IntegrityError]]:
    new = _hasher(statement.algorithm)

    def one(name: str, report: Progress | None) -> Pieces:
        cut = _Cut(new, statement.shard_size)
        read_file(checkpoint, name, cut.take, report, follow=follow)
        return cut.pieces()

    yield from zip(names, each_file(one, names, progress), strict=True)


def _hasher(algorithm: str) -> Any:
    if algorithm != "blake3":
        return getattr(hashlib, algorithm)
    try:
        import blake3
    except ImportError:
        raise UnsupportedError("it hashes by blake3, which needs the package of that name: pip install blake3") from None
    return blake3.blake3


class _Cut:
    """Hashes a file whole, or in shards of a size."""

    def __init__(self, new: Any, size: int | None) -> None:
        self._new, self._size = new, size
        self._hasher, self._start, self._end = new(), 0, 0
        self._pieces: list[tuple[int, int | None, str]] = []

    def take(self, view: memoryview) -> None:
        while len(view):
            room = len(view) if self._size is None else self._start + self._size - self._end
            self._hasher.update(view[:room])
            self._end += len(view[:room])
            view = view[room:]
            if self._size is not None and self._end == self._start + self._size:
                self._close()

    def pieces(self) -> Pieces:
        """Return the digests, once all was taken."""
        if self._size is None:
            return ((0, None, self._hasher.hexdigest()),)
        if self._end > self._start:
            self._close()
        return tuple(self._pieces)

    def _close(self) -> None:
        self._pieces.append((self._start, self._end, self._hasher.hexdigest()))
        self._hasher, self._start = self._new(), self._end
