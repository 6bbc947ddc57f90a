"""A checkpoint as it lies on the disk, whatever its format: leaves that can be read one by one."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from reprotui.checksum import LeafSpec
from reprotui.checksum.leaves import plain_leaf
from reprotui.integrity.content import ContentDigest, LeafDigest, collect, digest_leaf
from reprotui.integrity.files import Progress
from reprotui.integrity.status import Finding, IntegrityError, Status

READERS = min(3, os.cpu_count() or 1)
"""Leaves read and hashed at once: decompression and SHA-256 release the interpreter, and memory holds as many leaves."""


@dataclass(frozen=True)
class StoredLeaf:
    """A leaf that can be read.

    Attributes:
        spec: path, dtype and shape.
        place: the file or directory within the checkpoint that holds it.
        offset: its first byte there, where known.
        reader: see `read`.
    """

    spec: LeafSpec
    place: str
    offset: int | None
    reader: Callable[[], NDArray[Any]]

    def read(self) -> NDArray[Any]:
        """Read its elements as a numpy array: of a PRNG key its `key_data`, of text its UTF-8 bytes.

        Raises:
            IntegrityError: it cannot be read, or its format's own checksum does not fit; the finding names the leaf.
        """
        try:
            return self.reader()
        except IntegrityError as error:
            raise IntegrityError(self._named(error.finding)) from None
        except OSError as error:
            raise self.error(Status.UNREADABLE, f"cannot be read: {error.strerror or error}") from None
        except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            raise self.error(Status.CORRUPT, f"cannot be decoded: {first_line(error)}") from None

    def error(self, status: Status, message: str) -> IntegrityError:
        """Return an error whose finding names this leaf."""
        return IntegrityError(Finding(status, self.place, message, self.spec.path, self.offset))

    def _named(self, finding: Finding) -> Finding:
        return Finding(finding.status, finding.path, finding.message, self.spec.path, finding.offset)


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint whose structure was read.

    Attributes:
        path: where it lies.
        format: `orbax`, `torch`, `safetensors` or `npz`.
        leaves: its leaves.
        checksummed: whether the format itself carries a checksum over every leaf's bytes that reading checks.
        recorded: the content digest that the writer stored inside, None where there is none.
        unsafe: names of what loading would call and what is never called here (`os.system`).
        unread: findings on parts of the state that are there and cannot be read as leaves.
    """

    path: Path
    format: str
    leaves: tuple[StoredLeaf, ...]
    checksummed: bool
    recorded: ContentDigest | None = None
    unsafe: tuple[str, ...] = ()
    unread: tuple[Finding, ...] = ()


def digest_stored(
    stored: StoredCheckpoint, progress: Progress | None = None, visit: Callable[[StoredLeaf, NDArray[Any]], None] | None = None
) -> tuple[ContentDigest, list[Finding]]:
    """Read every leaf once and digest it.

    Args:
        stored: the checkpoint.
        progress: called with the bytes of each leaf.
        visit: called with each leaf and its elements, on the thread that read it.

    Returns:
        The digests of the leaves that could be read, and a finding for each that could not.
    """

    def one(leaf: StoredLeaf) -> tuple[LeafDigest, int] | Finding:
        try:
            array = leaf.read()
        except IntegrityError as error:
            return error.finding
        if visit is not None:
            visit(leaf, array)
        return digest_leaf(leaf.spec, array), array.nbytes

    digests, findings = [], []
    for outcome in _in_order(one, stored.leaves):
        if isinstance(outcome, Finding):
            findings.append(outcome)
            continue
        digests.append(outcome[0])
        if progress is not None:
            progress(outcome[1])
    return collect(digests), findings


def _in_order(one: Callable[[StoredLeaf], Any], leaves: tuple[StoredLeaf, ...]) -> Iterator[Any]:
    with ThreadPoolExecutor(READERS) as pool:
        try:
            yield from pool.map(one, leaves)
        finally:
            pool.shutdown(cancel_futures=True)


def constant(path: str, place: str, value: Any) -> StoredLeaf | None:
    """Return a leaf for a plain Python value (`plain_leaf`), None where it is no leaf."""
    found = plain_leaf(path, value)
    return None if found is None else StoredLeaf(found[0], place, None, lambda: found[1])


def first_line(error: BaseException) -> str:
    """Return the beginning of an error's message: libraries put whole specifications into theirs."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
