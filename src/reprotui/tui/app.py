"""The application: which screen, theme, signs, keys; everything else is in the screens."""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.notifications import SeverityLevel

from reprotui.errors import WORKER_FAILED
from reprotui.foreign import visible
from reprotui.run_directory import RunDirectory
from reprotui.settings import Settings, load_settings, remember
from reprotui.tui.actions import ACTIONS, EVERYWHERE
from reprotui.tui.opening import home
from reprotui.tui.screens.base import ActionScreen, binding
from reprotui.tui.theme import NAMES
from reprotui.tui.themed import ThemedApp

COPY_FILE = "reprotui-copied.txt"
"""Beside the settings: what was copied last, for terminals that drop the clipboard sequence."""


def _step_provider() -> Any:
    from reprotui.tui.palette import StepProvider  # textual's palette is not part of the first frame

    return StepProvider


class DashboardApp(ThemedApp[int]):
    """The dashboard.

    Args:
        runs: the runs directory.
        paths: runs or races to open at once; none opens Home.
        settings: None reads those of the user.
        symbols: `auto`, `unicode` or `ascii`; None takes that of the settings.
        processes: workers of `paths` that this process started, by label.
        at_divergence: `stop` or `pause`: what the runs of `paths` are asked for at the first difference.
        opening: makes the screens that are opened, one on the other, where there are no paths; None opens Home.
    """

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [binding(item) for item in ACTIONS if item.screen == EVERYWHERE]
    COMMANDS: ClassVar[set[Any]] = App.COMMANDS | {_step_provider}

    def __init__(
        self, runs: Path, paths: Sequence[Path] = (), settings: Settings | None = None, symbols: str | None = None,
        processes: Mapping[str, Any] | None = None, at_divergence: str | None = None,
        opening: Callable[[], Sequence[ActionScreen]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(load_settings() if settings is None else settings, symbols)
        self._at_divergence = at_divergence
        self.runs_directory = runs
        self.keymap_settings = dict(self.settings.keys)
        self._paths = list(paths)
        self._opening = opening or partial(home, runs)
        self._processes = dict(processes or {})
        self.to_finish: list[Callable[[], Sequence[Path]]] = []
        """What races that were started here leave to be done when nobody watches any more."""
        if self.keymap_settings:
            self.set_keymap(self.keymap_settings)

    def on_mount(self) -> None:
        if self._paths:
            self.open_runs(self._paths, self._processes, self._at_divergence)
        else:
            for screen in self._opening():
                self.push_screen(screen)

    def open_runs(
        self, paths: Sequence[Path], processes: Mapping[str, Any] | None = None, at_divergence: str | None = None
    ) -> None:
        """Open runs or races on a screen of their own; what cannot be opened is said, and nothing else changes."""
        from reprotui.errors import ReprotuiError
        from reprotui.race.monitor import members
        from reprotui.tui.screens.race import RaceScreen

        try:
            runs = members(paths)
        except ReprotuiError as error:
            self.notify(str(error), severity="error", timeout=8)
            return
        at_divergence = at_divergence or ("stop" if self.settings.stop_at_divergence else None)
        self.push_screen(RaceScreen(runs, processes or {}, at_divergence))

    def open_started(self, started: Any) -> None:
        """Open a race that was just started here."""
        if started.finish is not None:
            self.to_finish.append(started.finish)
        self.open_runs([started.path], started.processes, started.at_divergence)

    def open_diagnosis(self, runs: Sequence[RunDirectory]) -> None:
        """Open the search for the cause of the difference of a race's runs."""
        from reprotui.tui.screens.diagnosis import DiagnosisScreen

        self.push_screen(DiagnosisScreen(runs))

    def copy(self, text: str, what: str) -> None:
        """Copy to the terminal's clipboard and to a file, and say both: many terminals drop the sequence silently."""
        from reprotui.settings import state_directory

        self.copy_to_clipboard(text)
        path = state_directory() / COPY_FILE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            self.notify(f"{what} sent to the terminal's clipboard; {path} cannot be written: {error.strerror}")
            return
        self.notify(f"{what} copied to the terminal's clipboard, and to {path}", timeout=4)

    async def action_back(self) -> None:
        """Peel one layer: inside the screen first, then the screen; Home stays."""
        if not (isinstance(self.screen, ActionScreen) and self.screen.go_back()):
            # Not awaited here: where the footer was clicked, that would be a widget waiting for its own end.
            self.call_next(self._leave)

    async def _leave(self) -> None:
        screen = self.screen
        if len(self.screen_stack) > 2:
            await self.pop_screen()
        elif isinstance(screen, ActionScreen) and screen.NAME != "home":
            from reprotui.tui.screens.home import HomeScreen

            await self.switch_screen(HomeScreen(self.runs_directory))
        else:
            self.notify("nothing left to close; q leaves the dashboard", timeout=3)

    def action_help(self) -> None:
        """Show the keys of the current screen."""
        self._explain(on_legend=False)

    def action_legend(self) -> None:
        """Show what signs and words mean."""
        self._explain(on_legend=True)

    def _explain(self, on_legend: bool) -> None:
        from reprotui.tui.screens.help import HelpScreen

        if isinstance(self.screen, ActionScreen):
            self.push_screen(HelpScreen(self.screen.NAME, self.symbols, self.keymap_settings, on_legend))

    def action_theme(self) -> None:
        """Take the next theme, and remember it."""
        names = list(NAMES)
        self.theme = names[(names.index(self.theme) + 1) % len(names)]
        remember("theme", self.theme)
        self.notify(f"theme: {self.theme}", timeout=2)

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information", timeout: float | None = None,
        markup: bool = False,
    ) -> None:  # fmt: skip
        """Notify; whatever stands in the message is shown as it is, never read as markup."""
        super().notify(visible(message), title=title, severity=severity, timeout=timeout, markup=False)

    def _handle_exception(self, error: Exception) -> None:
        # Called by textual for every error that nobody foresaw. Its own way is a traceback on the terminal and exit code 1,
        # which says `differs` here: `run_dashboard` raises the error instead, and the command line tells.
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._return_code = WORKER_FAILED
        self._close_messages_no_wait()

    def end_with(self, error: Exception) -> None:
        """End because of an error that nobody foresaw."""
        self._handle_exception(error)

    def thread_failed(self, arguments: threading.ExceptHookArgs) -> None:
        """End because of an error in a thread, as with one here."""
        if isinstance(arguments.exc_value, Exception):
            with suppress(RuntimeError):  # it ends already
                self.call_from_thread(self.end_with, arguments.exc_value)

    async def action_quit(self) -> None:
        """Leave; runs go on."""
        self.exit(0)

    async def on_event(self, event: events.Event) -> None:
        if not (self._exit and isinstance(event, events.InputEvent)):  # keys behind `q` find nothing that could answer
            await super().on_event(event)

    async def run_action(self, *arguments: Any, **options: Any) -> bool:
        return False if self._exit else await super().run_action(*arguments, **options)

    def get_system_commands(self, screen: Any) -> Any:
        """Fill the palette from the table of actions: those of this screen, then those that hold everywhere."""
        from reprotui.tui.palette import commands

        for title, text, call in commands(self, screen):
            yield SystemCommand(title, text, call)


def run_dashboard(
    runs: Path, paths: Sequence[Path] = (), symbols: str | None = None, processes: Mapping[str, Any] | None = None,
    at_divergence: str | None = None, opening: Callable[[], Sequence[ActionScreen]] | None = None,
) -> int:  # fmt: skip
    """Open the dashboard and return its exit code; it gives way to the runs that it watches.

    Args:
        runs, paths, symbols, processes, at_divergence, opening: see `DashboardApp`, and `reprotui.tui.opening`.

    Raises:
        Exception: an error that nobody foresaw, of whatever thread, once the terminal is as it was.
    """
    from reprotui.race.priority import give_way

    give_way()
    app = DashboardApp(runs, paths, symbols=symbols, processes=processes, at_divergence=at_divergence, opening=opening)
    before, threading.excepthook = threading.excepthook, app.thread_failed
    try:
        code = app.run()
    finally:
        threading.excepthook = before
        _finish(app.to_finish)
    if app._exception is not None:
        raise app._exception
    return int(code or 0) or int(app.return_code or 0)


def _finish(calls: Sequence[Callable[[], Sequence[Path]]]) -> None:
    """Clean up after races that were started from the form; say what runs that go on still need."""
    left = [path for call in calls for path in call()]
    if left:
        places = ", ".join(map(str, left))
        print(visible(f"the runs go on in {places}: afterwards, git worktree remove --force each"), file=sys.stderr)
