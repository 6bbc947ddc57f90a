"""Scripts in the place of experiments: which runs a command line of `reprotui race` asks for, and how they end."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import BadInputError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what concerns scripts only."""
    group = parser.add_argument_group("your own scripts", 'a command behind --, or --a "python train.py --seed 0"')
    group.add_argument("--step-function", metavar="NAME", help="the train step, where another function would be taken for it")
    group.add_argument("--loss", metavar="NAME", help="the scalar output that is the loss, where another would be taken for it")
    for label in "ab":
        group.add_argument(f"--{label}-dir", type=Path, metavar="DIR", help=f"folder in which {label.upper()} is started")
        group.add_argument(
            f"--{label}-rev",
            metavar="REV",
            help=f"git revision of {label.upper()}, checked out for the race and removed after it",
        )


def preparation(parsed: argparse.Namespace, labels: str) -> "Scripts | None":
    """Return the race of scripts that a command line asks for; None where it asks for an experiment.

    Raises:
        BadInputError: commands and experiments are mixed, or there are too few or too many.
    """
    from reprotui.race.scripts import is_command, parse_command

    behind = parsed.command_line[parsed.command_line.index("--") + 1 :] if "--" in parsed.command_line else []
    given = {label: getattr(parsed, label) for label in labels if getattr(parsed, label) is not None}
    single = {label: tokens[0] for label, tokens in given.items() if is_command(tokens)}
    versions = [f"--{label}-{kind}" for label in "ab" for kind in ("dir", "rev") if getattr(parsed, f"{label}_{kind}")]
    if not behind and not single:
        for option in [*versions, *(["--step-function"] if parsed.step_function else []), *(["--loss"] if parsed.loss else [])]:
            raise BadInputError(f"{option} needs a script: put its command behind --, as in {option} … -- python train.py")
        return None
    if mixed := [label for label in given if label not in single]:
        raise BadInputError(
            f"--{mixed[0]} {' '.join(given[mixed[0]])}: in a race of scripts each of --a, --b … is one command in quotes, "
            f'such as --{mixed[0]} "python train.py --seed 1"'
        )
    before = parsed.experiment[: len(parsed.experiment) - len(behind)]
    if before:
        raise BadInputError(f"{before[0]!r} stands before a script's command: a script takes its settings from its own arguments")
    return Scripts(parsed, _commands(parsed, labels, single, behind, parse_command, bool(versions)))


class Scripts:
    """A race of scripts: made by `prepare`, and cleaned up after by `finish`."""

    def __init__(self, parsed: argparse.Namespace, commands: list[tuple[str, Any]]) -> None:
        self._parsed, self._commands = parsed, commands
        self._versions: dict[str, Any] = {}
        self._runs: Sequence[Any] = ()

    def prepare(self, recording: Any) -> tuple[Path, list[Any]]:
        """Create the race's directory; versions are checked out beside its runs."""
        from reprotui.race.scripts import ScriptMember, prepare_scripts

        parsed = self._parsed
        options = {"step_function": parsed.step_function, "loss": parsed.loss}
        try:
            self._find_versions()
            members = [ScriptMember(label, command, self._versions.get(label[0])) for label, command in self._commands]
            path, directories = prepare_scripts(
                common.runs_directory(parsed), parsed.name, members, recording, options, parsed.command_line
            )
            self._describe(path, directories)
        except BaseException:
            self.finish()
            raise
        self._runs = directories
        return path, directories

    def finish(self) -> None:
        """Remove the worktrees that were made, unless a run that was left alone still needs them."""
        from reprotui.race import versions

        made = [version for version in self._versions.values() if version.worktree]
        if made and any(run.state() in ("created", "running") for run in self._runs):
            places = ", ".join(str(version.worktree) for version in made)
            common.say(f"the runs go on in {places}: afterwards, git worktree remove --force each", stderr=True)
            return
        for version in made:
            versions.remove(version)
        self._versions = {}

    def _find_versions(self) -> None:
        import tempfile

        from reprotui.race import versions

        for label in "ab":
            directory, revision = getattr(self._parsed, f"{label}_dir"), getattr(self._parsed, f"{label}_rev")
            if directory and revision:
                raise BadInputError(f"--{label}-dir and --{label}-rev both say where {label.upper()} comes from: give one")
            if directory:
                self._versions[label] = versions.of_directory(directory)
            elif revision:
                place = Path(tempfile.mkdtemp(prefix="reprotui-")) / label
                self._versions[label] = versions.of_revision(revision, place)

    def _describe(self, path: Path, directories: Sequence[Any]) -> None:
        """Keep the difference of the sources where the runs come from different ones."""
        from reprotui.race import versions

        if not self._versions:
            return
        here = versions.Version(Path.cwd())
        a, b = (self._versions.get(label, here).directory for label in "ab")
        difference = versions.describe_difference(a, b, path / "sources.diff")
        for directory in directories:
            directory.update_manifest(source_difference=difference)


def _commands(
    parsed: argparse.Namespace, labels: str, single: dict[str, str], behind: list[str], parse: Callable[[Any], Any], two: bool
) -> list[tuple[str, Any]]:
    """Return (label, command) of every run."""
    if behind:
        base = parse(behind)
        if single:
            # The command behind -- is the reference, and stands for whoever has none of its own.
            first = {label: base for label in "ab" if label not in single}
            named = [(label, parse(single[label]) if label in single else first[label]) for label in sorted({*single, *first})]
            repeat = parsed.repeat or 1
        elif two:
            named, repeat = [(label, base) for label in "ab"], parsed.repeat or 1
        else:
            if (parsed.repeat or 2) < 2:
                raise BadInputError("--repeat 1 leaves nothing to compare: a race has at least two runs")
            named, repeat = [(label, base) for label in labels[: parsed.repeat or 2]], 1
    else:
        named, repeat = [(label, parse(text)) for label, text in single.items()], parsed.repeat or 1
        if len(named) == 1 and two:
            named = [(label, named[0][1]) for label in "ab"]
    commands = [
        (label if number == 0 else f"{label}{number + 1}", command) for label, command in named for number in range(repeat)
    ]
    if len(commands) < 2:
        raise BadInputError('one command leaves nothing to compare: give --a "…" and --b "…", or the command behind --')
    if len(commands) > len(labels) or (parsed.repeat or 0) > len(labels):
        raise BadInputError(f"a race has at most {len(labels)} runs, this one would have more")
    return commands
