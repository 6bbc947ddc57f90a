"""`reprotui runs`: what is in the runs directory; rename it, note something down, show it, delete it."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import SAME, USAGE, BadInputError
from reprotui.numbers import short

ORDERS = ("age", "name", "experiment", "state", "steps", "loss", "verdict")
"""As `race.entries` has them, which a test holds together: it imports numpy."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "runs",
        "list runs and races with state and verdict; show, rename, note, delete them",
        """reprotui runs
        reprotui runs --sort verdict
        reprotui runs --runs-dir /data/runs --json
        reprotui runs show night                      (cause, checkpoints, size on disk, what was asked)
        reprotui runs rename digits-mlp-20260101-120000 night
        reprotui runs note night "before the driver update"
        reprotui runs delete night evening --yes""",
    )
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.add_argument("--sort", choices=ORDERS, default="age", help="order of the list (default %(default)s: newest first)")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.set_defaults(call=call)
    actions = parser.add_subparsers(title="what to do with one of them", metavar="ACTION")
    show = _action(actions, "show", "cause, checkpoints, size on disk, and what was asked of a run or race", _show)
    common.add_json(show)
    rename = _action(actions, "rename", "give a run or race another name", _rename)
    rename.add_argument("new", metavar="NEW", help="its new name")
    note = _action(actions, "note", "leave a note at a run or race; without a text, show it", _note)
    note.add_argument("text", nargs="?", metavar="TEXT", help='the note; "" takes it away')
    delete = _action(actions, "delete", "delete runs and races from disk", _delete, several=True)
    delete.add_argument("--yes", action="store_true", help="do it; without it, only what would go is listed")


def _action(actions: Any, name: str, summary: str, call: Any, several: bool = False) -> Any:
    parser = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False)
    told = "name in the runs directory, or path"
    if several:
        parser.add_argument("run", nargs="+", metavar="RUN", help=told)
    else:
        parser.add_argument("run", metavar="RUN", help=told)
    common.add_runs_directory(parser)
    parser.set_defaults(call=call)
    return parser


def call(parsed: argparse.Namespace) -> int:
    """Print a table, or JSON."""
    from reprotui.race.listing import list_runs

    directory = common.runs_directory(parsed)
    entries = list_runs(directory, parsed.sort, parsed.reverse)
    if parsed.json:
        common.print_json({"runs_dir": str(directory), "runs": entries})
        return SAME
    if not entries:
        common.say(f"no runs in {directory}; start with: reprotui race")
        return SAME
    _print_table(entries)
    return SAME


def _print_table(entries: list[dict[str, Any]]) -> None:
    from rich.table import Table

    console = common.console()
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in ("name", "experiment", "state", "step", "loss"):
        table.add_column(column, justify="right" if column in ("step", "loss") else "left", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    noted = any(entry["note"] for entry in entries)
    if noted:
        table.add_column("note", overflow="fold")
    for entry in entries:
        loss = entry["loss"]
        cells = [
            entry["name"], entry["experiment"], entry["state"], _step(entry),
            "" if loss is None else short(loss, 6) if isinstance(loss, float) else str(loss), entry["verdict"] or entry["why"],
        ]  # fmt: skip
        table.add_row(*cells, *([entry["note"]] if noted else []))
    console.print(table)


def _step(entry: dict[str, Any]) -> str:
    return "" if entry["step"] is None else f"{entry['step']}/{entry['steps'] or '?'}"


def _show(parsed: argparse.Namespace) -> int:
    from reprotui.race import preview
    from reprotui.race.listing import Listing

    path = common.find_run(parsed.run, common.runs_directory(parsed))
    entry = Listing(path.absolute().parent).entry(path.absolute())
    if entry is None:
        raise BadInputError(f"{path} is neither a run nor a race: it has no run.json and no race.json")
    seen = preview.look(entry)
    verdict = entry.outcome.headline if entry.outcome else None
    if parsed.json:
        told = {"name": entry.name, "path": str(path), "state": entry.state, "verdict": verdict, "note": entry.note}
        common.print_json({**told, **preview.to_json(seen)})
        return SAME
    lines = [f"{entry.name}  {entry.state}  {entry.trouble}".rstrip(), *([verdict] if verdict else [])]
    lines += [f"  cause        {seen.cause}"] if seen.cause else []
    lines += [f"  note         {entry.note}"] if entry.note else []
    for member, steps in zip(entry.members, seen.checkpoints, strict=True):
        label = member.label.upper() or "A"
        far = "no step" if member.step is None else f"step {member.step}/{member.steps or '?'}"
        saved = f"checkpoints at {preview.steps_said(steps)}" if steps else "no checkpoint"
        lines.append("  ".join((f"  {label:<3}{member.state:<10}", far, *member.differs, saved)))
    lines += [f"  asked        {', '.join(seen.asked)}"] if seen.asked else []
    lines += [f"  on disk      {preview.size_said(seen.size)}  {common.short(path)}"]
    lines += [f"  command      {common.quote(list(entry.command))}"] if entry.command else []
    common.say(*lines)
    return SAME


def _rename(parsed: argparse.Namespace) -> int:
    from reprotui.race.rename import rename

    runs = common.runs_directory(parsed)
    common.say(common.short(rename(runs, common.find_run(parsed.run, runs), parsed.new)))
    return SAME


def _note(parsed: argparse.Namespace) -> int:
    from reprotui.race.notes import read_note, write_note

    path = common.find_run(parsed.run, common.runs_directory(parsed))
    if parsed.text is None:
        common.say(read_note(path) or f"{common.short(path)} has no note")
    else:
        write_note(path, parsed.text)
    return SAME


def _delete(parsed: argparse.Namespace) -> int:
    from reprotui.race.delete import delete, why_not_delete

    runs = common.runs_directory(parsed)
    paths: list[Path] = list(dict.fromkeys(common.find_run(name, runs) for name in parsed.run))
    if reasons := [reason for path in paths if (reason := why_not_delete(runs, path))]:
        raise BadInputError(f"nothing deleted: {'; '.join(reasons)}")
    if not parsed.yes:
        common.say(*(common.short(path) for path in paths))
        common.say("nothing deleted; with --yes these are gone for good: traces, logs and checkpoints", stderr=True)
        return USAGE
    for path in paths:
        delete(runs, path)
        common.say(f"deleted {common.short(path)}")
    return SAME
