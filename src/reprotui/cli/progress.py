"""Show a race or a run while it trains: one live line a run on a terminal, a line now and then elsewhere. On stderr."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.numbers import duration, rate, short
from reprotui.race.launch import Launch, start_worker
from reprotui.race.lockstep import Leader
from reprotui.race.monitor import Monitor
from reprotui.race.start import Processes, running, stop
from reprotui.race.status import RaceStatus, RunStatus
from reprotui.run_directory import RunDirectory

LINE_SECONDS = 5.0
"""How often a line is printed where there is no terminal: enough to see that it lives, few enough for a CI log."""

React = Callable[[RaceStatus], None]


def watch_race(
    runs: Sequence[tuple[str, RunDirectory]], path: Path, at_divergence: str | None,
    environment: Mapping[str, str] | None = None, launch: Launch = start_worker,
) -> bool:  # fmt: skip
    """Start the runs of a race and follow them to their end; return whether that was interrupted.

    Args:
        runs: with their labels, the reference first.
        path: the race.
        at_divergence: `stop` all runs at the first difference, or lead them there and `pause` them at one step; None for neither.
        environment: in which they are started, None for this one.
        launch: what starts them.
    """
    console = common.console(stderr=True)
    console.print(f"racing in {common.short(path)}", style="dim")
    told, say_torn = False, _torn(console)
    leader = Leader(runs, console.print, to_difference=at_divergence == "pause")

    def react(status: RaceStatus) -> None:
        nonlocal told
        say_torn(status)
        leader.look(status)
        verdict = status.verdict
        if told or verdict is None or verdict.kind != "diverged":
            return
        told = True
        console.print(f"≠ first difference at step {verdict.step} · {verdict.phase}", style="bold #d55e00")
        if at_divergence == "stop":
            leader.ask("stop", range(len(runs)))
        if at_divergence == "pause":
            console.print(f"pausing; go on with: reprotui control {common.short(path)} resume   (or advance, hold, stop)")

    return _watch(runs, path, console, react, environment, launch)


def watch_run(run: RunDirectory) -> bool:
    """Start a single run and follow it to its end; return whether that was interrupted."""
    console = common.console(stderr=True)
    console.print(f"training in {common.short(run.path)}", style="dim")
    return _watch([("", run)], run.path, console, _torn(console))


def _torn(console: Any) -> React:
    """Return what says once of each run that a value is not the same on all devices that hold it."""
    told: set[str] = set()

    def react(status: RaceStatus) -> None:
        for run in status.runs:
            if run.torn and run.label not in told:
                told.add(run.label)
                console.print(f"≠ {f'{run.label}: ' if run.label else ''}{run.torn}", style="bold #d55e00", soft_wrap=True)

    return react


def _watch(
    runs: Sequence[tuple[str, RunDirectory]], directory: Path, console: Any, react: React,
    environment: Mapping[str, str] | None = None, launch: Launch = start_worker,
) -> bool:  # fmt: skip
    with running(runs, environment, launch) as processes:
        statuses = _until_over(Monitor(runs, processes, columns=False), directory, processes)
        try:
            (_watch_live if console.is_terminal else _watch_lines)(statuses, console, react)
        except KeyboardInterrupt:
            console.print("stopping: each run finishes its step and seals its trace (ctrl-C again to kill)", style="bold")
            try:
                stop(processes)
            except KeyboardInterrupt:
                stop(processes, seconds=0)
            return True
    return False


def _until_over(monitor: Monitor, directory: Path, processes: Processes) -> Iterator[RaceStatus]:
    """Yield statuses until all processes are over; where a worker was refused, there is nothing to wait for."""
    for status in monitor.follow(directory):
        yield status
        if monitor.refused:
            return
    for process in processes.values():
        process.wait()  # its run is sealed, and a script may still write what it printed, and save what it trained


def _watch_live(statuses: Iterator[RaceStatus], console: Any, react: React) -> None:
    from rich.console import Group
    from rich.live import Live

    with Live(console=console, refresh_per_second=8, transient=False) as live:
        for status in statuses:
            react(status)
            live.update(Group(*(_line(run) for run in status.runs)))


def _line(run: RunStatus) -> Any:
    line = common.styled(describe(run))
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _watch_lines(statuses: Iterator[RaceStatus], console: Any, react: React) -> None:
    printed = time.monotonic()
    for status in statuses:
        react(status)
        if time.monotonic() - printed >= LINE_SECONDS:
            printed = time.monotonic()
            console.print("   ".join(describe(run, wide=False) for run in status.runs))


def describe(run: RunStatus, wide: bool = True) -> str:
    """Return one line about a run: label, state, step of steps, rate, time left, loss."""
    label = f"{run.label} " if run.label else ""
    if run.step is None:
        return f"{label}{run.state}{f' ({run.problem})' if run.state.alive and run.problem else ''}"
    left = "" if run.seconds_left is None else duration(run.seconds_left)
    loss = "" if run.loss is None else f"loss {short(run.loss, 6)}"
    bar = f"{'━' * round(24 * min(1, run.step / run.steps)):<24} " if wide and run.steps else ""
    parts = [
        f"{label}{run.state:<8} {bar}{run.step:>{len(str(run.steps))}}/{run.steps or '?'}",
        rate(run.rate) if run.rate else "",
        left and f"{left} left",
        loss,
    ]
    return "  ".join(part for part in parts if part)
