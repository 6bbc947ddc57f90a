"""The divergence strip: the run, or what the chart shows of it, on a line a phase: `=` where all steps of a column are equal."""

from collections.abc import Iterable
from itertools import pairwise
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip
from textual.widget import Widget

from reprotui.compare.steps import index_of
from reprotui.compare.timeline import ALL_PHASES, RunLine, Timeline
from reprotui.trace import PHASES
from reprotui.tui.symbols import Symbols
from reprotui.tui.text import fit
from reprotui.tui.widgets.styles import Styles

LABEL = 12
"""Columns for the name of a phase: the chart's axis is as wide, so that steps stand above each other."""
MARGIN = 2
LANES = PHASES[1:]
"""`init` stands in record 0 alone: what differs there shows in the lane of all phases."""


class DivergenceStrip(Widget, can_focus=True):
    """Map all steps of a pair onto the width of the screen. One line in a low widget, a line a phase in a higher one."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"strip--{name}" for name in ("label", "equal", "differs", "gap", "none", "cursor")}
    DEFAULT_CSS = """
    DivergenceStrip {
        background: $background; color: $foreground;
        .strip--label { color: $muted; } .strip--equal { color: $equal 70%; }
        .strip--differs { color: $differs; text-style: bold; }
        .strip--gap { color: $unknown; } .strip--none { color: $muted; } .strip--cursor { text-style: reverse; }
    }
    """

    step: var[int | None] = var(None, init=False)
    part: var[tuple[int, int] | None] = var(None, init=False)
    """The first and last step that are mapped; None maps all."""

    class Picked(Message):
        """A step was clicked."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.symbols = symbols
        self._timeline = Timeline()
        self._pair = 0
        self._columns: tuple[list[int], list[int]] | None = None
        self._style = Styles(self, "strip")

    def show(self, timeline: Timeline, pair: int) -> None:
        """Show one run of a timeline against the reference."""
        if timeline is self._timeline and pair == self._pair:
            return
        before, at = self._columns, self._column_of(self.step)
        self._timeline, self._pair, self._columns = timeline, pair, None
        if before is None or not self.size:
            self.refresh()
            return
        self._columns = self._reduce()
        if self._columns != before or at != self._column_of(self.step):
            self.refresh()

    def watch_part(self) -> None:
        self._columns = None
        self.refresh()

    def watch_step(self, before: int | None, step: int | None) -> None:
        columns = [at for at in (self._column_of(before), self._column_of(step)) if at is not None]
        self.refresh(*(Region(LABEL + at, 0, 1, self.size.height) for at in columns))

    @property
    def _width(self) -> int:
        return max(4, self.size.width - LABEL - MARGIN)

    def _reduce(self) -> tuple[list[int], list[int]]:
        """Return for every column the bits of its steps (-1 where none was compared), and of phases that are not finite."""
        width, steps = self._width, self._timeline.steps
        if not len(steps) or not self._timeline.pairs:
            return [-1] * width, [0] * width
        pair = self._timeline.pairs[self._pair]
        edges = self._edges()
        masks, nans = [], []
        lines = (self._timeline.runs[0], self._timeline.runs[self._pair + 1])
        for first, last in pairwise(edges):
            start, stop = index_of(pair.steps, first), index_of(pair.steps, last)
            masks.append(int(np.bitwise_or.reduce(pair.differs[start:stop])) if stop > start else -1)
            nans.append(_not_finite(lines, first, last) if last > first else 0)
        before = index_of(pair.steps, edges[0]) - 1
        if masks[0] < 0 and 0 <= before < len(pair.steps) - 1:
            masks[0] = int(pair.differs[before])  # the zoom begins between two recorded steps
        known = [column for column, mask in enumerate(masks) if mask >= 0]
        # Where all that is mapped was compared, what is behind the last step's column belongs to that step too.
        whole = known and int(pair.steps[-1]) >= edges[-1] - 1
        for column in range(known[0], width if whole else known[-1]) if known else ():
            if masks[column] < 0:  # between two recorded steps: it belongs to the earlier one
                masks[column], nans[column] = masks[column - 1], nans[column - 1]
        return masks, nans

    def render_line(self, y: int) -> Strip:
        if self._columns is None:
            self._columns = self._reduce()
        masks, nans = self._columns
        lanes = self.size.height >= len(LANES) + 1
        if y == 0:
            name, bits = ("all" if lanes else "steps"), ALL_PHASES
        elif lanes and y <= len(LANES):
            name, bits = LANES[y - 1], 1 << PHASES.index(LANES[y - 1])
        else:
            return Strip.blank(self.size.width, self._style())
        segments = [Segment(f"{fit(name, LABEL - 2, self.symbols, right=True)} {self.symbols.line}", self._style("label"))]
        at = self._column_of(self.step)
        for column, (mask, nan) in enumerate(zip(masks, nans, strict=True)):
            if mask < 0:
                sign, colour = self.symbols.dot, "none"
            elif mask & bits:
                sign, colour = self.symbols.differs, "differs"
            elif nan & bits:
                sign, colour = "x", "gap"
            else:
                sign, colour = self.symbols.equal, "equal"
            segments.append(Segment(sign, self._style(colour, "cursor" if column == at else "")))
        return Strip(segments).adjust_cell_length(self.size.width, self._style()).simplify()

    def _edges(self) -> list[int]:
        """Return the first step of every column, and the end: step `s` belongs to column `s * width // count`."""
        width, (first, count) = self._width, self._mapped()
        return [first - (-column * count // width) for column in range(width + 1)]

    def _column_of(self, step: int | None) -> int | None:
        if step is None or not len(self._timeline.steps):
            return None
        first, count = self._mapped()
        return (step - first) * self._width // count if first <= step < first + count else None

    def _mapped(self) -> tuple[int, int]:
        """Return the first step that is mapped, and how many are from there on."""
        steps = self._timeline.steps
        first, last = self.part or (int(steps[0]), int(steps[-1]))
        return first, max(1, last - first + 1)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._style.clear()

    def on_resize(self) -> None:
        # Lines may have been drawn for the new size already, from what was made for the old one.
        self._columns = None
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        steps = self._timeline.steps
        if not len(steps):
            return
        column = min(max(event.x - LABEL, 0), self._width - 1)
        low, high = self._edges()[column : column + 2]
        low = min(low, high - 1)  # where no step begins, the one before goes on
        pair = self._timeline.pairs[self._pair] if self._timeline.pairs else None
        # A column of many steps means its first difference, because that is what a person points at.
        found = pair.next_difference(low - 1) if pair else None
        step = (
            found if found is not None and found < max(high, low + 1) else int(steps[min(index_of(steps, low), len(steps) - 1)])
        )
        self.post_message(self.Picked(step))


def _not_finite(lines: Iterable[RunLine], first: int, last: int) -> int:
    """Return the bits of the phases that hold NaN or infinity in a column; a loss without further record counts as one."""
    phases = {phase for line in lines for phase in line.not_finite(first, last)}
    lost = any(_has_nan(line, first, last) for line in lines)
    return sum(1 << PHASES.index(phase) for phase in phases | ({"forward"} if lost else set()))


def _has_nan(line: RunLine, first: int, last: int) -> bool:
    """Say whether the last loss of a column is NaN; record 0 has no loss and does not count."""
    stop = index_of(line.steps, last)
    if not stop or line.steps[stop - 1] < first or line.steps[stop - 1] == 0:
        return False
    return bool(np.isnan(line.losses[stop - 1]))
