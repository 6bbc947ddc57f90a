"""Chart, its title and the strip, which show the same steps; which metric they show, and what is read for it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import var

from reprotui.compare.curves import WINDOWS, View, curves
from reprotui.compare.metrics import LOSS, NORMS, MetricReader
from reprotui.compare.series import Series
from reprotui.compare.timeline import Timeline
from reprotui.numbers import whole
from reprotui.race.status import RaceStatus
from reprotui.run_directory import RunDirectory
from reprotui.settings import remember
from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.widgets.chart import ZOOM, LossChart
from reprotui.tui.widgets.strip import DivergenceStrip
from reprotui.tui.widgets.title import ChartTitle

PAN = 0.25
"""What a key moves the chart by, of what is seen."""


class Plots(Vertical):
    """The left half of a race: its public methods without arguments are what keys do to the chart.

    Args:
        symbols: the signs of this terminal.
        runs: (label, directory), the reference first.
        log_scale: whether the loss stands on a logarithmic axis.
        id: the widget's id.
    """

    status: var[RaceStatus | None] = var(None, init=False)
    step: var[int | None] = var(None, init=False)
    view: var[View] = var(View(), init=False)

    class Read(Message):
        """A thread has read what a view needs: the metric of each run, and its seconds."""

        def __init__(self, view: View, values: Sequence[Series], seconds: Sequence[Series]) -> None:
            super().__init__()
            self.view, self.values, self.seconds = view, tuple(values), tuple(seconds)

    class Saved(Message):
        """A thread has written files."""

        def __init__(self, files: Sequence[Path]) -> None:
            super().__init__()
            self.files = tuple(files)

    class Named(Message):
        """A thread has read which metrics there are."""

        def __init__(self, names: Sequence[str]) -> None:
            super().__init__()
            self.names = tuple(names)

    def __init__(
        self, symbols: Symbols, runs: Sequence[tuple[str, RunDirectory]], log_scale: bool, *, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._symbols, self._labels = symbols, [label for label, _ in runs]
        self._log_scale = log_scale
        self.chart = LossChart(symbols, log_scale, id="chart")
        self.strip = DivergenceStrip(symbols, id="strip")
        self._paths = [run.trace_path for _, run in runs]
        self._reader = MetricReader(self._paths)
        self._timeline, self._pair = Timeline(), 0
        self._read = Plots.Read(View(), (), ())
        self._reading = self._wanted = False

    def compose(self) -> ComposeResult:
        yield ChartTitle(self._symbols, self.chart, id="chart-title").data_bind(Plots.status, Plots.step, Plots.view)
        yield self.chart.data_bind(Plots.step)
        yield self.strip.data_bind(Plots.step)

    def on_mount(self) -> None:
        self.watch(self.chart, "part", self._follow_zoom, init=False)

    def show(self, timeline: Timeline, pair: int) -> None:
        """Show runs as they are by now; mark and strip are of the run `pair` against the reference."""
        self._timeline, self._pair = timeline, pair
        self.strip.show(timeline, pair)
        self._draw()
        if self._needs_reading:
            self._look()

    @property
    def _needs_reading(self) -> bool:
        return self.view.metric != LOSS or self.view.clock

    def _draw(self) -> None:
        pairs, read = self._timeline.pairs, self._read
        same = read.view.metric == self.view.metric
        first = pairs[self._pair].first if pairs else None
        view = self.view if read.seconds else replace(self.view, clock=False)
        self.chart.show(curves(self._timeline, first, view, read.values if same else (), read.seconds))
        self.query_one(ChartTitle).write()

    def _look(self) -> None:
        """Read what the view needs in a thread; once more where the view changed, or the runs grew, meanwhile."""
        if self._reading:
            self._wanted = True
            return
        self._reading, self._wanted = True, False
        self.screen.run_worker(partial(self._read_view, self.view), thread=True, exit_on_error=False)

    def _read_view(self, view: View) -> None:
        values: tuple[Series, ...] = ()
        seconds: tuple[Series, ...] = ()
        try:
            values = self._reader.read(view.metric) if view.metric != LOSS else ()
            seconds = self._reader.seconds() if view.clock else ()
        finally:
            self.post_message(Plots.Read(view, values, seconds))

    def on_plots_read(self, event: "Plots.Read") -> None:
        event.stop()
        self._reading, self._read = False, event
        self._draw()
        if self._wanted:
            self._look()

    def watch_view(self, before: View, view: View) -> None:
        if (before.metric, before.apart) != (view.metric, view.apart):
            self.chart.log_scale = self._log_scale if view.apart or view.metric in (LOSS, *NORMS) else False
        self._draw()
        if self._needs_reading:
            self._look()

    def _follow_zoom(self, part: tuple[float, float] | None) -> None:
        self.strip.part = None if part is None else self.chart.curves.steps_between(*part)

    def why_not(self, name: str) -> str | None:
        """Return why one of these methods does nothing now."""
        if name in ("pan_left", "pan_right") and not self.chart.zoomed:
            return "the whole run is on the chart: zoom in first (+)"
        if name == "apart" and len(self._labels) < 2:
            return "one run alone has nothing to be apart from"
        return None

    def log_scale(self) -> None:
        self.chart.log_scale = not self.chart.log_scale
        if self.view.metric == LOSS:
            self._log_scale = self.chart.log_scale
            remember("log_scale", self._log_scale)

    def zoom_in(self) -> None:
        self.chart.zoom(ZOOM)

    def zoom_out(self) -> None:
        self.chart.zoom(1 / ZOOM)

    def zoom_all(self) -> None:
        self.chart.part = None

    def pan_left(self) -> None:
        self.chart.pan(-PAN)

    def pan_right(self) -> None:
        self.chart.pan(PAN)

    def apart(self) -> None:
        self.view = replace(self.view, apart=not self.view.apart)

    def clock(self) -> None:
        self.view = replace(self.view, clock=not self.view.clock)

    def smooth(self) -> None:
        window = WINDOWS[(WINDOWS.index(self.view.window) + 1) % len(WINDOWS)]
        self.view = replace(self.view, window=window)
        self.notify(f"each value is the mean of {whole(window)} records" if window else "every record as it is", timeout=3)

    def save(self) -> None:
        status = self.status
        if status is None:
            return
        first, last = self.chart.curves.steps_between(*self.chart.part) if self.chart.part else (-math.inf, math.inf)
        from reprotui.report.data import Numbers, chart_svg, csv_lines, free_name, metric_names, write_parts

        numbers = Numbers(tuple(self._labels), tuple(self._paths), first, last)
        name, view, log = status.name, self.view, self.chart.log_scale

        def write() -> None:
            chart = write_parts(free_name(Path(), f"{name}-{view.metric}", ".svg"), [chart_svg(numbers, view, log)])
            table = write_parts(free_name(Path(), name, ".csv"), csv_lines(numbers, metric_names(numbers)))
            self.post_message(Plots.Saved((chart, table)))

        self.screen.run_worker(write, thread=True, exit_on_error=False)

    def on_plots_saved(self, event: "Plots.Saved") -> None:
        event.stop()
        what = "steps that are seen" if self.chart.zoomed else "all steps"
        names = " and ".join(plain(str(file), self._symbols) for file in event.files)
        self.notify(f"{names} were written here: {what}", timeout=6, markup=False)

    def metric(self) -> None:
        self.screen.run_worker(lambda: self.post_message(Plots.Named(MetricReader(self._paths).names())), thread=True)

    def on_plots_named(self, event: "Plots.Named") -> None:
        from reprotui.tui.screens.metric import MetricScreen

        event.stop()

        def chosen(name: str | None) -> None:
            if name is not None:
                self.view = replace(self.view, metric=name)

        self.app.push_screen(MetricScreen(event.names, self.view.metric, self._symbols), chosen)
