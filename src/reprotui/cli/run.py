"""`reprotui run`: one run."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import checkpointing, common
from reprotui.errors import BadInputError

FLAGS = {"steps": "updates to train", "batch_size": "examples a step", "seed": "the seed", "lr": "the learning rate"}


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "run",
        "train one run, recorded, and write a summary of its result",
        """reprotui run --steps 100 --seed 1 --out result.json
        reprotui run transformer width=64 --lr 0.001 --every 10
        reprotui run my_experiment.py --no-record
        reprotui run steps=1000 --save-every 100 --keep 3 --name x
        reprotui run --restore-from x:500 lr=0.01""",
    )
    parser.add_argument(
        "experiment",
        nargs="*",
        metavar="EXPERIMENT | key=value",
        help="digits-mlp (default), digits-cnn, transformer or a .py file; config",
    )
    for name, text in FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="N", help=f"{text}, as {name}=N")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write hash, config and final metrics there")
    parser.add_argument("--name", help="name of the run (default: experiment, date and time)")
    parser.add_argument(
        "--no-record", action="store_true", help="train without recording steps; the result is the same to the bit"
    )
    common.add_runs_directory(parser)
    common.add_recording(parser)
    checkpointing.add_schedule(parser, single=True)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Train, and print the summary."""
    from reprotui.experiments.config import parse_overrides
    from reprotui.experiments.discovery import find_experiment
    from reprotui.race import Recording, prepare_run

    if parsed.out and parsed.out.is_dir():
        raise BadInputError(f"--out {parsed.out} cannot be written: it is a directory")
    if parsed.out and not parsed.out.absolute().parent.is_dir():
        raise BadInputError(f"--out {parsed.out} cannot be written: its directory does not exist")
    name, tokens = common.experiment_and_overrides(parsed.experiment)
    overrides: dict[str, Any] = parse_overrides(tokens)
    overrides |= {key: value for key in FLAGS if (value := getattr(parsed, key)) is not None}
    recording = Recording(
        enabled=not parsed.no_record,
        every=parsed.every,
        leaves_every=parsed.leaves_every,
        statistics_every=parsed.stats_every,
    )
    runs, policy = common.runs_directory(parsed), checkpointing.schedule(parsed)
    if parsed.restore_from is not None:
        run = _resumed(parsed, name, overrides, recording, policy)
    else:
        checkpointing.refuse_used_directory(parsed.checkpoint_dir, None)
        run = prepare_run(runs, parsed.name, find_experiment(name), overrides, recording, parsed.command_line, policy)
    return follow(parsed, run, parsed.out)


def _resumed(parsed: argparse.Namespace, name: str | None, overrides: dict[str, Any], recording: Any, policy: Any) -> Any:
    from reprotui.experiments.discovery import find_experiment
    from reprotui.race.resume import prepare_resumed

    origin = checkpointing.find_restore(parsed)
    saved = origin.manifest["experiment"]["name"]
    if name is not None and find_experiment(name).name != saved:
        raise BadInputError(f"--restore-from {parsed.restore_from}: the checkpoint is of {saved}, not of {name}")
    checkpointing.refuse_used_directory(parsed.checkpoint_dir, origin.step)
    return prepare_resumed(
        common.runs_directory(parsed), parsed.name, origin, overrides, parsed.command_line, checkpointing=policy,
        recording=recording, trusted=parsed.trust,
    )  # fmt: skip


def follow(parsed: argparse.Namespace, run: Any, out: Path | None = None) -> int:
    """Start a prepared run, follow it to its end, and print the summary."""
    from reprotui.cli.progress import watch_run
    from reprotui.cli.race import exit_code
    from reprotui.cli.show import print_failure, run_line
    from reprotui.compare.results import summary
    from reprotui.race import Supervisor
    from reprotui.run_directory import write_json

    with Supervisor([("", run)], run.path) as supervisor:
        supervisor.start()
        interrupted = watch_run(supervisor, run.path)
    common.refuse_bad_input({"": run}, run.path)
    manifest = run.manifest()
    code = exit_code([], [manifest], interrupted)
    result = summary(manifest) if (manifest.get("result") or {}).get("digests") else None
    if out and result:
        try:
            write_json(out, result)
        except OSError as error:
            raise BadInputError(f"--out {out} cannot be written: {error.strerror}") from None
    if parsed.json:
        state = run.state(manifest)
        why = run.why(state, manifest)
        common.print_json({"run": str(run.path), "exit_code": code, "state": state, "why": why, "result": result})
        return code
    console = common.console()
    console.print(run_line(run))
    console.print(f"  in  {common.short(run.path)}", style="dim")
    print_failure(console, run.path.name, run)
    return code
