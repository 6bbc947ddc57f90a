"""`reprotui watch`: one run alone, whose steps are recomputed now and then."""

import argparse
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reprotui.cli import common, recording, scripts
from reprotui.errors import CANNOT_TELL, DIFFERS, BadInputError, ReprotuiError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "watch",
        "run your script alone, guarded: steps are recomputed now and then, and must come out to the bit",
        """reprotui watch -- python train.py
        reprotui watch --check 5% -- python train.py --steps 1000
        reprotui watch --check 100% --json -- python train.py""",
        "Run a script once, recorded. One step of a hundred (--check 1%), drawn by a hash of its number, is computed once more\n"
        "from copies of its inputs: a call of JAX's on the same and on another device, a model's forward pass, gradients and\n"
        "optimizer of PyTorch's. State between steps must not change by itself, copies on several devices must agree. Spikes of\n"
        "the loss and of the gradients' norm are marked. The script trains the same bits as without. Exit code 1: something is\n"
        "corrupt; 3: nothing could be recomputed, or it cannot be told.",
    )
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="the script's command line")
    parser.add_argument(
        "--check", type=scripts.share, default="1%", metavar="SHARE", help="the share of steps that is recomputed (1%%)"
    )
    parser.add_argument("--name", help="name of the run (default: the script, date and time)")
    scripts.add_observing(parser)
    common.add_runs_directory(parser)
    recording.add_options(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Run the script, and say what was checked."""
    from reprotui.observation import Options
    from reprotui.race.scripts import parse_command, prepare_script

    if not parsed.command:
        raise BadInputError("watch needs a script: put its command behind --, as in reprotui watch -- python train.py")
    text = parsed.command[0] if len(parsed.command) == 1 else parsed.command
    options = Options(parsed.step_function, parsed.loss, inside=parsed.inside, check=parsed.check)
    request = common.request(parsed)
    if request.recording is not None and not request.recording.enabled:
        raise BadInputError("watch records each step: --no-record leaves nothing to hold a recomputed step against")
    return follow(prepare_script(request, parse_command(text), options).path, parsed.json)


def follow(path: Path, as_json: bool) -> int:
    """Start a prepared run, follow it to its end, and print what was checked."""
    from reprotui.cli.progress import watch_run
    from reprotui.cli.show import STYLES, print_failure, print_recording, run_line
    from reprotui.compare.recorded import asked_for
    from reprotui.compare.runs import RunView, not_finite_of
    from reprotui.compare.watched import Watched
    from reprotui.event_kinds import GRADIENT_SPIKE, LOSS_SPIKE
    from reprotui.run_directory import RunDirectory
    from reprotui.trace import Trace

    run = RunDirectory(path)
    interrupted = watch_run(run)
    manifest = common.manifests_of({"": run}, path)[""]
    ended = RunView(path.name, run, manifest, run.state(manifest))
    not_finite = not_finite_of(ended)
    spikes: list[str] = []
    with suppress(ReprotuiError), Trace(run.trace_path) as trace:  # a script that failed at once has none
        spikes += [event.text for event in trace.events() if event.kind in (LOSS_SPIKE, GRADIENT_SPIKE)]
    result = manifest.result
    watched = Watched.of(result.watched) if result else None
    wrong, gaps = (result.torn, tuple(result.coverage.get("gaps") or ())) if result else ((), ())
    unknown = [CANNOT_TELL] if watched is None or not watched.told or gaps else []
    broken = [DIFFERS] if not_finite is not None and manifest.recording.stop_at_nan else []
    code = common.exit_code([*unknown, *broken], [manifest], interrupted)
    if as_json:
        common.print_json(
            {
                "run": str(path), "exit_code": code, "state": ended.state, "why": ended.why,
                "sentence": watched and watched.sentence, "watched": watched and asdict(watched), "wrong": list(wrong),
                "spikes": spikes, "not_finite": not_finite and asdict(not_finite), "gaps": list(gaps),
                "recorded_with": asked_for(manifest),
            }
        )  # fmt: skip
        return code
    console = common.console()
    for text in wrong:
        console.print(text, style=STYLES["diverged"], soft_wrap=True)
    if watched is not None:
        style = STYLES["diverged" if wrong else "incomplete" if unknown else "identical"]
        console.print(watched.sentence, style=style, soft_wrap=True)
    for line in [*(watched.lines if watched else ()), *spikes, *gaps, *([not_finite.sentence] if not_finite else [])]:
        console.print(f"  {line}", soft_wrap=True)
    console.print(f"  {run_line(ended)}", soft_wrap=True)
    print_recording(console, [ended])
    console.print(f"  in  {common.short(path)}", style="dim")
    print_failure(console, ended)
    return code
