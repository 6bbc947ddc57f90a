"""Which metric the chart shows: a list to choose from."""

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from reprotui.compare.metrics import LOSS, NORMS, NOT_FINITE, RATE
from reprotui.tui.symbols import Symbols, plain

_MEANINGS = {
    LOSS: "the loss of each step",
    **{name: f"L2 norm of all {tree}, of records with statistics" for name, tree in NORMS.items()},
    RATE: "over the last second before each record",
    NOT_FINITE: "how many leaves hold NaN or infinity",
}


class MetricScreen(ModalScreen[str | None]):
    """Choose a metric; the result is its name, None where it was left by esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,m", "dismiss(None)", "close"),
        Binding("j", "move('down')", show=False),
        Binding("k", "move('up')", show=False),
    ]
    DEFAULT_CSS = """
    MetricScreen {
        align: center middle; background: $background 60%;
        OptionList {
            width: 76; max-width: 94%; height: auto; max-height: 80%; border: round $run-a; padding: 0 1; background: $surface;
            &:focus { border: round $run-a; }
        }
    }
    """

    def __init__(self, names: Sequence[str], shown: str, symbols: Symbols) -> None:
        super().__init__()
        self._names, self._shown, self._symbols = tuple(names), shown, symbols

    def compose(self) -> ComposeResult:
        width = max(map(len, self._names))
        options = []
        for name in self._names:
            mark = self._symbols.pointer if name == self._shown else " "
            # Names come out of traces of others: none of it is read as markup.
            shown = plain(f"{mark} {name:<{width}}  ", self._symbols)
            options.append(Option(Content.assemble(shown, (_MEANINGS.get(name, "recorded by the run"), "$muted"))))
        yield OptionList(*options)

    def on_mount(self) -> None:
        found = self.query_one(OptionList)
        found.border_title, found.border_subtitle = "metric of the chart", "enter shows it · esc closes"
        found.highlighted = self._names.index(self._shown) if self._shown in self._names else 0
        found.focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._names[event.option_index])

    def action_move(self, way: str) -> None:
        found = self.query_one(OptionList)
        found.action_cursor_down() if way == "down" else found.action_cursor_up()
