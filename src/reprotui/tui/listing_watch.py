"""A thread that lists directories of runs when their files change; the interface never waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # imported by the thread: the first frame waits for nothing
    from reprotui.race.entries import Entry

QUIET_MS, GATHER_MS = 100, 300
"""How long the file system must be quiet, and how long changes are gathered where it never is."""
LOOK_SECONDS = 0.5
"""Least time between two listings: twice a second is enough for a list, whatever the step rate."""
MANY, MANY_SECONDS = 100, 1.0
"""Of so many entries the least time between two listings is longer."""
POLL_SECONDS, ALIVE_SECONDS = 10.0, 1.0
"""The slow poll beside the file watcher, for file systems that send no news; faster where a process may die."""


class Lists(Protocol):
    """What knows how to list: `race.listing.Listing` one runs directory, `race.fleet.FleetListing` several."""

    def read(self) -> tuple[Entry, ...]: ...


@dataclass(frozen=True)
class Listed:
    """What is in the directories, or why that cannot be told."""

    entries: tuple[Entry, ...]
    problem: str = ""


class ListingWatch(threading.Thread):
    """List, wait for a change, until `stop`; while `pause`d nothing is read.

    Args:
        directories: what is watched; they may not exist yet, and may vanish.
        make: makes what lists them; called by the thread, because it imports numpy.
        deliver: called from this thread where what is there changed.
    """

    def __init__(self, directories: Sequence[Path], make: Callable[[], Lists], deliver: Callable[[Listed], None]) -> None:
        super().__init__(name="reprotui-listing", daemon=True)
        self._directories, self._make, self._deliver = tuple(directories), make, deliver
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
        # A list below the screen that was asked for is read once somebody goes there: it would take turns with that screen's own.
        self._active.wait()
        if self._stop_event.is_set():
            return
        listing = self._make()
        watcher = threading.Thread(target=self._watch, name="reprotui-listing-files", daemon=True)
        watcher.start()
        while not self._stop_event.is_set():
            self._wake.clear()
            self._look(listing)
            many = self._last is not None and len(self._last.entries) >= MANY
            self._stop_event.wait(MANY_SECONDS if many else LOOK_SECONDS)
            alive = self._last is not None and any(entry.alive for entry in self._last.entries)
            self._wake.wait(ALIVE_SECONDS if alive else POLL_SECONDS)
            self._active.wait()

    def _look(self, listing: Lists) -> None:
        from reprotui.errors import ReprotuiError

        try:
            news = Listed(listing.read())
        except ReprotuiError as error:
            news = Listed((), str(error))
        if news != self._last and not self._stop_event.is_set():
            self._last = news
            self._deliver(news)

    def _watch(self) -> None:
        """Wake the listing whenever a file below the directories changes."""
        import watchfiles

        while not self._stop_event.is_set():
            there = self._there()
            if there:
                self._wake.set()  # they may have appeared just now
                changes = watchfiles.watch(
                    *there, watch_filter=None, step=QUIET_MS, debounce=GATHER_MS,
                    rust_timeout=int(POLL_SECONDS * 1000), yield_on_timeout=True, stop_event=self._stop_event,
                    raise_interrupt=False,
                )  # fmt: skip
                try:
                    for changed in changes:
                        if changed:
                            self._wake.set()
                        if self._there() != there:
                            break
                except (OSError, RuntimeError):
                    pass  # no watcher on this file system, or too many files for it: the poll goes on
                self._wake.set()
            self._stop_event.wait(ALIVE_SECONDS)

    def _there(self) -> list[Path]:
        return [path for path in self._directories if path.is_dir()]
