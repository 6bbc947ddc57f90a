"""Digests: SHA-256 over files (the bytes on disk are those that were written) and over content (the same state).

Knows formats and bytes, no framework.
"""

from reprotui.integrity.content import ContentDigest, LeafDigest, content_from_json, content_to_json, digest_leaf, digest_state
from reprotui.integrity.digest import content_digest, file_digest, leaf_digest
from reprotui.integrity.files import FileEntry, Progress, sync_tree
from reprotui.integrity.manifest import (
    Identity,
    Manifest,
    build_manifest,
    check_files,
    identity_of_run,
    manifest_path,
    read_manifest,
    write_manifest,
)
from reprotui.integrity.status import Finding, IntegrityError, Result, Status

__all__ = [
    "ContentDigest",
    "FileEntry",
    "Finding",
    "Identity",
    "IntegrityError",
    "LeafDigest",
    "Manifest",
    "Progress",
    "Result",
    "Status",
    "build_manifest",
    "check_files",
    "content_digest",
    "content_from_json",
    "content_to_json",
    "digest_leaf",
    "digest_state",
    "file_digest",
    "identity_of_run",
    "leaf_digest",
    "manifest_path",
    "read_manifest",
    "sync_tree",
    "write_manifest",
]
