"""Scripts in the place of experiments: which runs a command line of `reprotui race` asks for, and how they end."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprotui.cli import common
from reprotui.errors import BadInputError

if TYPE_CHECKING:
    from reprotui.race.script_race import ScriptRace


def add_options(parser: argparse.ArgumentParser, labels: str) -> None:
    """Add what concerns scripts only; the options of A and B stand for those of the others in the help."""
    group = parser.add_argument_group("your own scripts", 'a command behind --, or --a "python train.py --seed 0"')
    add_observing(group)
    group.add_argument(
        "--check", type=share, metavar="SHARE", help="recompute this share of each run's steps, as reprotui watch does"
    )
    for label in labels:
        of = label.upper()
        told = (f"folder in which {of} is started", f"git revision of {of}, checked out for the race and removed after it")
        told = told if label in "ab" else (argparse.SUPPRESS, argparse.SUPPRESS)
        group.add_argument(f"--{label}-dir", type=Path, metavar="DIR", help=told[0])
        group.add_argument(f"--{label}-rev", metavar="REV", help=told[1])


def add_observing(group: Any) -> None:
    """Add how a script is observed."""
    group.add_argument("--step-function", metavar="NAME", help="the train step, where another function would be taken for it")
    group.add_argument("--loss", metavar="NAME", help="the scalar output that is the loss, where another would be taken for it")
    group.add_argument(
        "--inside", action="store_true", help="record each iteration of a jax loop that runs inside one call (scan, fori_loop …)"
    )


def share(text: str) -> int:
    """Read a share of the steps such as `1%`, as the number of steps of which one is meant."""
    from reprotui.observation import parse_share

    try:
        return parse_share(text)
    except BadInputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def preparation(parsed: argparse.Namespace, labels: str) -> "ScriptRace | None":
    """Return the race of scripts that a command line asks for; None where it asks for an experiment.

    Raises:
        BadInputError: commands and experiments are mixed, or there are too few or too many.
    """
    from reprotui.observation import Options
    from reprotui.race.script_race import ScriptRace, Source
    from reprotui.race.scripts import is_command, parse_command

    behind = parsed.command_line[parsed.command_line.index("--") + 1 :] if "--" in parsed.command_line else []
    given = {label: getattr(parsed, label) for label in labels if getattr(parsed, label) is not None}
    single = {label: tokens[0] for label, tokens in given.items() if is_command(tokens)}
    versions = [f"--{label}-{kind}" for label in labels for kind in ("dir", "rev") if getattr(parsed, f"{label}_{kind}")]
    if not behind and not single:
        for option in [
            *versions,
            *(["--step-function"] if parsed.step_function else []),
            *(["--loss"] if parsed.loss else []),
            *(["--inside"] if parsed.inside else []),
            *(["--check"] if parsed.check else []),
        ]:
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
    sources = {
        label: Source(getattr(parsed, f"{label}_dir"), getattr(parsed, f"{label}_rev"))
        for label in labels
        if getattr(parsed, f"{label}_dir") or getattr(parsed, f"{label}_rev")
    }
    for option in [*(["--save-every"] if parsed.save_every else []), *(["--save-at"] if parsed.save_at else [])]:
        raise BadInputError(f"{option} is for experiments: a script saves its checkpoints itself")
    commands = _commands(parsed, labels, single, behind, parse_command, "".join(sources))
    if unused := [label for label in sources if label not in {name for name, _ in commands}]:
        raise BadInputError(f"--{unused[0]}-dir or -rev is of no run: give --{unused[0]} its command")
    if parsed.swap:
        two_alone([label for label, _ in commands])
        commands += [(label, command) for label, (_, command) in zip("cd", commands, strict=True)]
        sources |= {again: sources[label] for label, again in (("a", "c"), ("b", "d")) if label in sources}
    return ScriptRace(commands, Options(parsed.step_function, parsed.loss, inside=parsed.inside, check=parsed.check), sources)


def two_alone(labels: Sequence[str]) -> None:
    """Raise where the runs of a race are not A and B alone: the hosts of two can be exchanged."""
    if list(labels) != ["a", "b"]:
        raise BadInputError(f"--swap exchanges the hosts of A and B: this race has the runs {', '.join(labels).upper()}")


def say_left(worktrees: Sequence[Path]) -> None:
    """Say which worktrees are still there because runs go on in them."""
    if worktrees:
        places = ", ".join(map(str, worktrees))
        common.say(f"the runs go on in {places}: afterwards, git worktree remove --force each", stderr=True)


def _commands(
    parsed: argparse.Namespace, labels: str, single: dict[str, str], behind: list[str], parse: Callable[[Any], Any], sourced: str
) -> list[tuple[str, Any]]:
    """Return (label, command) of every run; runs whose label is in `sourced` have a folder or revision of their own."""
    if behind:
        base = parse(behind)
        if single:
            # The command behind -- is the reference, and stands for whoever has none of its own.
            first = {label: base for label in dict.fromkeys(f"ab{sourced}") if label not in single}
            named = [(label, parse(single[label]) if label in single else first[label]) for label in sorted({*single, *first})]
            repeat = parsed.repeat or 1
        elif sourced:
            named, repeat = [(label, base) for label in labels if label in f"ab{sourced}"], parsed.repeat or 1
        else:
            if (parsed.repeat or 2) < 2:
                raise BadInputError("--repeat 1 leaves nothing to compare: a race has at least two runs")
            named, repeat = [(label, base) for label in labels[: parsed.repeat or 2]], 1
    else:
        named, repeat = [(label, parse(text)) for label, text in single.items()], parsed.repeat or 1
        if len(named) == 1 and sourced:
            named = [(label, named[0][1]) for label in labels if label in f"ab{sourced}"]
    commands = [
        (label if number == 0 else f"{label}{number + 1}", command) for label, command in named for number in range(repeat)
    ]
    if len(commands) < 2:
        raise BadInputError('one command leaves nothing to compare: give --a "…" and --b "…", or the command behind --')
    if len(commands) > len(labels) or (parsed.repeat or 0) > len(labels):
        raise BadInputError(f"a race has at most {len(labels)} runs, this one would have more")
    return commands
