"""Lines of text that stay at their end: events and logs."""

from typing import ClassVar

from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.widgets.rows import Cell, Rows


class Lines(Rows):
    """Show lines made of cells; new ones are followed while the cursor stands on the last."""

    HEADINGS: ClassVar[int] = 0

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self._lines: list[list[Cell]] = []

    def show(self, lines: list[list[Cell]]) -> None:
        """Show these lines instead of those before."""
        if lines == self._lines:
            return
        at_end = self.cursor >= self.count - 1
        self._lines = lines
        self.count = len(lines)
        if at_end and lines:
            self.cursor = len(lines) - 1
            self.scroll_to(y=max(0, self.count - self.page_rows), animate=False)
        self.refresh()

    def cells(self, index: int, width: int) -> list[Cell]:
        return [Cell(plain(cell.text, self.symbols), cell.colour) for cell in self._lines[index]]
