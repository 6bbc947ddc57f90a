"""`reprotui manifest`: two runs as a JobSet of Kubernetes, for kubectl; nothing is started."""

import argparse
import re
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from reprotui.cli import common
from reprotui.errors import SAME, BadInputError

if TYPE_CHECKING:
    from reprotui.race.scripts import Command


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "manifest",
        "print a JobSet of Kubernetes that trains two runs into one shared folder",
        """reprotui manifest --image me/train:1 --claim runs -- python train.py | kubectl apply -f -
        reprotui manifest --image me/train:1 --claim runs --processes 4 --gpus 1 --queue team -- python train.py
        reprotui manifest --image me/train:1 --claim runs transformer steps=500 --b threads=1""",
        "Prints a JobSet (jobset.x-k8s.io/v1alpha2) as YAML, with one job for each of the runs A and B. Nothing is started:\n"
        "kubectl does that, and JobSet and, with --queue, Kueue must be in the cluster. The image has Python, reprotui and\n"
        "what trains; all pods mount one persistent volume claim, which is the runs directory.",
    )
    parser.add_argument("experiment", nargs="*", metavar="EXPERIMENT | key=value", help="an experiment; or a command behind --")
    parser.add_argument("--b", nargs="*", metavar="key=value", help='of run B, where it is another: config, or "a command"')
    parser.add_argument("--image", required=True, help="image of the pods")
    parser.add_argument("--claim", required=True, metavar="PVC", help="persistent volume claim for the runs (ReadWriteMany)")
    parser.add_argument("--mount", default="/runs", metavar="PATH", help="where pods mount it (default %(default)s)")
    parser.add_argument("--processes", type=common.positive, default=1, metavar="N", help="pods of each run (default 1)")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs of each pod (default 0)")
    parser.add_argument("--queue", default="", metavar="NAME", help="queue of Kueue")
    parser.add_argument("--directory", default="", metavar="PATH", help="where the command starts (default: that of the image)")
    parser.add_argument("--name", help="name of the JobSet; the runs are NAME-a and NAME-b (default: script, date and time)")
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Print the JobSet, and on stderr what to do with it."""
    import yaml

    from reprotui.race.jobset import Pods, check_name, job_set

    if parsed.gpus < 0:
        raise BadInputError(f"--gpus {parsed.gpus}: expected 0 or more")
    mount = PurePosixPath(parsed.mount)
    if not mount.is_absolute() or mount == PurePosixPath("/"):
        raise BadInputError(f"--mount {parsed.mount}: expected an absolute path below /, such as /runs")
    stem, commands = _commands(parsed)
    name = check_name(parsed.name or f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}")
    pods = Pods(
        parsed.image, parsed.claim, str(mount), parsed.processes, parsed.gpus, parsed.queue, parsed.directory
    )  # fmt: skip
    runs = {label: f"{name}-{label}" for label in "ab"}
    found = job_set(name, {label: commands[label](run) for label, run in runs.items()}, pods)
    print(yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=130), end="")
    where = common.quote([str(mount)])
    common.say(
        f"both runs write into the claim {parsed.claim}, mounted at {mount}: it must be one that all pods can write",
        f"  afterwards, where it is mounted: reprotui compare {runs['a']} {runs['b']} --runs-dir {where}",
        f"  or look at them while they train: reprotui open {runs['a']} {runs['b']} --runs-dir {where}",
        stderr=True,
    )
    return SAME


def _commands(parsed: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return what a name begins with, and for each label what makes the command of a run from its name."""
    from reprotui.race.jobset import of_script
    from reprotui.race.scripts import is_command, parse_command

    behind = parsed.command_line[parsed.command_line.index("--") + 1 :] if "--" in parsed.command_line else []
    if not behind:
        return _experiments(parsed)
    if before := parsed.experiment[: len(parsed.experiment) - len(behind)]:
        raise BadInputError(f"{before[0]!r} stands before a script's command: a script takes its settings from its own arguments")
    if parsed.b is not None and not is_command(parsed.b):
        raise BadInputError(f'--b {" ".join(parsed.b)}: expected one command in quotes, such as --b "python train.py --seed 1"')
    a = parse_command(behind)
    b = a if parsed.b is None else parse_command(parsed.b[0])

    def made(command: "Command") -> Any:
        of_script(command, "x")
        return lambda run: of_script(command, run)

    return _stem(Path(a.script[0]).stem), {"a": made(a), "b": made(b)}


def _experiments(parsed: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from reprotui.experiments.config import parse_overrides
    from reprotui.experiments.discovery import find_experiment, resolve_configs
    from reprotui.experiments.registry import BUILT_IN
    from reprotui.race.jobset import of_experiment

    if parsed.processes > 1:
        raise BadInputError(
            f"--processes {parsed.processes}: an experiment trains in one process; name a script's command behind --"
        )
    name, tokens = common.experiment_and_overrides(parsed.experiment)
    if bare := [token for token in parsed.b or [] if "=" not in token]:
        raise BadInputError(f"--b {bare[0]}: expected key=value")
    both = {"a": tokens, "b": [*tokens, *(parsed.b or [])]}
    if name is None or name in BUILT_IN:  # a file lies in the image
        reference = find_experiment(name)
        resolve_configs(reference, [parse_overrides(found) for found in both.values()])
        name = reference.name
    given = str(name)
    return _stem(Path(given).stem), {
        label: (lambda run, found=found: of_experiment([given, *found], run)) for label, found in both.items()
    }


def _stem(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-0123456789")[:20].strip("-") or "train"
