"""`reprotui fleet`: hundreds of runs and races, one line each, the worst first; which host is in all the differences."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprotui.cli import common
from reprotui.numbers import rate as rate_said
from reprotui.tui.home_data import GROUPS, matching

if TYPE_CHECKING:
    from reprotui.race.entries import Entry

MOST_SIGNS = 60
"""Entries of a group that stand as signs; the rest is counted."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "fleet",
        "hundreds of runs and races in one screen, the worst first; hosts against pairs",
        """reprotui fleet /data/runs
        reprotui fleet /data/*/runs --once           (print, and end with the exit code of the worst)
        reprotui fleet /data/runs --once --group config --filter n3
        reprotui fleet /data/runs --json""",
        "Each DIR is a runs directory, or a race or run in it; without one, the runs directory. Exit code 1: something differs,\n"
        "or is torn; 3: something cannot be told, failed, or is not finite.",
    )
    parser.add_argument("directory", nargs="*", metavar="DIR", help="runs directories, races or runs")
    parser.add_argument("--once", action="store_true", help="print the fleet as text and end; for scripts and pipes")
    parser.add_argument("--group", choices=GROUPS, default="host", help="what is counted together (default %(default)s)")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only what contains every word of TEXT, as / on the screen")
    common.add_symbols(parser)
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Open the fleet, or print it once."""
    from reprotui.race.fleet import directories_of

    runs = common.runs_directory(parsed)
    directories = directories_of([Path(name) for name in parsed.directory]) or (runs,)
    if parsed.once or parsed.json:
        return print_once(parsed, directories)
    common.need_terminal(f"reprotui fleet {common.quote(parsed.directory)} --once".replace("  ", " "))
    from reprotui.tui.app import run_dashboard
    from reprotui.tui.opening import fleet

    opening = partial(fleet, runs, directories, parsed.group, parsed.filter)
    return run_dashboard(runs, symbols=parsed.symbols, opening=opening)


def print_once(parsed: argparse.Namespace, directories: tuple[Path, ...]) -> int:
    """Print the fleet; return the exit code of the worst."""
    from reprotui.race import fleet

    entries = fleet.worst_first(matching(fleet.FleetListing(directories).read(), parsed.filter))
    groups, code = fleet.grouped(entries, parsed.group), fleet.exit_code(entries)
    if parsed.json:
        common.print_json({
            "directories": [str(path) for path in directories], "exit_code": code, "counts": fleet.counted(entries),
            "standing_out": fleet.standing_out(entries), "group": parsed.group,
            "groups": [{"name": group.name, "entries": len(group.entries), "differ": group.bad, "judged": group.judged}
                       for group in groups],
            "entries": [fleet.to_json(entry) for entry in entries],
        })  # fmt: skip
        return code
    if not entries:
        common.say(f"nothing {'matches' if parsed.filter else 'is'} in {', '.join(map(common.short, directories))}")
        return code
    print_fleet(entries)
    _print_groups(entries, groups, parsed.group)
    return code


def print_fleet(entries: Sequence["Entry"]) -> None:
    """Print a line for each run or race."""
    from rich.table import Table

    from reprotui.race import fleet

    console = common.console()
    names = fleet.names_of(entries)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "hosts", "state", "step", "rate"):
        table.add_column(column, justify="right" if column in ("step", "rate") else "left", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for entry in entries:
        steps = [member.step for member in entry.members if member.step is not None]
        said = entry.trouble or (entry.outcome.headline if entry.outcome else next(filter(None, _told(entry)), ""))
        rate = fleet.rate_of(entry)
        table.add_row(
            names[entry.path], " ".join(fleet.hosts_of(entry)) or "?", entry.state, str(min(steps)) if steps else "",
            "" if rate is None else rate_said(rate), said,
        )  # fmt: skip
    console.print(table)
    console.print()


def _print_groups(entries: Sequence["Entry"], groups: Sequence[Any], by: str) -> None:
    from rich.table import Table

    from reprotui.race import fleet

    console = common.console()
    marks = Table(box=None, pad_edge=False, header_style="bold")
    for column in (by, "differ", "worst first"):
        marks.add_column(column, justify="right" if column == "differ" else "left", no_wrap=True)
    for group in groups:
        marks.add_row(group.name, group.said, _signs(group.entries))
    console.print(marks)
    console.print()
    counts = ", ".join(f"{number} {condition}" for condition, number in fleet.counted(entries).items())
    console.print(counts, style="bold", soft_wrap=True)
    if told := fleet.standing_out(entries):
        console.print(told, soft_wrap=True)


def _told(entry: "Entry") -> list[str]:
    return [text for member in entry.members for text in (*member.torn, member.why)]


def _signs(entries: tuple["Entry", ...]) -> str:
    from reprotui.race.fleet import SIGNS

    more = f" and {len(entries) - MOST_SIGNS} more" if len(entries) > MOST_SIGNS else ""
    return "".join(SIGNS[entry.condition] for entry in entries[:MOST_SIGNS]) + more
