"""The form of a new race as a value: experiment or scripts, and what each run has other than the defaults. No textual here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprotui.tui import form_options
from reprotui.tui.form_options import AT_DIVERGENCE, BY_NAME, GO_ON, REPEAT, TOLERANCE, YES

if TYPE_CHECKING:  # configs need pydantic, which the screen does not wait for
    from reprotui.experiments.form import FormField
    from reprotui.race.script_race import Source
    from reprotui.race.start import Started

LABELS = "abcdefgh"
EXPERIMENT, NAME = "experiment", "name"
"""Rows of the race itself; a config field of the same name is told apart by `Row.race`."""
SCRIPT = "script"
"""Stands in the place of an experiment where anybody's own scripts are raced."""
COMMAND, FOLDER, REVISION = "command", "folder", "revision"
"""Fields of a run that is a script."""


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
    """What was filled in; texts are as typed. `runs` and `options` (see `form_options`) hold only what is not the default."""

    experiment: str
    name: str = ""
    fields: tuple[FormField, ...] = ()
    runs: tuple[Mapping[str, str], ...] = ({}, {})
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def scripts(self) -> bool:
        """Say whether the runs are scripts, and no experiment."""
        return self.experiment == SCRIPT

    @property
    def summary(self) -> tuple[str, str]:
        """Return how many runs there are of what, and in how much they differ."""
        differing = sum(self.differs(field) for field in self.fields)
        what = "1 field differs" if differing == 1 else f"{differing} fields differ" if differing else "the same in each"
        return f"{len(self.runs) * self.repeat} runs of {'scripts' if self.scripts else self.experiment}", what

    @property
    def repeat(self) -> int:
        """Return how often each column is started; 1 where what stands there is no number."""
        text = self.race_text(REPEAT)
        return int(text) if form_options.is_count(text) else 1

    def race_text(self, name: str) -> str:
        """Return what stands in a line of the race itself."""
        if name in BY_NAME:
            return self.options.get(name, form_options.default_of(name, self.options))
        return self.experiment if name == EXPERIMENT else self.name

    def race_default(self, name: str) -> str:
        """Return what stands in a line of the race itself before anything is typed; of the experiment, the caller knows."""
        return form_options.default_of(name, self.options) if name in BY_NAME else ""

    def with_race_text(self, name: str, text: str) -> RaceForm:
        """Return the form with another text in a line of the race itself."""
        if name in BY_NAME:
            others = {option: value for option, value in self.options.items() if option != name}
            return replace(self, options=others if text == self.race_default(name) else {**others, name: text})
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
        """Return the form for another experiment; values of fields, and options, that both have stay."""
        known = {field.name: default_text(field) for field in fields}
        runs = tuple({name: text for name, text in run.items() if known.get(name, text) != text} for run in self.runs)
        offered = {option.name for option in form_options.options_of(self.scripts)}
        options = {name: text for name, text in self.options.items() if name in offered}
        return replace(self, fields=fields, runs=runs, options=options)

    def with_run_added(self) -> RaceForm:
        """Return the form with one run more, a copy of the last."""
        return replace(self, runs=(*self.runs, dict(self.runs[-1])))

    def with_run_removed(self) -> RaceForm:
        """Return the form without its last run."""
        return replace(self, runs=self.runs[:-1])

    def differs(self, field: FormField) -> bool:
        """Say whether runs have different texts in a field."""
        if field.name == COMMAND and self.scripts:
            return len(set(self.commands)) > 1
        return len({self.text(run, field) for run in range(len(self.runs))}) > 1

    def changed(self, field: FormField) -> bool:
        """Say whether any run has something other than the default."""
        return any(field.name in run for run in self.runs)

    def rows(self, only_differing: bool = False) -> tuple[Row, ...]:
        """Return the lines of the form: experiment and name, the fields in their groups, the options in theirs."""
        rows, group = [Row(EXPERIMENT, race=True), Row(NAME, race=True)], ""
        for field in self.fields:
            if only_differing and not self.changed(field):
                continue
            if field.group != group:
                group = field.group
                rows.append(Row(group))
            rows.append(Row(field.name, field))
        for option in form_options.options_of(self.scripts) if self.fields else ():
            if only_differing and option.name not in self.options:
                continue
            if option.group != group:
                group = option.group
                rows.append(Row(group))
            rows.append(Row(option.name, race=True))
        return tuple(rows)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels of all runs, those that are repeated too, as `reprotui race` gives them for the same command."""
        columns = LABELS[: len(self.runs)]
        if self._alike:
            return tuple(LABELS[: len(columns) * self.repeat])
        return tuple(label if number == 0 else f"{label}{number + 1}" for label in columns for number in range(self.repeat))

    @property
    def _alike(self) -> bool:
        """Say whether all columns are the same, so that there is nothing to name them by."""
        if self.scripts:
            return len(set(self.commands)) == 1 and not self.sources
        return all(run == self.runs[0] for run in self.runs)

    @property
    def commands(self) -> tuple[str, ...]:
        """Return the command of each column; one that has none of its own races A's."""
        first = self.runs[0].get(COMMAND, "")
        return tuple(run.get(COMMAND) or first for run in self.runs)

    @property
    def sources(self) -> dict[str, Source]:
        """Return the folder or revision of each column that has one, by its label."""
        from reprotui.race.script_race import Source

        found = {}
        for label, run in zip(LABELS, self.runs, strict=False):
            if run.get(FOLDER) or run.get(REVISION):
                found[label] = Source(folder_of(run[FOLDER]) if run.get(FOLDER) else None, run.get(REVISION) or None)
        return found

    def command(self, runs: Path) -> list[str]:
        """Return the command line that starts the same race."""
        from reprotui.race.command import race_command, scripts_command

        options = [*(["--name", self.name] if self.name else []), *form_options.words(self.options, self.scripts)]
        if self.scripts:
            return scripts_command(self.commands, self.sources, runs, self.repeat, options)
        return race_command(self.experiment, self.runs, runs, self.repeat, options)

    def start(self, runs: Path) -> Started:
        """Start the race; raises what `start_race` and `start_scripts` raise."""
        from reprotui.experiments.discovery import find_experiment
        from reprotui.observation import Options, parse_share
        from reprotui.race.prepare import Member, Request
        from reprotui.race.script_race import ScriptRace
        from reprotui.race.scripts import parse_command
        from reprotui.race.start import start_race, start_scripts
        from reprotui.schedule import Recording, Replicas

        def chosen(name: str) -> bool:
            return self.options.get(name) == YES

        columns = [LABELS.index(label[0]) % len(self.runs) for label in self.labels]
        every, leaves_every, statistics_every = (int(self.race_text(name)) for name in ("every", "leaves-every", "stats-every"))
        recording = Recording(
            every=every, leaves_every=leaves_every, statistics_every=statistics_every, stop_at_nan=chosen("stop-at-nan"),
            replicas=Replicas(self.race_text("replicas")),
        )  # fmt: skip
        at_divergence = self.options.get(AT_DIVERGENCE, GO_ON)
        rules = self.options.get(TOLERANCE, "").split(), None if at_divergence == GO_ON else at_divergence
        name, command = self.name or None, self.command(runs)
        if self.scripts:
            commands = [(label, parse_command(self.commands[at])) for label, at in zip(self.labels, columns, strict=True)]
            check = parse_share(self.options["check"]) if self.options.get("check") else None
            asked = Options(self.options.get("step-function"), self.options.get("loss"), inside=chosen("inside"), check=check)
            return start_scripts(Request(runs, name, command, recording), ScriptRace(commands, asked, self.sources), *rules)
        members = [Member(label, dict(self.runs[at])) for label, at in zip(self.labels, columns, strict=True)]
        request = Request(runs, name, command, recording, checkpointing(self.options))
        return start_race(request, find_experiment(self.experiment), members, *rules)


def checkpointing(options: Mapping[str, str]) -> Any:
    """Return the schedule of checkpoints that was chosen, as `--save-every` and `--save-at` mean it."""
    from reprotui.schedule import Checkpointing

    every = options.get("save-every", "")
    at = tuple(sorted({int(text) for text in options.get("save-at", "").split()}))
    return Checkpointing(every=int(every) if every else None, at=at, at_end=bool(every))


def folder_of(text: str) -> Path:
    """Return the folder that was typed; a command line in quotes does not expand its `~`."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user
        return Path(text)


def default_text(field: FormField) -> str:
    """Return a field's default as it is typed."""
    return value_text(field.default)


def value_text(value: Any) -> str:
    """Return a JSON value as it is typed on a command line."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
