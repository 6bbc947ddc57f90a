"""What several commands ask about checkpoints: when a run saves, where it goes on from, which checkpoint is meant."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import BadInputError, CannotTellError


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
    from reprotui.schedule import Checkpointing

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


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add which checkpoint is meant."""
    parser.add_argument("target", metavar="CHECKPOINT|RUN", help="checkpoint, run directory, or name in the runs directory")
    parser.add_argument("--step", type=common.step, metavar="N", help="the checkpoint of this step of the run")
    common.add_runs_directory(parser)


def target(parsed: argparse.Namespace) -> Path:
    """Return the checkpoint that was named."""
    from reprotui.integrity.files import named

    return named(checkpoint_of(find(parsed), parsed.step))


def find(parsed: argparse.Namespace) -> Path:
    """Return what was named; a checkpoint that is gone, too, while its manifest remains to say what is missing."""
    from reprotui.integrity.manifest import manifest_path

    path = Path(parsed.target).expanduser()
    if path.name and not path.exists() and not path.is_symlink() and manifest_path(path).exists():
        return path
    return common.find_run(parsed.target, common.runs_directory(parsed))


def checkpoint_of(path: Path, step: int | None) -> Path:
    """Return the checkpoint that was asked for; of a run without a step the newest on the disk, whatever its state."""
    from reprotui.checkpoints.places import candidates, find_checkpoint, is_run, step_of

    if step is not None or not is_run(path):
        return find_checkpoint(path, step)
    steps = [number for entry in candidates(path) if (number := step_of(entry.name)) is not None]
    if not steps:
        raise CannotTellError(f"{path} has no checkpoint")
    return find_checkpoint(path, max(steps))
