"""A thread that lists a runs directory when its files change; the interface never waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported by the thread: the first frame waits for nothing
    from reprotui.race.entries import Entry
    from reprotui.race.listing import Listing

QUIET_MS, GATHER_MS = 100, 300
"""How long the file system must be quiet, and how long changes are gathered where it never is."""
LOOK_SECONDS = 0.5
"""Least time between two listings: twice a second is enough for a list, whatever the step rate."""
POLL_SECONDS, ALIVE_SECONDS = 10.0, 1.0
"""The slow poll beside the file watcher, for file systems that send no news; faster where a process may die."""


@dataclass(frozen=True)
class Listed:
    """What is in a runs directory, or why that cannot be told."""

    entries: tuple[Entry, ...]
    problem: str = ""


class ListingWatch(threading.Thread):
    """List, wait for a change, until `stop`; while `pause`d nothing is read.

    Args:
        directory: the runs directory; it may not exist yet, and may vanish.
        deliver: called from this thread where that changed.
    """

    def __init__(self, directory: Path, deliver: Callable[[Listed], None]) -> None:
        super().__init__(name="reprotui-listing", daemon=True)
        self._directory, self._deliver = directory, deliver
        self._stop_event, self._wake, self._active = threading.Event(), threading.Event(), threading.Event()
        self._active.set()
        self._last: Listed | None = None

    def stop(self) -> None:
        """Ask the thread to end; it does so within a tenth of a second."""
        self._stop_event.set()
        self._active.set()
        self._wake.set()

    def pause(self) -> None:
        """Read nothing until `resume`: another screen is in front."""
        self._active.clear()

    def resume(self) -> None:
        """Go on, and look at once."""
        self._active.set()
        self.look_now()

    def look_now(self) -> None:
        """List again without waiting for a change."""
        self._wake.set()

    def run(self) -> None:
        from reprotui.race.listing import Listing

        listing = Listing(self._directory)
        watcher = threading.Thread(target=self._watch, name="reprotui-listing-files", daemon=True)
        watcher.start()
        while not self._stop_event.is_set():
            self._wake.clear()
            self._look(listing)
            self._stop_event.wait(LOOK_SECONDS)
            alive = self._last is not None and any(entry.alive for entry in self._last.entries)
            self._wake.wait(ALIVE_SECONDS if alive else POLL_SECONDS)
            self._active.wait()

    def _look(self, listing: Listing) -> None:
        from reprotui.errors import ReprotuiError

        try:
            news = Listed(listing.read())
        except ReprotuiError as error:
            news = Listed((), str(error))
        if news != self._last and not self._stop_event.is_set():
            self._last = news
            self._deliver(news)

    def _watch(self) -> None:
        """Wake the listing whenever a file below the directory changes."""
        import watchfiles

        while not self._stop_event.is_set():
            if self._directory.is_dir():
                self._wake.set()  # it may have appeared just now
                changes = watchfiles.watch(
                    self._directory, watch_filter=None, step=QUIET_MS, debounce=GATHER_MS,
                    rust_timeout=int(POLL_SECONDS * 1000), yield_on_timeout=True, stop_event=self._stop_event,
                    raise_interrupt=False,
                )  # fmt: skip
                try:
                    for changed in changes:
                        if changed:
                            self._wake.set()
                        if not self._directory.is_dir():
                            break
                except (OSError, RuntimeError):
                    pass  # no watcher on this file system, or too many files for it: the poll goes on
                self._wake.set()
            self._stop_event.wait(ALIVE_SECONDS)
