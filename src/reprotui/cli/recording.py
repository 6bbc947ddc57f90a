"""What a run records, as options of the command line."""

import argparse

from reprotui.cli import common
from reprotui.schedule import Recording, Replicas

LOCAL_SECONDS = 5.0
"""How often a trace that grows on a disk of its host is copied, unless told otherwise."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a worker records."""
    group = parser.add_argument_group("recording")
    group.add_argument(
        "--every", type=common.positive, default=Recording.every, metavar="K", help="record every K-th step (default %(default)s)"
    )
    group.add_argument(
        "--leaves-every",
        type=common.positive,
        default=Recording.leaves_every,
        metavar="K",
        help="store leaf rows every K-th record (default %(default)s)",
    )
    group.add_argument(
        "--stats-every",
        type=common.positive,
        metavar="K",
        help=f"take norms and maxima every K-th record (default {Recording.statistics_every}; 1 with --tolerance)",
    )
    group.add_argument(
        "--replicas", choices=[way.value for way in Replicas], default=Recording.replicas.value,
        help="copies on several devices: read all, or the first",
    )  # fmt: skip
    group.add_argument(
        "--local-trace", nargs="?", const=LOCAL_SECONDS, type=seconds, metavar="SECONDS",
        help="write the trace on a disk of the host ($TMPDIR, else /tmp) and copy what is new into the run directory every "
        f"SECONDS (default {LOCAL_SECONDS:g}): for slow file systems; a host that is lost takes that much of the trace with it",
    )  # fmt: skip
    group.add_argument(
        "--stop-at-nan", action="store_true", help="stop a run once its loss, gradients or state hold NaN or infinity"
    )


def asked(parsed: argparse.Namespace) -> Recording:
    """Return what the flags ask to be recorded; with a tolerance, norms and maxima of every record."""
    statistics = parsed.stats_every or (1 if getattr(parsed, "tolerance", None) else Recording.statistics_every)
    enabled = not getattr(parsed, "no_record", False)
    return Recording(
        enabled, parsed.every, parsed.leaves_every, statistics, parsed.stop_at_nan, Replicas(parsed.replicas), parsed.local_trace
    )


def seconds(text: str) -> float:
    """Read how many seconds lie between two copies of a trace."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds from 0.1 on; what is trained stands before --local-trace"
        )
    return value
