"""`reprotui report`: what `compare` finds, with everything around it, as Markdown, JSON or one HTML file."""

import argparse
import io
import sys
from functools import partial
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.cli.signing import add_signers, signers
from reprotui.cli.told import Told
from reprotui.errors import BadInputError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "report",
        "write a verification report of recorded runs",
        """reprotui report runs/x                       (a race: its members; Markdown on stdout)
        reprotui report runs/x --out report.html
        reprotui report runs/x/a runs/y/a --format markdown,json,html
        reprotui report runs/x --verify --exact --out report.html
        reprotui report runs/x --verify --json | jq .comparisons[0].verdict.headline""",
        "Write a verification report: verdict, cause and evidence, losses, the first difference step by step and leaf by "
        "leaf, configs, environments, digests, commands. Exit codes are those of compare.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="run directory, race directory, or name in the runs directory")
    parser.add_argument("--format", metavar="LIST", help="markdown, json, html; several with commas (default: markdown)")
    parser.add_argument(
        "--out", metavar="PATH", help="file, whose suffix names the format; directory; - for stdout (default for one format)"
    )
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    parser.add_argument("--verify", action="store_true", help="verify traces and checkpoints, as the two options below")
    parser.add_argument("--verify-traces", action="store_true", help="verify every row of the traces against chain and seal")
    parser.add_argument("--verify-checkpoints", action="store_true", help="read every file and leaf of the checkpoints")
    parser.add_argument(
        "--exact", action="store_true", help="replay both runs to their first difference, and compare element by element"
    )
    common.add_trust(parser)
    common.add_tolerance(parser)
    add_signers(parser, one=False)
    common.add_runs_directory(parser)
    parser.add_argument(
        "--json", action="store_true", help="print JSON: the report, or where files are written, what and which verdicts"
    )
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Collect the report; print it or write its files."""
    from reprotui.race.exact import exact_difference
    from reprotui.race.tolerance import compare_within, tolerance_of
    from reprotui.report import Verify, collect_report, formats_of, refuse_unfit_place, render, write_report

    out = None if parsed.out in (None, "-") else Path(parsed.out).expanduser()
    if out is not None and parsed.out.endswith("/") and not out.is_dir():
        raise BadInputError(f"{parsed.out} is not a directory: make it, or choose another place with --out")
    formats = formats_of(parsed.format, out)
    to_stdout = parsed.out == "-" or (parsed.out is None and len(formats) == 1)
    if to_stdout and len(formats) > 1:
        raise BadInputError("--out - prints one format: name one, or a directory for several")
    if to_stdout and parsed.json:
        if parsed.format not in (None, "json"):
            raise BadInputError(f"--json prints the report as JSON: leave --format {parsed.format} away, or write it with --out")
        formats = ["json"]
    runs = common.runs_directory(parsed)
    paths = [common.find_run(name, runs) for name in parsed.run]
    judge = partial(compare_within, tolerance=tolerance_of(paths, parsed.tolerance))
    wanted = Verify(
        parsed.verify or parsed.verify_traces,
        parsed.verify or parsed.verify_checkpoints,
        partial(exact_difference, trusted=parsed.trust) if parsed.exact else None,
        say=Told(),
    )
    if not to_stdout:
        refuse_unfit_place(out, formats, parsed.force)
    report = collect_report(paths, wanted, signers=signers(parsed), judge=judge)
    if to_stdout:
        _print(render(report, formats[0]))
        return report.exit_code
    files = write_report(report, out, formats, parsed.force)
    if parsed.json:
        verdicts = [comparison.verdict.headline for comparison in report.comparisons]
        common.print_json({"exit_code": report.exit_code, "verdicts": verdicts, "files": list(map(str, files))})
        return report.exit_code
    for comparison in report.comparisons:
        common.say(f"{comparison.verdict.b} against {comparison.verdict.a}: {comparison.verdict.headline}", stderr=True)
    for file in files:
        common.say(common.short(file))
    return report.exit_code


def _print(text: str) -> None:
    # A report is UTF-8 whatever the locale says: it goes into a file or a pipe.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(text)
