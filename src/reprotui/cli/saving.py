"""`checkpoint save`, `checkpoint restore` and `checkpoint prune`: what is asked of a run, and what becomes of its checkpoints."""

import argparse
from typing import Any

from reprotui.cli import common
from reprotui.errors import SAME, BadInputError, CannotTellError
from reprotui.manifest import Kind, RunState
from reprotui.run_directory import RunDirectory


def add_save(subparsers: Any) -> None:
    """Add `checkpoint save`."""
    parser = common.command(
        subparsers,
        "save",
        "ask a running run to save a checkpoint now",
        """reprotui checkpoint save runs/x/a
        reprotui checkpoint save x --wait""",
    )
    parser.add_argument("run", metavar="RUN", help="run directory, or name in the runs directory")
    parser.add_argument("--wait", action="store_true", help="return when it is saved, and print where")
    common.add_runs_directory(parser)
    parser.set_defaults(call=save)


def add_restore(subparsers: Any) -> None:
    """Add `checkpoint restore`."""
    parser = common.command(
        subparsers,
        "restore",
        "go on from a checkpoint: the same run, or with key=value a branch",
        """reprotui checkpoint restore runs/x/a                   (the newest that verifies)
        reprotui checkpoint restore runs/x/a --step 100
        reprotui checkpoint restore runs/x/a --step 100 lr=0.01 --name branch""",
        description="Verify a checkpoint, refuse what does not fit, and train on from there in a new run directory. Its trace "
        "begins with the records of the old run up to the checkpoint, so that it compares step by step.",
    )
    parser.intermixed = True
    parser.add_argument("run", metavar="RUN", help="run, checkpoints directory, or one checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config that a branch has other than the old run")
    parser.add_argument(
        "--step", type=common.step, metavar="N", help="the checkpoint of this step (default: the newest VALID one)"
    )
    parser.add_argument("--name", help="name of the new run (default: the old one's, with -from-N)")
    common.add_trust(parser)
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=restore)


def add_prune(subparsers: Any) -> None:
    """Add `checkpoint prune`."""
    parser = common.command(
        subparsers,
        "prune",
        "remove all checkpoints of a run but the newest, and what crashes left",
        """reprotui checkpoint prune runs/x/a --keep 3 --dry-run
        reprotui checkpoint prune runs/x/a --keep 3""",
        description="Remove older checkpoints. One of those that stay must verify; damaged ones are evidence and are left alone.",
    )
    parser.add_argument("run", metavar="RUN", help="run directory, its checkpoints directory, or name in the runs directory")
    parser.add_argument("--keep", type=common.positive, required=True, metavar="K", help="how many of the newest stay")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=prune)


def save(parsed: argparse.Namespace) -> int:
    """Append the command; with `--wait` follow the run's events until it was obeyed."""
    run = RunDirectory(common.find_run(parsed.run, common.runs_directory(parsed)))
    manifest = run.manifest()
    if not (state := run.state(manifest)).obeys:
        raise CannotTellError(f"{run.path} is {state}: a run that does not train has nothing to save")
    if manifest.kind is Kind.SCRIPT:
        raise BadInputError(f"{run.path} is recorded in a script of its own, which saves in its own way: reprotui does not")
    before = _last_event(run)
    run.send("save")
    common.say(_wait(run, before) if parsed.wait else f"save: {common.short(run.path)}")
    return SAME


def _last_event(run: RunDirectory) -> int:
    from reprotui.trace import Trace

    if not run.trace_path.is_file() or not run.trace_path.stat().st_size:
        return 0
    with Trace(run.trace_path) as trace:
        return max((event.id for event in trace.events()), default=0)


def _wait(run: RunDirectory, after: int) -> str:
    """Return what the run said about the save; raise where it ends without a word."""
    import time

    from reprotui.trace import Trace

    while True:
        alive = run.state().obeys
        if run.trace_path.is_file() and run.trace_path.stat().st_size:
            with Trace(run.trace_path) as trace:
                for event in trace.events(after):
                    if event.kind == "saved":
                        return f"saved {event.text}: {common.short(run.path)}"
        if not alive:
            raise CannotTellError(f"{run.path} ended before it saved")
        time.sleep(0.1)


def restore(parsed: argparse.Namespace) -> int:
    """Verify, start, and follow the run to its end."""
    from reprotui.checkpoints.origin import find_origin
    from reprotui.cli.run import follow
    from reprotui.cli.show_checkpoint import Meter
    from reprotui.experiments.config import parse_overrides
    from reprotui.race.prepare import Request
    from reprotui.race.resume import prepare_resumed

    path = common.find_run(parsed.run, common.runs_directory(parsed))
    overrides = parse_overrides(parsed.overrides)
    with Meter("verified") as meter:
        origin = find_origin(path, parsed.step, meter)
    request = Request(common.runs_directory(parsed), parsed.name, parsed.command_line)
    return follow(prepare_resumed(request, origin, overrides, trusted=parsed.trust), parsed.json)


def prune(parsed: argparse.Namespace) -> int:
    """Remove, and say what."""
    from reprotui.checkpoints.places import is_run
    from reprotui.checkpoints.prune import prune as remove_surplus
    from reprotui.cli.show_checkpoint import Meter, size
    from reprotui.integrity.status import Status

    path = common.find_run(parsed.run, common.runs_directory(parsed))
    if not is_run(path):
        raise BadInputError(f"{path} is neither a run nor a directory of checkpoints")
    if (path / "run.json").is_file() and RunDirectory(path).state() is RunState.RUNNING:
        raise BadInputError(f"{path} is running and prunes itself (--keep): stop it first")
    with Meter("verified") as meter:
        done = remove_surplus(path, parsed.keep, dry_run=parsed.dry_run, progress=meter)
    if parsed.json:
        common.print_json({
            "dry_run": parsed.dry_run, "removed": done.steps, "leftovers": done.leftovers, "kept": done.kept, "bytes": done.size,
            "left_alone": [entry.to_json() for entry in done.left_alone],
        })  # fmt: skip
        return SAME
    verb = "would remove" if parsed.dry_run else "removed"
    steps = f"steps {', '.join(map(str, done.steps))}" if done.steps else "no checkpoint"
    left = f" and {len(done.leftovers)} leftovers of crashes" if done.leftovers else ""
    common.say(f"{verb} {steps}{left} ({size(done.size)}); steps {', '.join(map(str, done.kept)) or 'none'} stay")
    for entry in done.left_alone:
        what = "register it or delete it yourself" if entry.problem is Status.UNREGISTERED else "verify it, then decide yourself"
        common.say(f"left alone: {common.short(entry.path)} is {entry.problem}: {entry.message}; {what}")
    return SAME
