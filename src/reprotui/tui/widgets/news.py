"""Events and logs side by side, and the line in which they are searched."""

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.reactive import var
from textual.widgets import Input

from reprotui.race.status import RaceStatus
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.filter_box import FilterBox
from reprotui.tui.widgets.lines import Lines, event_lines, log_lines


class News(Horizontal):
    """What happened to the runs and what they printed; `search` narrows both to the lines that contain a text."""

    DEFAULT_CSS = """
    News > FilterBox {
        dock: bottom; height: 1; border: none; padding: 0 1; background: $surface;
        &:focus { border: none; }
    }
    """
    status: var[RaceStatus | None] = var(None, init=False)

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._symbols = symbols
        self._focused: Lines | None = None

    def compose(self) -> ComposeResult:
        yield Lines(self._symbols, event_lines, "4 events", id="events").data_bind(News.status)
        yield Lines(self._symbols, log_lines, "5 log", id="log").data_bind(News.status)
        yield FilterBox(placeholder="part of an event or of a line of the logs; esc ends", id="news-filter")

    @property
    def searching(self) -> bool:
        """Say whether lines are narrowed, or about to be."""
        return self.query_one(FilterBox).display

    def search(self, pane: str) -> None:
        """Let a person type what lines must contain; the focus goes on to a pane with enter."""
        self._focused = self.query_one(f"#{pane}", Lines)
        self.query_one(FilterBox).open()

    def end_search(self) -> None:
        """Show all lines again."""
        if self.query_one(FilterBox).has_focus and self._focused is not None:
            self._focused.focus()
        self.query_one(FilterBox).close()

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        event.stop()
        for lines in self.query(Lines):
            lines.wanted = event.value.strip()

    @on(Input.Submitted)
    def _go_on(self, event: Input.Submitted) -> None:
        event.stop()
        if not event.value.strip():
            self.end_search()
        elif self._focused is not None:
            self._focused.focus()
