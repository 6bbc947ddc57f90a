"""`reprotui race`: two or more runs side by side, to a verdict."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprotui.cli import checkpointing, common, scripts
from reprotui.errors import DIFFERS, INTERRUPTED, SAME, USAGE, WORKER_FAILED, BadInputError, CannotTellError

LABELS = "abcdefgh"
"""A race has at most as many members as can be told apart on a screen."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "race",
        "train runs side by side and say whether they are identical, and if not where and why they first differ",
        """reprotui race
        reprotui race digits-mlp steps=100 --a seed=0 --b seed=1
        reprotui race --b shuffle_from=37 --stop-at-divergence
        reprotui race transformer optimizer=adam --a threads=1 --b threads=2
        reprotui race --b perturb=50:params/dense_1/kernel:1000:20
        reprotui race my_experiment.py --repeat 3 --json
        reprotui race -- python train.py --seed 0             (your own script, not changed, against itself)
        reprotui race --a "python train.py" --b "NPROC=1 python train.py"
        reprotui race --a-rev main --b-rev HEAD -- python train.py""",
    )
    parser.add_argument(
        "experiment",
        nargs="*",
        metavar="EXPERIMENT | key=value",
        help="digits-mlp (default), digits-cnn, transformer or a .py file, and config for all runs",
    )
    for label in LABELS:
        text = f"config of run {label.upper()}" if label in "ab" else argparse.SUPPRESS
        parser.add_argument(f"--{label}", nargs="*", metavar="key=value", help=text)
    parser.add_argument(
        "--repeat",
        type=common.positive,
        metavar="N",
        help="start each config N times (without --a, --b …: 2 by default)",
    )
    parser.add_argument("--name", help="name of the race (default: experiment, date and time)")
    parser.add_argument("--stop-at-divergence", action="store_true", help="stop all runs when the first difference is seen")
    parser.add_argument("--pause-at-divergence", action="store_true", help="pause them there; see reprotui control")
    parser.add_argument("--headless", action="store_true", help="print; never open the dashboard, which opens on a terminal")
    common.add_symbols(parser)
    common.add_runs_directory(parser)
    common.add_recording(parser)
    scripts.add_options(parser)
    checkpointing.add_schedule(parser, single=False)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Race, and print the verdicts; on a terminal, in the dashboard."""
    import sys

    from reprotui.experiments.discovery import find_experiment
    from reprotui.race import Recording, prepare_race

    recording = Recording(every=parsed.every, leaves_every=parsed.leaves_every, statistics_every=parsed.stats_every)
    script = scripts.preparation(parsed, LABELS)
    headless = parsed.headless or parsed.json or not (sys.stdin.isatty() and sys.stdout.isatty())
    if script:
        try:
            return (_headless if headless else _dashboard)(parsed, lambda: script.prepare(recording))
        finally:
            script.finish()
    name, overrides = common.experiment_and_overrides(parsed.experiment)
    members = _members(parsed, overrides)
    reference = find_experiment(name)

    def prepare() -> tuple[Path, list[Any]]:
        policy = checkpointing.schedule(parsed)
        return prepare_race(
            common.runs_directory(parsed), parsed.name, reference, members, recording, parsed.command_line, policy
        )

    return (_headless if headless else _dashboard)(parsed, prepare)


def _dashboard(parsed: argparse.Namespace, prepare: Callable[[], tuple[Path, list[Any]]]) -> int:
    """Start the race and watch it in the dashboard; it goes on when the dashboard is left before its end."""
    from reprotui.cli.open import print_once
    from reprotui.race.monitor import members as members_of
    from reprotui.race.start import start_prepared

    common.need_terminal("--headless")
    runs = common.runs_directory(parsed)
    started = start_prepared(*prepare())
    from reprotui.tui.app import run_dashboard

    at_divergence = "stop" if parsed.stop_at_divergence else "pause" if parsed.pause_at_divergence else None
    run_dashboard(runs, [started.path], parsed.symbols, started.processes, at_divergence)
    runs_of_it = members_of([started.path])
    code = print_once(runs_of_it)
    common.say(f"  open again: reprotui open {common.short(started.path)}")
    failed = [result for _, run in runs_of_it if (result := run.manifest().get("result") or {}).get("state") == "failed"]
    if failed:
        return USAGE if any(result.get("bad_input") for result in failed) else WORKER_FAILED
    return code


def _headless(parsed: argparse.Namespace, prepare: Callable[[], tuple[Path, list[Any]]]) -> int:
    from reprotui.cli.progress import watch_race
    from reprotui.race import Supervisor
    from reprotui.run_directory import read_json, write_json

    path, directories = prepare()
    labels = [directory.path.name for directory in directories]
    supervisor = Supervisor(list(zip(labels, directories, strict=True)), path)
    with supervisor:
        supervisor.start()
        interrupted = watch_race(supervisor, path, parsed)
    common.refuse_bad_input(dict(zip(labels, directories, strict=True)), path)
    verdicts, groups = _judge(path, labels)
    race = read_json(path / "race.json")
    write_json(path / "race.json", {**race, "verdicts": [verdict.to_json() for verdict in verdicts], "groups": groups})
    return _report(parsed, path, labels, verdicts, groups, interrupted)


def _members(parsed: argparse.Namespace, overrides: list[str]) -> list[Any]:
    from reprotui.experiments.config import parse_overrides
    from reprotui.race import Member

    shared = parse_overrides(overrides)
    given = [(label, getattr(parsed, label)) for label in LABELS if getattr(parsed, label) is not None]
    for label, tokens in given:
        if bare := [token for token in tokens if "=" not in token]:
            raise BadInputError(f"--{label} {bare[0]}: expected key=value; the experiment stands before --{label}")
    if not given:
        repeat = parsed.repeat or 2
        if repeat < 2:
            raise BadInputError("--repeat 1 leaves nothing to compare: a race has at least two runs; for one, use reprotui run")
        given, repeat = [(label, []) for label in _labels(repeat)], 1
    else:
        repeat = parsed.repeat or 1
        if len(given) == 1 and repeat == 1:
            # One config alone is held against the experiment without it.
            other = "a" if given[0][0] != "a" else "b"
            given = sorted([*given, (other, [])])
    members = [
        Member(label if number == 0 else f"{label}{number + 1}", {**shared, **parse_overrides(tokens)})
        for label, tokens in given
        for number in range(repeat)
    ]
    _labels(len(members))
    return members


def _labels(count: int) -> str:
    if count > len(LABELS):
        raise BadInputError(f"a race has at most {len(LABELS)} runs, this one would have {count}")
    return LABELS[:count]


def _judge(path: Path, labels: list[str]) -> tuple[list[Any], list[list[str]]]:
    from reprotui.compare import compare_runs, open_run
    from reprotui.compare.runs import agreement

    views = [open_run(path / label, label.upper()) for label in labels]
    return [compare_runs(views[0], view) for view in views[1:]], agreement(views)


def _report(
    parsed: argparse.Namespace,
    path: Path,
    labels: list[str],
    verdicts: list[Any],
    groups: list[list[str]],
    interrupted: bool,
) -> int:
    from reprotui.cli.show import print_verdicts, race_to_json
    from reprotui.run_directory import RunDirectory

    results = {label: RunDirectory(path / label) for label in labels}
    code = exit_code([verdict.exit_code for verdict in verdicts], [run.manifest() for run in results.values()], interrupted)
    if parsed.json:
        common.print_json(race_to_json(path, results, verdicts, groups, code))
    else:
        print_verdicts(verdicts, groups, results, path)
    return code


def exit_code(verdicts: list[int], manifests: list[dict[str, Any]], interrupted: bool) -> int:
    """Return the command's exit code: interrupted, bad input, a failed worker, then the worst verdict."""
    results = [manifest.get("result") or {} for manifest in manifests]
    if interrupted:
        return INTERRUPTED
    if any(result.get("state") == "failed" and result.get("bad_input") for result in results):
        return USAGE
    if any(result.get("state") in (None, "failed") for result in results):
        return WORKER_FAILED
    if DIFFERS in verdicts:
        return DIFFERS
    return CannotTellError.exit_code if any(verdicts) else SAME
