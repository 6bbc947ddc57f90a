"""Formats of checkpoints, read without the framework that wrote them: Orbax, PyTorch's `.pt`, safetensors, npz."""

from reprotui.integrity.formats.detect import open_checkpoint
from reprotui.integrity.formats.stored import StoredCheckpoint, StoredLeaf, digest_stored

__all__ = ["StoredCheckpoint", "StoredLeaf", "digest_stored", "open_checkpoint"]
