"""`reprotui config`: the dashboard's settings: what holds, from where, and whether the file is right."""

import argparse
import os
from typing import Any

from reprotui.cli import common
from reprotui.errors import SAME, USAGE, ReprotuiError

_VARIABLES = ("REPROTUI_SETTINGS", "REPROTUI_RUNS", "NO_COLOR")
"""Variables that the dashboard obeys."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "config",
        "show, locate or check the dashboard's settings: theme, signs, keys",
        """reprotui config
        reprotui config path
        reprotui config check
        reprotui config show --example > "$(reprotui config path)\"""",
    )
    parser.add_argument(
        "what", nargs="?", choices=("show", "path", "check"), default="show", metavar="show|path|check",
        help="the settings and where each comes from (default); where the file is; what is wrong with it",
    )  # fmt: skip
    parser.add_argument("--example", action="store_true", help="with show: print a settings file that has every setting and key")
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Print what was asked for."""
    from reprotui.errors import BadInputError
    from reprotui.settings import example_settings, settings_path

    path = settings_path()
    if parsed.example:
        if parsed.what != "show" or parsed.json:
            raise BadInputError("--example prints a settings file: use it with `show` alone, without --json")
        common.say(*example_settings().splitlines())
        return SAME
    if parsed.what == "path":
        if parsed.json:
            common.print_json({"path": str(path), "exists": path.exists()})
        else:
            common.say(path)
        return SAME
    return _check(parsed, path) if parsed.what == "check" else _show(parsed, path)


def _check(parsed: argparse.Namespace, path: Any) -> int:
    from reprotui.settings import check, read_settings

    try:
        problems = check(read_settings(path))
    except ReprotuiError as error:
        problems = [str(error)]
    if parsed.json:
        common.print_json({"path": str(path), "exists": path.exists(), "problems": problems})
    elif problems:
        common.say(f"{path}: {len(problems)} {'problem' if len(problems) == 1 else 'problems'}")
        common.say(*(f"  {problem}" for problem in problems))
    else:
        common.say(f"{path}: {'valid' if path.exists() else 'does not exist; the defaults hold'}")
    return USAGE if problems else SAME


def _show(parsed: argparse.Namespace, path: Any) -> int:
    from reprotui.settings import effective_settings, state_directory

    found = effective_settings(path)
    variables = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    if parsed.json:
        settings = {item.name: {"value": item.value, "source": item.source} for item in found}
        common.print_json({"path": str(path), "exists": path.exists(), "settings": settings, "environment": variables})
        return SAME
    common.say(f"{path}{'' if path.exists() else ' (does not exist; the defaults hold)'}")
    sources = {"default": "default", "settings": "this file", "remembered": f"{state_directory() / 'layout.json'}"}
    rows = [(item.name, str(item.value).lower() if isinstance(item.value, bool) else str(item.value), sources[item.source])
            for item in found]  # fmt: skip
    rows += [(f"${name}", value, "environment") for name, value in variables.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        common.say(f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {source}")
    return SAME
