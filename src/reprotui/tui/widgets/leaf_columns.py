"""The columns of the leaf table: which there is room for, and what stands in them."""

from dataclasses import dataclass

from reprotui.numbers import short
from reprotui.tui.leaf_tree import FIGURES, Branch, Exact, figure
from reprotui.tui.leaves import Leaf, StepLeaves
from reprotui.tui.symbols import Symbols
from reprotui.tui.text import count
from reprotui.tui.widgets.rows import Cell

SUM, SHORT_SUM = 17, 9
"""A checksum in sixteen digits or in eight, and a space."""
SPEC = 20
PATH = 24
"""Cells of a path before anything else gets room."""
SIGNS = 3
"""Cells before a path: what it came to, and whether it holds NaN or infinity."""
ULP_DIGITS = 7


@dataclass(frozen=True)
class Column:
    """A column of figures: its title, its width, the order that it gives (see `figure`), and the run that it belongs to."""

    title: str
    width: int
    order: str = ""
    run: str = ""


@dataclass(frozen=True)
class Layout:
    """How many cells a path has, a dtype (0 for none) and a checksum (0 for none), and the columns of figures."""

    path: int
    spec: int
    checksum: int
    columns: tuple[Column, ...]


def recorded_columns(step: StepLeaves, labels: tuple[str, ...], symbols: Symbols) -> list[list[Column]]:
    """Return the columns of what was recorded, in groups that come and go together: none where it was not at this step."""
    if step.statistics_step != step.step:
        return []
    norms = [Column(f"norm {label}", 11, run=run) for label, run in zip(labels, "ab", strict=False)]
    norms += [Column(f"{symbols.delta} norm", 11, "norm")] if len(labels) > 1 else []
    return [norms, [Column(f"max {label}", 11, run=run) for label, run in zip(labels, "ab", strict=False)]]


def exact_columns(symbols: Symbols) -> list[list[Column]]:
    """Return the columns of an exact difference."""
    titles = ("differ", f"max |{symbols.delta}|", "max rel", "max ulp")
    widths = (15, 11, 10, 10)
    return [[Column(title, width, order) for title, width, order in zip(titles, widths, FIGURES, strict=True)]]


def layout(width: int, groups: list[list[Column]], runs: int, exact: bool) -> Layout:
    """Say what there is room for in so many cells; an exact difference is what was asked for, and comes before checksums."""
    rest = width - SIGNS
    columns: list[Column] = []
    checksum = 0
    if exact:
        columns += groups[0]
        rest -= sum(column.width for column in columns)
    for size in (SUM, SHORT_SUM):
        if not checksum and rest - runs * size >= (PATH + SPEC if exact and size == SUM else PATH):
            checksum = size
    checksum = checksum or (0 if exact else SHORT_SUM)
    rest -= runs * checksum
    spec = SPEC if rest >= PATH + SPEC else 0
    rest -= spec
    for group in () if exact else groups:
        wanted = sum(column.width for column in group)
        if rest - wanted < PATH:
            break
        columns += group
        rest -= wanted
    return Layout(max(12, rest), spec, checksum, tuple(columns))


def leaf_figure(column: Column, leaf: Leaf, exact: Exact | None) -> Cell:
    """Return what stands in a column of a leaf."""
    if column.run or column.order == "norm":
        return _recorded(column, leaf)
    found = None if exact is None else exact.get((leaf.phase, leaf.path))
    if found is None:  # equal to the bit
        return Cell(f"{'0' if column.order == 'different' else '':>{column.width}}", "muted")
    if found.elements is None:
        return Cell(f"{found.kind if column.order == 'different' else '':>{column.width}}", "differs")
    return _exact(column, getattr(found.elements, column.order), found.elements.elements, found.elements.not_finite)


def _recorded(column: Column, leaf: Leaf) -> Cell:
    same = leaf.differs is False
    if column.order == "norm":
        a, b = (None if side is None else side.norm for side in (leaf.a, leaf.b))
        text = "" if a is None or b is None else "0" if a == b else short(b - a, 3)
        return Cell(f"{text:>{column.width}}", "muted" if same or text in ("", "0") else "differs")
    side = leaf.a if column.run == "a" else leaf.b
    value = None if side is None else side.norm if column.title.startswith("norm") else side.maximum
    return Cell(f"{'' if value is None else short(value):>{column.width}}", "muted" if same else column.run)


def _exact(column: Column, value: float | None, elements: int, not_finite: int) -> Cell:
    if column.order == "different":
        text = f"{count(int(value or 0))}/{count(elements)}"
    elif value is None:  # no pair of finite numbers, or no floats
        text = "NaN/inf" if not_finite and column.order == "max_abs" else ""
    elif column.order == "max_ulp":
        text = str(int(value)) if value < 10**ULP_DIGITS else short(float(value), 3)
    else:
        text = short(value, 3)
    return Cell(f"{text:>{column.width}}", "differs")


def branch_figure(column: Column, branch: Branch, exact: Exact | None) -> Cell:
    """Return what stands in a column of a branch: elements of all its leaves, or the largest of a figure."""
    if exact is None or column.run or column.order == "norm":
        return Cell(" " * column.width)
    found = [leaf for leaf in branch.leaves if (leaf.phase, leaf.path) in exact]
    if not found:
        return Cell(f"{'0' if column.order == 'different' else '':>{column.width}}", "muted")
    if column.order == "different":
        return Cell(f"{f'{len(found)} of {len(branch.leaves)}':>{column.width}}", "differs")
    values = [value for leaf in found if (value := figure(leaf, exact, column.order)) is not None]
    return _exact(column, max(values, default=None), 0, 0)
