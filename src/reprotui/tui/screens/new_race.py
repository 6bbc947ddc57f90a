"""New race: a form made from the experiment's config, one column a run, and the command line that does the same."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static
from textual.worker import Worker, WorkerState

from reprotui.tui import form as forms
from reprotui.tui.form import EXPERIMENT, Problems, RaceForm, race_default
from reprotui.tui.screens.base import bindings
from reprotui.tui.screens.new_race_cells import CellEditing
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.form_grid import FormGrid
from reprotui.tui.widgets.keybar import KeyBar
from reprotui.tui.widgets.rows import Rows

BUILT_IN = ("digits-mlp", "digits-cnn", "transformer")
"""What space goes through; `experiments.registry` holds the same, and a test keeps them together: it imports pydantic."""
QUIET_SECONDS, QUIET_FILE_SECONDS = 0.15, 0.6
"""How long nothing must be typed before it is checked; longer for a user's file, which is imported for it."""
MOST_RUNS = 8
_DESCRIBE, _CHECK = "describe", "check"


class NewRaceScreen(CellEditing):
    """Set up a race and start it.

    Args:
        runs: the runs directory in which it will lie.
    """

    ANSWERED: ClassVar[frozenset[str]] = CellEditing.ANSWERED | {_DESCRIBE, _CHECK}

    NAME = "new"
    BINDINGS = bindings("new")
    CSS_PATH = "new_race.tcss"
    AUTO_FOCUS = "FormGrid"

    def __init__(self, runs: Path) -> None:
        super().__init__(RaceForm(BUILT_IN[0]))
        self.runs_directory = runs
        self.problems = Problems()
        self._only_differing = False
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield FormGrid(self.symbols, self.form)
        yield Static(id="about")
        yield Static(id="command")
        yield KeyBar()
        yield Input(id="editor", compact=True, select_on_focus=False)

    def on_mount(self) -> None:
        self.query_one("#editor").display = False
        self.show_form()
        self.call_after_refresh(self._describe)

    def show_form(self) -> None:
        self.grid.show(self.form, self.problems, self._only_differing)
        differing = sum(self.form.differs(field) for field in self.form.fields)
        runs = f"{len(self.form.runs)} runs of {self.form.experiment}"
        what = "1 field differs" if differing == 1 else f"{differing} fields differ" if differing else "the same config in each"
        dot = self.symbols.dot
        head = plain(f"  {dot}  {runs}  {dot}  {what}", self.symbols)
        self.query_one("#head", Static).update(Content.assemble(("new race", "bold"), head))
        if self.form.fields:
            command = shlex.join(self.form.command(self.runs_directory))
            self.query_one("#command", Static).update(Content.assemble(("$ ", "$muted"), plain(command, self.symbols)))
        self._show_about()
        self.refresh_keys()

    def _show_about(self) -> None:
        row = self.grid.row
        if row is None:
            return
        found = self.problems.of(row)
        text = forms.about(row, BUILT_IN)
        label = "" if row.race or found is None or len(self.form.runs) < 2 else f"{'ABCDEFGH'[found[0]]}: "
        problem = Content.styled(plain(f"{label}{found[1]}", self.symbols), "bold $differs") if found else Content("")
        about = Content.assemble((plain(row.name, self.symbols), "bold"), f"  {plain(text, self.symbols)}")
        self.query_one("#about", Static).update(Content("\n").join([about, problem]), layout=False)

    def _describe(self) -> None:
        call = partial(_described, self.form.experiment)
        self.run_worker(call, group=_DESCRIBE, thread=True, exclusive=True, exit_on_error=False)

    def _check(self) -> None:
        call = partial(_checked, self.form, self.runs_directory)
        self.run_worker(call, group=_CHECK, thread=True, exclusive=True, exit_on_error=False)

    def check_later(self) -> None:
        """Check when nothing has been typed for a moment."""
        if self._timer is not None:
            self._timer.stop()
        seconds = QUIET_FILE_SECONDS if self.form.experiment.endswith(".py") else QUIET_SECONDS
        stale = self.before is not None and self.before.experiment != self.form.experiment
        self._timer = self.set_timer(seconds, self._describe if stale else self._check)

    @on(Worker.StateChanged)
    def _take_answer(self, event: Worker.StateChanged) -> None:
        if event.worker.group not in (_DESCRIBE, _CHECK):
            return
        if event.state == WorkerState.ERROR:
            if event.worker.group == _DESCRIBE:
                self.problems = replace(self.problems, experiment=str(event.worker.error))
                self.show_form()
            else:
                self.say_error(event.worker.error)
        elif event.state == WorkerState.SUCCESS:
            question, answer = _pair(event.worker.result)
            if event.worker.group == _DESCRIBE and question == self.form.experiment:
                self.form = self.form.with_fields(answer)
                self.problems = replace(self.problems, experiment="")
                self.show_form()
                self._check()
            elif event.worker.group == _CHECK and question == self.form:
                self.problems = answer
                self.show_form()

    def set_form(self, form: RaceForm) -> None:
        again = form.experiment != self.form.experiment
        self.form = form
        self.show_form()
        if again:
            self._describe()
        else:
            self.check_later()

    @on(FormGrid.Asked)
    def _asked(self, event: FormGrid.Asked) -> None:
        if event.what == "next":
            self.do_choice()
        else:
            self.do_edit(event.first)

    @property
    def _choices(self) -> tuple[str, ...]:
        row = self.grid.row
        if row is None or row.heading:
            return ()
        return row.field.choices if row.field else BUILT_IN if row.name == EXPERIMENT else ()

    def do_edit(self, first: str = "") -> None:
        row = self.grid.row
        if row is None or row.heading:
            return
        if row.field is not None and row.field.choices:
            self.do_choice()
        else:
            self.edit(first)

    def do_choice(self) -> None:
        if choices := self._choices:
            now = self.cell_text()
            self.set_form(self.with_cell(self.form, choices[(choices.index(now) + 1) % len(choices) if now in choices else 0]))

    def do_default(self) -> None:
        row = self.grid.row
        if row is None or row.heading:
            return
        default = (
            forms.default_text(row.field) if row.field else BUILT_IN[0] if row.name == EXPERIMENT else race_default(row.name)
        )
        self.set_form(self.with_cell(self.form, default))

    @on(Rows.Moved)
    def _moved(self) -> None:
        self._show_about()

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

    def do_start(self) -> None:
        self.stop_editing(keep=True)
        self.start_race(self.form.name or f"a race of {self.form.experiment}", partial(self.form.start, self.runs_directory))

    def opened(self, started: Any) -> None:
        # The race takes the place of the form: leaving it leads Home.
        self.app.pop_screen()
        super().opened(started)

    def do_add(self) -> None:
        self.set_form(self.form.with_run_added())
        self.grid.go_to_column(len(self.form.runs) - 1)

    def do_remove(self) -> None:
        self.set_form(self.form.with_run_removed())

    def do_copy(self) -> None:
        self.app.copy(shlex.join(self.form.command(self.runs_directory)), "command")  # ty: ignore[missing-attribute]

    def do_only_differing(self) -> None:
        self._only_differing = not self._only_differing
        self.show_form()


def _described(experiment: str) -> tuple[str, Any]:
    return experiment, forms.describe(experiment)


def _checked(form: RaceForm, runs: Path) -> tuple[RaceForm, Problems]:
    return form, forms.check(form, runs)


def _pair(answer: Any) -> tuple[Any, Any]:
    return answer
