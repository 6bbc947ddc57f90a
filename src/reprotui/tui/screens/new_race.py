"""New race: a form made from the experiment's config, one column a run, and the command line that does the same."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events, getters, on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.reactive import var
from textual.timer import Timer
from textual.widgets import Input, Static

from reprotui.tui import form_check
from reprotui.tui.form import EXPERIMENT, SCRIPT, RaceForm, default_text
from reprotui.tui.form_check import Problems
from reprotui.tui.form_options import BY_NAME
from reprotui.tui.screens.base import bindings
from reprotui.tui.screens.starting import StartingScreen
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.cell_editor import CellEditor
from reprotui.tui.widgets.form_grid import FormGrid
from reprotui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from reprotui.race.start import Started

BUILT_IN = ("digits-mlp", "digits-cnn", "transformer")
"""What space goes through; `experiments.registry` holds the same, and a test keeps them together: it imports pydantic."""
QUIET_SECONDS, QUIET_FILE_SECONDS = 0.15, 0.6
"""How long nothing must be typed before it is checked; longer for a user's file, which is imported for it."""
MOST_RUNS = 8


class NewRaceScreen(StartingScreen):
    """Set up a race and start it. An input lies over the cell that is typed in.

    Args:
        runs: the runs directory in which it will lie.
    """

    NAME = "new"
    BINDINGS = bindings("new")
    CSS_PATH = "new_race.tcss"
    AUTO_FOCUS = "FormGrid"

    form: var[RaceForm] = var(RaceForm(BUILT_IN[0]), init=False)
    problems: var[Problems] = var(Problems(), init=False)
    only_differing: var[bool] = var(False, init=False)

    grid = getters.query_one(FormGrid)
    editor = getters.query_one(CellEditor)

    def __init__(self, runs: Path) -> None:
        super().__init__()
        self.runs_directory = runs
        self._before: RaceForm | None = None
        """The form as it was before a cell was typed in, None where none is."""
        self._asked = ""
        """The experiment whose fields were asked for last."""
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        grid = FormGrid(self.symbols, self.form, self)
        yield grid
        yield Static(id="about")
        yield Static(id="command")
        yield self.key_bar()
        yield CellEditor(grid, id="editor")

    def on_mount(self) -> None:
        self.show_form()
        self.call_after_refresh(self._look)

    def show_form(self) -> None:
        """Show the form, what is known of it, and the command line that does the same."""
        self.grid.show(self.form, self.problems, self.only_differing)
        head = plain("".join(f"  {self.symbols.dot}  {part}" for part in self.form.summary), self.symbols)
        self.query_one("#head", Static).update(Content.assemble(("new race", "bold"), head))
        if self.form.fields:
            command = shlex.join(self.form.command(self.runs_directory))
            self.query_one("#command", Static).update(Content.assemble(("$ ", "$muted"), plain(command, self.symbols)))
        self._show_about()
        self.refresh_keys()

    watch_problems = watch_only_differing = show_form

    def watch_form(self) -> None:
        self.show_form()
        self._look_later()

    @on(Rows.Moved)
    def _show_about(self) -> None:
        row = self.grid.row
        if row is None:
            return
        found = self.problems.of(row)
        label = "" if row.race or found is None or len(self.form.runs) < 2 else f"{'ABCDEFGH'[found[0]]}: "
        problem = Content.styled(plain(f"{label}{found[1]}", self.symbols), "bold $differs") if found else Content("")
        text = plain(form_check.about(row, BUILT_IN), self.symbols)
        about = Content.assemble((plain(row.name, self.symbols), "bold"), f"  {text}")
        self.query_one("#about", Static).update(Content("\n").join([about, problem]), layout=False)

    # What the form needs is found out in threads: the fields of its experiment, and what is wrong with it.

    def _look(self) -> None:
        if self.form.experiment == self._asked:
            self._check()
        else:
            self._asked = self.form.experiment
            self._describe(self.form.experiment)

    def _look_later(self) -> None:
        """Look when nothing has been typed for a moment; for another experiment at once where its name is not typed in."""
        if self._timer is not None:
            self._timer.stop()
        if self.form.experiment != self._asked and not self.editing:
            self._look()
        else:
            seconds = QUIET_FILE_SECONDS if self.form.experiment.endswith(".py") else QUIET_SECONDS
            self._timer = self.set_timer(seconds, self._look)

    @work(exclusive=True, group="describe", exit_on_error=False)
    async def _describe(self, experiment: str) -> None:
        try:
            fields = await asyncio.to_thread(form_check.describe, experiment)
        except Exception as error:
            self.problems = replace(self.problems, experiment=str(error))
            return
        if experiment == self.form.experiment:
            self.set_reactive(NewRaceScreen.form, self.form.with_fields(fields))
            self.problems = replace(self.problems, experiment="")
            self.show_form()
            self._check()

    @work(exclusive=True, group="check", exit_on_error=False)
    async def _check(self) -> None:
        form = self.form
        try:
            problems = await asyncio.to_thread(form_check.check, form, self.runs_directory)
        except Exception as error:
            self.say_error(error)
            return
        if form == self.form:
            self.problems = problems

    @property
    def _choices(self) -> tuple[str, ...]:
        row = self.grid.row
        if row is None or row.heading:
            return ()
        if row.field:
            return row.field.choices
        return (*BUILT_IN, SCRIPT) if row.name == EXPERIMENT else BY_NAME[row.name].choices if row.name in BY_NAME else ()

    @property
    def _cell(self) -> str:
        """Return what stands in the cell."""
        row = self.grid.row
        assert row is not None
        return self.form.text(self.grid.column, row.field) if row.field else self.form.race_text(row.name)

    def _set_cell(self, text: str) -> None:
        row = self.grid.row
        assert row is not None
        if row.field is not None:
            self.form = self.form.with_text(self.grid.column, row.field, text)
        else:
            self.form = self.form.with_race_text(row.name, text)

    @on(FormGrid.Asked)
    def _asked_for(self, event: FormGrid.Asked) -> None:
        if event.what == "next":
            self.do_choice()
        else:
            self.do_edit()

    def do_edit(self) -> None:
        if self._choices and self.grid.row and self.grid.row.name != EXPERIMENT:
            self.do_choice()
        elif self._open_editor():
            self.editor.value = self._cell
            self.editor.action_select_all()

    def type(self, text: str) -> None:
        if self.editing or self._open_editor():
            self.editor.replace(text, *self.editor.selection)
            self._set_cell(self.editor.value.strip())

    def _open_editor(self) -> bool:
        """Lay the input, empty, over the cell under the cursor; return False where there is none in view."""
        if self.grid.row is None or self.grid.row.heading or not (region := self.grid.cell_region()):
            return False
        self._before = self.form
        self.editor.lay_over(region)
        self.refresh_keys()
        return True

    @property
    def editing(self) -> bool:
        """Say whether a cell is being typed in."""
        return self._before is not None

    @on(Input.Changed, "#editor")
    def _typed(self) -> None:
        if self.editing:  # what stands there now: the news may be of a cell that was left since
            self._set_cell(self.editor.value.strip())

    def stop_editing(self, keep: bool = True) -> None:
        """End typing; without `keep`, as if it had not begun."""
        if self._before is None:
            return
        # Not left to the news of the input: the key that ends typing may be here before it.
        if keep and (typed := self.editor.value.strip()) != self._cell:
            self._set_cell(typed)
        before, self._before = self._before, None
        self.editor.display = False
        self.set_focus(self.grid)
        if keep:
            self._look_later()
        else:
            self.form = before
        self.refresh_keys()

    @on(Input.Blurred, "#editor")
    @on(Rows.Scrolled)
    @on(events.Resize)
    def _left(self) -> None:
        self.stop_editing()

    def leave(self, rows: int, columns: int) -> None:
        """Take what was typed, and go so many rows and columns on."""
        self.stop_editing()
        if rows:
            self.grid.action_move(rows)
        else:
            self.grid.action_column(columns)

    def why_not(self, action: str) -> str | None:
        if action == "new.start":
            if self.starting:
                return "the race is being started"
            return self.problems.first or (None if self.form.fields else "the experiment is being read")
        if action == "new.choice" and not self._choices:
            return "this cell has no list of choices: enter edits it"
        if action == "new.add" and len(self.form.runs) == MOST_RUNS:
            return f"a race has at most {MOST_RUNS} runs"
        if action == "new.remove" and len(self.form.runs) == 2:
            return "a race has at least two runs"
        if action == "new.copy" and not self.form.fields:
            return "the experiment is being read"
        return None

    def do_choice(self) -> None:
        if choices := self._choices:
            self._set_cell(choices[(choices.index(self._cell) + 1) % len(choices) if self._cell in choices else 0])

    def do_default(self) -> None:
        row = self.grid.row
        if row is None or row.heading:
            return
        of_race = BUILT_IN[0] if row.name == EXPERIMENT else self.form.race_default(row.name)
        self._set_cell(default_text(row.field) if row.field else of_race)

    def do_start(self) -> None:
        self.stop_editing()
        self.start_race(self.form.name or f"a race of {self.form.experiment}", partial(self.form.start, self.runs_directory))

    def opened(self, started: Started) -> None:
        # The race takes the place of the form: leaving it leads Home.
        self.app.pop_screen()
        super().opened(started)

    def do_add(self) -> None:
        self.form = self.form.with_run_added()
        self.grid.go_to_column(len(self.form.runs) - 1)

    def do_remove(self) -> None:
        self.form = self.form.with_run_removed()

    def do_copy(self) -> None:
        self.dashboard.copy(shlex.join(self.form.command(self.runs_directory)), "command")

    def do_only_differing(self) -> None:
        self.only_differing = not self.only_differing

    def go_back(self) -> bool:
        editing = self.editing
        self.stop_editing(keep=False)
        return editing
