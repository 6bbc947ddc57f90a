"""What a list says of a verdict: one that was just found, or one that a race keeps, also of former versions."""

from typing import Any

from reprotui.compare import Verdict
from reprotui.compare.verdict import counted
from reprotui.race.entries import Outcome
from reprotui.trace.former import SPLIT, phases_now
from reprotui.trace.phases import UPDATE


def outcome_of(verdict: Verdict, alive: bool) -> Outcome:
    """Return what a list says of a verdict, of runs that go on (`alive`) or have ended."""
    within = verdict.distance is not None and verdict.distance.kind == "within"
    return Outcome(verdict.kind, verdict.step, verdict.headline_while(alive), verdict.broken, verdict.torn, within)


def stored_outcome(verdict: dict[str, Any]) -> Outcome:
    """Return the outcome of a verdict that a race keeps; former ones say nothing of what is not finite or torn."""
    runs, distance = verdict.get("not_finite"), verdict.get("distance")
    broken = any(isinstance(run, dict) and run.get("until") is None for run in (runs if isinstance(runs, list) else ()))
    torn, within = tuple(map(str, verdict.get("torn") or ())), isinstance(distance, dict) and distance.get("kind") == "within"
    return Outcome(verdict.get("kind", "?"), verdict.get("step"), _headline(verdict), broken, torn, within)


def _headline(verdict: dict[str, Any]) -> str:
    """Return the headline of a verdict that a race keeps, with the phases of today where it was found before there were these."""
    text, phase, leaves = str(verdict.get("headline", "?")), verdict.get("phase"), verdict.get("leaves")
    if phase != UPDATE:
        return text
    paths = [str(leaf.get("path")) for leaf in (leaves if isinstance(leaves, list) else ()) if isinstance(leaf, dict)]
    phases = phases_now([UPDATE] * len(paths), paths) or SPLIT
    head, _, tail = text.partition(f" · {UPDATE}")
    tail = tail.replace(counted(len(paths)), counted(phases.count(phases[0])), 1) if paths else tail
    return f"{head} · {phases[0]}{tail}"
