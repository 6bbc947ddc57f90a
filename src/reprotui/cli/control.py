"""`reprotui control`: ask something of running workers, whoever started them."""

import argparse
from typing import Any

from reprotui.cli import common
from reprotui.errors import BadInputError, CannotTellError
from reprotui.run_directory import COMMANDS


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "control",
        "pause, resume, advance by one step, save a checkpoint or stop the runs of a race, or one run",
        """reprotui control runs/x pause
        reprotui control runs/x/b advance
        reprotui control x stop""",
    )
    parser.add_argument("run", metavar="RUN", help="run or race: a directory, or a name in the runs directory")
    parser.add_argument("command", choices=COMMANDS, metavar="{" + ",".join(COMMANDS) + "}", help="what to ask for")
    common.add_runs_directory(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Append the command where the workers read it."""
    from reprotui.race import members_of
    from reprotui.run_directory import RunDirectory

    path = common.find_run(parsed.run, common.runs_directory(parsed))
    paths = [member for _, member in members_of(path)] if (path / "race.json").exists() else [path]
    runs = [run for run in map(RunDirectory, paths) if run.state() in ("created", "running", "elsewhere")]
    if parsed.command == "save":
        runs = [run for run in runs if run.saves()]
    if not runs:
        raise CannotTellError(f"{path}: no run is alive that could {parsed.command}")
    for run in runs:
        try:
            run.send(parsed.command)
        except OSError as error:
            raise BadInputError(f"{run.commands_path} cannot be written: {error.strerror}") from None
        common.say(f"{parsed.command}: {common.short(run.path)}")
    return 0
