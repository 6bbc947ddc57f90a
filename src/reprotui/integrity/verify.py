"""A checkpoint held against what was recorded of it: its files, and its leaves as they are read back.

What both verifiers share: `checkpoints/verify`, which knows runs, registries and signatures, and the one for scripts.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from reprotui.integrity.content import ContentDigest, compare_digests, compare_specs
from reprotui.integrity.files import SINGLE_FILE, Progress
from reprotui.integrity.formats import StoredCheckpoint, StoredLeaf, digest_stored, open_checkpoint
from reprotui.integrity.status import Finding, IntegrityError, Status

Visit = Callable[[StoredLeaf, Any], None]


def content_as_found(path: Path, progress: Progress | None = None) -> ContentDigest | None:
    """Digest the leaves of a checkpoint as it lies there, to be recorded; None where its format, or a part of it, is not known.

    Raises:
        IntegrityError: it is damaged, or not the state whose digest its writer stored inside.
    """
    try:
        stored = open_checkpoint(path)
    except IntegrityError as error:
        if error.finding.status is Status.UNCHECKED:
            return None
        raise
    content, findings = digest_stored(stored, progress)
    if findings:
        raise IntegrityError(findings[0])
    if stored.recorded is not None and stored.recorded != content:
        raise IntegrityError(Finding(Status.CORRUPT, path.name, "is not the state that was saved into it"))
    return None if stored.unread else content


def check_leaves(
    stored: StoredCheckpoint, recorded: ContentDigest | None, progress: Progress | None = None, visit: Visit | None = None
) -> tuple[ContentDigest, list[Finding]]:
    """Read the leaves of a checkpoint back and hold them against the recorded ones; return their digests and the findings.

    Args:
        stored: the checkpoint.
        recorded: what its leaves should be; None where nobody recorded it, and only reading can fail.
        progress: called with bytes read.
        visit: called with each leaf and its elements.
    """
    leaves = {leaf.spec.path: leaf for leaf in stored.leaves}
    findings: list[Finding] = []
    readable = stored.leaves
    if recorded is not None:
        unread = {finding.leaf for finding in stored.unread}
        wrong = compare_specs(recorded, {path: leaf.spec for path, leaf in leaves.items()}, lambda path: _place(leaves, path))
        findings += [finding for finding in wrong if finding.leaf not in unread]
        # A damaged shape could ask for more memory than there is: read is what has the recorded one.
        known = {leaf.spec for leaf in recorded.leaves}
        readable = tuple(leaf for leaf in stored.leaves if leaf.spec in known)
    content, failed = digest_stored(replace(stored, leaves=readable), progress, visit)
    findings += failed
    if recorded is not None:
        findings += compare_digests(recorded, content, lambda path: _place(leaves, path))
    return content, [_located(finding, leaves) for finding in findings]


def of_checkpoint(findings: list[Finding], path: Path) -> list[Finding]:
    """Return findings in which the one file of a checkpoint has the checkpoint's name: the file is the checkpoint."""
    return [replace(found, path=path.name) if found.path == SINGLE_FILE else found for found in findings]


def _place(leaves: dict[str, StoredLeaf], path: str) -> str:
    return leaves[path].place if path in leaves else SINGLE_FILE


def _located(finding: Finding, leaves: dict[str, StoredLeaf]) -> Finding:
    """Return a finding with the first byte of its leaf, where the format says where that lies."""
    leaf = leaves.get(finding.leaf or "")
    return finding if leaf is None or finding.offset is not None else replace(finding, offset=leaf.offset)
