"""The race: verdict, cards, loss chart, divergence strip, step table, events and logs on one screen."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from subprocess import Popen

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.message import Message

from reprotui.compare.timeline import RunLine, index_of
from reprotui.race.monitor import Monitor, RaceStatus
from reprotui.run_directory import RunDirectory
from reprotui.settings import remembered
from reprotui.tui.live import Watch
from reprotui.tui.plot import short
from reprotui.tui.screens.base import bindings
from reprotui.tui.screens.race_actions import RaceActions
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.card import RunCard
from reprotui.tui.widgets.chart import LossChart
from reprotui.tui.widgets.keybar import KeyBar
from reprotui.tui.widgets.lines import Lines
from reprotui.tui.widgets.rows import Cell, Rows
from reprotui.tui.widgets.steps import StepTable
from reprotui.tui.widgets.strip import DivergenceStrip
from reprotui.tui.widgets.title import PaneTitle
from reprotui.tui.widgets.verdict import VerdictBand

POINT_SECONDS = 0.03
"""How long crosshair and titles wait behind a cursor that is moved by hand: the row under it is drawn first."""


class RaceScreen(RaceActions):
    """Runs side by side.

    Args:
        runs: (label, directory), the reference first; one alone is shown without comparison.
        processes: workers that this process started, by label.
        at_divergence: `stop` or `pause` all runs at the first difference; None leaves them alone.
    """

    NAME = "race"
    BINDINGS = bindings("race")
    CSS_PATH = "race.tcss"

    class News(Message):
        """The watching thread has a newer status."""

    def __init__(
        self, runs: Sequence[tuple[str, RunDirectory]], processes: Mapping[str, Popen[bytes]], at_divergence: str | None = None
    ) -> None:
        super().__init__(runs, at_divergence)
        self.started = dict(processes)
        self._watch = Watch(Monitor(runs, processes), self._deliver)
        self._newest: RaceStatus | None = None
        self._pointing = False
        self._told = False
        self._steps_title = ""

    def compose(self) -> ComposeResult:
        symbols = self.symbols
        settings = self.dashboard.settings
        yield VerdictBand(symbols, id="verdict")
        with Horizontal(id="cards"):
            for index in range(len(self.runs)):
                yield RunCard(symbols, index)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield PaneTitle(symbols, id="chart-title")
                yield LossChart(symbols, bool(remembered().get("log_scale", settings.log_scale)), id="chart")
                yield DivergenceStrip(symbols, id="strip")
            yield StepTable(symbols, id="steps")
        with Horizontal(id="bottom"):
            yield Lines(symbols, id="events")
            yield Lines(symbols, id="log")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#strip").display = len(self.runs) > 1
        self.choose_pair(0)
        for name, title in (("strip", "2 strip"), ("events", "4 events"), ("log", "5 log")):
            self.query_one(f"#{name}").border_title = title
        self.query_one(StepTable).focus()
        self.zoom_as_before()
        self.show_titles()
        self._watch.start()

    def on_descendant_focus(self) -> None:
        self.query_one(PaneTitle).set_class(isinstance(self.focused, LossChart), "-focused")

    def on_unmount(self) -> None:
        self._watch.stop()
        for process in self.started.values():
            process.poll()  # takes leave of those that ended; the others go on

    def _deliver(self, status: RaceStatus) -> None:
        """Take a status from the watching thread; one message at most is under way."""
        self._newest = status
        if not self._told:
            self._told = True
            self.post_message(self.News())

    @on(News)
    def _take(self) -> None:
        self._told = False
        status, before = self._newest, self.status
        if status is None or status is before:
            return
        self.status = status
        with suppress(NoMatches):  # news that arrive while the screen is being left
            self.show_status(status, before)

    def show_status(self, status: RaceStatus, before: RaceStatus | None) -> None:
        narrow = self.has_class("-narrow") or self.has_class("-short")
        if before is None or status.verdicts != before.verdicts or status.judged != before.judged or status.runs != before.runs:
            self.query_one(VerdictBand).show(status)
        for index, (card, run) in enumerate(zip(self.query(RunCard), status.runs, strict=True)):
            card.show(run, self.target in (None, index) and status.alive, narrow)
        if before is None or status.timeline is not before.timeline:
            self.show_timeline()
        if before is None or [run.events for run in status.runs] != [run.events for run in before.runs]:
            self.query_one("#events", Lines).show(_events(status))
        if before is None or [run.log for run in status.runs] != [run.log for run in before.runs]:
            self.query_one("#log", Lines).show(_logs(status))
        self.react(status)
        self.show_titles()
        if before is None or status.alive != before.alive or (status.verdict is None) != (before.verdict is None):
            self.refresh_keys()

    def show_timeline(self) -> None:
        assert self.status is not None
        timeline = self.status.timeline
        pair = self.pair if timeline.pairs else None
        first = timeline.pairs[self.pair].first if timeline.pairs else None
        self.query_one(LossChart).show(timeline, first)
        if pair is not None:
            self.query_one(DivergenceStrip).show(timeline, pair)
        table = self.query_one(StepTable)
        chosen = [self.status.runs[0], *self.status.runs[self.pair + 1 : self.pair + 2]]
        # Of runs at unequal speed the slower one: behind it, there is nothing to compare yet.
        steps = [run.step for run in chosen if run.alive]
        table.show(timeline, pair, first, min((step for step in steps if step is not None), default=None))
        if first is not None and not self.jumped:
            # The one step that a person came for: shown once; after that the screen stays where it is put.
            self.jumped = True
            table.follow = False
            table.go_to_step(first, by_hand=False)
        # Now, and not when the table says that it moved: a frame less for every look at runs that are followed.
        self.query_one(LossChart).point_to(table.step)
        self.query_one(DivergenceStrip).point_to(table.step)

    def show_titles(self) -> None:
        chart, table = self.query_one(LossChart), self.query_one(StepTable)
        status, symbols = self.status, self.symbols
        values: list[str | tuple[str, str]] = []
        step = table.step
        if status is not None and step is not None:
            losses = [_loss_at(line, step) for line in status.timeline.runs]
            pairs = zip(status.runs, "abcdefgh", losses, strict=False)
            values = [f" {symbols.dot} step {step}"]
            values += [
                part
                for run, letter, loss in pairs
                for part in ("  ", (plain(f"{run.label} {short(loss, 6)}", symbols), f"$run-{letter}"))
            ]
        scale = "log" if chart.log_scale else "linear"
        zoomed = f" {symbols.dot} zoomed" if chart.zoomed else ""
        self.query_one(PaneTitle).show(Content.assemble(plain(f"1 loss, {scale}{zoomed}", symbols), *values))
        against = f" {status.runs[self.pair + 1].label} against {status.runs[0].label}" if status and len(status.runs) > 2 else ""
        reading = "" if status is None or status.timeline.complete else f" {symbols.dot} reading …"
        follow = f" {symbols.dot} following" if table.follow and status and status.alive else ""
        unseen = f" {symbols.dot} {table.unseen:,} new" if not table.follow and status and status.alive and table.unseen else ""
        title = plain(f"3 steps{against}{follow}{unseen}{reading}", symbols)
        if title != self._steps_title:
            self._steps_title = title
            table.border_title = Content(title)  # text alone would be read as markup

    # What widgets say

    @on(Rows.Moved, "#steps")
    def _moved(self, event: Rows.Moved) -> None:
        table = self.query_one(StepTable)
        if event.by_hand and table.follow and event.index < table.count - 1:
            table.follow = False
        if event.by_hand and not self._pointing:
            # A frame is drawn as one rectangle: with the crosshair in it, a moved cursor would draw the whole screen.
            self._pointing = True
            self.set_timer(POINT_SECONDS, self._point)
        elif not event.by_hand:
            self._point()

    def _point(self) -> None:
        """Put crosshair, strip and titles on the step of the cursor."""
        self._pointing = False
        step = self.query_one(StepTable).step
        self.query_one(LossChart).point_to(step)
        self.query_one(DivergenceStrip).point_to(step)
        self.show_titles()

    @on(Rows.Scrolled)
    def _scrolled(self, event: Rows.Scrolled) -> None:
        if isinstance(event.rows, StepTable):
            event.rows.follow = False
            self.show_titles()

    @on(Rows.Chosen, "#steps")
    def _chosen(self) -> None:
        self.action_do("race.open_step")

    @on(LossChart.Picked)
    @on(DivergenceStrip.Picked)
    def _picked(self, event: LossChart.Picked | DivergenceStrip.Picked) -> None:
        self.go_to_step(event.step)

    @on(RunCard.Picked)
    def _card(self, event: RunCard.Picked) -> None:
        self.set_target(None if self.target == event.index else event.index)

    def on_resize(self, event: events.Resize) -> None:
        if self.status:
            self.show_status(self.status, None)


def _loss_at(line: RunLine, step: int) -> float | None:
    index = index_of(line.steps, step)
    if step == 0 or index >= len(line.steps) or line.steps[index] != step:
        return None
    return float(line.losses[index])


def _events(status: RaceStatus) -> list[list[Cell]]:
    rows = sorted((event.time_ns, index, event) for index, run in enumerate(status.runs) for event in run.events)
    return [
        [
            Cell(time.strftime("%H:%M:%S ", time.localtime(at / 1e9)), "muted"),
            Cell(f"{status.runs[index].label} ", "abcdefgh"[index]),
            Cell(f"{event.kind:<9} ", "differs" if event.kind == "failed" else "strong"),
            Cell(event.text.replace("\n", " ")),
        ]
        for at, index, event in rows
    ]  # fmt: skip


def _logs(status: RaceStatus) -> list[list[Cell]]:
    return [
        [Cell(f"{run.label} ", "abcdefgh"[index]), Cell(line.expandtabs(4))]
        for index, run in enumerate(status.runs)
        for line in run.log
    ]
