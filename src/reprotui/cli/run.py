"""`reprotui run`: one run."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reprotui.cli import checkpointing, common, recording
from reprotui.errors import DIFFERS, BadInputError
from reprotui.run_directory import RunDirectory

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
    parser.intermixed = True
    parser.add_argument(
        "experiment",
        nargs="*",
        metavar="EXPERIMENT | key=value",
        help="digits-mlp (default), digits-cnn, transformer or a .py file; config",
    )
    for name, text in FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="N", help=f"{text}, as {name}=N")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="write hash, config and final metrics there; makes its directory"
    )
    parser.add_argument("--name", help="name of the run (default: experiment, date and time)")
    parser.add_argument(
        "--no-record", action="store_true", help="train without recording steps; the result is the same to the bit"
    )
    common.add_runs_directory(parser)
    recording.add_options(parser)
    checkpointing.add_schedule(parser, single=True)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Train, and print the summary."""
    from reprotui.experiments.config import parse_overrides
    from reprotui.experiments.discovery import find_experiment
    from reprotui.race.prepare import prepare_run
    from reprotui.race.resume import prepare_resumed

    _check_out(parsed.out)
    name, tokens = common.experiment_and_overrides(parsed.experiment)
    overrides: dict[str, Any] = parse_overrides(tokens)
    overrides |= {key: value for key in FLAGS if (value := getattr(parsed, key)) is not None}
    request = common.request(parsed, checkpointing.schedule(parsed))
    if parsed.restore_from is None:
        checkpointing.refuse_used_directory(parsed.checkpoint_dir, None)
        return follow(prepare_run(request, find_experiment(name), overrides), parsed.json, parsed.out)
    origin = checkpointing.find_restore(parsed)
    saved = origin.manifest.experiment.name
    if name is not None and find_experiment(name).name != saved:
        raise BadInputError(f"--restore-from {parsed.restore_from}: the checkpoint is of {saved}, not of {name}")
    checkpointing.refuse_used_directory(parsed.checkpoint_dir, origin.step)
    return follow(prepare_resumed(request, origin, overrides, trusted=parsed.trust), parsed.json, parsed.out)


def _check_out(out: Path | None) -> None:
    """Make the directory of the summary; raise where it could not be written, before anything is trained."""
    if out is None:
        return
    if out.is_dir():
        raise BadInputError(f"--out {out} cannot be written: it is a directory")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"--out {out} cannot be written: {error.strerror}: {error.filename}") from None


def follow(run: RunDirectory, as_json: bool, out: Path | None = None) -> int:
    """Start a prepared run, follow it to its end, and print the summary."""
    from reprotui.cli.progress import watch_run
    from reprotui.cli.show import STYLES, print_failure, print_recording, run_line
    from reprotui.compare.recorded import asked_for
    from reprotui.compare.results import summary
    from reprotui.compare.runs import RunView, not_finite_of
    from reprotui.run_directory import write_json

    interrupted = watch_run(run)
    manifest = common.manifests_of({"": run}, run.path)[""]
    ended = RunView(run.path.name, run, manifest, run.state(manifest))
    not_finite = not_finite_of(ended)
    broken = [DIFFERS] if not_finite is not None and manifest.recording.stop_at_nan else []
    code = common.exit_code(broken, [manifest], interrupted)
    result = summary(manifest) if manifest.result and manifest.result.digests else None
    if out and result:
        try:
            write_json(out, result)
        except OSError as error:
            raise BadInputError(f"--out {out} cannot be written: {error.strerror}") from None
    if as_json:
        common.print_json(
            {
                "run": str(run.path), "exit_code": code, "state": ended.state, "why": ended.why, "result": result,
                "not_finite": not_finite and asdict(not_finite), "recorded_with": asked_for(manifest),
            }
        )  # fmt: skip
        return code
    console = common.console()
    console.print(run_line(ended))
    if not_finite is not None:
        console.print(f"  {not_finite.sentence}", style=STYLES["incomplete"], soft_wrap=True)
    print_recording(console, [ended])
    console.print(f"  in  {common.short(run.path)}", style="dim")
    print_failure(console, ended)
    return code
