"""Checkpoints of runs: what is there, whether it is what was saved, how two of them differ, and going on from one.

Reading needs no framework: `listing`, `verify`, `diff`, `registry`, `sign`, `damage`, `prune`, `restore` (numpy arrays) and
`origin`. `save` and `orbax_v0` run inside a worker. To save now, send a run the command `save`; to go on from a checkpoint,
see `reprotui.race.resume`, which starts the worker.
"""

from reprotui.checkpoints.diff import CheckpointDifference, diff_checkpoints
from reprotui.checkpoints.listing import ListedCheckpoint, latest_good, list_checkpoints
from reprotui.checkpoints.origin import Origin, find_origin
from reprotui.checkpoints.prune import Pruned, prune
from reprotui.checkpoints.verify import verify_checkpoint

__all__ = [
    "CheckpointDifference",
    "ListedCheckpoint",
    "Origin",
    "Pruned",
    "diff_checkpoints",
    "find_origin",
    "latest_good",
    "list_checkpoints",
    "prune",
    "verify_checkpoint",
]
