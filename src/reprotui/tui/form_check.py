"""What the form of a new race asks of the disk and of the experiment: its fields, what is wrong and where. Runs in threads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reprotui.tui import form_options
from reprotui.tui.form import COMMAND, EXPERIMENT, FOLDER, LABELS, NAME, REVISION, SCRIPT, RaceForm, Row, checkpointing, folder_of
from reprotui.tui.form_options import BY_NAME, REPEAT

if TYPE_CHECKING:  # configs need pydantic, which the screen does not wait for
    from reprotui.experiments.form import FormField


@dataclass(frozen=True)
class Problems:
    """What is wrong with a form: with the experiment, the name, the options, and with fields of each run."""

    experiment: str = ""
    name: str = ""
    runs: tuple[Mapping[str, str], ...] = ()
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def of(self, row: Row) -> tuple[int, str] | None:
        """Return the first run with a problem in a row, and the problem."""
        if row.race:
            text = {EXPERIMENT: self.experiment, NAME: self.name}.get(row.name, self.options.get(row.name))
            return (0, text) if text else None
        return next(((run, found[row.name]) for run, found in enumerate(self.runs) if row.name in found), None)

    @property
    def first(self) -> str:
        """Return the first problem as a sentence, empty where there is none."""
        if self.experiment or self.name:
            return self.experiment or f"name: {self.name}"
        if self.options:
            return next(f"{name}: {text}" for name, text in self.options.items())
        found = ((label, name, text) for label, run in zip(LABELS.upper(), self.runs, strict=False) for name, text in run.items())
        return next((f"{label}: {name}: {text}" for label, name, text in found), "")


def describe(experiment: str) -> tuple[FormField, ...]:
    """Return the fields of an experiment, or of scripts; raises BadInputError where it cannot be used. May take seconds."""
    from reprotui.experiments.discovery import find_experiment
    from reprotui.experiments.form import FormField, describe_experiment

    if experiment == SCRIPT:
        told = {
            COMMAND: "what is run, such as python train.py --seed 0; B and the others, left empty: A's command",
            FOLDER: "folder in which it is started; left empty, the one that reprotui was started in",
            REVISION: "git revision that is checked out for the race and removed after it; left empty, the files as they are",
        }
        return tuple(FormField(name, "", text, SCRIPT, "text") for name, text in told.items())
    return describe_experiment(find_experiment(experiment))


def check(form: RaceForm, directory: Path) -> Problems:
    """Check a form. May take seconds where the experiment is a user's file.

    Args:
        form: what was filled in.
        directory: the runs directory, in which the name must be free.
    """
    from reprotui.errors import ReprotuiError
    from reprotui.run_directory import check_name

    name = ""
    try:
        if form.name and (directory / check_name(form.name)).exists():
            name = f"{form.name} exists already in {directory}"
    except ReprotuiError as error:
        name = str(error)
    options = {option: text for option, value in form.options.items() if (text := form_options.problem_of(option, value))}
    total = len(form.runs) * form.repeat
    if REPEAT not in options and total > len(LABELS):
        options[REPEAT] = f"{len(form.runs)} columns × {form.repeat} are {total} runs: a race has at most {len(LABELS)}"
    if form.scripts:
        return Problems("", name, _check_scripts(form), options)
    return _check_experiment(form, Problems("", name, (), options))


def _check_experiment(form: RaceForm, known: Problems) -> Problems:
    from reprotui.errors import ReprotuiError
    from reprotui.experiments.discovery import find_experiment
    from reprotui.experiments.form import check_configs

    try:
        checked = check_configs(find_experiment(form.experiment), [dict(run) for run in form.runs])
    except ReprotuiError as error:
        return replace(known, experiment=str(error))
    options = dict(known.options)
    if not {"save-every", "save-at"} & options.keys():
        for item in checked:
            try:
                if item.values:
                    checkpointing(form.options).check(item.values["steps"], 0)
            except ReprotuiError as error:
                options["save-at"] = str(error)
    return replace(known, runs=tuple(item.problems for item in checked), options=options)


def _check_scripts(form: RaceForm) -> tuple[Mapping[str, str], ...]:
    """Return what is wrong with each column of a race of scripts."""
    return tuple(_check_script(form, index) for index in range(len(form.runs)))


def _check_script(form: RaceForm, index: int) -> dict[str, str]:
    from reprotui.errors import ReprotuiError
    from reprotui.race import versions
    from reprotui.race.scripts import ScriptMember, check_member, parse_command

    text, run = form.commands[index], form.runs[index]
    found: dict[str, str] = {}
    version = None
    if run.get(FOLDER) and run.get(REVISION):
        found[REVISION] = "folder and revision both say where it comes from: give one"
    elif run.get(FOLDER):
        try:
            version = versions.of_directory(folder_of(run[FOLDER]))
        except ReprotuiError as error:
            found[FOLDER] = str(error)
    elif run.get(REVISION):
        try:
            versions.find_commit(run[REVISION])
        except ReprotuiError as error:
            found[REVISION] = str(error)
    if index and not run.get(COMMAND) and not version:
        return found  # A's command, in A's place or in one that is not seen yet: what is wrong with it is said there
    if not text:
        found[COMMAND] = "what is to be run, such as python train.py --seed 0"
        return found
    try:
        command = parse_command(text)
        if not run.get(REVISION) and not found:  # what a revision holds is seen once it is checked out
            check_member(ScriptMember(LABELS[index], command, version))
    except ReprotuiError as error:
        found[COMMAND] = str(error)
    return found


def about(row: Row, built_in: Sequence[str]) -> str:
    """Return what a line of the form means, and what can be set there."""
    if row.race and row.name == EXPERIMENT:
        return (
            f"Built in: {', '.join(built_in)}; {SCRIPT}: scripts of your own, by their command lines; or the path of a .py file "
            "with a class Experiment."
        )
    if row.race and row.name in BY_NAME:
        option = BY_NAME[row.name]
        return f"{option.means}; one of {', '.join(option.choices)}" if option.choices else option.means
    if row.race:
        return "Name of the race and of its directory; left empty, it is made from experiment, date and time."
    if row.field is None:
        return ""
    parts = (row.field.description, f"one of {', '.join(row.field.choices)}" if row.field.choices else row.field.bounds)
    return "; ".join(part for part in parts if part)
