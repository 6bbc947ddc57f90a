"""Digests: SHA-256 over files (the bytes on disk are those that were written) and over content (the same state).

Knows formats and bytes, no framework.
"""

from reprotui.integrity.digest import content_digest, file_digest, leaf_digest

__all__ = ["content_digest", "file_digest", "leaf_digest"]
