"""A metric of all runs: log or linear, zoom and pan, a crosshair, gaps for NaN, a mark at the divergence, equal stretches."""

from typing import ClassVar

import numpy as np
from rich.segment import Segment
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive, var
from textual.strip import Strip
from textual.widget import Widget

from reprotui.compare.curves import Curves
from reprotui.tui import plot, ticks
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.styles import Styles

AXIS = 10
"""Columns of the axis: a sign, four digits and an exponent; the strip's labels are as wide, so that steps stand in line."""
ZOOM = 0.5
"""What a zoom leaves of the steps that were seen."""
NEAREST = 8
"""Fewest steps that a zoom leaves."""
MARGIN = 2
LABEL_APART = 6
"""Columns from one label below the chart to the next, at least."""


class LossChart(Widget, can_focus=True):
    """Draw curves between two places. The picture is kept; a moved crosshair draws lines of it again."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"chart--{name}" for name in ("axis", "differs", "cross", "same", "gap", *"abcdefgh")
    }
    DEFAULT_CSS = """
    LossChart {
        background: $background; color: $foreground;
        .chart--axis { color: $muted; } .chart--differs { color: $differs; text-style: bold; }
        .chart--cross { color: $foreground; } .chart--same { color: $equal; } .chart--gap { color: $unknown; }
        .chart--a { color: $run-a; } .chart--b { color: $run-b; } .chart--c { color: $run-c; } .chart--d { color: $run-d; }
        .chart--e { color: $run-e; } .chart--f { color: $run-f; } .chart--g { color: $run-g; } .chart--h { color: $run-h; }
    }
    """

    log_scale: reactive[bool] = reactive(True, init=False)
    step: var[int | None] = var(None, init=False)
    """Where the crosshair is."""
    part: reactive[tuple[float, float] | None] = reactive(None, init=False)
    """The first and last place that are seen; None shows all, also what is to come."""

    class Picked(Message):
        """A step was clicked."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self, symbols: Symbols, log: bool, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.symbols = symbols
        self.set_reactive(LossChart.log_scale, log)
        self.curves = Curves()
        self._lines: list[list[tuple[str, str]]] | None = None
        self._gaps: set[int] = set()
        self._strips: dict[int, Strip] = {}
        self._style = Styles(self, "chart")
        self._drag: tuple[int, tuple[float, float]] | None = None

    def show(self, curves: Curves) -> None:
        """Show other curves, or these with more of them."""
        before, window, former = self._lines, self.window, self.curves
        self.curves, self._lines = curves, None
        if (curves.seconds is None) != (former.seconds is None):
            self.part = None
        if before is None or former.first != curves.first or window != self.window or not self.size:
            self.refresh()
            return
        # A long run that grows by a few steps changes a few lines of the picture: over SSH only these are sent.
        gaps = self._gaps
        self._lines = self._draw()
        changed = [row for row, parts in enumerate(self._lines) if row >= len(before) or parts != before[row]]
        if gaps != self._gaps:
            changed.append(len(self._lines) - 1)
        self.refresh(*(Region(0, row, self.size.width, 1) for row in changed)) if changed else None

    def watch_step(self, before: int | None, step: int | None) -> None:
        first, last = self.window
        at = None if step is None else self.curves.place(step)
        if self.part and at is not None and not first <= at <= last:
            half = (last - first) / 2
            self._see(at - half, at + half)
            return
        height = self.size.height
        columns = [AXIS + self._column(step) for step in (before, step) if step is not None]
        self.refresh(*(Region(x, 0, 1, height) for x in columns), Region(0, height - 1, self.size.width, 1))

    @property
    def window(self) -> tuple[float, float]:
        """Return the first and last place that are seen."""
        return self.part or self.curves.ends

    @property
    def zoomed(self) -> bool:
        """Say whether only a part is seen."""
        return self.part is not None

    def watch_log_scale(self) -> None:
        self._lines = None

    def watch_part(self) -> None:
        self._lines = None

    def zoom(self, factor: float, around: float | None = None) -> None:
        """See `factor` times as much, around a place that stays where it is."""
        first, last = self.window
        at = self.curves.place(self.step) if self.step is not None else (first + last) / 2
        centre = min(max(at if around is None else around, first), last)
        low, high = self.curves.ends
        least = NEAREST if self.curves.seconds is None else NEAREST * (high - low) / max(NEAREST, len(self.curves.steps))
        span = max(least, (last - first) * factor)
        share = (centre - first) / max(last - first, 1e-9)
        self._see(centre - share * span, centre + (1 - share) * span)

    def pan(self, share: float) -> None:
        """Move by a share of what is seen."""
        first, last = self.window
        if self.part:
            by = (last - first) * share
            self._see(first + by, last + by)

    def _see(self, first: float, last: float) -> None:
        if not len(self.curves.steps):
            return
        low, high = self.curves.ends
        span = last - first
        first = min(max(first, low), high - span)
        self.part = (first, first + span) if span < high - low else None

    @property
    def _plot_width(self) -> int:
        return max(4, self.size.width - AXIS - MARGIN)

    def _column(self, step: float) -> int:
        return self._column_of(self.curves.place(step))

    def _column_of(self, place: float) -> int:
        first, last = self.window
        return round((place - first) / max(last - first, 1e-9) * (self._plot_width - 1))

    def _place_at(self, x: int) -> float:
        first, last = self.window
        return first + (x - AXIS) / max(1, self._plot_width - 1) * (last - first)

    def _draw(self) -> list[list[tuple[str, str]]]:
        """Return for every line of the plot its parts: text and colour name; the axis at the left among them."""
        width, height = self._plot_width, max(2, self.size.height - 1)
        first, last = self.window
        runs, columns = self.curves.runs, width * plot.DOTS_X
        # Held against A, or at other times, no two runs have one value together.
        reference = runs[0] if runs and self.curves.seconds is None and not self.curves.apart else None
        reduced = [plot.reduce(line, first, last, columns, reference if at else None) for at, line in enumerate(runs)]
        scale = plot.scale_of(reduced, self.log_scale)
        picture = plot.draw(reduced, scale, width, height, self.symbols.ascii)
        characters, owners = picture.characters, picture.owners
        if self.curves.apart:
            zero = np.array([item.high == 0 for item in reduced]).reshape(-1, width, plot.DOTS_X).all(axis=2).any(axis=0)
            zero &= owners[-1] == plot.NONE
            characters[-1, zero], owners[-1, zero] = ord(self.symbols.equal), plot.SAME
        labels = ticks.up(scale, height) if scale else {}
        self._strips.clear()
        self._gaps = {int(column) // plot.DOTS_X for item in reduced for column in item.gaps.nonzero()[0]}
        lines = []
        for row in range(height):
            tick = ("+" if self.symbols.ascii else "┤") if row in labels else self.symbols.line
            parts = []
            text, colour = f"{labels.get(row, ''):>{AXIS - 2}} {tick}", "axis"
            for code, own in zip(characters[row].tolist(), owners[row].tolist(), strict=True):
                # Blanks go with what is before them: each change of colour is 40 bytes on the wire.
                if own != plot.NONE and _colour(own) != colour:
                    parts.append((text, colour))
                    text, colour = "", _colour(own)
                text += chr(code)
            parts.append((text, colour))
            lines.append(parts)
        return lines

    def render_line(self, y: int) -> Strip:
        if self._lines is None:
            self._lines = self._draw()
        if y >= len(self._lines):
            return self._axis_line(self.size.width)
        strip = self._strips.get(y)
        if strip is None:
            strip = self._strips[y] = self._line(y, self._lines[y])
        if self.step is not None:
            strip = self._put(strip, self._column(self.step), self.symbols.line, "cross", over=False)
        return strip.simplify()

    def _line(self, y: int, parts: list[tuple[str, str]]) -> Strip:
        """Return a line of the plot with everything but the crosshair; kept until the picture changes."""
        width, lines = self.size.width, len(self._lines or ())
        segments = [Segment(text, self._style(colour)) for text, colour in parts]
        strip = Strip(segments).adjust_cell_length(width, segments[-1].style)
        if not any(len(run.x) for run in self.curves.runs) and y == lines // 2:
            nothing = "no value yet" if len(self.curves.steps) else "no step yet"
            return Strip([Segment(nothing.center(width), self._style("axis"))]).adjust_cell_length(width, self._style())
        for column in self._gaps if y == lines - 1 else ():
            strip = self._put(strip, column, "x", "gap")
        if self.curves.first is not None:
            strip = self._put(strip, self._column(self.curves.first), self.symbols.cross, "differs", over=False)
        return strip

    def _put(self, strip: Strip, column: int, character: str, colour: str, over: bool = True) -> Strip:
        """Write a character into a line; with `over` false only where nothing is drawn."""
        if not 0 <= column < self._plot_width:
            return strip
        x = AXIS + column
        if x >= strip.cell_length:  # a chart that is narrower than its axis
            return strip
        before, cell, after = strip.divide([x, x + 1, strip.cell_length])
        if not over and cell.text.strip():
            return strip
        return Strip.join([before, Strip([Segment(character, self._style(colour))], 1), after])

    def _axis_line(self, width: int) -> Strip:
        """Draw what is below the plot: the first divergence, the crosshair, round steps or times."""
        first, last = self.window
        line, colours = [" "] * width, ["axis"] * width
        clock = self.curves.seconds is not None

        def write(place: float, text: str, colour: str) -> None:
            at = AXIS + self._column_of(place) - len(text) // 2
            at = min(max(at, AXIS if place <= first else AXIS - len(text) // 2), width - len(text))
            room = range(max(0, at - 1), min(width, at + len(text) + 1))
            if at < 0 or any(line[x] != " " for x in room):
                return
            for offset, character in enumerate(text):
                line[at + offset], colours[at + offset] = character, colour

        for step, sign, colour in ((self.curves.first, self.symbols.differs, "differs"), (self.step, "", "cross")):
            if step is not None and first <= self.curves.place(step) <= last:
                write(self.curves.place(step), f"{sign}{step}", colour)
        if len(self.curves.steps):
            most = self._plot_width // (LABEL_APART + len(f"{last:.0f}"))
            for place, text in ticks.along(first, last, max(1, most), clock):
                write(place, text, "axis")
        return Strip([Segment(text, self._style(colour)) for text, colour in zip(line, colours, strict=True)]).simplify()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._style.clear()
        self._strips.clear()

    def on_resize(self) -> None:
        # Lines may have been drawn for the new size already, from what was made for the old one.
        self._lines = None
        self.refresh()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._drag = event.x, self.window
        self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._drag is None:
            return
        start, (first, last) = self._drag
        if self.zoomed and event.x != start:
            by = (start - event.x) / self._plot_width * (last - first)
            self._see(first + by, last + by)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        drag, self._drag = self._drag, None
        self.release_mouse()
        if drag and abs(event.x - drag[0]) <= 1 and (step := self.curves.step(self._place_at(event.x))) is not None:
            self.post_message(self.Picked(step))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.zoom(ZOOM, self._place_at(event.x))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.zoom(1 / ZOOM, self._place_at(event.x))


def _colour(owner: int) -> str:
    return "same" if owner == plot.SAME else "abcdefgh"[owner]
