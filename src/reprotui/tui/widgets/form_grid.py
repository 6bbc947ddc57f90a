"""The grid of a new race: a line a field, a column a run; drawn like a list, so that eight runs cost what two cost."""

from typing import ClassVar, Protocol

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message

from reprotui.tui.form import COMMAND, EXPERIMENT, RaceForm, Row
from reprotui.tui.form_check import Problems
from reprotui.tui.form_options import BY_NAME
from reprotui.tui.symbols import Symbols
from reprotui.tui.text import fit
from reprotui.tui.widgets.rows import Cell, Rows

LABEL, SIGN = 17, 4
"""Cells of a field's name, and of the sign before it."""
NARROWEST, WIDEST, OF_SCRIPTS = 13, 22, 60
"""Cells of a run's column: at least, at most, and at most where command lines and folders stand in it."""
AS_REFERENCE = "(as A)"
NOTE = 24
"""Cells below which a note is not worth its room."""


class CellEditor(Protocol):
    """What holds the text of the cell that is typed in.

    It is called, and not told by messages: keys that arrive in one burst are all here before the first message is read.
    """

    @property
    def editing(self) -> bool:
        """Say whether a cell is being typed in."""
        ...

    def type(self, text: str) -> None:
        """Add a text to the cell under the cursor; the first one replaces what stood there."""

    def stop_editing(self) -> None:
        """Take what was typed; the cursor goes on to another cell."""

    def leave(self, rows: int, columns: int) -> None:
        """Take what was typed, and go so many rows and columns on."""


LEAVING = {"enter": (1, 0), "up": (-1, 0), "down": (1, 0), "tab": (0, 1), "shift+tab": (0, -1)}
"""Keys that end typing, with the rows and columns that they go."""
MOVING = {"up": (-1, 0), "k": (-1, 0), "down": (1, 0), "j": (1, 0), "left": (0, -1), "h": (0, -1), "right": (0, 1), "l": (0, 1)}
"""Keys that move the cursor; bindings know them too, but are obeyed when the next key of a burst has been here already."""


