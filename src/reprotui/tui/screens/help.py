"""Help: the keys of a screen, made from the table of actions, and what the signs and words mean."""

from textwrap import wrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from reprotui.tui import legend
from reprotui.tui.actions import EVERYWHERE, key_name, keys_of, of_screen
from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.text import fit
from reprotui.tui.widgets.scroll import Scroll

WIDTH, INDENT, WORD = 100, 27, 13
_LISTS = "arrows or j k, page up/down, g G, home end: move · mouse: click, wheel, drag"
_WHAT = {
    "home": "Runs and races of the runs directory. Mark two or more to compare or delete them; the preview says why they differ.",
    "lesson": "A lesson. Predict the verdict, run the race, plant the fault, predict again. The file is yours to copy.",
    "new": "A race: one column a run. Fields that differ are marked; the command below does the same without this screen.",
    "race": "Runs side by side. The band says the verdict; the strip maps the whole run; the table has every step.",
    "checkpoints": "What the runs saved. A checkpoint is VALID only where every byte and every leaf was read and agrees.",
    "step": "One step, leaf by leaf, in causal order: the first phase that differs is where it began.",
}


class HelpScreen(ModalScreen[None]):
    """The keys of one screen, and signs and words; any of esc, q and the keys that open it closes it, tab turns the page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter,i,f3", "dismiss", "close"),
        Binding("tab,shift+tab,left,right,h,l", "turn", "turn the page"),
    ]

    def __init__(self, screen: str, symbols: Symbols, keymap: dict[str, str], on_legend: bool = False) -> None:
        super().__init__()
        self._screen, self._symbols, self._keymap, self._on_legend = screen, symbols, keymap, on_legend

    def compose(self) -> ComposeResult:
        with Scroll(id="help"):
            yield Static(id="help-text")

    def on_mount(self) -> None:
        self._show()
        self.query_one("#help").focus()

    def on_resize(self) -> None:
        self._show()

    def action_turn(self) -> None:
        """Go from keys to signs and words, or back."""
        self._on_legend = not self._on_legend
        self._show()
        self.query_one("#help").scroll_home(animate=False)

    def _show(self) -> None:
        width = max(INDENT + 20, min(WIDTH, int(self.app.size.width * 0.96)) - 8)
        lines = self._legend(width) if self._on_legend else self._keys(width)
        self.query_one("#help-text", Static).update(Content("\n").join(lines))
        box, other = self.query_one("#help"), "keys" if self._on_legend else "signs and words"
        box.border_title = "signs and words" if self._on_legend else "help"
        box.border_subtitle = plain(f"tab {other} · esc closes", self._symbols)

    def _keys(self, width: int) -> list[Content]:
        keymap, symbols = self._keymap, self._symbols
        lines = [Content.styled(line, "bold") for line in wrap(plain(_WHAT[self._screen], symbols), width)]
        lines.append(Content(""))
        everywhere = False
        for item in of_screen(self._screen):
            if item.screen == EVERYWHERE and not everywhere:
                everywhere = True
                lines += [Content(""), Content.styled("everywhere", "$muted")]
            keys = " ".join(key_name(key, symbols.ascii) for key in keys_of(item, keymap))
            text = f"\n{'':{INDENT}}".join(wrap(plain(item.help, symbols), width - INDENT))
            lines.append(Content.assemble((f"{keys:<12}", "bold $run-a"), (f"{plain(item.text, symbols):<15}", "bold"), text))
        return [*lines, Content(""), Content.styled(plain(f"lists   {_LISTS}", symbols), "$muted")]

    def _legend(self, width: int) -> list[Content]:
        lines: list[Content] = []
        for title, entries in (("signs", legend.signs(self._symbols)), ("words", legend.words())):
            lines += [Content(""), Content.styled(title, "$muted")] if lines else [Content.styled(title, "$muted")]
            for name, meaning in entries:
                text = f"\n{'':{WORD}}".join(wrap(plain(meaning, self._symbols), width - WORD))
                lines.append(Content.assemble((fit(name, WORD, self._symbols), "bold $run-a"), text))
        return lines
