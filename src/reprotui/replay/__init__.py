"""The exact state of any step of any run, rebuilt from the nearest checkpoint and checked against the trace on the way.

The caller's side loads no framework: a process of its own trains, and the state is read back with numpy.
"""

from reprotui.replay.differences import StateDifference, compare_states
from reprotui.replay.plan import Plan
from reprotui.replay.replay import RepeatOutcome, Unfaithful, replay_step
from reprotui.replay.stored import ReplayedLeaf, ReplayedState, cached_states

__all__ = [
    "Plan",
    "RepeatOutcome",
    "ReplayedLeaf",
    "ReplayedState",
    "StateDifference",
    "Unfaithful",
    "cached_states",
    "compare_states",
    "replay_step",
]
