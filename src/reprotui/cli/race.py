"""`reprotui race`: two or more runs side by side, to a verdict."""

import argparse
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprotui.cli import checkpointing, cluster, common, recording, scripts
from reprotui.errors import DIFFERS, SAME, USAGE, WORKER_FAILED, BadInputError
from reprotui.manifest import RunState
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Checkpointing

if TYPE_CHECKING:
    from reprotui.race.launch import Launch

LABELS = "abcdefgh"
"""A race has at most as many members as can be told apart on a screen."""

Prepare = Callable[[], tuple[Path, list[RunDirectory]]]
"""Makes the directories of a race, and returns them."""


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
        reprotui race --tolerance rel=1e-5 --a "python train.py" --b "python train.py --compile"
        reprotui race --a-rev main --b-rev HEAD -- python train.py
        reprotui race --on slurm --partition gpu --gpus 1 --time 30:00 -- python train.py
        reprotui race --on slurm --swap --a-dir old --b-dir new -- python train.py""",
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
    common.add_tolerance(parser)
    common.add_symbols(parser)
    common.add_runs_directory(parser)
    recording.add_options(parser)
    scripts.add_options(parser, LABELS)
    checkpointing.add_schedule(parser, single=False)
    cluster.add_options(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Race, and print the verdicts; on a terminal, in the dashboard."""
    import sys

    from reprotui.compare.tolerance import parse_tolerance

    parse_tolerance(parsed.tolerance)
    launch = cluster.launcher(parsed)
    script = scripts.preparation(parsed, LABELS)
    if script is not None and parsed.requeue:
        raise BadInputError("--requeue is for experiments: a script saves its checkpoints itself, and goes on from them")
    headless = parsed.headless or parsed.json or not (sys.stdin.isatty() and sys.stdout.isatty())
    race = _detached if parsed.detach else _headless if headless else _dashboard
    if script is None:
        return race(parsed, _preparation(parsed), launch)
    try:
        return race(parsed, lambda: script.prepare(common.request(parsed)), launch)
    finally:
        scripts.say_left(script.finish())


def _preparation(parsed: argparse.Namespace) -> Prepare:
    """Return what makes the directories of a race of an experiment, once its arguments are checked."""
    from reprotui.experiments.discovery import find_experiment
    from reprotui.race.prepare import prepare_race

    name, overrides = common.experiment_and_overrides(parsed.experiment)
    members, reference = members_asked(parsed, overrides), find_experiment(name)
    schedule = checkpointing.schedule(parsed)
    if parsed.swap:
        scripts.two_alone([member.label for member in members])
        members += [replace(member, label=label) for member, label in zip(members, "cd", strict=True)]
    if parsed.requeue:  # what is saved when it is told to make room is where it goes on
        schedule = replace(schedule or Checkpointing(), at_end=True)
    return lambda: prepare_race(common.request(parsed, schedule), reference, members)


def _at_divergence(parsed: argparse.Namespace) -> str | None:
    return "stop" if parsed.stop_at_divergence else "pause" if parsed.pause_at_divergence else None


@contextmanager
def _removed_where_refused(path: Path, directories: list[RunDirectory]) -> Generator[None]:
    """Leave no race behind of which no run was ever started, because whoever should start it refused."""
    try:
        yield
    except BadInputError:
        if not any(run.log_path.exists() or run.trace_path.exists() for run in directories):
            shutil.rmtree(path, ignore_errors=True)
        raise


def _detached(parsed: argparse.Namespace, prepare: Prepare, launch: "Launch") -> int:
    """Submit the race and end; whoever opens it later judges it."""
    from reprotui.race.start import labelled, start
    from reprotui.race.tolerance import remember

    path, directories = prepare()
    remember(path, parsed.tolerance, _at_divergence(parsed))
    with _removed_where_refused(path, directories):
        started = start(labelled(directories), launch=launch)
    jobs = {label: getattr(job, "number", None) for label, job in started.items()}
    if parsed.json:
        common.print_json({"race": str(path), "jobs": jobs})
    else:
        one = len(set(jobs.values())) == 1
        each = ", ".join(jobs) if one else ", ".join(f"{label} as job {number}" for label, number in jobs.items())
        common.say(f"submitted {each}" + (f" as job {next(iter(jobs.values()))}" if one else ""))
        common.say(f"  watch it: reprotui open {common.short(path)}")
    return SAME


def _dashboard(parsed: argparse.Namespace, prepare: Prepare, launch: "Launch") -> int:
    """Start the race and watch it in the dashboard; it goes on when the dashboard is left before its end."""
    from reprotui.cli.open import print_once
    from reprotui.race.monitor import members as members_of
    from reprotui.race.start import labelled, start
    from reprotui.race.tolerance import remember

    common.need_terminal("--headless")
    path, directories = prepare()
    remember(path, parsed.tolerance, _at_divergence(parsed))
    with _removed_where_refused(path, directories):
        processes = start(labelled(directories), launch=launch)
    from reprotui.tui.app import run_dashboard

    run_dashboard(common.runs_directory(parsed), [path], parsed.symbols, processes, _at_divergence(parsed))
    runs = members_of([path])
    code = print_once(runs)
    common.say(f"  open again: reprotui open {common.short(path)}")
    results = [run.manifest().result for _, run in runs]
    if failed := [result for result in results if result and result.state is RunState.FAILED]:
        return USAGE if any(result.bad_input for result in failed) else WORKER_FAILED
    return code


def _headless(parsed: argparse.Namespace, prepare: Prepare, launch: "Launch") -> int:
    from reprotui.cli.progress import watch_race
    from reprotui.cli.show import print_verdicts, race_to_json
    from reprotui.compare.agreement import groups_of, said_of_all, standing_of
    from reprotui.compare.runs import RunView
    from reprotui.compare.swap import swap_of
    from reprotui.race.start import labelled
    from reprotui.race.tolerance import compare_within, remember, tolerance_of
    from reprotui.run_directory import read_json, write_json

    path, directories = prepare()
    remember(path, parsed.tolerance, _at_divergence(parsed))
    runs = labelled(directories)
    with _removed_where_refused(path, directories):
        interrupted = watch_race(runs, path, _at_divergence(parsed), launch=launch)
    manifests = common.manifests_of(dict(runs), path)
    ended = [RunView(label, run, manifests[label], run.state(manifests[label])) for label, run in runs]
    tolerance = tolerance_of([path])
    verdicts, groups = [compare_within(ended[0], view, tolerance) for view in ended[1:]], groups_of(ended)
    together, swapped = said_of_all(verdicts, groups, [standing_of(view) for view in ended]), swap_of(ended)
    race, found = read_json(path / "race.json"), {"follows": swapped._asdict()} if swapped else {}
    judged = {"verdicts": [verdict.to_json() for verdict in verdicts], "groups": groups}
    write_json(path / "race.json", {**race, **judged, **found})
    broken = [DIFFERS] if parsed.stop_at_nan and any(verdict.not_finite for verdict in verdicts) else []
    code = common.exit_code([*(verdict.exit_code for verdict in verdicts), *broken], manifests.values(), interrupted)
    if parsed.json:
        common.print_json({**race_to_json(path, ended, verdicts, (together, groups), code), **found})
    else:
        print_verdicts(verdicts, together, ended, path, swapped.said if swapped else "")
    return code


def members_asked(parsed: argparse.Namespace, overrides: list[str]) -> list[Any]:
    """Return the runs of a race of an experiment that `--a`, `--b` … and `--repeat` ask for."""
    from reprotui.experiments.config import parse_overrides
    from reprotui.race.prepare import Member

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
