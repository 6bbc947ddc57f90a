"""What Home and New race share: a race is started in a thread, then opened; what went wrong is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.worker import Worker, WorkerState

from reprotui.tui.screens.base import ActionScreen
from reprotui.tui.symbols import plain

if TYPE_CHECKING:
    from reprotui.race.start import Started

_GROUP = "start"


class StartingScreen(ActionScreen):
    """A screen that starts races."""

    ANSWERED: ClassVar[frozenset[str]] = frozenset({_GROUP})
    starting: str = ""
    """What is being started now, empty where nothing is."""

    def start_race(self, what: str, call: Callable[[], Started]) -> None:
        """Start a race without waiting: configs are validated and processes made in a thread."""
        self.starting = what
        self.notify(plain(f"starting {what} …", self.symbols), timeout=3)
        self.run_worker(call, group=_GROUP, thread=True, exit_on_error=False)
        self.refresh_keys()

    def opened(self, started: Started) -> None:
        """Show the race that was started."""
        self.app.open_runs([started.path], dict(started.processes))  # ty: ignore[missing-attribute]

    @on(Worker.StateChanged)
    def _take_start(self, event: Worker.StateChanged) -> None:
        if event.worker.group != _GROUP or event.state not in (WorkerState.SUCCESS, WorkerState.ERROR):
            return
        self.starting = ""
        self.refresh_keys()
        if event.state == WorkerState.SUCCESS:
            assert event.worker.result is not None
            self.opened(event.worker.result)
        else:
            self.say_error(event.worker.error)
