"""`reprotui sweep`: a burn-in test of the hosts of a partition, each held to the bit against a reference host."""

import argparse
import time
from typing import TYPE_CHECKING, Any

from reprotui.cli import cluster, common, recording
from reprotui.errors import INTERRUPTED, BadInputError

if TYPE_CHECKING:
    from reprotui.race.sweep import Sweep

LINE_SECONDS = 5.0


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "sweep",
        "test every host of a partition: the same training on each must give the same bits",
        """reprotui sweep --partition gpu --minutes 10
        reprotui sweep --hosts n1,n2,n7 --reference n1 transformer width=256
        reprotui sweep --partition gpu --minutes 5 --json""",
        "Each host of a partition of Slurm trains the same load (the built-in transformer, unless another experiment is\n"
        "named) and is held against a reference host, to the bit; the reference against itself too. A host that differs\n"
        "computes otherwise: another processor, driver or library, or silent corruption. The directory of the sweep is one\n"
        "for reprotui fleet.\n"
        "Exit code 1: a host differs; 3: one could not be judged.",
    )
    parser.intermixed = True
    load = "the load (default: transformer), and config"
    parser.add_argument("experiment", nargs="*", metavar="EXPERIMENT | key=value", help=load)
    parser.add_argument("--minutes", type=float, metavar="M", help="train about so long (default: the steps of the config)")
    parser.add_argument("--hosts", metavar="A,B,…", help="these hosts alone (default: all of the partition that can be used)")
    parser.add_argument("--reference", metavar="HOST", help="the host that the others are held against (default: the first)")
    parser.add_argument("--name", help="name of the sweep (default: experiment, date and time)")
    cluster.add_sbatch(parser)
    common.add_runs_directory(parser)
    recording.add_options(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Run the sweep, and print the hosts."""
    from reprotui.experiments.config import parse_overrides
    from reprotui.race.slurm import SlurmLauncher
    from reprotui.race.start import stop
    from reprotui.race.sweep import Sweep, chosen, hosts_of

    if parsed.minutes is not None and not parsed.minutes > 0:
        raise BadInputError(f"--minutes {parsed.minutes}: expected a time above 0")
    options = cluster.options(parsed)
    SlurmLauncher(options)
    name, tokens = common.experiment_and_overrides(parsed.experiment)
    names = [host for host in (parsed.hosts or "").split(",") if host]
    found = hosts_of(options.get("partition"))
    reference, hosts = chosen(found, names, parsed.reference)
    sweep = Sweep(common.request(parsed), (name or "transformer", parse_overrides(tokens)), options, reference, hosts)
    common.say(f"sweeping {len(hosts)} hosts against {reference} in {common.short(sweep.path)}", stderr=True)
    try:
        sweep.begin(None if parsed.minutes is None else _steps(sweep, parsed.minutes * 60))
        _follow(sweep)
    except KeyboardInterrupt:
        common.say("stopping all jobs: each finishes its step and seals (ctrl-C again to kill)", stderr=True)
        try:
            stop(sweep.jobs)
        except KeyboardInterrupt:
            stop(sweep.jobs, seconds=0)
        common.say(f"  what there is: reprotui fleet {common.short(sweep.path)}", stderr=True)
        return INTERRUPTED
    return _report(sweep, {} if names else dict(found.left_out), parsed)


def _steps(sweep: "Sweep", seconds: float) -> int:
    """Let the reference host train a little, and return how many steps take so long there."""
    job = sweep.calibrate(seconds)
    try:
        _wait(job.poll, lambda: f"finding the pace of the reference host {job.said}".rstrip())
    except KeyboardInterrupt:
        job.kill()
        raise
    steps = sweep.steps_for()
    common.say(f"{steps:,} steps take about {seconds / 60:g} min there", stderr=True)
    return steps


def _follow(sweep: "Sweep") -> None:
    def said() -> str:
        over = [job.poll() is not None for job in sweep.jobs.values()]
        waits = next((job.said for job in sweep.jobs.values() if job.poll() is None and job.said), "")
        return f"{sum(over)} of {len(over)} runs ended{f'; {waits}' if waits else ''}"

    _wait(lambda: 0 if sweep.look() else None, said)


def _wait(over: Any, said: Any) -> None:
    told = time.monotonic()
    while over() is None:
        time.sleep(0.2)
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            common.say(said(), stderr=True)


def _report(sweep: "Sweep", left_out: dict[str, str], parsed: argparse.Namespace) -> int:
    from reprotui.cli.fleet import print_fleet
    from reprotui.race import fleet
    from reprotui.race.listing import Listing

    entries = fleet.worst_first(entry for entry in Listing(sweep.path).read() if entry.race)
    code = fleet.exit_code(entries)
    if parsed.json:
        common.print_json({
            "sweep": str(sweep.path), "exit_code": code, "counts": fleet.counted(entries), "not_tested": left_out,
            "hosts": [fleet.to_json(entry) for entry in entries],
        })  # fmt: skip
        return code
    print_fleet(entries)
    if left_out:
        common.say(f"not tested: {', '.join(f'{host} ({state})' for host, state in left_out.items())}")
    common.say(f"  in  {common.short(sweep.path)}", f"  see it: reprotui fleet {common.short(sweep.path)}")
    return code
