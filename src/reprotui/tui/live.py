"""A thread that looks at runs when their files change, and hands the newest status over; the interface never waits for it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from reprotui.race.monitor import Monitor
from reprotui.race.status import RaceStatus
from reprotui.tui.cores import Cores

QUIET_MS = 20
"""How long the file system must be quiet: short, because a divergence should be seen within a tenth of a second."""
GATHER_MS = 50
"""How long changes are gathered where it never is quiet."""
LOOK_SECONDS = 0.1
"""Least time between two looks, to which the gathering is added: six a second where files always change."""
PICTURE_SECONDS, BUSY_PICTURE_SECONDS = 0.5, 2.0
"""Least time between two pictures that show nothing but more steps; the second where runs keep all cores busy: drawing costs
ten times what looking costs, and there they pay for it, whatever the priority. A divergence, a state, an event or a verdict is
shown at once."""
BUSY = 0.9
"""Share of the cores' time from which on they count as busy."""
POLL_SECONDS = 0.5
"""The slow poll beside the file watcher: a process that dies, and file systems that send no news."""
RECORDS = 524_288
"""Records of each run read between two pictures of a long run that is being opened: a second at most."""


class Watch(threading.Thread):
    """Look, judge, wait for a change, until no run is alive or `stop` is called.

    Args:
        monitor: what looks; used by this thread alone.
        deliver: called from this thread with each new status.
        lead: called from this thread with every status, new to the eye or not: what leads the runs waits for no picture.
    """

    def __init__(
        self, monitor: Monitor, deliver: Callable[[RaceStatus], None], lead: Callable[[RaceStatus], None] = lambda _: None
    ) -> None:
        super().__init__(name="reprotui-watch", daemon=True)
        self._monitor, self._deliver, self._lead = monitor, deliver, lead
        self._stop_event = threading.Event()
        self._last: RaceStatus | None = None
        self._drawn = 0.0
        self._cores = Cores()
        self._pace = PICTURE_SECONDS

    def stop(self) -> None:
        """Ask the thread to end; it does so within a tenth of a second."""
        self._stop_event.set()

    def run(self) -> None:
        status = self._look()
        if not status.alive:
            return
        for _ in self._changes():
            if not self._look().alive:
                return
            if self._stop_event.wait(LOOK_SECONDS):
                return

    def _look(self) -> RaceStatus:
        """Look until everything that is there was read, and judge what needs judging."""
        status = self._monitor.look()
        self._lead(status)
        self._hand_over(status)
        while not status.timeline.complete and not self._stop_event.is_set():
            status = self._monitor.look(RECORDS)
            self._hand_over(status)
        if self._monitor.needs_judging(status) and not self._stop_event.is_set():
            status = self._monitor.judge(status)
            self._hand_over(status)
        return status

    def _hand_over(self, status: RaceStatus) -> None:
        before, now = self._last, time.monotonic()
        if status == before or self._stop_event.is_set():
            return
        if before is not None and _only_more_steps(before, status) and now - self._drawn < self._pace:
            return  # the next look shows these steps too; there is one in half a second at the latest
        if now - self._drawn >= PICTURE_SECONDS:
            self._pace = BUSY_PICTURE_SECONDS if self._cores.busy() >= BUSY else PICTURE_SECONDS
        self._last, self._drawn = status, now
        self._deliver(status)

    def _changes(self) -> Iterator[object]:
        """Yield whenever a file of the runs changed, and every `POLL_SECONDS` besides."""
        import watchfiles

        directories = [path for path in self._monitor.directories if path.is_dir()]
        # Without a watcher on this file system, or with a directory that vanished, the poll goes on alone.
        with suppress(OSError, RuntimeError):
            yield from watchfiles.watch(
                *directories, watch_filter=None, step=QUIET_MS, debounce=GATHER_MS, rust_timeout=int(POLL_SECONDS * 1000),
                yield_on_timeout=True, stop_event=self._stop_event, raise_interrupt=False, recursive=False,
            )  # fmt: skip
        while not self._stop_event.wait(POLL_SECONDS):
            yield None


def _only_more_steps(before: RaceStatus, after: RaceStatus) -> bool:
    """Say whether all that happened between two looks is that runs went on."""

    def news(status: RaceStatus) -> tuple[object, ...]:
        runs = tuple((run.state, run.problem, len(run.events), len(run.log), run.not_finite) for run in status.runs)
        first = tuple(pair.first for pair in status.timeline.pairs)
        return runs, first, status.judged, status.timeline.complete

    return news(before) == news(after)
