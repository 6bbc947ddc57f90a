"""The footer: the keys of this screen in two tones; one that does nothing now is dimmed, and says why when pressed."""

from textual.content import Content
from textual.geometry import Size
from textual.reactive import reactive
from textual.widget import Widget

from reprotui.tui.actions import BY_ID, EVERYWHERE, PAIRS, SHORT, Action, key_name, keys_of, of_screen
from reprotui.tui.symbols import Symbols, plain

LINES_FOR_TWO = 20
"""Lines of a terminal in which the footer may have two of them."""


class KeyBar(Widget):
    """A line of keys; a click does what the key does.

    Where there is no room for all of it, texts are short and counterparts share one; then there is a second line. In a terminal
    of few lines what is behind the end is left out, but never what holds everywhere: without help and quit a stranger is lost.

    Args:
        screen: the screen's name in the table of actions.
        symbols: the signs of this terminal.
        keymap: keys of the settings, by the action's id.
    """

    DEFAULT_CSS = """
    KeyBar {
        height: auto; max-height: 2; dock: bottom; background: $panel; color: $foreground; text-wrap: nowrap;
        link-style: none; link-style-hover: bold; link-color: $foreground;
        link-background: $panel; link-background-hover: $muted 40%;
    }
    """
    ALLOW_SELECT = False
    refused: reactive[frozenset[str]] = reactive(frozenset())
    """Actions that do nothing now; drawing the footer takes a third of a key's time, and is done only where this changes."""

    def __init__(self, screen: str, symbols: Symbols, keymap: dict[str, str]) -> None:
        super().__init__()
        first = screen == "home"  # nothing is behind it
        self.actions = tuple(item for item in of_screen(screen) if item.footer and not (first and item.id == "everywhere.back"))
        self._symbols, self._keymap = symbols, keymap

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width, viewport.height))

    def render(self) -> Content:
        return Content("\n").join(self._lines(self.size.width, self.app.size.height))

    def _lines(self, width: int, height: int) -> list[Content]:
        for short, lines in ((False, 1), (True, 1), (True, 2)):
            if lines == 1 or height >= LINES_FOR_TWO:
                found, whole = self._fill(width, lines, short)
                if whole:
                    return found
        return self._fill(width, 2 if height >= LINES_FOR_TWO else 1, short=True)[0]

    def _fill(self, width: int, lines: int, short: bool) -> tuple[list[Content], bool]:
        """Return lines of entries, those that hold everywhere at the end of the last one; and whether all have room."""
        entries = [item for item in self.actions if not (short and item.id in PAIRS.values())]
        always = Content("").join(self._part(item, short) for item in entries if item.screen == EVERYWHERE)
        rows: list[list[Content]] = [[]]
        room, whole = width - (always.cell_length if lines == 1 else 0), True
        for item in entries:
            part = self._part(item, short)
            if item.screen == EVERYWHERE:
                continue
            if part.cell_length > room and len(rows) < lines:
                rows.append([])
                room = width - always.cell_length
            if part.cell_length > room:
                whole = False
                continue
            rows[-1].append(part)
            room -= part.cell_length
        if len(rows) < lines:
            rows.append([])
        rows[-1].append(always)
        return [Content("").join(row) for row in rows], whole

    def _part(self, action: Action, short: bool) -> Content:
        text = SHORT.get(action.id, action.text) if short else action.text
        refused = action.id in self.refused
        pair = BY_ID[PAIRS[action.id]] if short and action.id in PAIRS else None
        caps = [self._key(action, refused, short, "" if pair else " ")] + ([self._key(pair, refused, short, " ")] if pair else [])
        words = Content.from_markup(
            f"[@click={action.binding}][{'$muted' if refused else '$foreground'}]$text[/][/]", text=plain(text, self._symbols)
        )
        return Content("").join([*caps, words])

    def _key(self, action: Action, refused: bool, short: bool, after: str) -> Content:
        key = key_name(keys_of(action, self._keymap)[0], self._symbols.ascii, short)
        colour = "$muted" if refused else "$run-a"
        return Content.from_markup(
            f"[@click={action.binding}][bold {colour} on $background] $key$after[/][/]", key=key, after=after
        )
