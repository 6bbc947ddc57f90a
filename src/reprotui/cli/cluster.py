"""Where runs are started: here, or as jobs of an engine; the options for it, and what the settings say of them."""

import argparse
from typing import TYPE_CHECKING, Any

from reprotui.errors import BadInputError

if TYPE_CHECKING:
    from reprotui.race.launch import Launch

_OPTIONS = {
    "nodes": ("N", "hosts of each run"), "tasks_per_node": ("N", "processes of each run on each host"),
    "cpus": ("N", "processors of each process"), "gpus": ("N", "GPUs of each host"), "time": ("T", "time limit, as 1:30:00"),
    "partition": ("NAME", "partition"), "account": ("NAME", "account"), "constraint": ("TEXT", "features of the hosts"),
}  # fmt: skip
_FLAGS = ("detach", "requeue", "same_nodes", "swap")
_NAMES = {"tasks_per_node": "ntasks-per-node", "cpus": "cpus-per-task", "gpus": "gpus-per-node"}
"""What sbatch calls them, where that is another name."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where the runs of a race are started."""
    group = add_sbatch(parser)
    group.add_argument("--on", choices=("here", "slurm"), default="here", help="start the runs here, or as jobs of Slurm")
    group.add_argument(
        "--requeue", action="store_true",
        help="a job that is told to make room (preempted, or by --slurm signal=TERM@60) saves, and goes on later; of experiments",
    )  # fmt: skip
    group.add_argument(
        "--same-nodes", action="store_true",
        help="all runs in one job, one after the other on the same hosts and devices: what differs then is not the hosts",
    )  # fmt: skip
    group.add_argument(
        "--swap", action="store_true",
        help="A and B at once on two halves of twice as many hosts, then C (A's program on the hosts of B) and D (B's on those "
        "of A): says whether what differs follows the program or the hosts",
    )  # fmt: skip
    group.add_argument(
        "--detach", action="store_true", help="submit the jobs and end; watch them with reprotui open, end them with control stop"
    )


def add_sbatch(parser: argparse.ArgumentParser) -> Any:
    """Add what is asked of Slurm for each job; return the group of these options."""
    group = parser.add_argument_group(
        "cluster", "each run is a job of its own; defaults stand in the settings, under [slurm] by the names of sbatch"
    )
    for name, (value, text) in _OPTIONS.items():
        group.add_argument(f"--{name.replace('_', '-')}", metavar=value, help=text)
    other = "any other option of sbatch, such as qos=high; repeatable"
    group.add_argument("--slurm", action="append", default=[], metavar="KEY[=VALUE]", help=other)
    return group


def options(parsed: argparse.Namespace) -> dict[str, str]:
    """Return the options of sbatch, by their long names: those of the settings, and over them those that were given.

    Raises:
        BadInputError: the settings cannot be read.
    """
    from reprotui.settings import load_settings

    return {**load_settings().slurm, **_given(parsed)}


def launcher(parsed: argparse.Namespace) -> "Launch":
    """Return what starts the runs that a command line asks for.

    Raises:
        BadInputError: an option of the cluster without the cluster, or one that cannot be.
    """
    from reprotui.race.launch import start_worker

    flags = [f"--{name.replace('_', '-')}" for name in _FLAGS if getattr(parsed, name)]
    if parsed.on == "here":
        if flags or _given(parsed):
            option = flags[0] if flags else f"--slurm {parsed.slurm[0]}" if parsed.slurm else f"--{_option(parsed)}"
            raise BadInputError(f"{option} is for runs on a cluster: give --on slurm too")
        return start_worker
    if revisions := [name for name, value in vars(parsed).items() if name.endswith("_rev") and value]:
        raise BadInputError(
            f"--{revisions[0].replace('_', '-')} checks out into a temporary folder of this host, which the hosts of a cluster "
            f"do not see: check the revision out where they do, and give --{revisions[0][0]}-dir"
        )
    if parsed.same_nodes or parsed.swap:
        return _allocation(parsed, flags)
    from reprotui.race.slurm import SlurmLauncher

    return SlurmLauncher(options(parsed), again=parsed.requeue)


def _allocation(parsed: argparse.Namespace, flags: list[str]) -> "Launch":
    if parsed.same_nodes and parsed.swap:
        raise BadInputError("--same-nodes and --swap are two ways to share hosts: give one")
    if parsed.requeue:
        raise BadInputError(f"--requeue and {flags[-1]}: a job that goes back into the queue may get other hosts: give one")
    if parsed.swap and parsed.stop_at_divergence:
        raise BadInputError("--stop-at-divergence would end C and D before they begin, and --swap needs all four: leave it out")
    from reprotui.race.allocation import AllocationLauncher

    return AllocationLauncher(options(parsed), swap=parsed.swap)


def _given(parsed: argparse.Namespace) -> dict[str, str]:
    given = {_NAMES.get(name, name): value for name in _OPTIONS if (value := getattr(parsed, name)) is not None}
    for text in parsed.slurm:
        name, _, value = text.partition("=")
        given[name] = value
    return given


def _option(parsed: argparse.Namespace) -> str:
    return next(name for name in _OPTIONS if getattr(parsed, name) is not None).replace("_", "-")
