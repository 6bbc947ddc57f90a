"""What the dashboard and the reader of the pages have in common: themes, signs, and the last doors before the terminal."""

from collections.abc import Sequence
from typing import TypeVar

from textual.app import App
from textual.filter import LineFilter

from reprotui.settings import Settings, remembered
from reprotui.tui.filters import AsciiFilter, UnseenFilter
from reprotui.tui.symbols import choose
from reprotui.tui.theme import NAMES, THEMES

T = TypeVar("T")


class ThemedApp(App[T]):
    """An application in the theme that was chosen last.

    Args:
        settings: those of the user.
        symbols: `auto`, `unicode` or `ascii`; None takes that of the settings.
    """

    TITLE = "reprotui"

    def __init__(self, settings: Settings, symbols: str | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.symbols = choose(symbols or settings.symbols)
        self._last_filters = [UnseenFilter(), *([AsciiFilter()] if self.symbols.ascii else [])]
        for item in THEMES:
            self.register_theme(item)
        theme = str(remembered().get("theme") or settings.theme)
        self.theme = theme if theme in NAMES else NAMES[0]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return the variables of the first theme: styles are read before a theme is set."""
        return THEMES[0].variables

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return what every line passes on its way to the terminal."""
        return [*super().get_line_filters(), *self._last_filters]
