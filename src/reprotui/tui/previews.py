"""What a preview says of an entry is read in a thread, once the cursor rests on it, and kept until the entry changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.timer import Timer

if TYPE_CHECKING:  # it needs numpy, which the first frame does not wait for
    from reprotui.race.entries import Entry
    from reprotui.race.preview import Preview
    from reprotui.tui.screens.base import ActionScreen

REST_SECONDS = 0.1
"""How long the cursor must rest: whoever holds a key down reads nothing."""
AGAIN_SECONDS = 3.0
"""How often the preview of a race that still grows is read anew."""
KEPT = 256


class Previews:
    """Previews of entries.

    Args:
        screen: whose thread it is.
        show: called when there is news of the entry that was asked for last.
    """

    def __init__(self, screen: ActionScreen, show: Callable[[], None]) -> None:
        self._screen, self._show = screen, show
        self._known: dict[Path, tuple[Entry, float, Preview]] = {}
        self._wanted: Entry | None = None
        self._timer: Timer | None = None
        self._reading = False

    def of(self, entry: Entry) -> Preview | None:
        """Return what is known of an entry; None, and it is going to be read, where nothing is."""
        known = self._known.get(entry.path)
        fresh = known and (known[0] == entry or (entry.alive and time.monotonic() - known[1] < AGAIN_SECONDS))
        if not fresh and self._wanted != entry:
            self._wanted = entry
            if self._timer is not None:
                self._timer.stop()
            self._timer = self._screen.set_timer(REST_SECONDS, self._begin)
        return known[2] if known else None

    def _begin(self) -> None:
        if not self._reading and self._wanted is not None:
            self._reading = True
            self._screen.run_worker(self._read(self._wanted), group="preview", exit_on_error=False)

    async def _read(self, entry: Entry) -> None:
        from reprotui.race.preview import look

        try:
            seen = await asyncio.to_thread(look, entry)
        finally:
            self._reading = False
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[entry.path] = entry, time.monotonic(), seen
        if self._wanted == entry:
            self._wanted = None
            self._show()
        else:
            self._begin()  # the cursor went on meanwhile
