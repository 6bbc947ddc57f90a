"""What Home and New race share: a race is started in a thread, then opened; what went wrong is said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from reprotui.tui.screens.base import ActionScreen
from reprotui.tui.symbols import plain

if TYPE_CHECKING:
    from reprotui.race.start import Started


class StartingScreen(ActionScreen):
    """A screen that starts races."""

    runs_directory: Path
    starting: str = ""
    """What is being started now, empty where nothing is."""

    def start_race(self, what: str, call: Callable[[], Started]) -> None:
        """Start a race without waiting: configs are validated and processes made in a thread."""
        self.starting = what
        self.notify(plain(f"starting {what} …", self.symbols), timeout=3)
        self.refresh_keys()
        self._start(call)

    @work(exit_on_error=False)
    async def _start(self, call: Callable[[], Started]) -> None:
        try:
            started = await asyncio.to_thread(call)
        except Exception as error:
            self.say_error(error)
        else:
            self.opened(started)
        finally:
            self.starting = ""
            self.refresh_keys()

    def do_resume_check(self) -> None:
        """Ask for a resume check of a script, and start it."""
        from reprotui.tui.resume import ResumeForm
        from reprotui.tui.screens.resume import ResumeScreen

        def answered(form: ResumeForm | None) -> None:
            if form is not None:
                self.start_race("a resume check", partial(form.start, self.runs_directory))

        self.app.push_screen(ResumeScreen(ResumeForm()), answered)

    def opened(self, started: Started) -> None:
        """Show the race that was started."""
        self.dashboard.open_started(started)
