"""What a list's preview says of a race or run besides what the list knows: cause, losses, checkpoints, size on disk."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reprotui.checkpoints.places import step_directories
from reprotui.compare import RunView
from reprotui.errors import ReprotuiError
from reprotui.manifest import RunManifest
from reprotui.race.chosen import chosen
from reprotui.race.entries import Entry
from reprotui.race.tolerance import compare_within, tolerance_of
from reprotui.run_directory import RunDirectory, read_json
from reprotui.trace import Trace

POINTS = 64
"""Steps at which losses are read: more than a preview is wide."""


@dataclass(frozen=True)
class Preview:
    """What was read of an entry.

    Attributes:
        cause: why its runs differ, empty where they do not or nobody can tell.
        losses: of each member, at steps that are spread evenly over the longest; None where there is no finite one.
        checkpoints: the steps that each member saved.
        size: bytes on disk.
        asked: what was asked of the race besides its configs.
    """

    cause: str = ""
    losses: tuple[tuple[float | None, ...], ...] = ()
    checkpoints: tuple[tuple[int, ...], ...] = ()
    size: int = 0
    asked: tuple[str, ...] = ()


def look(entry: Entry) -> Preview:
    """Read what a preview says; what cannot be read is left out. Takes longer the more files lie there."""
    manifests = [manifest for member in entry.members if (manifest := _manifest(member.path))]
    last = max((member.step or 0 for member in entry.members), default=0)
    return Preview(
        _cause(entry), tuple(_losses(member.path, last) for member in entry.members),
        tuple(_checkpoints(member.path) for member in entry.members), size_on_disk(entry.path),
        chosen(manifests, entry.path if entry.race else None),
    )  # fmt: skip


def size_on_disk(path: Path) -> int:
    """Return the bytes of all files below a directory; links are not followed."""
    total, waiting = 0, [os.fspath(path)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for item in found:
                    if item.is_dir(follow_symlinks=False):
                        waiting.append(item.path)
                    else:
                        total += item.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # it went away, or is nobody's business
    return total


def _manifest(path: Path) -> RunManifest | None:
    try:
        return RunDirectory(path).manifest()
    except (ReprotuiError, OSError):
        return None


def _checkpoints(path: Path) -> tuple[int, ...]:
    try:
        return tuple(step_directories(path))
    except (ReprotuiError, OSError):
        return ()


def _cause(entry: Entry) -> str:
    if entry.outcome is None or entry.outcome.kind != "diverged":
        return ""
    try:
        stored = read_json(entry.path / "race.json").get("verdicts")
        for verdict in stored if isinstance(stored, list) else ():
            if isinstance(verdict, dict) and verdict.get("headline") == entry.outcome.headline:
                return str((verdict.get("cause") or {}).get("sentence") or "")
        if entry.alive or entry.trouble:
            return ""
        index = next(at for at, outcome in enumerate(entry.outcomes, 1) if outcome == entry.outcome)
        a, b = (_view(member.path, member.label) for member in (entry.members[0], entry.members[index]))
        cause = compare_within(a, b, tolerance_of([entry.path])).cause
    except (ReprotuiError, OSError, AttributeError):
        return ""
    return cause.sentence if cause else ""


def _view(path: Path, label: str) -> RunView:
    run = RunDirectory(path)
    manifest = run.manifest()
    return RunView(label.upper(), run, manifest, run.state(manifest))


def _losses(path: Path, last: int) -> tuple[float | None, ...]:
    """Return losses at evenly spread steps up to one, from the record at or before each."""
    run = RunDirectory(path)
    steps = sorted({max(1, round(last * point / POINTS)) for point in range(1, POINTS + 1)}) if last else []
    try:
        if not steps or not run.trace_path.is_file():
            return ()
        with Trace(run.trace_path) as trace:
            newest = trace.last_step()
            return tuple(None if newest is None or step > newest else _loss(trace, step) for step in steps)
    except (ReprotuiError, OSError):
        return ()


def _loss(trace: Trace, step: int) -> float | None:
    row = trace.row(step)
    if row is None:
        before = trace.previous_step(step)
        row = trace.row(before) if before else None
    return row.loss if row and row.loss is not None and math.isfinite(row.loss) else None


def to_json(preview: Preview) -> dict[str, object]:
    """Return what a script wants to know of it."""
    return json.loads(json.dumps({
        "cause": preview.cause, "checkpoints": preview.checkpoints, "bytes": preview.size, "asked": preview.asked,
    }))  # fmt: skip


def steps_said(steps: Sequence[int]) -> str:
    """Return the steps of checkpoints in a few words."""
    if len(steps) <= 4:
        return ", ".join(map(str, steps))
    return f"{steps[0]}, {steps[1]} … {steps[-1]} ({len(steps)})"


def size_said(size: int) -> str:
    """Return bytes for people: `812 KB`, `1.4 GB`."""
    for unit, scale in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size >= scale:
            number = size / scale
            return f"{number:.1f} {unit}" if number < 100 else f"{number:.0f} {unit}"
    return f"{size} B"
