"""`reprotui control`: ask something of running workers, whoever started them; of a race, bring its runs to one step."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import DIFFERS, INTERRUPTED, SAME, BadInputError, CannotTellError
from reprotui.manifest import Kind
from reprotui.run_directory import COMMANDS, RunDirectory, members_of

HOLD = "hold"
LOOK_SECONDS = 0.1
"""How often runs are looked at that are being brought to one step."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "control",
        "pause, resume, advance by one step, save a checkpoint or stop the runs of a race, or one run; hold a race at its "
        "first difference",
        """reprotui control runs/x pause            (and brings all runs to the same step)
        reprotui control runs/x advance          (all to the step after the slowest)
        reprotui control runs/x advance --to 120
        reprotui control runs/x hold             (side by side to the first difference, and paused there)
        reprotui control runs/x/b advance
        reprotui control x stop""",
    )
    parser.add_argument("run", metavar="RUN", help="run or race: a directory, or a name in the runs directory")
    choices = (*COMMANDS, HOLD)
    parser.add_argument("command", choices=choices, metavar="{" + ",".join(choices) + "}", help="what to ask for")
    parser.add_argument("--to", type=common.step, metavar="STEP", help="advance to this step, and wait there")
    parser.add_argument("--no-wait", action="store_true", help="pause: do not wait until all runs of the race stand at one step")
    common.add_runs_directory(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Append the command where the workers read it."""
    path = common.find_run(parsed.run, common.runs_directory(parsed))
    members = members_of(path) if (path / "race.json").exists() else [("", path)]
    runs = [(label.upper(), run) for label, run in ((label, RunDirectory(path)) for label, path in members) if run.state().obeys]
    if parsed.to is not None and parsed.command != "advance":
        raise BadInputError(f"--to says where runs advance to: {parsed.command} takes none")
    if parsed.command == "save":
        runs = [(label, run) for label, run in runs if run.manifest().kind is Kind.EXPERIMENT]  # a script saves in its own way
    if not runs:
        raise CannotTellError(f"{path}: no run is alive that could {parsed.command}")
    if parsed.command == HOLD:
        return _hold(path)
    together = len(runs) > 1 and parsed.command in ("pause", "advance")
    if together or parsed.to is not None:
        return _together(parsed, runs)
    for _, run in runs:
        _send(run, parsed.command)
    return SAME


def _send(run: RunDirectory, command: str) -> None:
    try:
        run.send(command)
    except OSError as error:
        raise BadInputError(f"{run.commands_path} cannot be written: {error.strerror}") from None
    common.say(f"{command}: {common.short(run.path)}")


def _together(parsed: argparse.Namespace, runs: Sequence[tuple[str, RunDirectory]]) -> int:
    """Pause runs, and bring them to one step; or let them advance to one."""
    from reprotui.manifest import RunState
    from reprotui.race.lockstep import Leader
    from reprotui.race.monitor import Monitor

    monitor, leader = Monitor(runs, columns=False), Leader(runs, common.say)
    status = monitor.look()
    while not status.timeline.complete:
        status = monitor.look()
    if parsed.command == "advance":
        going = [run for (_, run), seen in zip(runs, status.runs, strict=True) if seen.state is not RunState.PAUSED]
        if going and parsed.to is not None:
            raise BadInputError(f"{common.short(going[0].path)} is not paused: --to goes from paused runs")
        to = leader.advance(status, parsed.to)
        for run in going:  # it takes one more step, and is paused then
            _send(run, "advance")
        for _, run in runs:
            if run not in going:
                common.say(f"advance to step {to}: {common.short(run.path)}")
        return SAME
    leader.pause(status)
    for _, run in runs:
        common.say(f"pause: {common.short(run.path)}")
    while leader.leads and not parsed.no_wait:
        time.sleep(LOOK_SECONDS)
        leader.look(monitor.look())
    return SAME


def _hold(path: Path) -> int:
    """Lead a race to its first difference; stay until it is held there, or over."""
    from reprotui.race.lockstep import Leader
    from reprotui.race.monitor import Monitor, members

    runs = members([path])
    if len(runs) < 2:
        raise BadInputError(f"{path} is one run: it has nothing to differ from")
    monitor, leader = Monitor(runs, columns=False), Leader(runs, lambda text: common.say(text, stderr=True))
    status = monitor.look()
    while not status.timeline.complete:
        status = monitor.look()
    before = [pair.first for pair in status.timeline.pairs]
    if None not in before:
        raise CannotTellError(f"{path}: the first difference is there already, at step {min(step or 0 for step in before)}")
    leader.lead(status)
    try:
        while leader.leads and status.alive:
            time.sleep(LOOK_SECONDS)
            status = monitor.look()
            leader.look(status)
    except KeyboardInterrupt:
        leader.let_go(status)
        common.say("not led any more: the runs go on by themselves", stderr=True)
        return INTERRUPTED
    common.say(status.headline)
    found = [pair.first for pair in status.timeline.pairs]
    if found != before:
        return DIFFERS
    judged = monitor.judge(status)
    return SAME if all(verdict.kind == "identical" for verdict in judged.verdicts) else CannotTellError.exit_code