class FormGrid(Rows):
    """Cells to move in with arrows, vim keys and mouse; what is typed is edited by the screen's one input."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--cell", "rows--group"}
    DEFAULT_CSS = """
    FormGrid {
        .rows--cell { background: $run-a; color: $on-verdict; text-style: bold; }
        .rows--group { color: $muted; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "column(-1)", show=False),
        Binding("right,l", "column(1)", show=False),
    ]

    class Asked(Message):
        """A person wants to `edit` the cell under the cursor, or to take its `next` choice."""

        def __init__(self, what: str) -> None:
            super().__init__()
            self.what = what

    def __init__(self, symbols: Symbols, form: RaceForm, editor: CellEditor, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self._editor = editor
        self.form, self.problems = form, Problems()
        self.rows: tuple[Row, ...] = form.rows()
        self.column = 0
        self._left = 0

    def show(self, form: RaceForm, problems: Problems, only_differing: bool) -> None:
        """Show a form; the cursor stays on its field."""
        before = self.row
        self.form, self.problems, self.rows = form, problems, form.rows(only_differing)
        self.column = min(self.column, len(form.runs) - 1)
        self.count = len(self.rows)
        names = [(row.name, row.race, row.heading) for row in self.rows]
        if before and (before.name, before.race, before.heading) in names:
            self.cursor = names.index((before.name, before.race, before.heading))
        self._keep_in_view()
        self.refresh()

    @property
    def row(self) -> Row | None:
        """Return the row under the cursor."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def _columns(self, width: int) -> tuple[int, int]:
        """Return how many runs are seen, and the width of each."""
        runs = len(self.form.runs)
        room = max(NARROWEST, width - LABEL - SIGN)
        seen = max(1, min(runs, room // NARROWEST))
        scripts = self.form.scripts
        spare = room - NOTE if room - NOTE >= seen * NARROWEST and not scripts else room
        return seen, max(NARROWEST, min(OF_SCRIPTS if scripts else WIDEST, spare // seen))

    def heading(self, width: int) -> list[Cell]:
        seen, cell = self._columns(width)
        cells = [Cell(" " * (SIGN + LABEL))]
        for run in range(self._left, self._left + seen):
            cells.append(Cell(fit(f" {'ABCDEFGH'[run]}{' reference' if run == 0 else ''}", cell, self.symbols), "abcdefgh"[run]))
        more = len(self.form.runs) - self._left - seen
        return [*cells, Cell(f" {more} more {self.symbols.right}" if more > 0 else "", "muted")]

    def cells(self, index: int, width: int) -> list[Cell]:
        row, symbols = self.rows[index], self.symbols
        if row.heading:
            return [Cell(fit(f"  {row.name}", width, symbols), "group")]
        found = self.problems.of(row)
        differs = row.field is not None and self.form.differs(row.field)
        sign = ("!", "differs") if found else (symbols.differs, "differs") if differs else ("", "")
        seen, cell = self._columns(width)
        cells = [Cell(fit(f"  {sign[0]}", SIGN, symbols), sign[1]), Cell(fit(row.name, LABEL, symbols))]
        here = index == self.cursor and self.has_focus
        if row.field is None:
            text = self.form.race_text(row.name)
            colour = "muted" if row.name != EXPERIMENT and text == self.form.race_default(row.name) else ""
            empty = BY_NAME[row.name].empty if row.name in BY_NAME else "(by date and time)"
            cells.append(self._cell(text or empty, seen * cell, here, "differs" if found else colour, self._has_choices(row)))
        else:
            for run in range(self._left, self._left + seen):
                text = self.form.text(run, row.field)
                colour = "abcdefgh"[run] if row.field.name in self.form.runs[run] else "muted"
                if run < len(self.problems.runs) and row.name in self.problems.runs[run]:
                    colour = "differs"
                shown = text or (AS_REFERENCE if run and row.name == COMMAND and self.form.scripts else "")
                cells.append(self._cell(shown, cell, here and run == self.column, colour, bool(row.field.choices)))
        room = width - SIGN - LABEL - seen * cell
        if room > 12:
            note, colour = (found[1], "differs") if found else (self._note(row), "muted")
            cells.append(Cell(" " + fit(note, room - 2, symbols), colour))
        return cells

    def _cell(self, text: str, width: int, here: bool, colour: str, choice: bool) -> Cell:
        # An empty text has a sign, so that the cell is seen; a choice says that there is more behind it.
        shown = f"{text or self.symbols.nothing}{f' {self.symbols.open}' if choice and here else ''}"
        return Cell(fit(f" {shown}", width - 1, self.symbols) + " ", "cell" if here else colour)

    @staticmethod
    def _has_choices(row: Row) -> bool:
        """Say whether space goes through choices in a line of the race itself."""
        return row.name == EXPERIMENT or (row.name in BY_NAME and bool(BY_NAME[row.name].choices))

    def _note(self, row: Row) -> str:
        if row.field is None:
            if row.name in BY_NAME:
                return BY_NAME[row.name].means
            return "space: next one; enter: a .py file" if row.name == EXPERIMENT else "directory in the runs directory"
        return f"{row.field.description}{f' ({row.field.bounds})' if row.field.bounds else ''}"

    def cell_region(self) -> Region:
        """Return where the cell under the cursor is on the screen; empty where it is out of view."""
        seen, cell = self._columns(self.scrollable_content_region.width)
        row = self.row
        y = self.cursor - self.scroll_offset.y + 1
        if row is None or not 1 <= y <= self.page_rows:
            return Region()
        across = row.field is None
        x = SIGN + LABEL + (0 if across else (self.column - self._left) * cell)
        area = self.content_region
        return Region(area.x + x, area.y + y, (seen if across else 1) * cell - 1, 1)

    def _keep_in_view(self) -> None:
        seen, _ = self._columns(self.scrollable_content_region.width or 80)
        self._left = max(0, min(self._left, self.column, len(self.form.runs) - seen))
        self._left = max(self._left, self.column - seen + 1)

    def go_to(self, index: int, by_hand: bool = False) -> None:
        # Headings are stepped over in the direction of the movement.
        self._editor.stop_editing()
        step = 1 if index >= self.cursor else -1
        while 0 <= index < len(self.rows) and self.rows[index].heading:
            index += step
        super().go_to(max(0, index), by_hand)

    def action_column(self, by: int) -> None:
        self.go_to_column(self.column + by)

    def go_to_column(self, column: int) -> None:
        """Put the cursor on another run."""
        self._editor.stop_editing()
        self.column = max(0, min(column, len(self.form.runs) - 1))
        self._keep_in_view()
        self.refresh()

    def on_key(self, event: events.Key) -> None:
        """Move, begin to edit a number by typing it, and go on until the input has the focus: each key where it comes."""
        editing, number = self._editor.editing, _takes_number(self.row) and event.character in tuple("0123456789-.")
        if editing and event.key in LEAVING:
            self._editor.leave(*LEAVING[event.key])
        elif event.character and event.is_printable and (editing or number):
            self._editor.type(event.character)
        elif not editing and event.key in MOVING:
            rows, columns = MOVING[event.key]
            self.action_move(rows) if rows else self.action_column(columns)
        else:
            return
        event.stop()
        event.prevent_default()

    def on_paste(self, event: events.Paste) -> None:
        """Take a pasted text into the cell."""
        text = event.text.strip().partition("\n")[0].strip()
        if text and self.row and not self.row.heading and not (self.row.field and self.row.field.choices):
            event.stop()
            self._editor.type(text)

    def on_click(self, event: events.Click) -> None:
        """Go to the cell that is clicked; a click where the cursor is edits it, or takes the next choice."""
        index = event.style.meta.get("row")
        if index is None or self.rows[index].heading:
            event.prevent_default()
            return
        _, cell = self._columns(self.scrollable_content_region.width)
        column = self._left + (event.x - SIGN - LABEL) // cell
        row = self.rows[index]
        inside = row.field is None or 0 <= column < len(self.form.runs)
        same = index == self.cursor and (row.field is None or column == self.column)
        event.prevent_default()
        event.stop()
        if row.field is not None and inside:
            self.go_to_column(column)
        self.go_to(index, by_hand=True)
        if same and inside:
            choice = row.field.choices if row.field else self._has_choices(row)
            self.post_message(self.Asked("next" if choice else "edit"))


def _takes_number(row: Row | None) -> bool:
    """Say whether a number belongs into a row: of a config, or an option that counts something."""
    if row is None or row.field is None:
        return row is not None and row.name in BY_NAME and BY_NAME[row.name].count
    return row.field.kind in ("int", "float")
