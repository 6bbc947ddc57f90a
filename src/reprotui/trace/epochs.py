"""When the data of a run began anew: an event of an observer, and what a reader makes of it."""

import itertools
import re
from dataclasses import dataclass

from reprotui.trace.reader import Trace

KIND = "epoch"
_TEXT = re.compile(r"loader (\d+) of (\d+) batches begins after step (\d+)")


@dataclass(frozen=True)
class Epochs:
    """After which steps the training's loader began; at least two of them."""

    begins: tuple[int, ...]

    def place(self, step: int) -> tuple[int, int] | None:
        """Return in which epoch a step is and at which place in it, both counted from 1; None before the first one."""
        before = [begin for begin in self.begins if begin < step]
        if not before:
            return None
        # Behind the last one that is known, epochs are as long as they were.
        length = self.begins[1] - self.begins[0]
        more, place = divmod(step - 1 - before[-1], length)
        return len(before) + more, place + 1


def text_of(loader: int, batches: int, step: int) -> str:
    """Return the text of an event."""
    return f"loader {loader} of {batches} batches begins after step {step}"


def epochs_of(trace: Trace) -> Epochs | None:
    """Return the epochs of a run; None where no loader was seen to begin twice, evenly, as the one that trains does.

    The training's loader gives as many batches as there are steps in an epoch, or a multiple where gradients are accumulated; an
    evaluation's, which may begin as regularly, does not.
    """
    begins: dict[tuple[int, int], list[int]] = {}
    for event in trace.events(0):
        if event.kind == KIND and (found := _TEXT.fullmatch(event.text)):
            loader, batches, step = map(int, found.groups())
            begins.setdefault((loader, batches), []).append(step)
    fitting = []
    for (_, batches), steps in begins.items():
        steps = sorted(set(steps))
        gaps = {later - earlier for earlier, later in itertools.pairwise(steps)}
        if len(gaps) == 1 and (gap := gaps.pop()) > 1 and batches % gap == 0:
            fitting.append((batches, tuple(steps)))
    return Epochs(max(fitting)[1]) if fitting else None
