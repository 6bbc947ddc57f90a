"""Content digests of a whole state: one digest a leaf and one over all, equal for the same state in any format."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

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
    from reprotui.checksum.leaves import raw_bytes  # imports numpy, 60 ms that who only reads manifests need not wait

    return LeafDigest(spec, leaf_digest(spec, raw_bytes(array)).hex())


def collect(leaves: Iterable[LeafDigest]) -> ContentDigest:
    """Put digests of leaves together, in any order."""
    return ContentDigest(tuple(sorted(leaves, key=lambda leaf: (leaf.spec.path, leaf.sha256))))


def compare_specs(recorded: ContentDigest, specs: Mapping[str, LeafSpec], place: Callable[[str], str]) -> list[Finding]:
    """Say which leaves are missing, extra, or of another dtype or shape; a renamed one is missing and extra.

    Args:
        recorded: what should be there.
        specs: what is there, by path.
        place: gives the file or directory in which the leaf of a path lies, to be named in the findings.
    """

    def finding(status: Status, path: str, message: str) -> Finding:
        return Finding(status, place(path), message, path)

    before = {leaf.spec.path: leaf.spec for leaf in recorded.leaves}
    findings = []
    for path in sorted({*before, *specs}):
        if path not in specs:
            findings.append(finding(Status.MISSING, path, "the leaf is recorded and not there"))
        elif path not in before:
            findings.append(finding(Status.EXTRA, path, "the leaf is there and was never recorded"))
        elif before[path] != specs[path]:
            message = f"is {describe(specs[path])}, recorded as {describe(before[path])}"
            findings.append(finding(Status.CORRUPT, path, message))
    return findings


def compare_digests(recorded: ContentDigest, found: ContentDigest, place: Callable[[str], str]) -> list[Finding]:
    """Say which leaves that are on both sides have other bits; see `compare_specs` for the arguments."""
    before = {leaf.spec.path: leaf.sha256 for leaf in recorded.leaves}
    findings = []
    for leaf in found.leaves:
        path = leaf.spec.path
        if before.get(path, leaf.sha256) != leaf.sha256:
            message = f"content is {leaf.sha256[:16]}…, recorded was {before[path][:16]}…"
            findings.append(Finding(Status.CORRUPT, place(path), message, path))
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
