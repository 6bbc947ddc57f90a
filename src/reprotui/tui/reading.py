"""Progress of something long that is read in a thread, and its cancellation."""

import time
from collections.abc import Callable
from threading import Event

NEWS_SECONDS = 0.2
"""How often progress is said."""
MEGABYTE = 1 << 20


class CancelledError(Exception):
    """A person asked for the end of what is being read."""


class Counter:
    """Count bytes that were read, say so now and then, and raise CancelledError where a person asked for the end."""

    def __init__(self, what: str, size: int, cancel: Event, say: Callable[[str], object]) -> None:
        self._what, self._size, self._cancel, self._say = what, max(1, size), cancel, say
        self._done, self._said = 0, time.monotonic()

    def __call__(self, read: int) -> None:
        if self._cancel.is_set():
            raise CancelledError
        self._done += read
        if time.monotonic() - self._said >= NEWS_SECONDS:
            self._said = time.monotonic()
            self._say(f"{self._what}: {self._done / MEGABYTE:,.0f} MB, {min(99, 100 * self._done // self._size)} %")
