"""What all screens share: bindings from the table of actions, one door for every action, room for a footer."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from reprotui.errors import ReprotuiError, UntrustedError
from reprotui.tui.actions import BY_ID, Action, of_screen
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.keybar import KeyBar

if TYPE_CHECKING:
    from reprotui.tui.app import DashboardApp


def bindings(screen: str) -> list[BindingType]:
    """Return the bindings of a screen's own actions."""
    return [_binding(item) for item in of_screen(screen) if item.screen == screen]


def _binding(action: Action) -> Binding:
    return Binding(action.keys, action.binding, action.text, show=action.footer, tooltip=action.help, id=action.id)


class ActionScreen(Screen[None]):
    """A screen whose actions stand in `actions.ACTIONS` under its `NAME`; each is done by a method `do_<name>`."""

    NAME: ClassVar[str] = ""
    ANSWERED: ClassVar[frozenset[str]] = frozenset()
    """Groups of threads whose errors this screen itself shows where they belong; those of others end the dashboard."""
    LEAST: ClassVar[tuple[int, int]] = (40, 12)
    """Columns and lines below which nothing sensible fits."""
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (120, "-normal"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-short"), (32, "-medium"), (50, "-tall")]  # noqa: RUF012

    @property
    def dashboard(self) -> "DashboardApp":
        """Return the application, by its own type."""
        from reprotui.tui.app import DashboardApp

        assert isinstance(self.app, DashboardApp)
        return self.app

    @property
    def symbols(self) -> Symbols:
        """Return the signs that this terminal shows."""
        return self.dashboard.symbols

    def why_not(self, action: str) -> str | None:
        """Return why an action does nothing now, None where it does something."""
        return None

    def action_do(self, action: str) -> None:
        """Do an action of the table, or say why not; keys, footer and palette all come through here."""
        if reason := self.why_not(action):
            self.notify(reason, severity="warning", timeout=4)
            return
        item = BY_ID[action]
        method = getattr(self, f"do_{item.method}")
        if item.argument is None:
            method()
        else:
            method(item.argument)
        self.refresh_keys()

    def refresh_keys(self) -> None:
        """Draw the footer again: an action may have become possible or not."""
        for bar in self.query(KeyBar):
            bar.refresh()

    def on_resize(self, event: events.Resize) -> None:
        """Say what is missing in a terminal that is too small, instead of drawing rubble."""
        width, height = event.size
        small = width < self.LEAST[0] or height < self.LEAST[1]
        notes = self.query(".too-small")
        if small and not notes:
            self.mount(Static("", classes="too-small"))
            notes = self.query(".too-small")
        for note in notes.results(Static):
            note.update(f"{width}x{height} is too small: at least {self.LEAST[0]}x{self.LEAST[1]}")
        self.set_class(small, "-too-small")

    def say_error(self, error: BaseException | None) -> None:
        """Show an error as a sentence, never as a traceback."""
        text = str(error) if isinstance(error, ReprotuiError | OSError) else f"{type(error).__name__}: {error}"
        self.notify(text, severity="error", timeout=10)

    @on(Worker.StateChanged)
    def _thread_failed(self, event: Worker.StateChanged) -> None:
        if event.state == WorkerState.ERROR and event.worker.group not in self.ANSWERED:
            error = event.worker.error
            if isinstance(error, Exception) and not isinstance(error, ReprotuiError | OSError):
                self.dashboard.end_with(error)
            else:
                self.say_error(error)

    def ask_trust(self, error: UntrustedError, go_on: Callable[[], None]) -> None:
        """Ask whether code that comes with somebody else's run may be run, saying which; do so after a yes alone."""
        from reprotui.tui.screens.confirm import ConfirmScreen
        from reprotui.tui.symbols import plain

        def answered(yes: bool | None) -> None:
            if yes:
                go_on()

        what = [plain(part, self.symbols) for part in str(error).split("; ")[0].split(", and ")]
        consequence = "Nothing was run yet. Read that file first: it can do whatever you can do."
        self.app.push_screen(ConfirmScreen("Run what was not recorded here?", what, consequence, "run it"), answered)

    def go_back(self) -> bool:
        """Peel one layer inside this screen; return False where none is left and the screen itself should go."""
        return False
