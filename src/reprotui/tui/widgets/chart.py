"""The loss of all runs over the steps: log or linear, zoom and pan, a crosshair, gaps for NaN, a mark at the divergence."""

from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from reprotui.compare.timeline import Timeline, index_of
from reprotui.tui import plot
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.styles import Styles

AXIS = 10
"""Columns of the axis: a sign, four digits and an exponent; the strip's labels are as wide, so that steps stand in line."""
ZOOM = 0.5
"""What a zoom leaves of the steps that were seen."""
NEAREST = 8
"""Fewest steps that a zoom leaves."""
MARGIN = 2


class LossChart(Widget, can_focus=True):
    """Draw the losses of a timeline between two steps. The picture is kept; a moved crosshair draws lines of it again."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"chart--{name}" for name in ("axis", "differs", "cross", "both", "gap", *"abcdefgh")
    }
    DEFAULT_CSS = """
    LossChart {
        background: $background; color: $foreground;
        .chart--axis { color: $muted; } .chart--differs { color: $differs; text-style: bold; }
        .chart--cross { color: $foreground; } .chart--both { color: $foreground; } .chart--gap { color: $unknown; }
        .chart--a { color: $run-a; } .chart--b { color: $run-b; } .chart--c { color: $run-c; } .chart--d { color: $run-d; }
        .chart--e { color: $run-e; } .chart--f { color: $run-f; } .chart--g { color: $run-g; } .chart--h { color: $run-h; }
    }
    """

    class Picked(Message):
        """A step was clicked."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self, symbols: Symbols, log: bool, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.symbols = symbols
        self.log_scale = log
        self._timeline = Timeline()
        self._first: int | None = None
        self._step: int | None = None
        self._window: tuple[float, float] | None = None
        self._lines: list[list[tuple[str, str]]] | None = None
        self._gaps: set[int] = set()
        self._strips: dict[int, Strip] = {}
        self._style = Styles(self, "chart")
        self._drag: tuple[int, tuple[float, float]] | None = None

    def show(self, timeline: Timeline, first: int | None) -> None:
        """Show a timeline, with a mark at the first divergence."""
        if timeline is self._timeline and first == self._first:
            return
        before, window, marked = self._lines, self.window, self._first
        self._timeline, self._first, self._lines = timeline, first, None
        if before is None or marked != first or window != self.window or not self.size:
            self.refresh()
            return
        # A long run that grows by a few steps changes a few lines of the picture: over SSH only these are sent.
        gaps = self._gaps
        self._lines = self._draw()
        changed = [row for row, parts in enumerate(self._lines) if row >= len(before) or parts != before[row]]
        if gaps != self._gaps:
            changed.append(len(self._lines) - 1)
        self.refresh(*(Region(0, row, self.size.width, 1) for row in changed)) if changed else None

    def point_to(self, step: int | None) -> None:
        """Put the crosshair on a step; the window follows where the step is out of it."""
        if step == self._step:
            return
        before, self._step = self._step, step
        first, last = self.window
        if self._window is not None and step is not None and not first <= step <= last:
            half = (last - first) / 2
            self._set_window(step - half, step + half)
            return
        height = self.size.height
        columns = [AXIS + self._column(at) for at in (before, step) if at is not None]
        self.refresh(*(Region(x, 0, 1, height) for x in columns), Region(0, height - 1, self.size.width, 1))

    @property
    def window(self) -> tuple[float, float]:
        """Return the first and last step that are seen."""
        if self._window is not None:
            return self._window
        steps = self._timeline.steps
        return (float(steps[0]), float(max(steps[-1], steps[0] + 1))) if len(steps) else (0.0, 1.0)

    @property
    def zoomed(self) -> bool:
        """Say whether only a part of the steps is seen."""
        return self._window is not None

    def set_log(self, log: bool) -> None:
        """Make the loss axis logarithmic or linear."""
        self.log_scale, self._lines = log, None
        self.refresh()

    def zoom(self, factor: float, around: float | None = None) -> None:
        """See `factor` times as many steps, around a step that stays where it is."""
        first, last = self.window
        centre = around if around is not None else self._step if self._step is not None else (first + last) / 2
        centre = min(max(centre, first), last)
        span = max(NEAREST, (last - first) * factor)
        share = (centre - first) / max(last - first, 1e-9)
        self._set_window(centre - share * span, centre + (1 - share) * span)

    def zoom_all(self) -> None:
        """See all steps, and go on seeing all as they come."""
        self._window, self._lines = None, None
        self.refresh()

    def pan(self, share: float) -> None:
        """Move by a share of what is seen."""
        first, last = self.window
        if self._window is not None:
            by = (last - first) * share
            self._set_window(first + by, last + by)

    def _set_window(self, first: float, last: float) -> None:
        steps = self._timeline.steps
        if not len(steps):
            return
        low, high = float(steps[0]), float(steps[-1])
        span = last - first
        if span >= high - low:
            self.zoom_all()
            return
        first = min(max(first, low), high - span)
        self._window, self._lines = (first, first + span), None
        self.refresh()

    @property
    def _plot_width(self) -> int:
        return max(4, self.size.width - AXIS - MARGIN)

    def _column(self, step: float) -> int:
        first, last = self.window
        return round((step - first) / max(last - first, 1e-9) * (self._plot_width - 1))

    def _step_at(self, x: int) -> int | None:
        first, last = self.window
        steps = self._timeline.steps
        if not len(steps):
            return None
        wanted = first + (x - AXIS) / max(1, self._plot_width - 1) * (last - first)
        index = index_of(steps, round(wanted))
        near = [int(steps[at]) for at in (index - 1, index) if 0 <= at < len(steps)]
        return min(near, key=lambda step: abs(step - wanted))

    def _draw(self) -> list[list[tuple[str, str]]]:
        """Return for every line of the plot its parts: text and colour name; the axis at the left among them."""
        width, height = self._plot_width, max(2, self.size.height - 1)
        first, last = self.window
        reduced = [plot.reduce(line, first, last, width * plot.DOTS_X) for line in self._timeline.runs]
        scale = plot.scale_of(reduced, self.log_scale)
        picture = plot.draw(reduced, scale, width, height, self.symbols.ascii)
        labels = plot.ticks(scale, height) if scale else {}
        self._strips.clear()
        self._gaps = {int(column) // plot.DOTS_X for item in reduced for column in item.gaps.nonzero()[0]}
        lines = []
        rule = self.symbols.line
        for row in range(height):
            label = labels.get(row, "")
            parts = [(f"{label:>{AXIS - 2}} {rule}", "axis")]
            text, owner = "", plot.NONE
            for code, own in zip(picture.characters[row].tolist(), picture.owners[row].tolist(), strict=True):
                if own != owner:
                    if text:
                        parts.append((text, _colour(owner)))
                    text, owner = "", own
                text += chr(code)
            parts.append((text, _colour(owner)))
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
        if self._step is not None:
            strip = self._put(strip, self._column(self._step), self.symbols.line, "cross", over=False)
        return strip.simplify()

    def _line(self, y: int, parts: list[tuple[str, str]]) -> Strip:
        """Return a line of the plot with everything but the crosshair; kept until the picture changes."""
        width, lines = self.size.width, len(self._lines or ())
        strip = Strip([Segment(text, self._style(colour)) for text, colour in parts]).adjust_cell_length(width, self._style())
        if not len(self._timeline.steps) and y == lines // 2:
            return Strip([Segment("no step yet".center(width), self._style("axis"))]).adjust_cell_length(width, self._style())
        for column in self._gaps if y == lines - 1 else ():
            strip = self._put(strip, column, "x", "gap")
        if self._first is not None:
            strip = self._put(strip, self._column(self._first), self.symbols.cross, "differs", over=False)
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
        """Draw the steps below the plot: ends, the first divergence, the crosshair."""
        first, last = self.window
        line = [" "] * width
        colours = ["axis"] * width

        def write(at: int, text: str, colour: str) -> None:
            at = min(max(at, AXIS), width - len(text))
            room = range(max(0, at - 1), min(width, at + len(text) + 1))
            if at < 0 or any(line[x] != " " for x in room):
                return
            for offset, character in enumerate(text):
                line[at + offset], colours[at + offset] = character, colour

        for step, sign, colour in ((self._first, self.symbols.differs, "differs"), (self._step, "", "cross")):
            if step is not None and first <= step <= last:
                text = f"{sign}{step}"
                write(AXIS + self._column(step) - len(text) // 2, text, colour)
        if len(self._timeline.steps):
            write(AXIS, f"{first:.0f}", "axis")
            text = f"{last:.0f}"
            write(width - len(text) - MARGIN, text, "axis")
            middle = f"{(first + last) / 2:.0f}"
            write(AXIS + (self._plot_width - len(middle)) // 2, middle, "axis")
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
            self._set_window(first + by, last + by)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        drag, self._drag = self._drag, None
        self.release_mouse()
        if drag and abs(event.x - drag[0]) <= 1 and (step := self._step_at(event.x)) is not None:
            self.post_message(self.Picked(step))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.zoom(ZOOM, self._step_at(event.x))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.zoom(1 / ZOOM, self._step_at(event.x))


def _colour(owner: int) -> str:
    return "" if owner == plot.NONE else "both" if owner == plot.BOTH else "abcdefgh"[owner]
