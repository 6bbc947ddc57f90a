"""List the runs and races of a runs directory."""

import math
from pathlib import Path
from typing import Any

from reprotui.compare import compare_runs, open_run
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.run_directory import RunDirectory, members_of, read_json
from reprotui.trace import Trace


def list_runs(directory: Path) -> list[dict[str, Any]]:
    """Return an entry for every run and race, newest first; one that cannot be read says why in `state`.

    Raises:
        BadInputError: the directory cannot be read. A missing one is empty.
    """
    if not directory.exists():
        return []
    try:
        paths = [path for path in directory.iterdir() if path.is_dir()]
    except OSError as error:
        raise BadInputError(f"{directory} cannot be read: {error.strerror}") from None
    entries = []
    for path in paths:
        if (path / "race.json").exists():
            entries += _race_entries(path)
        elif (path / "run.json").exists():
            entries.append(_entry(path, path.name))
    return sorted(entries, key=lambda entry: (-(entry["created_ns"] // 10**9), entry["name"]))


def _race_entries(path: Path) -> list[dict[str, Any]]:
    try:
        members = members_of(path)
        race = read_json(path / "race.json")
    except ReprotuiError as error:
        return [_unreadable(path.name, error)]
    entries = [_entry(member, f"{path.name}/{label}") for label, member in members]
    stored = race.get("verdicts")
    for index, (label, member) in enumerate(members[1:]):
        if stored and index < len(stored):
            entries[index + 1]["verdict"] = stored[index].get("headline")
            continue
        try:
            verdict = compare_runs(open_run(members[0][1], members[0][0].upper()), open_run(member, label.upper()))
            entries[index + 1]["verdict"] = verdict.headline
        except ReprotuiError:
            entries[index + 1]["verdict"] = None
    for entry in entries:
        entry["created_ns"] = race.get("created_ns", entry["created_ns"])
    return entries


def _entry(path: Path, name: str) -> dict[str, Any]:
    run = RunDirectory(path)
    try:
        manifest = run.manifest()
        step, loss = _last(run)
        return {
            "name": name, "path": str(path), "created_ns": manifest.get("created_ns", 0),
            "experiment": (manifest.get("experiment") or {}).get("name", "?"), "state": run.state(manifest), "step": step,
            "steps": (manifest.get("config") or {}).get("steps"), "loss": loss, "verdict": None,
        }  # fmt: skip
    except ReprotuiError as error:
        return _unreadable(name, error)


def _last(run: RunDirectory) -> tuple[int | None, float | str | None]:
    """Return the last step and its loss; text where it is not finite (SQLite keeps NaN as NULL), None where there is none."""
    if not run.trace_path.exists() or run.trace_path.stat().st_size == 0:
        return None, None
    with Trace(run.trace_path) as trace:
        step = trace.last_step()
        row = None if step is None else trace.row(step)
    if row is None or row.loss_bits is None:
        return step, None
    if row.loss is None:
        return step, "nan"
    return step, row.loss if math.isfinite(row.loss) else str(row.loss)


def _unreadable(name: str, error: ReprotuiError) -> dict[str, Any]:
    return {
        "name": name, "path": name, "created_ns": 0, "experiment": "?", "state": f"unreadable: {error}", "step": None,
        "steps": None, "loss": None, "verdict": None,
    }  # fmt: skip
