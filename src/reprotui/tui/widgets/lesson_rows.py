"""The list of lessons: what each is about, and how far somebody is with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reprotui.tui.symbols import Symbols
from reprotui.tui.text import fit
from reprotui.tui.widgets.rows import Cell, Rows

if TYPE_CHECKING:
    from reprotui.lessons.catalog import Lesson
    from reprotui.lessons.progress import Kept

TITLE_WIDTH, DONE_WIDTH = 45, 7


class LessonRows(Rows):
    """Lessons, one line each."""

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self.lessons: tuple[Lesson, ...] = ()
        self._kept: Kept = {}

    def show(self, lessons: Sequence[Lesson], kept: Kept) -> None:
        """Show lessons, with the progress that is remembered."""
        self.lessons, self._kept = tuple(lessons), kept
        self.count = len(lessons)
        self.refresh()

    @property
    def current(self) -> Lesson | None:
        """Return the lesson under the cursor."""
        return self.lessons[self.cursor] if self.cursor < len(self.lessons) else None

    def heading(self, width: int) -> list[Cell]:
        title = fit("     lesson", 5 + TITLE_WIDTH, self.symbols)
        return [Cell(title), Cell(fit("raced", DONE_WIDTH, self.symbols)), Cell("  topic")]

    def cells(self, index: int, width: int) -> list[Cell]:
        from reprotui.lessons.progress import done

        lesson = self.lessons[index]
        raced, total = done(self._kept, lesson), len(lesson.races)
        colour = "equal" if raced == total else "strong" if raced else "muted"
        return [
            Cell(f" {lesson.number:>2}  ", "muted"),
            Cell(fit(lesson.title, TITLE_WIDTH, self.symbols), "strong"),
            Cell(fit(f"{raced}/{total}", DONE_WIDTH, self.symbols), colour),
            Cell("  " + fit(lesson.summary, max(0, width - TITLE_WIDTH - DONE_WIDTH - 8), self.symbols), "muted"),
        ]
