"""`reprotui compare`: result files or run directories, any number."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import DIFFERS, SAME, BadInputError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "compare",
        "compare result files or recorded runs with the first one",
        """reprotui compare runs/x/a runs/x/b
        reprotui compare runs/x                  (a race: its members)
        reprotui compare monday.json tuesday.json --metrics
        reprotui compare a b c --runs-dir /data/runs --json""",
    )
    parser.add_argument(
        "run",
        nargs="+",
        metavar="RUN",
        help="result file, run directory, race directory, or name in the runs directory",
    )
    parser.add_argument("--metrics", action="store_true", help="final metrics must be equal too, not only the state")
    parser.add_argument("--verify", action="store_true", help="first verify every row of the traces against chain and seal")
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Compare, and print what differs."""
    from reprotui.run_directory import expand_races

    runs = common.runs_directory(parsed)
    paths = expand_races([common.find_run(name, runs) for name in parsed.run])
    if len(paths) < 2:
        raise BadInputError(f"{parsed.run[0]} alone cannot be compared: name two or more runs, or a race")
    if all(path.is_dir() for path in paths):
        return _compare_directories(parsed, paths)
    return _compare_results(parsed, paths)


def _compare_directories(parsed: argparse.Namespace, paths: list[Path]) -> int:
    from reprotui.cli.show import print_verdict
    from reprotui.compare import compare_runs, open_run, worst
    from reprotui.compare.results import metric_differences, summary
    from reprotui.compare.runs import agreement, labels_of

    views = [open_run(path, label) for path, label in zip(paths, labels_of(paths), strict=True)]
    verdicts = [compare_runs(views[0], view, verify=parsed.verify) for view in views[1:]]
    metrics: list[list[str]] = [[] for _ in verdicts]
    if parsed.metrics:
        results = [summary(view.manifest) if (view.manifest.get("result") or {}).get("final") else {} for view in views]
        metrics = [metric_differences(results[0], result) for result in results[1:]]
    codes = [
        DIFFERS if verdict.kind == "diverged" or differ else verdict.exit_code
        for verdict, differ in zip(verdicts, metrics, strict=True)
    ]
    code = worst(codes)
    if parsed.json:
        rows = [{**verdict.to_json(), "metrics": differ} for verdict, differ in zip(verdicts, metrics, strict=True)]
        common.print_json({"exit_code": code, "verdicts": rows, "groups": agreement(views)})
        return code
    console = common.console()
    console.print(_banner(code), style="bold")
    for verdict, differ in zip(verdicts, metrics, strict=True):
        print_verdict(console, verdict, f"{verdict.b} against {verdict.a}: ")
        for line in differ:
            console.print(f"  {'metrics':<12}{line}")
    if len(verdicts) > 1:
        console.print("agree: " + " · ".join(" = ".join(group) for group in agreement(views)))
    return code


def _compare_results(parsed: argparse.Namespace, paths: list[Path]) -> int:
    from reprotui.compare import worst
    from reprotui.compare.results import compare_results, read_result
    from reprotui.compare.runs import labels_of

    results = [read_result(path) for path in paths]
    comparisons = [compare_results(results[0], result, metrics=parsed.metrics) for result in results[1:]]
    code = worst([DIFFERS if item.differs else SAME for item in comparisons])
    labels = labels_of(paths)
    if parsed.json:
        rows = [
            {"a": labels[0], "b": label, "match": not item.differs, "differences": item.differs, "notes": item.notes}
            for label, item in zip(labels[1:], comparisons, strict=True)
        ]
        common.print_json({"exit_code": code, "comparisons": rows})
        return code
    console = common.console()
    console.print(_banner(code), style="bold")
    for label, item in zip(labels[1:], comparisons, strict=True):
        console.print(f"{label} against {labels[0]}: {'differs' if item.differs else 'same'}")
        for line in item.differs:
            console.print(f"  {line}", soft_wrap=True)
        for line in item.notes:
            console.print(f"  note: {line}", soft_wrap=True)
    return code


def _banner(code: int) -> str:
    match code:
        case 0:
            return common.symbol("✅ MATCH", "MATCH")
        case 1:
            return common.symbol("❌ MISMATCH", "MISMATCH")
        case _:
            return common.symbol("❔ CANNOT TELL", "CANNOT TELL")
