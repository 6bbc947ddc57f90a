"""`reprotui runs`: what is in the runs directory."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "runs",
        "list runs and races with state and verdict",
        """reprotui runs
        reprotui runs --runs-dir /data/runs --json""",
    )
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Print a table, or JSON."""
    from reprotui.race.listing import list_runs

    directory = common.runs_directory(parsed)
    entries = list_runs(directory)
    if parsed.json:
        common.print_json({"runs_dir": str(directory), "runs": entries})
        return 0
    if not entries:
        common.say(f"no runs in {directory}; start with: reprotui race")
        return 0
    _print_table(entries, directory)
    return 0


def _print_table(entries: list[dict[str, Any]], directory: Path) -> None:
    from rich.table import Table

    console = common.console()
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in ("name", "experiment", "state", "step", "loss"):
        table.add_column(column, justify="right" if column in ("step", "loss") else "left", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for entry in entries:
        loss = entry["loss"]
        table.add_row(
            entry["name"], entry["experiment"], entry["state"], _step(entry),
            "" if loss is None else f"{loss:.6g}" if isinstance(loss, float) else str(loss), entry["verdict"] or entry["why"],
        )  # fmt: skip
    console.print(table)


def _step(entry: dict[str, Any]) -> str:
    return "" if entry["step"] is None else f"{entry['step']}/{entry['steps'] or '?'}"
