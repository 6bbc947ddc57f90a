"""The ranks of runs of several processes: a row each, with those whose copies differ marked."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from reprotui.compare.rank_status import HEADINGS, RankStatus
from reprotui.race.status import RunStatus
from reprotui.tui.symbols import Symbols, plain


class RanksScreen(ModalScreen[None]):
    """The ranks of all runs as they stand now; esc, q and R close it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,R,enter", "dismiss", "close")]

    def __init__(self, runs: Sequence[RunStatus], symbols: Symbols) -> None:
        super().__init__()
        self._runs, self._symbols = runs, symbols

    def compose(self) -> ComposeResult:
        parts = [part for run in self._runs if run.ranks for part in self._shown(run)]
        with VerticalScroll(id="help"):
            yield Static(Content("\n").join(parts))

    def on_mount(self) -> None:
        box = self.query_one("#help")
        box.border_title, box.border_subtitle = "ranks", "esc closes"
        box.focus()

    def _shown(self, run: RunStatus) -> list[Content]:
        rows = [HEADINGS, *(rank.cells for rank in run.ranks)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        head = Content.styled(plain(f"{run.label}  {run.torn or f'{len(run.ranks)} ranks'}", self._symbols), "bold")
        return [head, Content.styled(_row(HEADINGS, widths), "$muted"), *(self._rank(rank, widths) for rank in run.ranks)]

    def _rank(self, rank: RankStatus, widths: Sequence[int]) -> Content:
        sign, colour = self._symbols.judge(True) if rank.torn else (" ", "foreground")
        return Content.assemble((f"{sign} ", f"bold ${colour}"), plain(_row(rank.cells, widths)[2:], self._symbols))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  " + "  ".join(f"{text:<{width}}" for text, width in zip(cells, widths, strict=True)).rstrip()
