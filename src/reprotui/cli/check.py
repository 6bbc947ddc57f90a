"""`reprotui check`: does a project follow the rules of reproducible training?"""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import DIFFERS, SAME, BadInputError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "check",
        "check that a project follows the rules of reproducible training",
        """reprotui check .
        reprotui check my-project --json
        reprotui check --rules""",
        description="Read a project's files and source, without running any of it: required files, pinned dependencies, "
        "saved configuration, seeds, deterministic settings, tests, and code whose result differs from run to run. "
        "A comment `# reprotui: ignore[rule]` silences a rule on its line.",
    )
    parser.add_argument("directory", type=Path, nargs="?", metavar="DIR", help="the project")
    parser.add_argument("--rules", action="store_true", help="list the rules with their remedies")
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Check, and print checklist and findings."""
    from reprotui.reproduce.lint import RULES
    from reprotui.reproduce.project import validate_template_structure

    if parsed.rules:
        if parsed.json:
            common.print_json(RULES)
        else:
            for rule, remedy in RULES.items():
                common.say(f"{rule:<24} {remedy}")
        return SAME
    if parsed.directory is None:
        raise BadInputError("name a project's directory: reprotui check DIR")
    found = validate_template_structure(parsed.directory)
    code = SAME if found["valid"] else DIFFERS
    if parsed.json:
        common.print_json({"exit_code": code, **found})
        return code
    common.say(f"{'valid' if found['valid'] else 'not valid'}, score {found['score']} of 100")
    differs = common.symbol("≠", "x")
    marks = {"ok": "=", "does not apply": "-"}
    for item in found["checklist"]:
        common.say(f"  {marks.get(item['status'], differs if item['required'] else '?')} {item['name']:<26}{item['detail']}")
    for finding in found["findings"]:
        note = "" if finding["severity"] == "error" else f"{finding['severity']}: "
        common.say(f"{finding['file']}:{finding['line']}: {note}{finding['rule']}: {finding['message']}; {finding['remedy']}")
    return code
