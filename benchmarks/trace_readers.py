"""Everything that reads traces, each as a call on run A and run B: for the campaign `trace_faults`."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reprotui.checkpoints.against_trace import check_trace
from reprotui.compare import compare_runs, open_run
from reprotui.compare.agreement import agreement
from reprotui.compare.timeline import TimelineReader
from reprotui.errors import CANNOT_TELL, DIFFERS, SAME, USAGE
from reprotui.race.listing import Listing
from reprotui.race.monitor import Monitor, members
from reprotui.replay.plan import plan_replay
from reprotui.report import FORMATS, collect_report, render
from reprotui.run_directory import RunDirectory
from reprotui.trace import Follower, Trace
from reprotui.trace.history import copy_history
from reprotui.trace.schema import connect_writer
from reprotui.tui.leaves import history, read_step
from reprotui.tui.records import PAGE, PairRecords

LOOKS = 1000
"""Looks after which a reader that never comes to an end counts as failed."""


class Escaped(Exception):  # noqa: N818  (what a reader lets out that is no answer)
    """A reader never came to an end, or a command failed in another way than with a sentence."""


def compare_verified(a: Path, b: Path) -> bool:
    """Say whether `compare --verify` calls two runs identical."""
    return compare_runs(open_run(a, "a"), open_run(b, "b"), verify=True).kind == "identical"


def run_commands(a: Path, b: Path) -> None:
    """Run the commands that read traces, each in a process of its own."""
    commands = (
        ("compare", a, b, "--verify"), ("compare", b, a, "--json"), ("open", a, b, "--once"), ("open", b, "--json"),
        ("report", a, b, "--out", b.parent / "report"), ("runs", "--runs-dir", a.parent.parent),
    )  # fmt: skip
    for command in commands:
        words = [sys.executable, "-m", "reprotui", *map(str, command)]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode not in (SAME, DIFFERS, USAGE, CANNOT_TELL) or "Traceback" in done.stderr:
            raise Escaped(f"{command[0]}: exit code {done.returncode}: {done.stderr.strip()}")


def _compare(a: Path, b: Path) -> None:
    first, second = open_run(a, "a"), open_run(b, "b")
    for verdict in (compare_runs(first, second), compare_runs(second, first)):
        json.dumps(verdict.to_json(), allow_nan=False)
    agreement([first, second])


def _report(a: Path, b: Path) -> None:
    report = collect_report([a, b], verify=True)
    for form in FORMATS:
        render(report, form)


def _timeline(a: Path, b: Path) -> None:
    for paths in ((a, b), (b, a)):
        reader = TimelineReader([path / "trace.db" for path in paths])
        _until(lambda reader=reader: reader.advance(70).complete)


def _monitor(a: Path, b: Path) -> None:
    monitor = Monitor(members([a, b]))
    _until(lambda: monitor.look(70).timeline.complete)
    monitor.judge(monitor.look())


def _follow(a: Path, b: Path) -> None:
    follower = Follower(b / "trace.db")
    _until(lambda: not follower.poll().rows)


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(LOOKS):
        if condition():
            return
    raise Escaped("it never comes to an end")


def _replay(a: Path, b: Path) -> None:
    plan = plan_replay(RunDirectory(b), 50)
    with Trace(b / "trace.db") as trace:
        trace.recorded(plan.until)
        for step in range(plan.until + 1):
            row = trace.row(step)
            if row is not None:
                trace.table(row.version)
                trace.leaf_checksums(step)


def _resume(a: Path, b: Path) -> None:
    path = b / "resumed.db"
    with contextlib.closing(connect_writer(path, {})) as connection:
        try:
            copy_history(connection, b / "trace.db", 55)
        finally:
            path.unlink()


def _checkpoint(a: Path, b: Path) -> None:
    with Trace(a / "trace.db") as trace:
        table, sums = trace.table(trace.recorded(40).version), trace.leaf_checksums(40)
    specs = {spec.path: spec for spec in table.specs}
    sums = np.zeros(len(table.specs), np.uint64) if sums is None else sums
    check_trace(RunDirectory(b), 40, dict(zip(specs, sums.tolist(), strict=True)), specs)


def _table_page(a: Path, b: Path) -> None:
    records = PairRecords([a / "trace.db", b / "trace.db"])
    records.update(range(200), 200)
    for index in range(0, 200, PAGE):
        records[index]


def _step_page(a: Path, b: Path) -> None:
    traces = [a / "trace.db", b / "trace.db"]
    for step in (0, 40, 60, 299):
        for leaf in read_step(traces, step).leaves[:3]:
            history(traces, leaf.phase, leaf.path, range(step, step + 5))


def _listing(a: Path, b: Path) -> None:
    listing = Listing(a.parent.parent)
    for _ in range(2):
        listing.read()


READERS: dict[str, Callable[[Path, Path], None]] = {
    "compare": _compare, "report --verify": _report, "timeline": _timeline, "open --once": _monitor, "follower": _follow,
    "runs": _listing, "replay": _replay, "resume": _resume, "checkpoint verify": _checkpoint, "table page": _table_page,
    "step page": _step_page,
}  # fmt: skip
"""By what a person would call it."""
