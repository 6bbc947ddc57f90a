"""Show a race or a run while it trains: one live line a run on a terminal, a line now and then elsewhere. On stderr."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.race import RunProgress, Snapshot, Supervisor

LINE_SECONDS = 5.0
"""How often a line is printed where there is no terminal: enough to see that it lives, few enough for a CI log."""


def watch_race(supervisor: Supervisor, path: Path, parsed: argparse.Namespace) -> bool:
    """Follow a race to its end; return whether it was interrupted. Stops or pauses at the first difference if asked."""
    console = common.console(stderr=True)
    console.print(f"racing in {common.short(path)}", style="dim")
    acted = False

    def react(snapshot: Snapshot) -> None:
        nonlocal acted
        if snapshot.first_step is None or acted:
            return
        acted = True
        phase = f" · {snapshot.first_phase}" if snapshot.first_phase else ""
        console.print(f"≠ first difference at step {snapshot.first_step}{phase}", style="bold #d55e00")
        if parsed.stop_at_divergence:
            supervisor.send("stop")
        elif parsed.pause_at_divergence:
            supervisor.send("pause")
            console.print(f"pausing; go on with: reprotui control {common.short(path)} resume   (or advance, stop)")

    return _watch(supervisor, console, react)


def watch_run(supervisor: Supervisor, path: Path) -> bool:
    """Follow a single run to its end; return whether it was interrupted."""
    console = common.console(stderr=True)
    console.print(f"training in {common.short(path)}", style="dim")
    return _watch(supervisor, console, lambda snapshot: None)


def _watch(supervisor: Supervisor, console: Any, react: Any) -> bool:
    try:
        (_watch_live if console.is_terminal else _watch_lines)(_until_refused(supervisor), console, react)
    except KeyboardInterrupt:
        console.print("stopping: each run finishes its step and seals its trace (ctrl-C again to kill)", style="bold")
        try:
            supervisor.stop()
        except KeyboardInterrupt:
            supervisor.stop(seconds=0)
        return True
    return False


def _until_refused(supervisor: Supervisor) -> Iterator[Snapshot]:
    for snapshot in supervisor.follow():
        yield snapshot
        if any(run.state == "failed" for run in snapshot.runs) and supervisor.refused():
            return


def _watch_live(snapshots: Iterator[Snapshot], console: Any, react: Any) -> None:
    from rich.console import Group
    from rich.live import Live

    with Live(console=console, refresh_per_second=8, transient=False) as live:
        for snapshot in snapshots:
            react(snapshot)
            live.update(Group(*(_line(run) for run in snapshot.runs)))


def _line(run: RunProgress) -> Any:
    line = common.styled(describe(run))
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _watch_lines(snapshots: Iterator[Snapshot], console: Any, react: Any) -> None:
    printed = time.monotonic()
    for snapshot in snapshots:
        react(snapshot)
        if time.monotonic() - printed >= LINE_SECONDS:
            printed = time.monotonic()
            console.print("   ".join(describe(run, wide=False) for run in snapshot.runs))


def describe(run: RunProgress, wide: bool = True) -> str:
    """Return one line about a run: label, state, step of steps, rate, time left, loss."""
    label = f"{run.label.upper()} " if run.label else ""
    if run.step is None:
        return f"{label}{run.state}"
    rate = f"{run.rate:,.0f}/s" if run.rate and run.rate >= 10 else f"{run.rate:.2g}/s" if run.rate else ""
    left = _duration(max(0, run.steps - run.step) / run.rate) if run.steps and run.rate and run.state == "running" else ""
    loss = "" if run.loss is None else f"loss {run.loss:.6g}"
    bar = f"{'━' * round(24 * min(1, run.step / run.steps)):<24} " if wide and run.steps else ""
    parts = [
        f"{label}{run.state:<8} {bar}{run.step:>{len(str(run.steps))}}/{run.steps or '?'}",
        rate,
        left and f"{left} left",
        loss,
    ]
    return "  ".join(part for part in parts if part)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"
