"""A pane's title on a rule of its own: a border's title would draw the whole pane again whenever it changes."""

from textual.content import Content
from textual.widget import Widget

from reprotui.tui.symbols import Symbols


class PaneTitle(Widget):
    """One line; the class `-focused` says that its pane has the focus."""

    DEFAULT_CSS = """
    PaneTitle {
        height: 1; color: $muted; background: $background;
        &.-focused { color: $foreground; text-style: bold; }
    }
    """
    ALLOW_SELECT = False

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rule = "-" if symbols.ascii else "─"
        self._text = Content("")

    def show(self, text: Content) -> None:
        """Show a text; nothing is drawn where it is the one that stands there."""
        if text != self._text or text.spans != self._text.spans:
            self._text = text
            self.refresh()

    def render(self) -> Content:
        colour = "$run-a" if self.has_class("-focused") else "$panel"
        room = max(0, self.size.width - self._text.cell_length - 1)
        return Content.assemble((self._rule, colour), self._text, (self._rule * room, colour))
