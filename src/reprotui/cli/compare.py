"""`reprotui compare`: result files or run directories, any number."""

import argparse
from dataclasses import replace
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
        reprotui compare eager compiled --tolerance ulp=4 --tolerance params:rel=1e-3
        reprotui compare monday.json tuesday.json --metrics
        reprotui compare runs/x --chance         (and every seed, draw and file of its scripts)
        reprotui compare full first then --resumed   (is it the uninterrupted run that was resumed?)
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
    common.add_tolerance(parser)
    parser.add_argument(
        "--chance", action="store_true", help="list where chance and data entered the scripts: seeds, draws, files, by line"
    )
    parser.add_argument(
        "--resumed",
        action="store_true",
        help="the second run was interrupted and the others went on: hold them together against the first",
    )
    parser.add_argument(
        "--offset",
        type=common.positive,
        metavar="STEP",
        help="with --resumed: the last run goes on after this step, where that is not found",
    )
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Compare, and print what differs."""
    from reprotui.run_directory import expand_races

    runs = common.runs_directory(parsed)
    paths = expand_races([common.find_run(name, runs) for name in parsed.run])
    if len(paths) == 1 and paths[0].is_dir() and not parsed.resumed:
        from reprotui.cli.compare_ranks import compare_ranks

        return compare_ranks(paths[0], parsed.json)
    if len(paths) < 2:
        raise BadInputError(f"{parsed.run[0]} alone cannot be compared: name two or more runs, or a race")
    if parsed.offset is not None and not parsed.resumed:
        raise BadInputError("--offset says where a resumed run goes on: give --resumed with it")
    if parsed.resumed:
        return _compare_resumed(parsed, paths)
    if all(path.is_dir() for path in paths):
        return _compare_directories(parsed, paths)
    if parsed.tolerance:
        raise BadInputError("--tolerance needs run directories: result files hold a digest of the state, which tells no distance")
    if parsed.chance:
        raise BadInputError("--chance lists what observed scripts noted: name run directories or a race, no result files")
    return _compare_results(parsed, paths)


def _compare_resumed(parsed: argparse.Namespace, paths: list[Path]) -> int:
    from reprotui.race.joined import joined_runs

    if len(paths) < 3 or not all(path.is_dir() for path in paths):
        raise BadInputError(
            f"--resumed with {len(paths)} names: give three run directories or more: the uninterrupted run, the one that was "
            "interrupted, and what went on from it"
        )
    with joined_runs(paths, parsed.offset) as joined:
        return _compare_directories(parsed, [paths[0], joined])


def _compare_directories(parsed: argparse.Namespace, paths: list[Path]) -> int:
    from reprotui.cli.show import print_chance, print_verdict
    from reprotui.compare import open_run, worst
    from reprotui.compare.agreement import groups_of, said_of_all, standing_of
    from reprotui.compare.ledger import chance_of, side_by_side
    from reprotui.compare.results import metric_differences, summary
    from reprotui.compare.runs import labels_of
    from reprotui.compare.swap import swap_of
    from reprotui.event_kinds import word_of
    from reprotui.race.tolerance import compare_within, tolerance_of

    tolerance = tolerance_of(paths, parsed.tolerance)
    views = [open_run(path, label) for path, label in zip(paths, labels_of(paths), strict=True)]
    verdicts = [compare_within(views[0], view, tolerance, parsed.verify) for view in views[1:]]
    metrics: list[list[str]] = [[] for _ in verdicts]
    if parsed.metrics:
        results = [summary(view.manifest) if view.manifest.result and view.manifest.result.final else {} for view in views]
        metrics = [metric_differences(results[0], result) for result in results[1:]]
    codes = [DIFFERS if differ else verdict.exit_code for verdict, differ in zip(verdicts, metrics, strict=True)]
    code = worst(codes)
    ledgers = [chance_of(view.run.trace_path) for view in views] if parsed.chance else []
    groups = groups_of(views)
    together, swapped = said_of_all(verdicts, groups, [standing_of(view) for view in views]), swap_of(views)
    if parsed.json:
        rows = [{**verdict.to_json(), "metrics": differ} for verdict, differ in zip(verdicts, metrics, strict=True)]
        listed: dict[str, Any] = {"chance": [line.to_json() for line in side_by_side(ledgers)]} if parsed.chance else {}
        listed |= {"follows": swapped._asdict()} if swapped else {}
        common.print_json({"exit_code": code, "verdicts": rows, "agreement": together, "groups": groups, **listed})
        return code
    console = common.console()
    within = code == SAME and any(verdict.distance for verdict in verdicts)
    alone = code == DIFFERS and not any(metrics) and all(replace(verdict, torn=()).exit_code != DIFFERS for verdict in verdicts)
    word = word_of(next((text for verdict in verdicts for text in verdict.torn), ""))
    banner = common.symbol(f"❌ {word}", word) if alone else _banner(code, any(verdict.broken for verdict in verdicts), within)
    console.print(banner, style="bold")
    if len(verdicts) > 1:
        console.print(together, style="bold", soft_wrap=True)
    if swapped:
        console.print(swapped.said, style="bold", soft_wrap=True)
    for verdict, differ in zip(verdicts, metrics, strict=True):
        print_verdict(console, verdict, f"{verdict.b} against {verdict.a}: ")
        for line in differ:
            console.print(f"  {'metrics':<12}{line}")
    if parsed.chance:
        print_chance(console, [view.label for view in views], ledgers)
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


def _banner(code: int, broken: bool = False, within: bool = False) -> str:
    match code:
        case 0 if broken:
            words = "WITHIN TOLERANCE, AND NOT FINITE" if within else "MATCH, AND NOT FINITE"
            return common.symbol(f"❗ {words}", words)
        case 0 if within:
            return common.symbol("✅ WITHIN TOLERANCE", "WITHIN TOLERANCE")
        case 0:
            return common.symbol("✅ MATCH", "MATCH")
        case 1:
            return common.symbol("❌ MISMATCH", "MISMATCH")
        case _:
            return common.symbol("❔ CANNOT TELL", "CANNOT TELL")
