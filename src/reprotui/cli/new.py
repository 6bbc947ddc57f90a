"""`reprotui new`: a small project that trains and passes its own checks."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "new",
        "write a small project that trains reproducibly and tests that it does",
        """reprotui new my-project
        reprotui new my-project --framework pytorch --seed 7
        reprotui new my-project --framework both""",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="where; empty or absent")
    parser.add_argument("--framework", choices=("jax", "pytorch", "both"), default="jax", help="default jax")
    parser.add_argument("--name", metavar="NAME", help="the project's name (default: the directory's)")
    parser.add_argument("--seed", type=int, default=42, metavar="S", help="the seed in its config (default 42)")
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Write the project, and say what to do next."""
    from reprotui.reproduce.template import TemplateConfig, create_reproducible_template

    files = create_reproducible_template(parsed.directory, TemplateConfig(parsed.name, parsed.framework, parsed.seed))
    if parsed.json:
        common.print_json({"directory": str(parsed.directory), "files": [str(path) for path in files]})
        return 0
    for path in files:
        common.say(path)
    script = next(path.name for path in files if path.name.startswith("train_"))
    where = common.quote([str(parsed.directory)])
    common.say("", f"next: cd {where} && pip install -r requirements.txt && python {script} && pytest && reprotui check .")
    return 0
