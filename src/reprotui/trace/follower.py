"""Follow traces that are being written: what is new since the last look, and when to look."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopEvent

from reprotui.trace.reader import Trace
from reprotui.trace.rows import Event, StepRow

ROWS_A_LOOK = 20_000
"""Rows taken at a look: bounds memory and the time for which the reader keeps the journal from being folded."""
POLL_SECONDS = 0.5
"""The slow poll beside the file watcher, for file systems that send no news."""
QUIET_MS = 50
"""How long the watcher gathers changes: 20 looks a second at most, whatever the step rate."""


@dataclass(frozen=True)
class News:
    """What was committed since the last look."""

    rows: tuple[StepRow, ...]
    events: tuple[Event, ...]
    tables: dict[int, bytes]
    """Digest of every version of the leaf table so far."""


class Follower:
    """Ask a trace for news. Opens the file for each look and closes it, so that the writer can always seal it."""

    def __init__(self, path: Path, after: int = -1) -> None:
        self.path = path
        self._step = after
        self._event = 0

    def poll(self) -> News:
        """Return what is new; nothing while the file does not exist yet or has no schema yet."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return News((), (), {})
        with Trace(self.path) as trace:
            rows = tuple(trace.rows(self._step, ROWS_A_LOOK))
            events = tuple(trace.events(self._event))
            tables = trace.tables() if rows else {}
        if rows:
            self._step = rows[-1].step
        if events:
            self._event = events[-1].id
        return News(rows, events, tables)


def watch(directory: Path, stop: StopEvent | None = None) -> Iterator[None]:
    """Yield whenever something below a directory changed, and every `POLL_SECONDS` besides; ends when `stop` is set.

    A journal file that grows in mapped memory sends no event, so the poll is part of the design, not a fallback.
    """
    import watchfiles

    changes = watchfiles.watch(
        directory, watch_filter=None, step=QUIET_MS, debounce=QUIET_MS, rust_timeout=int(POLL_SECONDS * 1000),
        yield_on_timeout=True, stop_event=stop, raise_interrupt=True,
    )  # fmt: skip
    for _ in changes:
        yield
