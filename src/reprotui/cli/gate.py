"""`reprotui gate`: run a command several times, and fail where its results differ."""

import argparse
from typing import Any

from reprotui.cli import common
from reprotui.errors import DIFFERS, SAME, BadInputError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "gate",
        "run a command several times in fresh processes and require identical results",
        """reprotui gate -- python train.py
        reprotui gate -n 5 --file model.npz --file losses.csv -- python train.py
        reprotui gate --json-key final.loss -- python evaluate.py
        reprotui gate --json-key results/jax.json:digest -- python train_jax.py""",
        description="Run a command several times in fresh processes and require identical results, bit for bit: the files and "
        "JSON keys that are named, or else stdout. Exit code 0: identical; 1: something differs; 2: wrong usage, or a named "
        "file is not written; 4: the command failed.",
    )
    parser.add_argument("-n", "--runs", type=common.positive, default=3, metavar="N", help="how often (default 3)")
    parser.add_argument("--file", action="append", default=[], metavar="F", help="a file or directory that every run writes")
    parser.add_argument(
        "--json-key", action="append", default=[], metavar="[F:]KEY", help="a key in the JSON on stdout, or in the file F: a.b.0"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …", help="the command and its arguments")
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Run, and print what differed."""
    from reprotui.reproduce.gate import run_gate

    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if not command:
        raise BadInputError("name the command: reprotui gate [options] -- COMMAND …")
    if command[0].startswith("-"):
        raise BadInputError(f"{command[0]} is no option of gate, or stands after the command's --")
    result = run_gate(command, parsed.runs, parsed.file, parsed.json_key, narrate=True)
    code = SAME if result.identical else DIFFERS
    if parsed.json:
        common.print_json({"exit_code": code, **result.to_json()})
        return code
    for difference in result.differences:
        common.say(*str(difference).split("\n"))
    what = ", ".join(result.compared)
    common.say(f"{'identical' if result.identical else 'DIFFERENT'} in {result.runs} runs: {what}")
    return code
