"""Typing in a cell of the form of a new race: begun by a key, kept or given up by others."""

from __future__ import annotations

from textual import events, on
from textual.widgets import Input

from reprotui.tui.form import RaceForm
from reprotui.tui.screens.starting import StartingScreen
from reprotui.tui.widgets.form_grid import FormGrid
from reprotui.tui.widgets.rows import Rows


class CellEditing(StartingScreen):
    """The cells of the form; `NewRaceScreen` shows and checks it. The editor lies over the cell that is typed in."""

    def __init__(self, form: RaceForm) -> None:
        super().__init__()
        self.form = form
        self.before: RaceForm | None = None

    def show_form(self) -> None:
        """Show the form again."""
        raise NotImplementedError

    def check_later(self) -> None:
        """Check when nothing has been typed for a moment."""
        raise NotImplementedError

    def set_form(self, form: RaceForm) -> None:
        """Take another form, show it and check it."""
        raise NotImplementedError

    @property
    def grid(self) -> FormGrid:
        return self.query_one(FormGrid)

    @property
    def editing(self) -> bool:
        """Say whether a cell is being typed in."""
        return self.before is not None

    def edit(self, first: str) -> None:
        """Begin to type in the cell under the cursor."""
        region = self.grid.cell_region()
        if not region:
            return
        self.before = self.form
        editor = self.query_one("#editor", Input)
        with self.prevent(Input.Changed):
            editor.value = first or self.cell_text()
        editor.styles.offset = (region.x, region.y)
        editor.styles.width = region.width
        editor.display = True
        editor.focus()
        editor.cursor_position = len(editor.value)
        if first:
            self._typed(Input.Changed(editor, first))
        else:
            editor.action_select_all()
        self.refresh_keys()

    def cell_text(self) -> str:
        """Return what stands in the cell under the cursor."""
        row = self.grid.row
        assert row is not None
        if row.field is not None:
            return self.form.text(self.grid.column, row.field)
        return self.form.race_text(row.name)

    def with_cell(self, form: RaceForm, text: str) -> RaceForm:
        """Return the form with another text in the cell under the cursor."""
        row = self.grid.row
        assert row is not None
        if row.field is not None:
            return form.with_text(self.grid.column, row.field, text)
        return form.with_race_text(row.name, text)

    @on(Input.Changed, "#editor")
    def _typed(self, event: Input.Changed) -> None:
        if self.editing:
            self.form = self.with_cell(self.form, event.value.strip())
            self.show_form()
            self.check_later()

    def stop_editing(self, keep: bool) -> None:
        """End typing; without `keep`, as if it had not begun."""
        if self.before is None:
            return
        before, self.before = self.before, None
        form = self.form if keep else before
        self.form = before
        self.query_one("#editor").display = False
        self.grid.focus()
        self.set_form(form)

    @on(Input.Submitted, "#editor")
    def _submitted(self) -> None:
        self.stop_editing(keep=True)
        self.grid.action_move(1)

    @on(Input.Blurred, "#editor")
    def _left(self) -> None:
        self.stop_editing(keep=True)

    def on_key(self, event: events.Key) -> None:
        """Leave the cell that is typed in by the keys that move in the grid."""
        if self.editing and event.key in ("up", "down", "tab", "shift+tab"):
            event.stop()
            event.prevent_default()
            self.stop_editing(keep=True)
            if event.key in ("up", "down"):
                self.grid.action_move(1 if event.key == "down" else -1)
            else:
                self.grid.action_column(1 if event.key == "tab" else -1)

    @on(Rows.Scrolled)
    def _scrolled(self) -> None:
        self.stop_editing(keep=True)

    def on_resize(self, event: events.Resize) -> None:
        self.stop_editing(keep=True)

    def go_back(self) -> bool:
        if self.editing:
            self.stop_editing(keep=False)
            return True
        return False
