"""The Recorder: observes a training loop's state beside the step, never in it, and writes the trace."""

from reprotui.record.recorder import Recorder

__all__ = ["Recorder"]
