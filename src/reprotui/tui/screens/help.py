"""Help: the keys of a screen, made from the table of actions."""

from textwrap import wrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from reprotui.tui.actions import EVERYWHERE, of_screen
from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.widgets.keybar import key_name, keys_of

WIDTH, INDENT = 100, 27
_LISTS = "arrows or j k, page up/down, g G, home end: move · mouse: click, wheel, drag"
_WHAT = {
    "home": "Runs and races of the runs directory. Mark two or more to compare them.",
    "new": "A race: one column a run. Fields that differ are marked; the command below does the same without this screen.",
    "race": "Runs side by side. The band says the verdict; the strip maps the whole run; the table has every step.",
    "checkpoints": "What the runs saved. A checkpoint is VALID only where every byte and every leaf was read and agrees.",
    "step": "One step, leaf by leaf, in causal order: the first phase that differs is where it began.",
}


class HelpScreen(ModalScreen[None]):
    """The keys of one screen; any of esc, q and ? closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1,enter", "dismiss", "close")]

    def __init__(self, screen: str, symbols: Symbols, keymap: dict[str, str]) -> None:
        super().__init__()
        self._screen, self._symbols, self._keymap = screen, symbols, keymap

    def compose(self) -> ComposeResult:
        keymap, symbols = self._keymap, self._symbols
        width = max(INDENT + 20, min(WIDTH, int(self.app.size.width * 0.96)) - 8)
        lines = [Content.styled(plain(_WHAT[self._screen], symbols), "bold"), Content("")]
        everywhere = False
        for item in of_screen(self._screen):
            if item.screen == EVERYWHERE and not everywhere:
                everywhere = True
                lines += [Content(""), Content.styled("everywhere", "$muted")]
            keys = " ".join(key_name(key, symbols.ascii) for key in keys_of(item, keymap))
            text = f"\n{'':{INDENT}}".join(wrap(plain(item.help, symbols), width - INDENT))
            lines.append(Content.assemble((f"{keys:<12}", "bold $run-a"), (f"{plain(item.text, symbols):<15}", "bold"), text))
        lines += [Content(""), Content.styled(plain(f"lists   {_LISTS}", symbols), "$muted")]
        with VerticalScroll(id="help"):
            yield Static(Content("\n").join(lines))

    def on_mount(self) -> None:
        self.query_one("#help").border_title = "help"
        self.query_one("#help").border_subtitle = "esc closes"
        self.query_one("#help").focus()
