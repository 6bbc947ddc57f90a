"""`reprotui checkpoint`: what checkpoints there are, whether they are what was saved, and how two of them differ."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.cli.checkpointing import add_target, checkpoint_of, find, target
from reprotui.cli.saving import add_prune, add_restore, add_save
from reprotui.cli.signing import add_sign, add_signers, signers
from reprotui.errors import DIFFERS, SAME, BadInputError, CannotTellError

LEVELS = {
    "files": "the files are those of the manifest, the manifest is that of the registry",
    "content": "besides, every leaf read back has the digest taken before the write (default)",
    "trace": "besides, its checksum is the one that the run recorded at that step",
    "replay": "besides, training resumed from it gives the steps that were recorded after it",
}
DAMAGES = ("flip", "zero", "truncate", "append", "swap", "remove", "add", "manifest", "registry")


def add_parser(subparsers: Any) -> None:
    """Add the command and its subcommands."""
    parser = common.command(
        subparsers,
        "checkpoint",
        "list, save, restore, verify, compare, prune, sign and damage checkpoints",
        """reprotui checkpoint list runs/x/a
        reprotui checkpoint verify runs/x/a --step 100 --level trace
        reprotui checkpoint diff runs/x/a/checkpoints/100 model.pt""",
        description="Work with checkpoints: Orbax step directories, torch's .pt, safetensors and npz files.",
    )
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_list, add_save, add_restore, _add_verify, _add_diff, add_prune, _add_register, add_sign, _add_damage):
        add(inner)


def _add_list(subparsers: Any) -> None:
    parser = common.command(
        subparsers,
        "list",
        "list the checkpoints of a run, without hashing them",
        """reprotui checkpoint list runs/x/a
        reprotui checkpoint list x/a --json""",
    )
    parser.add_argument("run", metavar="RUN", help="run directory, its checkpoints directory, or name in the runs directory")
    add_signers(parser, one=False)
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=list_)


def _add_verify(subparsers: Any) -> None:
    parser = common.command(
        subparsers,
        "verify",
        "say whether a checkpoint is what was saved",
        """reprotui checkpoint verify runs/x/a                    (the newest step)
        reprotui checkpoint verify runs/x/a --step 100 --level trace
        reprotui checkpoint verify runs/x/a --all --json
        reprotui checkpoint verify model.safetensors --key public.pem""",
        description="Verify checkpoints. Only VALID exits 0; damage exits 1; 3 says that nobody can tell.\n\nlevels:\n"
        + "\n".join(f"  {name:<9}{text}" for name, text in LEVELS.items()),
    )
    add_target(parser)
    parser.add_argument("--all", action="store_true", help="every checkpoint of the run")
    parser.add_argument(
        "--level",
        choices=LEVELS,
        help="how deep to look, see above; with a key the default is files where nothing records content",
    )
    add_signers(parser, one=True)
    common.add_trust(parser)
    common.add_json(parser)
    parser.set_defaults(call=verify)


def _add_diff(subparsers: Any) -> None:
    parser = common.command(
        subparsers,
        "diff",
        "compare two checkpoints of any formats leaf by leaf",
        """reprotui checkpoint diff runs/x/a/checkpoints/100 runs/x/b/checkpoints/100
        reprotui checkpoint diff runs/x/a runs/x/b --step 100
        reprotui checkpoint diff model.pt model.safetensors --json""",
    )
    parser.add_argument("a", metavar="A", help="checkpoint, or with --step a run")
    parser.add_argument("b", metavar="B", help="checkpoint, or with --step a run")
    parser.add_argument("--step", type=common.step, metavar="N", help="compare the checkpoints of this step of two runs")
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=diff)


def _add_register(subparsers: Any) -> None:
    parser = common.command(
        subparsers,
        "register",
        "write the manifest of a checkpoint that has none, as it is now",
        """reprotui checkpoint register model.safetensors
        reprotui checkpoint register runs/x/a --step 100""",
        description="Write the manifest of a checkpoint beside it, as it is now: damage from here on is found, earlier damage "
        "only where the format shows it.",
    )
    add_target(parser)
    parser.set_defaults(call=register)


def _add_damage(subparsers: Any) -> None:
    parser = common.command(
        subparsers,
        "damage",
        "harm a copy of a checkpoint on purpose, to see what is found",
        """reprotui checkpoint damage model.pt --kind flip --seed 7
        reprotui checkpoint damage runs/x/a --step 100 --count 3 --out damaged""",
        description="Harm a copy of a checkpoint (and of its manifest, signature and registry), by a seed; print what was done.",
    )
    add_target(parser)
    parser.add_argument("--kind", choices=DAMAGES, help="what to do (default: drawn for each)")
    parser.add_argument("--count", type=common.positive, default=1, metavar="N", help="how many times (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="draws places and kinds (default 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("damaged"), metavar="DIR", help="where the copy goes (default ./damaged)"
    )
    parser.add_argument("--in-place", action="store_true", help="harm the checkpoint itself instead of a copy")
    parser.set_defaults(call=damage)


def list_(parsed: argparse.Namespace) -> int:
    """Print what is there."""
    from reprotui.checkpoints.listing import list_checkpoints
    from reprotui.checkpoints.places import is_run
    from reprotui.cli import show_checkpoint

    path = common.find_run(parsed.run, common.runs_directory(parsed))
    if not is_run(path):
        raise BadInputError(f"{path} is not a run: it has no run.json")
    entries = list_checkpoints(path, signers(parsed))
    if parsed.json:
        common.print_json({"run": str(path), "checkpoints": [entry.to_json() for entry in entries]})
    elif entries:
        show_checkpoint.show_list(entries)
    else:
        common.say(f"no checkpoints in {common.short(path)}")
    return SAME


def verify(parsed: argparse.Namespace) -> int:
    """Verify one checkpoint or all of a run; exit by the worst status."""
    from reprotui.checkpoints.listing import list_checkpoints, listed_result
    from reprotui.checkpoints.places import is_run, run_of
    from reprotui.checkpoints.verify import verify_checkpoint
    from reprotui.cli import show_checkpoint
    from reprotui.integrity.status import Status, worst

    replay = None
    if parsed.level == "replay":
        from reprotui.replay.level import check_replay

        replay = partial(check_replay, trusted=parsed.trust)
    path, whose = find(parsed), signers(parsed)
    level = parsed.level or (None if whose.given else "content")
    if parsed.all:
        if parsed.step is not None or parsed.signature is not None or not is_run(path):
            raise BadInputError("--all is for a run, without --step and --signature")
        entries = list_checkpoints(path)
        if not entries:
            raise CannotTellError(f"{path} has no checkpoint to verify")
    else:
        entries = [None]
    results = []
    run = run_of(path)
    with show_checkpoint.Meter("verified") as meter:
        for entry in entries:
            checkpoint = checkpoint_of(path, parsed.step) if entry is None else entry.path
            if entry is not None and entry.problem is Status.MISSING:
                results.append(listed_result(entry, level or "content"))
            else:
                results.append(verify_checkpoint(checkpoint, level, run=run, signers=whose, progress=meter, replay=replay))
            if not parsed.json:
                meter.clear()
                show_checkpoint.show_result(results[-1])
    status = worst([result.status for result in results])
    if parsed.json:
        common.print_json({"status": status.value, "results": [result.to_json() for result in results]})
    return status.exit_code


def diff(parsed: argparse.Namespace) -> int:
    """Compare two checkpoints; exit 0 where every leaf is the same."""
    from reprotui.checkpoints.diff import diff_checkpoints
    from reprotui.checkpoints.places import find_checkpoint
    from reprotui.cli import show_checkpoint
    from reprotui.errors import CANNOT_TELL

    runs = common.runs_directory(parsed)
    a, b = (find_checkpoint(common.find_run(name, runs), parsed.step) for name in (parsed.a, parsed.b))
    with show_checkpoint.Meter("compared") as meter:
        found = diff_checkpoints(a, b, meter)
    if parsed.json:
        common.print_json(found.to_json())
    else:
        show_checkpoint.show_diff(found)
    if not found.same:
        return DIFFERS
    return CANNOT_TELL if found.unread else SAME


def register(parsed: argparse.Namespace) -> int:
    """Write the manifest of what is there."""
    from reprotui.checkpoints.places import owner, step_of
    from reprotui.checkpoints.register import register_as_found
    from reprotui.cli import show_checkpoint
    from reprotui.integrity.manifest import Identity, identity_of_run, manifest_path

    path = target(parsed)
    run, step = owner(path), step_of(path.name)
    identity = Identity(step=step) if run is None or step is None else identity_of_run(run.manifest(), step)
    with show_checkpoint.Meter("hashed") as meter:
        manifest = register_as_found(path, identity, meter)
    count = "1 file" if len(manifest.files) == 1 else f"{len(manifest.files)} files"
    common.say(f"{common.short(manifest_path(path))}: {count}, {show_checkpoint.size(manifest.size)}")
    return SAME


def damage(parsed: argparse.Namespace) -> int:
    """Harm a copy and say how."""
    import random

    from reprotui.checkpoints import damage as harm

    path = target(parsed)
    generator = random.Random(parsed.seed)
    copy = path if parsed.in_place else harm.copy_checkpoint(path, parsed.out)
    for _ in range(parsed.count):
        kind = parsed.kind or generator.choice(harm.applicable(copy))
        common.say(harm.damage(copy, kind, generator))
    see = f"reprotui checkpoint verify {common.quote([str(common.short(copy))])}"
    common.say(f"damaged {common.short(copy)}; see: {see}", stderr=True)
    return SAME
