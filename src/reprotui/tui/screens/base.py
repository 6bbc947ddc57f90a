"""What all screens share: bindings from the table of actions, one door for every action, room for a footer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import events, messages, on
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from reprotui.errors import ReprotuiError, UntrustedError
from reprotui.tui.actions import BY_ID, Action, of_screen
from reprotui.tui.dashboard import Dashboard, dashboard_of
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.keybar import KeyBar

if TYPE_CHECKING:  # numpy, which the first frame does not wait for
    from reprotui.compare.timeline import PairLine


def bindings(screen: str) -> list[BindingType]:
    """Return the bindings of a screen's own actions."""
    return [binding(item) for item in of_screen(screen) if item.screen == screen]


def binding(action: Action) -> Binding:
    """Return what binds the keys of an action to it."""
    return Binding(action.keys, action.binding, action.text, show=action.footer, tooltip=action.help, id=action.id)


class ActionScreen(Screen[None]):
    """A screen whose actions stand in `actions.ACTIONS` under its `NAME`; each is done by a method `do_<name>`."""

    NAME: ClassVar[str] = ""
    LEAST: ClassVar[tuple[int, int]] = (40, 12)
    """Columns and lines below which nothing sensible fits."""
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (120, "-normal"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-short"), (32, "-medium"), (50, "-tall")]  # noqa: RUF012

    @property
    def dashboard(self) -> Dashboard:
        """Return the application, by what a screen may ask of it."""
        return dashboard_of(self)

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

    def key_bar(self) -> KeyBar:
        """Return the footer of this screen."""
        return KeyBar(self.NAME, self.symbols, self.dashboard.keymap_settings)

    def on_mount(self) -> None:
        self.refresh_keys()

    def refresh_keys(self) -> None:
        """Ask again which actions of the footer do something now."""
        for bar in self.query(KeyBar):
            bar.refused = frozenset(item.id for item in bar.actions if self.why_not(item.id) is not None)

    def on_update(self, message: messages.Update) -> None:
        """Leave out what wants to be drawn inside something that is hidden; it is drawn whole when it is shown.

        For such a widget the compositor works out all places anew before it looks which ones changed (textual 8.2), and what
        moved in that moment, as everything below a verdict that grows by a line, was left on the terminal at its former place.
        """
        if not all(node.display for node in message.widget.ancestors if isinstance(node, Widget)):
            message.stop()
            message.prevent_default()

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

    def say_error(self, error: Exception) -> None:
        """Show an error as a sentence, never as a traceback."""
        text = str(error) if isinstance(error, ReprotuiError | OSError) else f"{type(error).__name__}: {error}"
        self.notify(text, severity="error", timeout=10)

    @on(Worker.StateChanged)
    def _thread_failed(self, event: Worker.StateChanged) -> None:
        error = event.worker.error
        if event.state == WorkerState.ERROR and isinstance(error, Exception):
            if isinstance(error, ReprotuiError | OSError):
                self.say_error(error)
            else:  # nobody foresaw it
                self.dashboard.end_with(error)

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

    def find_difference(self, line: PairLine | None, step: int | None, backwards: bool) -> int | None:
        """Return the nearest step that differs; where there is none, say so."""
        found = line.next_difference(-1 if step is None else step, backwards) if line else None
        if found is None:
            self.notify(f"no difference {'before' if backwards else 'behind'} step {step}", timeout=3)
        return found

    def go_back(self) -> bool:
        """Peel one layer inside this screen; return False where none is left and the screen itself should go."""
        return False
