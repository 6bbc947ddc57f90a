"""`reprotui open`: the dashboard on runs that exist, live or recorded; `--once` prints their state and ends."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import CANNOT_TELL, SAME


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "open",
        "open runs or a race in the dashboard, whoever started them; one run alone, or up to eight side by side",
        """reprotui open runs/x                     (a race: its members)
        reprotui open monday tuesday             (two runs of the runs directory, as one comparison)
        reprotui open sample_runs/bit-flip --once""",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="run or race: a directory, or a name in the runs directory")
    parser.add_argument("--once", action="store_true", help="print the state as text and end; for scripts and pipes")
    common.add_symbols(parser)
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Open the dashboard, or print once."""
    from reprotui.race.monitor import members

    runs = common.runs_directory(parsed)
    paths = [common.find_run(name, runs) for name in parsed.run]
    found = members(paths)
    if parsed.once or parsed.json:
        return print_once(found, parsed.json)
    common.need_terminal(f"reprotui open {' '.join(parsed.run)} --once")
    from reprotui.tui.app import run_dashboard

    return run_dashboard(runs, paths, symbols=parsed.symbols)


def print_once(runs: list[tuple[str, Any]], as_json: bool = False) -> int:
    """Print what runs have come to, as the dashboard would show it; return the exit code of the verdict."""
    from reprotui.compare import worst
    from reprotui.errors import DIFFERS
    from reprotui.race.monitor import Monitor

    monitor = Monitor(runs)
    status = monitor.look()
    while not status.timeline.complete:
        status = monitor.look()
    if monitor.needs_judging(status):
        status = monitor.judge(status)
    codes = [verdict.exit_code for verdict in status.verdicts]
    alone = DIFFERS if any(run.torn for run in status.runs) else SAME
    code = worst(codes) if codes else CANNOT_TELL if any(run.problem for run in status.runs) else alone
    if as_json:
        common.print_json(_to_json(status, code))
        return code
    from reprotui.cli.show import print_verdict

    console = common.console()
    if not status.judged or len(status.verdicts) > 1:
        console.print(status.headline, style="bold", soft_wrap=True)
    for verdict in status.verdicts if status.judged else ():
        print_verdict(console, verdict, f"{verdict.b} against {verdict.a}: " if len(status.verdicts) > 1 else "")
    for run in status.runs:
        console.print(f"  {run.label:<3} {_line(run)}", soft_wrap=True)
    return code


def _line(run: Any) -> str:
    from reprotui.numbers import short

    parts = [run.state, "no step yet" if run.step is None else f"step {run.step}/{run.steps or '?'}"]
    if run.loss is not None:
        parts.append(f"loss {short(run.loss, 6)}")
    parts += [*run.differs, common.short(Path(run.path)), *(text for text in (run.checked, run.torn) if text)]
    return "  ".join(parts) + (f"  {run.problem}" if run.problem else "")


def _to_json(status: Any, code: int) -> dict[str, Any]:
    import math

    from reprotui.compare.rank_status import ranks_to_json

    def loss(value: float | None) -> float | str | None:
        return value if value is None or math.isfinite(value) else str(value)

    return {
        "name": status.name, "headline": status.headline, "exit_code": code, "alive": status.alive,
        "verdicts": [verdict.to_json() for verdict in status.verdicts] if status.judged else [],
        "runs": [
            {
                "label": run.label, "path": str(run.path), "state": run.state, "step": run.step, "steps": run.steps,
                "loss": loss(run.loss), "differs": list(run.differs), "problem": run.problem, "torn": run.torn,
                "checked": run.checked,
                "ranks": ranks_to_json(run.ranks),
            }
            for run in status.runs
        ],
    }  # fmt: skip
