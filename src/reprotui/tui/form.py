"""The form of a new race as a value: experiment, fields, and what each run has other than the defaults. No textual here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # configs need pydantic, which the screen does not wait for
    from reprotui.experiments.form import FormField
    from reprotui.race.start import Started

LABELS = "abcdefgh"
EXPERIMENT, NAME = "experiment", "name"
"""Rows of the race itself; a config field of the same name is told apart by `Row.race`."""
RECORDING = {
    "every": ("1", "record every K-th step (≥ 1)"),
    "leaves-every": ("1", "store the leaves of every K-th record (≥ 1)"),
    "stats-every": ("20", "norms and maxima, for the eye, every K records (≥ 1)"),
}
"""How much is recorded, the same for all runs: options of the command line with their defaults and what they mean."""


@dataclass(frozen=True)
class Row:
    """A line of the form: a heading (`field` None and not `race`), a field of the config, or a line of the race itself."""

    name: str
    field: FormField | None = None
    race: bool = False

    @property
    def heading(self) -> bool:
        """Say whether nothing can be set here."""
        return self.field is None and not self.race


@dataclass(frozen=True)
class RaceForm:
    """What was filled in; texts are as typed. `runs` and `recording` hold only what is not the default."""

    experiment: str
    name: str = ""
    fields: tuple[FormField, ...] = ()
    runs: tuple[Mapping[str, str], ...] = ({}, {})
    recording: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def race_text(self, name: str) -> str:
        """Return what stands in a line of the race itself."""
        return {EXPERIMENT: self.experiment, NAME: self.name}.get(name, self.recording.get(name, race_default(name)))

    def with_race_text(self, name: str, text: str) -> RaceForm:
        """Return the form with another text in a line of the race itself."""
        if name in RECORDING:
            others = {option: value for option, value in self.recording.items() if option != name}
            return replace(self, recording=others if text == race_default(name) else {**others, name: text})
        return replace(self, experiment=text) if name == EXPERIMENT else replace(self, name=text)

    def text(self, run: int, field: FormField) -> str:
        """Return what stands in a cell."""
        return self.runs[run].get(field.name, default_text(field))

    def with_text(self, run: int, field: FormField, text: str) -> RaceForm:
        """Return the form with another text in a cell."""
        others = {name: value for name, value in self.runs[run].items() if name != field.name}
        values = others if text == default_text(field) else {**others, field.name: text}
        return replace(self, runs=(*self.runs[:run], values, *self.runs[run + 1 :]))

    def with_fields(self, fields: tuple[FormField, ...]) -> RaceForm:
        """Return the form for another experiment; values of fields that both have stay."""
        known = {field.name: default_text(field) for field in fields}
        runs = tuple({name: text for name, text in run.items() if known.get(name, text) != text} for run in self.runs)
        return replace(self, fields=fields, runs=runs)

    def with_run_added(self) -> RaceForm:
        """Return the form with one run more, a copy of the last."""
        return replace(self, runs=(*self.runs, dict(self.runs[-1])))

    def with_run_removed(self) -> RaceForm:
        """Return the form without its last run."""
        return replace(self, runs=self.runs[:-1])

    def differs(self, field: FormField) -> bool:
        """Say whether runs have different texts in a field."""
        return len({self.text(run, field) for run in range(len(self.runs))}) > 1

    def changed(self, field: FormField) -> bool:
        """Say whether any run has something other than the default."""
        return any(field.name in run for run in self.runs)

    def rows(self, only_differing: bool = False) -> tuple[Row, ...]:
        """Return the lines of the form: the race, then the fields in their groups."""
        rows, group = [Row(EXPERIMENT, race=True), Row(NAME, race=True)], ""
        for field in self.fields:
            if only_differing and not self.changed(field):
                continue
            if field.group != group:
                group = field.group
                rows.append(Row(group))
            rows.append(Row(field.name, field))
        options = [Row(name, race=True) for name in RECORDING if not only_differing or name in self.recording]
        return (*rows, *([Row("recording"), *options] if options and self.fields else []))

    def command(self, runs: Path) -> list[str]:
        """Return the command line that starts the same race."""
        from reprotui.race.start import race_command

        return race_command(self.experiment, self.runs, self.name or None, runs, self.recording)

    def start(self, runs: Path) -> Started:
        """Start the race; raises what `start_race` raises."""
        from reprotui.experiments.discovery import find_experiment
        from reprotui.race.launch import Recording
        from reprotui.race.prepare import Member
        from reprotui.race.start import start_race

        members = [Member(label, dict(values)) for label, values in zip(LABELS, self.runs, strict=False)]
        reference = find_experiment(self.experiment)
        every, leaves_every, statistics_every = (int(self.race_text(name)) for name in RECORDING)
        recording = Recording(every=every, leaves_every=leaves_every, statistics_every=statistics_every)
        return start_race(runs, self.name or None, reference, members, recording, self.command(runs))


@dataclass(frozen=True)
class Problems:
    """What is wrong with a form: with the experiment, the name, how much is recorded, and with fields of each run."""

    experiment: str = ""
    name: str = ""
    runs: tuple[Mapping[str, str], ...] = ()
    recording: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def of(self, row: Row) -> tuple[int, str] | None:
        """Return the first run with a problem in a row, and the problem."""
        if row.race:
            text = {EXPERIMENT: self.experiment, NAME: self.name}.get(row.name, self.recording.get(row.name))
            return (0, text) if text else None
        return next(((run, found[row.name]) for run, found in enumerate(self.runs) if row.name in found), None)

    @property
    def first(self) -> str:
        """Return the first problem as a sentence, empty where there is none."""
        if self.experiment or self.name:
            return self.experiment or f"name: {self.name}"
        if self.recording:
            return next(f"{name}: {text}" for name, text in self.recording.items())
        found = ((label, name, text) for label, run in zip("ABCDEFGH", self.runs, strict=False) for name, text in run.items())
        return next((f"{label}: {name}: {text}" for label, name, text in found), "")


def describe(experiment: str) -> tuple[FormField, ...]:
    """Return the fields of an experiment; raises BadInputError where it cannot be used. May take seconds."""
    from reprotui.experiments.discovery import find_experiment
    from reprotui.experiments.form import describe_experiment

    return describe_experiment(find_experiment(experiment))


def check(form: RaceForm, directory: Path) -> Problems:
    """Check a form. May take seconds where the experiment is a user's file.

    Args:
        form: what was filled in.
        directory: the runs directory, in which the name must be free.
    """
    from reprotui.errors import ReprotuiError
    from reprotui.experiments.discovery import find_experiment
    from reprotui.experiments.form import check_configs
    from reprotui.run_directory import check_name

    name = ""
    try:
        if form.name and (directory / check_name(form.name)).exists():
            name = f"{form.name} exists already in {directory}"
    except ReprotuiError as error:
        name = str(error)
    recording = {option: "a whole number from 1 on" for option, text in form.recording.items() if not _is_count(text)}
    try:
        checked = check_configs(find_experiment(form.experiment), [dict(run) for run in form.runs])
    except ReprotuiError as error:
        return Problems(str(error), name, (), recording)
    return Problems("", name, tuple(item.problems for item in checked), recording)


def about(row: Row, built_in: Sequence[str]) -> str:
    """Return what a line of the form means, and what can be set there."""
    if row.race and row.name == EXPERIMENT:
        return f"Built in: {', '.join(built_in)}; or the path of a .py file with a class Experiment."
    if row.race and row.name in RECORDING:
        return RECORDING[row.name][1]
    if row.race:
        return "Name of the race and of its directory; left empty, it is made from experiment, date and time."
    if row.field is None:
        return ""
    parts = (row.field.description, f"one of {', '.join(row.field.choices)}" if row.field.choices else row.field.bounds)
    return "; ".join(part for part in parts if part)


def race_default(name: str) -> str:
    """Return what stands in a line of the race itself before anything is typed; of the experiment, the caller knows."""
    return RECORDING[name][0] if name in RECORDING else ""


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0


def default_text(field: FormField) -> str:
    """Return a field's default as it is typed."""
    return value_text(field.default)


def value_text(value: Any) -> str:
    """Return a JSON value as it is typed on a command line."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
