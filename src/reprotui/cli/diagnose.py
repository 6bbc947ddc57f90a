"""`reprotui diagnose`: which change makes the runs identical? The cause proved by intervention, live in a table."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.cli.race import LABELS, members_asked
from reprotui.errors import BadInputError
from reprotui.numbers import seconds_of


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "diagnose",
        "change one thing at a time and race again: what makes the runs identical is the cause, proved",
        """reprotui diagnose -- python train.py
        reprotui diagnose --budget 10m --pairs 5 -- python train.py --seed 0
        reprotui diagnose runs/train-20260101-120000        (a race that is there; goes on with a search that ended early)
        reprotui diagnose digits-mlp steps=50 --b lr=0.2 batch_size=16""",
        description="Run a command as it is, in pairs, until it is known how often its runs differ; then pairs with one change "
        "each, led by what the first pair saw: PYTHONHASHSEED, generators seeded, one thread, deterministic algorithms, a loader "
        "without workers … A pair ends at its first difference, or a little after the step where the first one was. Where no "
        "change alone makes runs identical, all are made together, and as few as possible are kept. Of an experiment, the "
        "settings that differ are the changes. Exit code: 0 identical, 1 they differ and the cause is proved, 3 it is not found.",
    )
    parser.intermixed = True
    parser.add_argument(
        "experiment", nargs="*", metavar="RACE | EXPERIMENT | key=value", help="a race that ended, or what to race"
    )
    for label in LABELS[:2]:
        parser.add_argument(f"--{label}", nargs="*", metavar="key=value", help=f"config of run {label.upper()} of an experiment")
    parser.add_argument("--budget", type=_seconds, metavar="TIME", help="end with what is known after 90s, 10m, 2h")
    parser.add_argument(
        "--pairs", type=common.positive, metavar="N", help="pairs of each kind that a proof has at least (default 3)"
    )
    parser.add_argument("--whole", action="store_true", help="let pairs that stay equal go on to their end")
    parser.add_argument("--name", help="name of the race (default: script, date and time)")
    parser.add_argument("--step-function", metavar="NAME", help="the train step, where another function would be taken for it")
    parser.add_argument("--loss", metavar="NAME", help="the scalar output that is the loss, where another would be taken for it")
    parser.add_argument("--inside", action="store_true", help="record each iteration of a jax loop that runs inside one call")
    common.add_runs_directory(parser)
    common.add_trust(parser)
    common.add_json(parser)
    parser.set_defaults(call=call, repeat=None, **dict.fromkeys(LABELS[2:]))


def call(parsed: argparse.Namespace) -> int:
    """Search, and print what was found; the races stay."""
    from reprotui.race.diagnose import Asked, diagnose

    race, begun = _race(parsed)
    common.say(f"diagnosing {common.short(race)}", stderr=True)
    asked = Asked(parsed.pairs, parsed.budget, parsed.whole, parsed.trust, begun)
    with _Table() as table:
        found = diagnose(race, asked, table.show)
    if parsed.json:
        common.print_json({**found.to_json(), "race": str(race)})
    else:
        _print(found, race)
    return found.exit_code


def _race(parsed: argparse.Namespace) -> tuple[Path, bool]:
    """Return the race that is diagnosed, run to its first difference where it is not there yet, and whether that was so."""
    from reprotui.observation import Options
    from reprotui.race.diagnose import first_pair, race_pair
    from reprotui.race.prepare import Request
    from reprotui.race.scripts import parse_command

    words = parsed.command_line
    behind = words[words.index("--") + 1 :] if "--" in words else []
    before = parsed.experiment[: len(parsed.experiment) - len(behind)]
    options = Options(parsed.step_function, parsed.loss, inside=parsed.inside)
    runs = common.runs_directory(parsed)
    if behind:
        if before or parsed.a is not None or parsed.b is not None:
            raise BadInputError(f"{(before or ['--a or --b'])[0]!r} stands before a script's command: give one of the two")
        path, directories = first_pair(Request(runs, parsed.name, words), parse_command(behind), options)
    else:
        if told := options.told():
            raise BadInputError(f"--{next(iter(told)).replace('_', '-')} needs a script: put its command behind --")
        if (race := _named(before, runs)) is not None:
            if parsed.name or parsed.a is not None or parsed.b is not None:
                raise BadInputError(f"{before[0]} is there already: --name, --a and --b are for a race that is to be started")
            return race, False
        path, directories = _experiment(parsed, before, runs)
    race_pair(path, directories)
    return path, True


def _named(before: list[str], runs: Path) -> Path | None:
    """Return the race that is named, None where an experiment is."""
    if len(before) != 1 or "=" in before[0] or not (Path(before[0]).is_dir() or (runs / before[0]).is_dir()):
        return None
    return common.find_run(before[0], runs)


def _experiment(parsed: argparse.Namespace, tokens: list[str], runs: Path) -> Any:
    from reprotui.experiments.config import parse_overrides
    from reprotui.experiments.discovery import find_experiment
    from reprotui.race.prepare import Member, Request, prepare_race

    name, overrides = common.experiment_and_overrides(tokens)
    members = members_asked(parsed, overrides)
    if len(members) == 1:
        members.append(Member("b", parse_overrides(overrides)))
    return prepare_race(Request(runs, parsed.name, parsed.command_line), find_experiment(name), members)


class _Table:
    """The table while it grows: live on a terminal, elsewhere a line for each pair. On stderr."""

    def __init__(self) -> None:
        self._console = common.console(stderr=True)
        self._live: Any = None
        self._pairs = 0

    def __enter__(self) -> "_Table":
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, transient=True, refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def show(self, found: Any) -> None:
        """Show what is known now."""
        if self._live is not None:
            self._live.update(table_of(found))
        elif len(found.pairs) > self._pairs:
            self._pairs = len(found.pairs)
            pair = found.pairs[-1]
            row = next(row for row, names in zip(found.rows(), found.sets(), strict=True) if names == pair.changes)
            self._console.print(f"  pair {self._pairs}  {row.text}: {row.outcome}")


def table_of(found: Any) -> Any:
    """Return the table of a diagnosis: what was changed, and what came of it."""
    from rich.table import Table

    from reprotui.compare.diagnosis import HEADINGS

    table = Table("", *HEADINGS, box=None, padding=(0, 2, 0, 0), header_style="dim")
    differs, unknown = common.symbol("≠", "x"), common.symbol("·", "-")
    signs = {True: ("=", "#0072b2"), False: (differs, "#d55e00"), None: (unknown, "dim")}
    for row in found.rows():
        sign, colour = signs[row.equal]
        cells = (sign, row.text, row.pairs, row.outcome)
        table.add_row(*(common.styled((cell, colour if place in (0, 3) else "")) for place, cell in enumerate(cells)))
    return table


def _print(found: Any, race: Path) -> None:
    console = common.console()
    console.print(table_of(found))
    colour = {"identical": "#009e73", "proved": "#d55e00"}.get(found.word, "#e69f00")
    console.print(common.styled((found.headline, f"bold {colour}")), soft_wrap=True)
    for line in found.lines():
        console.print(common.styled(f"  {line}"), soft_wrap=True)
    console.print(f"  in  {common.short(race)}", style="dim")
    if not found.over:
        console.print(f"  go on: reprotui diagnose {common.quote([common.short(race)])}", style="dim", soft_wrap=True)


def _seconds(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: expected 90s, 10m or 2h") from None
