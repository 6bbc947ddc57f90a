"""`reprotui env`: the environment of this process, or what differs between those of two runs."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import DIFFERS, SAME, BadInputError, CannotTellError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "env",
        "show this environment, or what differs between those of two runs",
        """reprotui env
        reprotui env --json > monday.json
        reprotui env --diff runs/x/a runs/x/b
        reprotui env --diff monday.json runs/x/a""",
    )
    parser.add_argument(
        "--diff",
        nargs=2,
        metavar="RUN",
        help="two of: run directory, run.json, name in the runs directory, file written by `reprotui env --json`",
    )
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Print the environment, or the differences."""
    from reprotui.environment import capture_environment

    if parsed.diff:
        return _diff(parsed)
    from reprotui.checksum.machine_code import trouble

    found = capture_environment()
    if parsed.json:
        common.print_json(found)
    else:
        _print(found, "")
    if (reason := trouble()) is not None:
        common.say(f"reprotui: checksums in the host's memory take numpy here, a tenth as fast: {reason}", stderr=True)
    return SAME


def _diff(parsed: argparse.Namespace) -> int:
    from reprotui.environment import compare_environments

    paths = [common.find_run(name, common.runs_directory(parsed)) for name in parsed.diff]
    a, b = (_read(path) for path in paths)
    differences = compare_environments(a, b)
    code = DIFFERS if differences else SAME
    if parsed.json:
        rows = [{"name": item.name, "a": item.a, "b": item.b} for item in differences]
        common.print_json({"exit_code": code, "differences": rows})
        return code
    common.say(f"{len(differences)} differences" if differences else "the environments are equal")
    for item in differences:
        common.say(f"  {item}")
    return code


def _read(path: Path) -> dict[str, Any]:
    from reprotui.run_directory import read_json

    if path.is_dir() and not (path / "run.json").exists():
        what = "a race: name one of its runs" if (path / "race.json").exists() else "no run directory: it has no run.json"
        raise BadInputError(f"{path} is {what}")
    file = path / "run.json" if path.is_dir() else path
    value = read_json(file)
    found = value.get("environment", value)
    if not isinstance(found, dict) or "python" not in found or "packages" not in found:
        raise CannotTellError(f"{file} records no environment: the run did not start, or it is another kind of file")
    return found


def _print(value: dict[str, Any], indent: str) -> None:
    for name, entry in value.items():
        match entry:
            case dict() if entry:
                common.say(f"{indent}{name}")
                _print(entry, indent + "  ")
            case [*items] if items:
                common.say(f"{indent}{name}")
                _print({str(number): item for number, item in enumerate(items)}, indent + "  ")
            case _:
                common.say(f"{indent}{name:<16} {'none' if entry is None or entry in ({}, []) else entry}")
