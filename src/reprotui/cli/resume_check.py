"""`reprotui resume-check`: is a resumed run the uninterrupted one, and would it show if it were not?"""

import argparse
from typing import Any

from reprotui.cli import common, resume_scripts
from reprotui.errors import BadInputError
from reprotui.manifest import COMPONENTS


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "resume-check",
        "prove that a run resumed from a checkpoint is the uninterrupted run, with controls",
        """reprotui resume-check --at 50
        reprotui resume-check digits-cnn steps=100 --at 37 --json
        reprotui resume-check my_experiment.py --at 10 --name check   (keeps the runs)
        reprotui resume-check --full "python train.py --steps 100" --first "python train.py --steps 50 --save ck" \\
                              --then "python train.py --steps 100 --resume ck"     (your own script, not changed)
        reprotui resume-check --interrupt-at 50 -- python train.py --out {dir}
        reprotui resume-check --interrupt-at 50 --signal KILL --times 3 -- python train.py""",
        description="Train without interruption; with a save at step N; resumed from there in a fresh process; and resumed with "
        "one component left out (parameters, optimizer state, extra state, random keys, step, data position). Equivalent: "
        "every record is equal to the bit. A component whose omission changes nothing is named as not exercised. "
        "A script of your own runs whole and in parts; the records of the parts are put together by step, where each goes on is "
        "found from its first state, and what was not restored is named.",
    )
    parser.intermixed = True
    parser.add_argument("experiment", nargs="*", metavar="EXPERIMENT | key=value", help="what is trained; config")
    parser.add_argument("--at", type=common.positive, metavar="N", help="the step to save and to resume at")
    parser.add_argument(
        "--controls", nargs="+", choices=COMPONENTS, metavar="COMPONENT", 
        help=f"for which components a control is trained (default: {' '.join(COMPONENTS)})",
    )  # fmt: skip
    parser.add_argument("--name", help="keep the runs in the runs directory under this name, whatever the verdict")
    resume_scripts.add_options(parser)
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Run the check; the runs of an experiment are deleted where it ends well and nobody asked for them."""
    import shutil

    if resume_scripts.asks_for_scripts(parsed):
        return resume_scripts.call(parsed)
    if parsed.at is None:
        raise BadInputError("say at which step to save and to resume: --at N; of a script of yours: --full, --first and --then")

    from reprotui.errors import ReprotuiError
    from reprotui.experiments.config import parse_overrides
    from reprotui.experiments.discovery import find_experiment
    from reprotui.race.equivalence import check_resume
    from reprotui.run_directory import create_directory

    controls = tuple(COMPONENTS) if parsed.controls is None else parsed.controls
    name, tokens = common.experiment_and_overrides(parsed.experiment)
    reference, overrides = find_experiment(name), parse_overrides(tokens)
    path = create_directory(common.runs_directory(parsed), parsed.name, f"resume-check-{reference.name}")
    try:
        found = check_resume(path, reference, overrides, parsed.at, parsed.command_line, _say, controls)
    except (ReprotuiError, KeyboardInterrupt):
        shutil.rmtree(path, ignore_errors=True)
        raise
    kept = parsed.name is not None or found.exit_code != 0
    if not kept:
        shutil.rmtree(path, ignore_errors=True)
    if parsed.json:
        common.print_json({**found.to_json(), "runs": str(path) if kept else None})
        return found.exit_code
    console = common.console()
    colour = "#0072b2" if found.exit_code == 0 else "#d55e00"
    console.print(common.styled((found.verdict.upper(), f"bold {colour}"), f"  resumed at step {found.at} of {found.steps}"))
    console.print(f"  resumed      {found.headline}")
    console.print(f"  saving       {found.saving}")
    for control in found.controls:
        console.print(f"  control      {control.sentence}")
    if kept:
        console.print(f"  in  {common.short(path)}", style="dim")
    return found.exit_code


def _say(run: str) -> None:
    common.say(f"  training: {run}", stderr=True)
