"""When torch's data loaders begin anew: what an epoch is, for who asks later where in one a resumed run went on."""

import weakref
from collections.abc import Callable
from typing import Any

from reprotui.observe.watch import Watch
from reprotui.trace.epochs import KIND, text_of

TOLD = 1000
"""Beginnings that are written down; a loader that is asked for one batch at a time begins at every step."""


class Epochs:
    """The loaders of a process, numbered as they first begin.

    Args:
        number: gives how many steps were taken.
    """

    def __init__(self, watch: Watch, number: Callable[[], int]) -> None:
        self._watch, self._number = watch, number
        self._loaders: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._pending: list[str] = []
        self._told = 0

    def begins(self, loader: Any) -> None:
        """Note that a loader begins; the training goes on whatever comes of it."""
        try:
            self._note(loader)
        except Exception:
            self._told = TOLD  # a loader of the script's own that tells nothing of itself

    def _note(self, loader: Any) -> None:
        session = self._watch.session
        if self._told >= TOLD or not self._watch.options.record:
            return
        try:
            batches = len(loader)
        except TypeError:  # of a stream nobody knows it
            return
        number = self._loaders.setdefault(loader, len(self._loaders) + 1)
        self._told += 1
        self._pending.append(text_of(number, batches, max(self._number(), 0 if session is None else session.step)))
        if session is not None:  # the run may not be taken before its first step
            for text in self._pending:
                self._watch.event(KIND, text)
            self._pending = []
