"""How replayed states and their differences are shown in the terminal."""

from typing import Any

from reprotui.cli import common
from reprotui.cli.show_checkpoint import BAD, GOOD, show_leaves
from reprotui.integrity.leaves import LeafDifference
from reprotui.replay import RepeatOutcome, ReplayedState, StateDifference, Unfaithful

LEAVES_SHOWN = 12
"""Leaves a table in the terminal; `--json` has them all."""
ROWS, COLUMNS = 8, 48
"""Size of the picture of where the first differing leaf differs."""


def to_json(found: ReplayedState | Unfaithful, repeats: RepeatOutcome | None) -> dict[str, Any]:
    """Return one replay as a JSON object."""
    value: dict[str, Any] = {
        "run": str(found.run.path), "faithful": isinstance(found, ReplayedState), "started_from": found.started_from,
        "compared": found.compared,
    }  # fmt: skip
    if isinstance(found, ReplayedState):
        value |= {
            "step": found.step, "state": str(found.directory), "content": found.content.root, "notes": list(found.notes),
            "leaves": [[leaf.phase, leaf.spec.path, leaf.spec.dtype, list(leaf.spec.shape), leaf.file] for leaf in found.leaves],
        }  # fmt: skip
    else:
        value |= {
            "step": found.step, "headline": found.headline, "phases": list(found.phases),
            "leaves": [list(leaf) for leaf in found.leaves], "reasons": list(found.reasons),
        }  # fmt: skip
    if repeats is not None:
        value["repeats"] = {
            "step": repeats.step, "count": repeats.count, "distinct": repeats.distinct, "as_recorded": repeats.as_recorded,
            "verdict": repeats.verdict,
        }  # fmt: skip
    return value


def show_state(found: ReplayedState | Unfaithful, repeats: RepeatOutcome | None) -> None:
    """Print what one replay found."""
    console = common.console()
    start = "init" if found.started_from is None else f"the checkpoint of step {found.started_from}"
    place = common.short(found.run.path)
    if isinstance(found, ReplayedState):
        about = f"  {place} step {found.step}: replayed from {start}, {found.compared} recorded steps equal"
        console.print(common.styled(("EXACT", GOOD), about))
        console.print(f"  state        {common.short(found.directory)}", style="dim")
        console.print(f"  content      {found.content.root}", style="dim")
        for note in found.notes:
            console.print(f"  note         {note}", style="dim")
    else:
        console.print(common.styled(("NOT FAITHFUL", BAD), f"  {place}: {found.headline}"))
        console.print(f"  replayed     from {start}; {found.compared} recorded steps equal before")
        for phase, path in found.leaves[:LEAVES_SHOWN]:
            console.print(f"  differs      {phase:<8} {path}")
        for reason in found.reasons:
            console.print(f"  changed      {reason}")
        if not found.reasons:
            console.print(f"  {found.advice}")
    if repeats is not None:
        console.print(f"  step {repeats.step:<7} {repeats.verdict}")


def show_difference(found: StateDifference) -> None:
    """Print how two states differ, leaf by leaf in causal order, and where in the first leaf."""
    console = common.console()
    show_leaves(found.equal, found.leaves, LEAVES_SHOWN)
    first = found.first_array
    if first is not None and first.elements is not None:
        for name, histogram in (("ulp", first.elements.ulp_histogram), ("log10 |Δ|", first.elements.log_histogram)):
            if counts := "   ".join(f"{label}: {count:,}" for label, count in histogram if count):
                console.print(f"  {name:<12} {counts}   ({first.path})", style="dim")
        for line in _picture(found, first):
            console.print(f"  {line}", style="dim")


def _picture(found: StateDifference, leaf: LeafDifference) -> list[str]:
    """Return lines in which every cell shows the largest |Δ| in it, on a logarithmic scale between the extremes."""
    import numpy as np

    grid = found.heat_map(leaf.path, ROWS, COLUMNS)
    if grid.size < 2:
        return []
    shades = common.symbol(" ▁▂▃▄▅▆▇█", " .:-=+*#%")
    positive = grid[(grid > 0) & np.isfinite(grid)]
    low, high = (float(np.log10(edge)) for edge in (positive.min(), positive.max())) if positive.size else (0.0, 0.0)
    with np.errstate(divide="ignore"):
        level = (np.log10(grid) - low) / max(high - low, 1e-9)
    steps = len(shades) - 2
    cells = np.where(grid > 0, 1 + np.rint(np.clip(level, 0, 1) * steps), 0).astype(int)
    return ["".join(shades[cell] for cell in row) for row in cells]
