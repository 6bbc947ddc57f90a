"""The one place that calls Orbax: its v0 API, synchronously, in the thread that calls.

v1 still renames functions and directories between releases; reading (`reprotui.integrity.formats`) knows both layouts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

STATE = "state"
"""The item with arrays; everything else of a checkpoint is JSON."""


def write(path: Path, arrays: Mapping[str, Any], items: Mapping[str, Any]) -> None:
    """Write a step directory: to a temporary name, then renamed, so that it is there whole or not at all.

    `CheckpointManager` is left out on purpose: its cache keeps a step whose commit failed, and then skips saves without a
    word (AI-Hypercomputer/maxtext#5260). Scheduling and pruning are ours.

    Args:
        path: the directory, named by its step; it must not exist.
        arrays: nested dicts of numpy arrays, and of jax arrays for typed keys.
        items: JSON objects by name.

    Raises:
        OSError, ValueError: Orbax's own.
    """
    # Its parent exists, and TensorStore takes no path with `..` in it.
    path = path.parent.resolve() / path.name
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        json_items = {name: ocp.args.JsonSave(value) for name, value in items.items()}
        checkpointer.save(path, args=ocp.args.Composite(**{STATE: ocp.args.StandardSave(arrays)}, **json_items))
