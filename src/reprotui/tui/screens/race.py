"""The race: verdict, cards, loss chart, divergence strip, step table, events and logs on one screen."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from subprocess import Popen
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.message import Message
from textual.widget import Widget

from reprotui.errors import ReprotuiError
from reprotui.race.monitor import Monitor, RaceStatus
from reprotui.run_directory import RunDirectory
from reprotui.settings import remember, remembered
from reprotui.tui.actions import PANES
from reprotui.tui.live import Watch
from reprotui.tui.plot import short
from reprotui.tui.screens.base import ActionScreen, bindings
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.card import RunCard
from reprotui.tui.widgets.chart import ZOOM, LossChart
from reprotui.tui.widgets.keybar import KeyBar
from reprotui.tui.widgets.lines import Lines
from reprotui.tui.widgets.rows import Cell, Rows
from reprotui.tui.widgets.steps import StepTable
from reprotui.tui.widgets.strip import DivergenceStrip
from reprotui.tui.widgets.verdict import VerdictBand

PAN = 0.25
"""What a key moves the chart by, of what is seen."""


class RaceScreen(ActionScreen):
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
        super().__init__()
        self._runs = list(runs)
        self._watch = Watch(Monitor(runs, processes), self._deliver)
        self._newest: RaceStatus | None = None
        self._told = False
        self.status: RaceStatus | None = None
        self.pair = 0
        self._target: int | None = None
        self._zoomed: str | None = None
        self._at_divergence = at_divergence
        self._jumped = False

    def compose(self) -> ComposeResult:
        symbols = self.symbols
        settings = self.app.settings  # ty: ignore[unresolved-attribute]
        yield VerdictBand(symbols, id="verdict")
        with Horizontal(id="cards"):
            for index in range(len(self._runs)):
                yield RunCard(symbols, index)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield LossChart(symbols, bool(remembered().get("log_scale", settings.log_scale)), id="chart")
                yield DivergenceStrip(symbols, id="strip")
            yield StepTable(symbols, id="steps")
        with Horizontal(id="bottom"):
            yield Lines(symbols, id="events")
            yield Lines(symbols, id="log")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#strip").display = len(self._runs) > 1
        self._choose_pair(0)
        self.query_one(StepTable).focus()
        self._show_titles()
        self._watch.start()

    def on_unmount(self) -> None:
        self._watch.stop()

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
            self._show(status, before)

    def _show(self, status: RaceStatus, before: RaceStatus | None) -> None:
        narrow = self.has_class("-narrow") or self.has_class("-short")
        if before is None or status.verdicts != before.verdicts or status.judged != before.judged or status.runs != before.runs:
            self.query_one(VerdictBand).show(status)
        for index, (card, run) in enumerate(zip(self.query(RunCard), status.runs, strict=True)):
            card.show(run, self._target in (None, index) and status.alive, narrow)
        if before is None or status.timeline is not before.timeline:
            self._show_timeline()
        if before is None or [run.events for run in status.runs] != [run.events for run in before.runs]:
            self.query_one("#events", Lines).show(_events(status))
        if before is None or [run.log for run in status.runs] != [run.log for run in before.runs]:
            self.query_one("#log", Lines).show(_logs(status))
        self._react(status)
        self._show_titles()
        if before is None or status.alive != before.alive or (status.verdict is None) != (before.verdict is None):
            self.refresh_keys()

    def _show_timeline(self) -> None:
        assert self.status is not None
        timeline = self.status.timeline
        pair = self.pair if timeline.pairs else None
        first = timeline.pairs[self.pair].first if timeline.pairs else None
        self.query_one(LossChart).show(timeline, first)
        if pair is not None:
            self.query_one(DivergenceStrip).show(timeline, pair)
        table = self.query_one(StepTable)
        table.show(timeline, pair, first)
        if first is not None and not self._jumped:
            # The one step that a person came for: shown once; after that the screen stays where it is put.
            self._jumped = True
            table.follow = False
            table.go_to_step(first, by_hand=False)

    def _react(self, status: RaceStatus) -> None:
        """Stop or pause all runs at the first difference, where that was asked for."""
        command = self._at_divergence
        if command and status.alive and any(pair.first is not None for pair in status.timeline.pairs):
            self._at_divergence = None
            self._send(command, range(len(self._runs)))
            self.notify(f"first difference: {command} was asked of all runs", timeout=4)

    def _show_titles(self) -> None:
        chart, table = self.query_one(LossChart), self.query_one(StepTable)
        status, symbols = self.status, self.symbols
        values = ""
        step = table.step
        if status is not None and step is not None:
            losses = [_loss_at(line, step) for line in status.timeline.runs]
            pairs = zip(status.runs, "abcdefgh", losses, strict=False)
            values = "  ".join(f"[$run-{letter}]{run.label} {short(loss, 6)}[/]" for run, letter, loss in pairs)
            values = f" {symbols.dot} step {step}  {values}"
        scale = "log" if chart.log_scale else "linear"
        chart.border_title = plain(f"1 loss, {scale}{' ' + symbols.dot + ' zoomed' if chart.zoomed else ''}{values}", symbols)
        self.query_one("#strip").border_title = "2 strip"
        against = f" {status.runs[self.pair + 1].label} against {status.runs[0].label}" if status and len(status.runs) > 2 else ""
        reading = "" if status is None or status.timeline.complete else f" {symbols.dot} reading …"
        follow = f" {symbols.dot} following" if table.follow and status and status.alive else ""
        unseen = f" {symbols.dot} {table.unseen:,} new" if not table.follow and status and status.alive and table.unseen else ""
        table.border_title = plain(f"3 steps{against}{follow}{unseen}{reading}", symbols)
        self.query_one("#events").border_title = "4 events"
        self.query_one("#log").border_title = "5 log"

    # What a person does

    def why_not(self, action: str) -> str | None:
        status, name = self.status, action.partition(".")[2]
        if not action.startswith("race."):
            return None
        if status is None:
            return "the runs are being opened"
        if name in ("first_difference", "next_difference", "previous_difference"):
            if not status.timeline.pairs:
                return "one run alone has nothing to differ from"
            if all(pair.first is None for pair in status.timeline.pairs):
                return f"no difference: {status.headline}"
        if name in ("pause", "advance", "stop", "stop_at_divergence", "target", "follow") and not status.alive:
            return "no run is alive: there is nothing to control or to follow"
        if name == "advance" and not any(status.runs[index].state == "paused" for index in self._targets()):
            return "one step goes from a paused run: pause it first"
        if name == "versus" and len(status.runs) < 3:
            return "there are two runs at most: nothing else to hold against A"
        if name == "export" and len(status.runs) < 2:
            return "a report compares runs: open two, or a race"
        if name in ("pan_left", "pan_right") and not self.query_one(LossChart).zoomed:
            return "the whole run is on the chart: zoom in first (+)"
        return None

    def _targets(self) -> list[int]:
        assert self.status is not None
        wanted = range(len(self.status.runs)) if self._target is None else [self._target]
        return [index for index in wanted if self.status.runs[index].alive]

    def _send(self, command: str, targets: Sequence[int]) -> None:
        for index in targets:
            label, run = self._runs[index]
            try:
                run.send(command)
            except (OSError, ReprotuiError) as error:
                self.notify(f"{label}: {run.commands_path} cannot be written: {error}", severity="error", markup=False)

    def do_pause(self) -> None:
        targets = self._targets()
        assert self.status is not None
        paused = all(self.status.runs[index].state == "paused" for index in targets)
        self._send("resume" if paused else "pause", targets)

    def do_advance(self) -> None:
        assert self.status is not None
        self._send("advance", [index for index in self._targets() if self.status.runs[index].state == "paused"])

    def do_stop(self) -> None:
        self._send("stop", self._targets())
        self.notify("stopping: each run finishes its step and seals its trace", timeout=3)

    def do_target(self) -> None:
        count = len(self._runs)
        self._set_target(0 if self._target is None else None if self._target + 1 >= count else self._target + 1)

    def _set_target(self, target: int | None) -> None:
        self._target = target
        if self.status:
            self._show(self.status, self.status)
        whom = "all runs" if target is None else f"run {self._runs[target][0]}"
        self.notify(f"pause, one step and stop mean {whom}", timeout=2)

    def do_stop_at_divergence(self) -> None:
        self._at_divergence = None if self._at_divergence else "stop"
        self.notify("stop at the first difference: " + ("on" if self._at_divergence else "off"), timeout=3)
        if self.status:
            self._react(self.status)

    def do_follow(self) -> None:
        table = self.query_one(StepTable)
        table.follow = not table.follow
        if table.follow:
            table.go_to(table.count - 1)
        self._show_titles()

    def do_versus(self) -> None:
        self._choose_pair((self.pair + 1) % (len(self._runs) - 1))
        self._jumped = False
        self._show_timeline()
        self._show_titles()

    def chosen_pair(self) -> list[tuple[str, RunDirectory]]:
        """Return A and the run that is held against it; A alone where there is no other."""
        return [self._runs[0], *self._runs[self.pair + 1 : self.pair + 2]]

    def _choose_pair(self, pair: int) -> None:
        self.pair = pair
        chosen = self.chosen_pair()
        labels = (chosen[0][0], chosen[-1][0])
        self.query_one(StepTable).compare([run.trace_path for _, run in chosen], labels)

    def go_to_step(self, step: int) -> None:
        """Put the cursor on a step, for the palette."""
        table = self.query_one(StepTable)
        table.follow = False
        table.go_to_step(step)

    def do_first_difference(self) -> None:
        assert self.status is not None
        pair = self.status.timeline.pairs[self.pair]
        if pair.first is not None:
            self.go_to_step(pair.first)

    def do_next_difference(self) -> None:
        self._jump(backwards=False)

    def do_previous_difference(self) -> None:
        self._jump(backwards=True)

    def _jump(self, backwards: bool) -> None:
        assert self.status is not None
        pair, table = self.status.timeline.pairs[self.pair], self.query_one(StepTable)
        found = pair.next_difference(table.step if table.step is not None else -1, backwards)
        if found is None:
            self.notify(f"no difference {'before' if backwards else 'behind'} step {table.step}", timeout=3)
        else:
            self.go_to_step(found)

    def do_open_step(self) -> None:
        from reprotui.tui.screens.step import StepScreen

        step = self.query_one(StepTable).step
        if step is None:
            self.notify("no step is recorded yet", timeout=3)
            return
        assert self.status is not None
        self.app.push_screen(StepScreen(self, step))

    def do_export(self) -> None:
        from reprotui.tui.screens.export import ExportScreen

        assert self.status is not None
        self.app.push_screen(ExportScreen([run.path for _, run in self._runs], self.status.name))

    def do_copy(self) -> None:
        from shlex import join

        assert self.status is not None
        self.app.copy(join(self.status.command), "command")  # ty: ignore[unresolved-attribute]

    def do_copy_value(self) -> None:
        text = self.query_one(StepTable).values()
        self.app.copy(text, "step" if text else "nothing")  # ty: ignore[unresolved-attribute]

    def do_log_scale(self) -> None:
        chart = self.query_one(LossChart)
        chart.set_log(not chart.log_scale)
        remember("log_scale", chart.log_scale)
        self._show_titles()

    def do_zoom_in(self) -> None:
        self.query_one(LossChart).zoom(ZOOM)
        self._show_titles()

    def do_zoom_out(self) -> None:
        self.query_one(LossChart).zoom(1 / ZOOM)
        self._show_titles()

    def do_zoom_all(self) -> None:
        self.query_one(LossChart).zoom_all()
        self._show_titles()

    def do_pan_left(self) -> None:
        self.query_one(LossChart).pan(-PAN)

    def do_pan_right(self) -> None:
        self.query_one(LossChart).pan(PAN)

    def do_pane(self, name: str) -> None:
        pane = self.query_one(f"#{name}")
        if not pane.display:
            self.notify("one run alone has no divergence strip", timeout=3)
            return
        if not pane.region or not all(widget.display for widget in pane.ancestors_with_self if isinstance(widget, Widget)) or self._zoomed:
            self._zoom(name)
        pane.focus()

    def do_zoom(self) -> None:
        focused = self.focused.id if self.focused else None
        self._zoom(None if self._zoomed else focused if focused in PANES else "steps")

    def _zoom(self, name: str | None) -> None:
        self._zoomed = name
        for pane in PANES:
            self.set_class(pane == name, f"-zoom-{pane}")
        self.set_class(name is not None, "-zoom")

    def go_back(self) -> bool:
        if self._zoomed:
            self._zoom(None)
            return True
        if self.query_one(LossChart).zoomed:
            self.do_zoom_all()
            return True
        return False

    # What widgets say

    @on(Rows.Moved, "#steps")
    def _moved(self, event: Rows.Moved) -> None:
        table = self.query_one(StepTable)
        if event.by_hand and table.follow and event.index < table.count - 1:
            table.follow = False
        self.query_one(LossChart).point_to(table.step)
        self.query_one(DivergenceStrip).point_to(table.step)
        self._show_titles()

    @on(Rows.Scrolled)
    def _scrolled(self, event: Rows.Scrolled) -> None:
        if isinstance(event.rows, StepTable):
            event.rows.follow = False
            self._show_titles()

    @on(Rows.Chosen, "#steps")
    def _chosen(self) -> None:
        self.action_do("race.open_step")

    @on(LossChart.Picked)
    @on(DivergenceStrip.Picked)
    def _picked(self, event: LossChart.Picked | DivergenceStrip.Picked) -> None:
        self.go_to_step(event.step)

    @on(RunCard.Picked)
    def _card(self, event: RunCard.Picked) -> None:
        self._set_target(None if self._target == event.index else event.index)

    def on_resize(self) -> None:
        if self.status:
            self._show(self.status, None)


def _loss_at(line: "object", step: int) -> float | None:
    from reprotui.compare.timeline import index_of

    index = index_of(line.steps, step)  # ty: ignore[unresolved-attribute]
    if step == 0 or index >= len(line.steps) or line.steps[index] != step:  # ty: ignore[unresolved-attribute]
        return None
    return float(line.losses[index])  # ty: ignore[unresolved-attribute]


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
        [Cell(f"{run.label} ", "abcdefgh"[index]), Cell(line.expandtabs(4))] for index, run in enumerate(status.runs) for line in run.log
    ]
