"""`reprotui certify`: prove that observing a script changes nothing."""

import argparse
import math
from typing import Any

from reprotui.cli import common
from reprotui.errors import BadInputError
from reprotui.foreign import visible_log


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "certify",
        "run your script with and without observation in turns: is its end the same to the bit, and what does it cost?",
        """reprotui certify -- python train.py --steps 50
        reprotui certify --times 12 -- python train.py
        reprotui certify --file "out/*.npz" -- python train.py""",
        "Run a script, alternately without and with observation, twice each. Compared is the state that the train step (or\n"
        "the optimizer) last gave, digested with SHA-256 at the end of the process; to have it, the runs that are not\n"
        "observed carry a bootstrap that keeps hold of that state and reads nothing else. With --file they carry nothing,\n"
        "and the files that the script wrote are compared; they are removed before each run.",
    )
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="the script's command line")
    parser.add_argument("--file", action="append", default=[], metavar="PATTERN", help="files that the script writes; may repeat")
    parser.add_argument(
        "--times", type=int, default=2, metavar="N", help="runs of each kind (2); 6 or more give the overhead an interval"
    )
    parser.add_argument("--step-function", metavar="NAME", help="the train step, where another function would be taken for it")
    parser.add_argument(
        "--inside", action="store_true", help="observe each iteration of a jax loop inside one call, as race does"
    )
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Certify, and print the certificate."""
    from reprotui.observation import Options
    from reprotui.race.certify import certify
    from reprotui.race.scripts import parse_command

    if not parsed.command:
        raise BadInputError("certify needs a script: put its command behind --, as in reprotui certify -- python train.py")
    narration = common.console(stderr=True)
    text = parsed.command[0] if len(parsed.command) == 1 else parsed.command
    certificate = certify(
        parse_command(text), Options(parsed.step_function, inside=parsed.inside), parsed.file,
        lambda line: narration.print(line, style="dim"), parsed.times,
    )  # fmt: skip
    if parsed.json:
        common.print_json(_to_json(certificate))
        return certificate.exit_code
    _print(certificate)
    return certificate.exit_code


def _print(certificate: Any) -> None:
    console = common.console()
    headline = "CERTIFIED" if certificate.kind == "unchanged" else certificate.kind.upper()
    style = "bold #009e73" if certificate.kind == "unchanged" else "bold #d55e00"
    console.print(f"{headline} · {certificate.sentence}", style=style, soft_wrap=True)
    for name in certificate.changed:
        console.print(f"  changed     {name}")
    for trial in certificate.trials:
        how = "observed" if trial.observed else "plain"
        state = f"state {trial.state[:16]}" if trial.state else "no state"
        files = "".join(f"  {name} {digest[:12]}" for name, digest in trial.files.items())
        console.print(f"  {how:<10}  {trial.seconds:6.2f} s  {state}{files}", soft_wrap=True)
    if certificate.overhead is not None:
        steps = min(trial.steps for trial in certificate.trials)
        step = f"× {certificate.overhead:.3f} a step (of {steps}; {_sureness(certificate)})"
        console.print(f"  overhead    {step}, × {certificate.overhead_run:.2f} the run", soft_wrap=True)
    elif certificate.overhead_run:
        console.print(f"  overhead    × {certificate.overhead_run:.2f} the run")
    if certificate.kind == "failed":
        for line in certificate.trials[-1].log:
            console.print(f"  | {visible_log(line)}", soft_wrap=True)


def _sureness(certificate: Any) -> str:
    """Say how sure the overhead of a step is."""
    pairs = len(certificate.overheads)
    if certificate.interval is not None:
        return "95 % interval {:.3f} to {:.3f} from {} pairs".format(*certificate.interval, pairs)
    low, high = min(certificate.overheads), max(certificate.overheads)
    return f"pairs {low:.3f} to {high:.3f}; --times 6 or more gives an interval" if pairs > 1 else "one pair"


def _to_json(certificate: Any) -> dict[str, Any]:
    ratio = certificate.overhead_run
    return {
        "kind": certificate.kind, "sentence": certificate.sentence, "exit_code": certificate.exit_code,
        "changed": list(certificate.changed), "overhead": certificate.overhead,
        "overheads": list(certificate.overheads),
        "interval": certificate.interval and list(certificate.interval), "overhead_run": ratio if math.isfinite(ratio) else None,
        "trials": [
            {
                "observed": trial.observed, "exit_code": trial.exit_code, "seconds": trial.seconds, "state": trial.state,
                "files": dict(trial.files), "step_seconds": trial.step_seconds, "steps": trial.steps,
            }
            for trial in certificate.trials
        ],
    }  # fmt: skip
