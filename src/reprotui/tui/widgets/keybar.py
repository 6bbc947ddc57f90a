"""The footer: the keys of this screen, as many as fit; one that does nothing now is dimmed, and says why when pressed."""

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

from reprotui.tui.actions import ACTIONS, Action, of_screen
from reprotui.tui.symbols import Symbols, plain

if TYPE_CHECKING:
    from reprotui.tui.screens.base import ActionScreen

_NAMES = {
    "question_mark": "?", "slash": "/", "escape": "esc", "full_stop": ".", "plus": "+", "minus": "-", "space": "space",
    "left_square_bracket": "[", "right_square_bracket": "]", "asterisk": "*", "equals_sign": "=", "delete": "del",
    "pageup": "pgup", "pagedown": "pgdn", "left": "←", "right": "→", "up": "↑", "down": "↓",
}  # fmt: skip


def key_name(key: str, ascii_only: bool = False) -> str:
    """Return a key as it is printed on a keyboard; by its word where the terminal shows no arrows."""
    key = key.strip()
    name = key.replace("ctrl+", "^") if key.startswith("ctrl+") else _NAMES.get(key, key)
    return key if ascii_only and not name.isascii() else name


def keys_of(action: Action, keymap: dict[str, str]) -> list[str]:
    """Return the keys of an action, those of the settings first."""
    return [key.strip() for key in keymap.get(action.id, action.keys).split(",")]


class KeyBar(Widget):
    """One line of keys; a click does what the key does."""

    DEFAULT_CSS = """
    KeyBar {
        height: 1; dock: bottom; background: $panel; color: $foreground;
        link-style: none; link-style-hover: bold; link-color: $foreground;
        link-background: $panel; link-background-hover: $muted 40%;
    }
    """
    ALLOW_SELECT = False

    def render(self) -> Content:
        from reprotui.tui.screens.base import ActionScreen

        screen = self.screen
        if not isinstance(screen, ActionScreen):
            return Content("")
        keymap, symbols = screen.dashboard.keymap_settings, screen.symbols
        # What holds everywhere is said last but never left out: without help and quit a stranger is lost.
        always = [item for item in ACTIONS if item.screen == "everywhere" and item.footer]
        own = [item for item in of_screen(screen.NAME) if item.footer and item not in always]
        tail = [self._part(screen, item, keymap, symbols) for item in always]
        room = self.size.width - sum(part.cell_length for part in tail)
        parts: list[Content] = []
        for item in own:
            part = self._part(screen, item, keymap, symbols)
            if part.cell_length <= room:
                parts.append(part)
                room -= part.cell_length
        return Content("").join([*parts, *tail])

    def _part(self, screen: "ActionScreen", action: Action, keymap: dict[str, str], symbols: Symbols) -> Content:
        key, text = key_name(keys_of(action, keymap)[0], symbols.ascii), plain(action.text, symbols)
        refused = screen.why_not(action.id) is not None
        click = f"[@click={action.binding}]"
        colour = "$muted" if refused else "$foreground"
        return Content.from_markup(
            f" {click}[bold {'$muted' if refused else '$run-a'}]$key[/] [{colour}]$text[/][/]", key=key, text=text
        )
