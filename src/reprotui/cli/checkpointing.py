"""Flags and subcommands around saving: when a run saves, `checkpoint save`, `checkpoint restore`, `checkpoint prune`."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import SAME, BadInputError, CannotTellError


class Intermixed(common.Parser):
    """Takes `RUN --step 100 lr=0.01`: argparse alone gives up on a `*` positional when an option stands before it."""

    _inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse options first, what is left after them; the method of that name calls this one."""
        if self._inside:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


def add_schedule(parser: argparse.ArgumentParser, *, single: bool) -> None:
    """Add when to save; for a single run also where, what to keep, and where to go on from."""
    group = parser.add_argument_group("checkpoints")
    group.add_argument("--save-every", type=common.positive, metavar="N", help="save a checkpoint every N steps and at the end")
    group.add_argument(
        "--save-at", type=common.positive, action="append", default=[], metavar="N", help="save one at step N; may be repeated"
    )
    if not single:
        return
    group.add_argument("--keep", type=common.positive, metavar="K", help="of those of --save-every keep the newest K only")
    group.add_argument("--keep-every", type=common.positive, metavar="M", help="but never remove a step that M divides")
    group.add_argument(
        "--checkpoint-dir", type=Path, metavar="DIR", help="save there, alone at the end (default: checkpoints/ of the run)"
    )
    group.add_argument(
        "--restore-from", metavar="N|RUN[:N]|PATH",
        help="go on from a checkpoint: step N in --checkpoint-dir, the newest or step N of a run, or the path of one",
    )  # fmt: skip
    common.add_trust(parser)


def schedule(parsed: argparse.Namespace) -> Any:
    """Return the schedule that was asked for."""
    from reprotui.checkpoints.policy import Checkpointing

    directory = getattr(parsed, "checkpoint_dir", None)
    return Checkpointing(
        every=parsed.save_every, at=tuple(sorted(set(parsed.save_at))),
        at_end=bool(parsed.save_every or (directory and not parsed.save_at)), keep=getattr(parsed, "keep", None),
        keep_every=getattr(parsed, "keep_every", None), directory=None if directory is None else str(directory.absolute()),
    )  # fmt: skip


def refuse_used_directory(directory: Path | None, restored: int | None) -> None:
    """Raise where a directory of checkpoints holds steps that the run would write again; leftovers of crashes do not count."""
    from reprotui.checkpoints.places import step_directories
    from reprotui.checkpoints.registry import read_registry

    if directory is None or not directory.is_dir():
        return
    registry = read_registry(directory)
    known = [step for step in step_directories(directory) if registry is None or registry.latest(str(step)) is not None]
    in_the_way = [step for step in known if restored is None or step > restored]
    if in_the_way:
        how = (
            "choose another directory, or go on from them with --restore-from" if restored is None else "choose another directory"
        )
        raise BadInputError(f"--checkpoint-dir {directory} holds checkpoints of steps {', '.join(map(str, in_the_way))}: {how}")


def find_restore(parsed: argparse.Namespace) -> Any:
    """Return the checkpoint that `--restore-from` means, verified."""
    from reprotui.checkpoints.origin import find_origin
    from reprotui.cli.show_checkpoint import Meter

    text: str = parsed.restore_from
    if text.isdecimal():
        if parsed.checkpoint_dir is None:
            raise BadInputError(f"--restore-from {text}: of which run? Give RUN:{text}, or --checkpoint-dir DIR with it")
        path, step = parsed.checkpoint_dir, _step(text)
    else:
        head, separator, tail = text.rpartition(":")
        name, step = (head, _step(tail)) if separator and tail.isdecimal() else (text, None)
        path = common.find_run(name, common.runs_directory(parsed))
    with Meter("verified") as meter:
        return find_origin(path, step, meter)


def _step(text: str) -> int:
    try:
        return common.step(text)
    except (ValueError, argparse.ArgumentTypeError):
        raise BadInputError(f"--restore-from: no step has a number of {len(text)} digits") from None


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
    parser.__class__ = Intermixed
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
    from reprotui.run_directory import RunDirectory

    run = RunDirectory(common.find_run(parsed.run, common.runs_directory(parsed)))
    if (state := run.state()) not in ("created", "running", "elsewhere"):
        raise CannotTellError(f"{run.path} is {state}: a run that does not train has nothing to save")
    if not run.saves():
        raise BadInputError(f"{run.path} is recorded in a script of its own, which saves in its own way: reprotui does not")
    before = _last_event(run)
    run.send("save")
    common.say(_wait(run, before) if parsed.wait else f"save: {common.short(run.path)}")
    return SAME


def _last_event(run: Any) -> int:
    from reprotui.trace import Trace

    if not run.trace_path.is_file() or not run.trace_path.stat().st_size:
        return 0
    with Trace(run.trace_path) as trace:
        return max((event.id for event in trace.events()), default=0)


def _wait(run: Any, after: int) -> str:
    """Return what the run said about the save; raise where it ends without a word."""
    import time

    from reprotui.trace import Trace

    while True:
        alive = run.state() in ("created", "running", "elsewhere")
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
    from reprotui.race.resume import prepare_resumed

    path = common.find_run(parsed.run, common.runs_directory(parsed))
    overrides = parse_overrides(parsed.overrides)
    with Meter("verified") as meter:
        origin = find_origin(path, parsed.step, meter)
    run = prepare_resumed(
        common.runs_directory(parsed), parsed.name, origin, overrides, parsed.command_line, trusted=parsed.trust
    )
    return follow(parsed, run)


def prune(parsed: argparse.Namespace) -> int:
    """Remove, and say what."""
    from reprotui.checkpoints.places import is_run
    from reprotui.checkpoints.prune import prune as remove_surplus
    from reprotui.cli.show_checkpoint import Meter, size
    from reprotui.integrity.status import Status
    from reprotui.run_directory import RunDirectory

    path = common.find_run(parsed.run, common.runs_directory(parsed))
    if not is_run(path):
        raise BadInputError(f"{path} is neither a run nor a directory of checkpoints")
    if (path / "run.json").is_file() and RunDirectory(path).state() == "running":
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
