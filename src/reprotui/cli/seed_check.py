"""`reprotui seed-check`: does a seed give the same bits again, in every library or in a function?"""

import argparse
from typing import Any

from reprotui.cli import common
from reprotui.errors import DIFFERS, SAME, BadInputError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "seed-check",
        "check that a seed gives the same bits again, in fresh processes",
        """reprotui seed-check --seed 42
        reprotui seed-check --seed 42 --verify --frameworks jax numpy
        reprotui seed-check train.py:loss_after_ten_steps --seed 7 -n 5 --json""",
        description="Seed everything, draw from every installed library (or call a function), each time in a fresh process, "
        "and compare bit for bit.",
    )
    parser.add_argument("function", nargs="?", metavar="FUNCTION", help="module:name or file.py:name, called without arguments")
    parser.add_argument("--seed", type=int, default=42, metavar="S", help="the seed (default 42)")
    parser.add_argument("-n", "--runs", type=common.positive, default=3, metavar="N", help="fresh processes (default 3)")
    parser.add_argument(
        "--frameworks", nargs="+", metavar="NAME", help="python, numpy, torch, jax (default: all that are installed)"
    )
    parser.add_argument("--verify", action="store_true", help="verify, which the command does in any case")
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Verify, and print what differs."""
    from reprotui.reproduce.verification import verify_reproducibility

    if parsed.runs < 2:
        raise BadInputError("-n 1 compares nothing: at least 2 runs")
    report = verify_reproducibility(parsed.function, seed=parsed.seed, in_processes=parsed.runs, frameworks=parsed.frameworks)
    if parsed.json:
        common.print_json(report.to_json())
    else:
        counted = f"{report.identical} of {report.runs} iterations identical"
        common.say(f"seed {parsed.seed}: {counted}", *str(report).split("\n"))
    return SAME if report.deterministic else DIFFERS
