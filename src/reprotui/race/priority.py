"""Whoever watches runs gives way to them: on a busy machine a dashboard at their priority costs them a tenth of their steps.

Niceness belongs to a thread on Linux and is inherited by what a thread starts, and it cannot be taken back: so workers are
started from a thread that was there before.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

NICENESS = 10
"""A tenth of a run's weight where both want the processor; all of it where the processor is free."""

Result = TypeVar("Result")

_starter: ThreadPoolExecutor | None = None


def give_way() -> None:
    """Lower the priority of this thread, and of all that it starts from now on, below that of workers; on Linux only."""
    global _starter
    if _starter is not None or not sys.platform.startswith("linux"):
        return
    _starter = ThreadPoolExecutor(1, "reprotui-start")
    _starter.submit(os.getpid).result()  # the thread is there now, with the priority of before
    os.nice(NICENESS)


def at_full_priority(call: Callable[[], Result]) -> Result:
    """Call something that starts a process, which then has the priority from before `give_way`."""
    return call() if _starter is None else _starter.submit(call).result()
