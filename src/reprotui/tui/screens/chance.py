"""Where chance and data entered the scripts: seeds, draws, files and folders, line by line, with what each run was given."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from reprotui.compare.ledger import ChanceLine, chance_of, no_places, side_by_side
from reprotui.run_directory import RunDirectory
from reprotui.tui.symbols import Symbols, plain


class ChanceScreen(ModalScreen[None]):
    """The ledger of one run, or of two side by side; esc, q and C close it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,C,enter", "dismiss", "close")]

    def __init__(self, runs: Sequence[tuple[str, RunDirectory]], symbols: Symbols) -> None:
        super().__init__()
        self._labels, self._symbols = [label for label, _ in runs], symbols
        self._ledgers = [chance_of(run.trace_path) for _, run in runs]

    def compose(self) -> ComposeResult:
        lines = [part for line in side_by_side(self._ledgers) for part in self._shown(line)]
        with VerticalScroll(id="help"):
            yield Static(Content("\n").join(lines or [Content(plain(no_places(self._ledgers), self._symbols))]))

    def on_mount(self) -> None:
        box = self.query_one("#help")
        box.border_title, box.border_subtitle = "where chance and data entered", "esc closes"
        box.focus()

    def _shown(self, line: ChanceLine) -> list[Content]:
        """Return a place, its line of the script, and what each run was given."""
        alone = len(self._labels) == 1
        sign, colour = (
            (" ", "foreground") if alone else self._symbols.judge(None if None in line.differs else True in line.differs)
        )
        head = Content.assemble(
            (f"{sign} ", f"bold ${colour}"), (f"{plain(line.place, self._symbols)}  ", "bold"), plain(line.source, self._symbols),
            (f"  {plain(line.text, self._symbols)}", "$muted"),
        )  # fmt: skip
        values = [f"{label} {value or 'not reached'}" for label, value in zip(self._labels, line.values, strict=True)]
        if len(set(line.values)) == 1:
            values = [line.values[0] or "not reached"]
        return [head, *(Content(plain(f"      {value}", self._symbols)) for value in values)]
