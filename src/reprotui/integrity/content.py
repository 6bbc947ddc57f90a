"""Content digests of a whole state: one digest a leaf and one over all, equal for the same state in any format."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from reprotui.checksum import LeafSpec
from reprotui.integrity.digest import leaf_digest
from reprotui.integrity.status import Finding, Status

T = TypeVar("T")


@dataclass(frozen=True)
class LeafDigest:
    """A leaf as recorded: path, dtype, shape, and the SHA-256 that `leaf_digest` defines, in hexadecimal."""

    spec: LeafSpec
    sha256: str


@dataclass(frozen=True)
class ContentDigest:
    """The digests of a state's leaves, sorted by path."""

    leaves: tuple[LeafDigest, ...]

    @property
    def root(self) -> str:
        """Return the content digest of the state, as `content_digest` defines it."""
        hasher = hashlib.sha256()
        for leaf in self.leaves:
            hasher.update(bytes.fromhex(leaf.sha256))
        return hasher.hexdigest()


def digest_state(leaves: Iterable[tuple[LeafSpec, Any]]) -> ContentDigest:
    """Digest a state that is in memory.

    Args:
        leaves: path, dtype and shape of each, and its elements as a numpy array (of a PRNG key, its `key_data`).
    """
    return collect(digest_leaf(spec, array) for spec, array in leaves)


def digest_leaf(spec: LeafSpec, array: Any) -> LeafDigest:
    """Digest one leaf from a numpy array of its elements, in any memory layout and byte order."""
    return LeafDigest(spec, leaf_digest(spec, raw_bytes(array)).hex())


def collect(leaves: Iterable[LeafDigest]) -> ContentDigest:
    """Put digests of leaves together, in any order."""
    return ContentDigest(tuple(sorted(leaves, key=lambda leaf: (leaf.spec.path, leaf.sha256))))


def raw_bytes(array: Any) -> memoryview:
    """Return an array's elements as little-endian bytes in C order, without a copy where they are that already."""
    array = np.asarray(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def compare_content(recorded: ContentDigest, found: ContentDigest, place: Callable[[str], str] = str) -> list[Finding]:
    """Say how the content of what is there differs from what was recorded.

    Args:
        recorded, found: the digests.
        place: gives the file or directory in which the leaf of a path lies, to be named in the findings.

    Returns:
        A finding for each leaf that is missing, extra, of another dtype or shape, or of other bits. A leaf that was
        renamed is one missing and one extra.
    """
    before = {leaf.spec.path: leaf for leaf in recorded.leaves}
    after = {leaf.spec.path: leaf for leaf in found.leaves}
    findings = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if new is None:
            finding = Status.MISSING, "the leaf is recorded and not there"
        elif old is None:
            finding = Status.EXTRA, "the leaf is there and was never recorded"
        elif old.spec != new.spec:
            finding = Status.CORRUPT, f"is {describe(new.spec)}, recorded as {describe(old.spec)}"
        elif old.sha256 != new.sha256:
            finding = Status.CORRUPT, f"content {new.sha256[:16]}…, recorded as {old.sha256[:16]}…"
        else:
            continue
        findings.append(Finding(finding[0], place(path), finding[1], leaf=path))
    return findings


def content_to_json(content: ContentDigest) -> dict[str, Any]:
    """Return a content digest as the JSON object that stands in manifests, and in the checkpoint's item `integrity`."""
    leaves = [[leaf.spec.path, leaf.spec.dtype, list(leaf.spec.shape), leaf.sha256] for leaf in content.leaves]
    return {"content_digest": content.root, "leaves": leaves}


def content_from_json(value: Mapping[str, Any]) -> ContentDigest:
    """Read what `content_to_json` gave; raise ValueError, TypeError or KeyError where it is anything else."""
    content = collect(
        LeafDigest(
            LeafSpec(checked(path, str), checked(dtype, str), tuple(checked(size, int) for size in shape)), checked_sha256(digest)
        )
        for path, dtype, shape, digest in value["leaves"]
    )
    if content_to_json(content) != {name: value[name] for name in ("content_digest", "leaves")}:
        raise ValueError("the leaves do not give the content digest")
    return content


def checked(value: Any, kind: type[T]) -> T:
    """Return a value of JSON if it is of exactly this type; raise TypeError otherwise."""
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:40]!r} is no {kind.__name__}")
    return value


def checked_sha256(value: Any) -> str:
    """Return a SHA-256 in hexadecimal if it is one; raise ValueError otherwise."""
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError(f"{str(value)[:80]!r} is no SHA-256 in hexadecimal")
    return value


def describe(spec: LeafSpec) -> str:
    """Return dtype and shape as they are shown: `float32[3,4]`."""
    return f"{spec.dtype}[{','.join(map(str, spec.shape))}]"
