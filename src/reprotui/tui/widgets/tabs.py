"""One line of lists to choose from, with a place at its right end."""

from collections.abc import Sequence

from textual.content import Content
from textual.widget import Widget

from reprotui.tui.symbols import Symbols
from reprotui.tui.text import fit

LEAST_PLACE = 12
"""Cells below which the place is left out."""


class Tabs(Widget):
    """Tabs; a click calls the screen's action `tab` with the name."""

    DEFAULT_CSS = """
    Tabs {
        height: 1; background: $panel; link-style: none; link-style-hover: underline;
        link-color: $foreground; link-color-hover: $foreground; link-background: transparent; link-background-hover: transparent;
    }
    """
    ALLOW_SELECT = False

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.symbols = symbols
        self._shown: tuple[Sequence[tuple[str, str, int | None]], str, str] = (), "", ""

    def show(self, tabs: Sequence[tuple[str, str, int | None]], current: str, place: str) -> None:
        """Show (name, text, count) of each tab, which is in front, and what stands at the right."""
        self._shown = tabs, current, place
        self.refresh()

    def render(self) -> Content:
        tabs, current, place = self._shown
        parts = []
        for name, text, number in tabs:
            label = text if number is None else f"{text} {number}"
            if name == current:  # no link: its colour would win over that of the tab in front
                parts.append(Content.styled(f" {label} ", "bold $on-verdict on $run-a"))
            else:
                parts.append(Content.from_markup(f"[@click=screen.tab('{name}')] {label} [/]"))
        line = Content(" ").join(parts)
        room = self.size.width - line.cell_length - 2
        right = f"{fit(place, room, self.symbols, right=True)} " if room > LEAST_PLACE else ""
        return Content(" ").join([line, Content.styled(right, "$muted")])
