"""The pane of Home that says more of what is under the cursor: of a run or race, of a ready-made race, of a lesson."""

from pathlib import Path

from textual.content import Content
from textual.widgets import Static

from reprotui.tui.previews import Previews
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.detail import describe_lesson, describe_preset
from reprotui.tui.widgets.entries import EntryRows
from reprotui.tui.widgets.entry_detail import describe_entry
from reprotui.tui.widgets.lesson_rows import LessonRows
from reprotui.tui.widgets.presets import PresetRows
from reprotui.tui.widgets.rows import Rows


class DetailPane(Static):
    """What `show` was given last, drawn anew where the pane gets another size.

    Args:
        symbols: the signs of this terminal.
        runs: the runs directory, which stands in commands.
        previews: what was read of runs and races.
    """

    def __init__(self, symbols: Symbols, runs: Path, previews: Previews, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._symbols, self._runs, self._previews = symbols, runs, previews
        self._rows: Rows | None = None

    def show(self, rows: Rows) -> None:
        """Say what is under the cursor of a list."""
        self._rows = rows
        self.update(self._text(rows), layout=False)

    def on_resize(self) -> None:
        if self._rows is not None:
            self.show(self._rows)

    def _text(self, rows: Rows) -> Content:
        if isinstance(rows, PresetRows) and rows.current:
            return describe_preset(rows.current, self._runs, self._symbols)
        if isinstance(rows, LessonRows) and rows.current:
            return describe_lesson(rows.current, self._symbols)
        if isinstance(rows, EntryRows) and rows.count and rows.current:
            room, beside = max(20, self.content_size.width), not self.screen.has_class("-narrow")
            return describe_entry(rows.current, self._previews.of(rows.current), self._symbols, room, beside)
        return Content("")
