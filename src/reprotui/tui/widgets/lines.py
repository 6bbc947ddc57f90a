"""Lines of text that stay at their end: events and logs."""

import time
from collections.abc import Callable
from typing import ClassVar

from textual.content import Content
from textual.reactive import reactive, var

from reprotui.foreign import visible
from reprotui.race.status import RaceStatus
from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.widgets.rows import Cell, Rows


class Lines(Rows):
    """Show lines made of cells, or those that contain what is `wanted`; new ones are followed from the last one on.

    Args:
        symbols: the signs of this terminal.
        lines_of: makes the lines of a status.
        title: stands on the border, with how many lines are shown of how many where they are narrowed.
        id: the widget's id.
    """

    HEADINGS: ClassVar[int] = 0
    status: var[RaceStatus | None] = var(None, init=False)
    lines: reactive[list[list[Cell]]] = reactive(list, init=False)
    wanted: var[str] = var("", init=False)
    """What lines must contain, whatever the case of its letters."""

    def __init__(
        self, symbols: Symbols, lines_of: Callable[[RaceStatus], list[list[Cell]]], title: str, *, id: str | None = None
    ) -> None:
        super().__init__(symbols, id=id)
        self._lines_of, self._title = lines_of, title

    def on_mount(self) -> None:
        self.border_title = self._title

    def watch_status(self, status: RaceStatus | None) -> None:
        if status is None:
            return
        lines, wanted = self._lines_of(status), self.wanted.casefold()
        found = [line for line in lines if wanted in "".join(cell.text for cell in line).casefold()] if wanted else lines
        narrowed = f" {self.symbols.dot} {len(found)} of {len(lines)} with {visible(self.wanted)}" if wanted else ""
        # As text: what a person types is not read as markup.
        self.border_title = Content(plain(f"{self._title}{narrowed}", self.symbols))
        self.lines = found

    def watch_wanted(self) -> None:
        self.watch_status(self.status)

    def watch_lines(self, lines: list[list[Cell]]) -> None:
        at_end = self.cursor >= self.count - 1
        self.count = len(lines)
        if at_end and lines:
            self.cursor = len(lines) - 1
            self.scroll_to(y=max(0, self.count - self.page_rows), animate=False)

    def cells(self, index: int, width: int) -> list[Cell]:
        return [Cell(plain(cell.text, self.symbols), cell.colour) for cell in self.lines[index]]


def event_lines(status: RaceStatus) -> list[list[Cell]]:
    """Return the events of all runs in the order of their time."""
    rows = sorted((event.time_ns, index, event) for index, run in enumerate(status.runs) for event in run.events)
    return [
        [
            Cell(time.strftime("%H:%M:%S ", time.localtime(at / 1e9)), "muted"),
            Cell(f"{status.runs[index].label} ", "abcdefgh"[index]),
            Cell(f"{event.kind:<9} ", "differs" if event.kind == "failed" else "strong"),
            Cell(event.text.replace("\n", " ")),
        ]
        for at, index, event in rows
    ]  # fmt: skip


def log_lines(status: RaceStatus) -> list[list[Cell]]:
    """Return the ends of the logs, a run after the other."""
    return [
        [Cell(f"{run.label} ", "abcdefgh"[index]), Cell(line.expandtabs(4))]
        for index, run in enumerate(status.runs)
        for line in run.log
    ]
