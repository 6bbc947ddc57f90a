"""The race: verdict, cards, loss chart, divergence strip, step table, events and logs on one screen."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from textual import events, getters, on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.reactive import var
from textual.widget import Widget

from reprotui.compare.timeline import PairLine, Timeline
from reprotui.race.lockstep import Leader
from reprotui.race.monitor import Monitor
from reprotui.race.status import RaceStatus
from reprotui.run_directory import RunDirectory
from reprotui.settings import remember, remembered
from reprotui.tui.actions import BY_ID, PANES
from reprotui.tui.checkpoints import Item
from reprotui.tui.live import Watch
from reprotui.tui.newest import Newest
from reprotui.tui.screens.asked import AskedScreen
from reprotui.tui.screens.base import ActionScreen, bindings
from reprotui.tui.screens.ranks import RanksScreen
from reprotui.tui.screens.reasons import why_not_of
from reprotui.tui.verified import Verified, verify_runs
from reprotui.tui.widgets.cards import Cards
from reprotui.tui.widgets.chart import LossChart
from reprotui.tui.widgets.news import News
from reprotui.tui.widgets.plots import Plots
from reprotui.tui.widgets.rows import Rows
from reprotui.tui.widgets.steps import StepTable
from reprotui.tui.widgets.strip import DivergenceStrip
from reprotui.tui.widgets.title import ChartTitle
from reprotui.tui.widgets.verdict import VerdictBand


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

    cards = getters.query_one(Cards)
    plots = getters.query_one(Plots)
    chart = getters.query_one(LossChart)
    strip = getters.query_one(DivergenceStrip)
    table = getters.query_one(StepTable)
    news = getters.query_one(News)

    status: var[RaceStatus | None] = var(None, init=False)
    """What the runs had come to when they were looked at last."""
    timeline: var[Timeline] = var(Timeline, init=False)
    pair: var[int] = var(0)
    """Which of the other runs is held against A."""
    step: var[int | None] = var(None, init=False)
    """The step of crosshair, strip and titles; the cursor of the table may be a moment ahead."""
    zoomed: var[str | None] = var(None, init=False)
    """The pane that has all the room."""

    def __init__(
        self, runs: Sequence[tuple[str, RunDirectory]], processes: Mapping[str, Any], at_divergence: str | None = None
    ) -> None:
        super().__init__()
        self.runs = list(runs)
        self.started = dict(processes)
        self.checked: dict[Path, Item] = {}
        """Checkpoints whose bytes were read by a person's wish, with what was found."""
        self._stop_at_divergence = at_divergence == "stop"
        self._pair_chosen = False
        self._leader = Leader(self.runs, Newest(self, self.notify).deliver, to_difference=at_divergence == "pause")
        self._watch = Watch(Monitor(runs, processes), Newest(self, self._take).deliver, self._leader.look)

    def compose(self) -> ComposeResult:
        symbols = self.symbols
        log_scale = bool(remembered().get("log_scale", self.dashboard.settings.log_scale))
        yield VerdictBand(symbols, id="verdict").data_bind(RaceScreen.status, RaceScreen.pair)
        cards = Cards(symbols, self.runs, self._leader, self._stop_at_divergence, id="cards")
        yield cards.data_bind(RaceScreen.status, RaceScreen.pair)
        with Horizontal(id="body"):
            yield Plots(symbols, self.runs, log_scale, id="left").data_bind(RaceScreen.status, RaceScreen.step)
            yield StepTable(symbols, id="steps").data_bind(RaceScreen.status)
        yield News(symbols, id="bottom").data_bind(RaceScreen.status)
        yield self.key_bar()

    def on_mount(self) -> None:
        self.strip.display = len(self.runs) > 1
        self.strip.border_title = "2 strip"
        self.table.focus()
        # The whole screen is given to the pane that had it when a race was looked at last.
        name = remembered().get("zoomed_pane")
        if name in PANES and self.query_one(f"#{name}").display:
            self.zoomed = name
            self.query_one(f"#{name}").focus()
        self.watch(self.table, "pointed", lambda step: setattr(self, "step", step), init=False)
        self._watch.start()

    def on_descendant_focus(self) -> None:
        self.query_one(ChartTitle).set_class(self.focused is self.chart, "-focused")

    def on_resize(self, event: events.Resize) -> None:
        self.cards.narrow = self.has_class("-narrow") or self.has_class("-short")

    def on_unmount(self) -> None:
        self._watch.stop()
        self._leader.let_go(self.status)  # nobody is left who would lead them: they go on
        for process in self.started.values():
            process.poll()  # takes leave of those that ended; the others go on

    def _take(self, status: RaceStatus) -> None:
        with suppress(NoMatches):  # news that arrive while the screen is being left
            self.status = status

    def watch_status(self, status: RaceStatus) -> None:
        telling = status.verdict
        self.timeline = status.timeline
        if not self._pair_chosen and telling and telling.kind == "diverged" and status.timeline.complete:
            self.pair = status.verdicts.index(telling)  # until a person chooses, the pair is the one that differs first
        self.refresh_keys()

    @property
    def line(self) -> PairLine | None:
        """Return the comparison of A with the run that is held against it, None where there is none."""
        return self.timeline.pairs[self.pair] if self.timeline.pairs else None

    def chosen_pair(self) -> list[tuple[str, RunDirectory]]:
        """Return A and the run that is held against it; A alone where there is no other."""
        return [self.runs[0], *self.runs[self.pair + 1 : self.pair + 2]]

    def watch_pair(self) -> None:
        chosen = self.chosen_pair()
        self.table.compare([run.trace_path for _, run in chosen], (chosen[0][0], chosen[-1][0]))
        if self.status:
            self.watch_timeline()

    def watch_timeline(self) -> None:
        assert self.status is not None
        self.plots.show(self.timeline, self.pair)
        chosen = [self.status.runs[0], *self.status.runs[self.pair + 1 : self.pair + 2]]
        # Of runs at unequal speed the slower one: behind it, there is nothing to compare yet.
        steps = [run.step for run in chosen if run.alive and run.step is not None]
        self.table.show(self.timeline, self.line, min(steps, default=None))

    def watch_zoomed(self, zoomed: str | None) -> None:
        for pane in PANES:
            self.set_class(pane == zoomed, f"-zoom-{pane}")
        self.set_class(zoomed is not None, "-zoom")

    @on(Rows.Chosen, "#steps")
    def _chosen(self) -> None:
        self.action_do("race.open_step")

    @on(LossChart.Picked)
    @on(DivergenceStrip.Picked)
    def _picked(self, event: LossChart.Picked | DivergenceStrip.Picked) -> None:
        self.go_to_step(event.step)

    def why_not(self, action: str) -> str | None:
        screen, _, name = action.partition(".")
        status = self.status
        if screen != "race":
            return None
        if status is None:
            return "the runs are being opened"
        if reason := why_not_of(status, name):
            return reason
        if name in ("open_step", "copy_value") and self.table.step is None:
            return "no step is recorded yet"
        if BY_ID[action].method == "chart" and (reason := self.plots.why_not(name)):
            return reason
        return self.cards.why_not(name, status)

    def do_ask(self, command: str) -> None:
        assert self.status is not None
        getattr(self.cards, command)(self.status)

    def do_target(self) -> None:
        self.cards.choose_next()

    def do_follow(self) -> None:
        self.table.follow = not self.table.follow
        if self.table.follow:
            self.table.go_to(self.table.count - 1)

    def do_versus(self) -> None:
        self._hold_against(Cards.Versus((self.pair + 1) % (len(self.runs) - 1)))

    @on(Cards.Versus)
    def _hold_against(self, event: Cards.Versus) -> None:
        self._pair_chosen, self.pair = True, event.pair

    def go_to_step(self, step: int) -> None:
        """Put the cursor on a step, for the palette."""
        self.table.follow = False
        self.table.go_to_step(step)

    def do_first_difference(self) -> None:
        if self.line is not None and self.line.first is not None:
            self.go_to_step(self.line.first)

    def do_difference(self, where: str) -> None:
        if (step := self.find_difference(self.line, self.table.step, where == "before")) is not None:
            self.go_to_step(step)

    def do_open_step(self) -> None:
        from reprotui.tui.screens.step import StepScreen

        if self.table.step is not None:
            self.app.push_screen(StepScreen(self, self.chosen_pair(), self.table.step))

    def do_checkpoints(self) -> None:
        from reprotui.tui.screens.checkpoints import CheckpointsScreen

        self.app.push_screen(CheckpointsScreen(self.runs, self.checked))

    def do_asked(self) -> None:
        self.app.push_screen(AskedScreen(self.runs, self.symbols))

    def do_chance(self) -> None:
        from reprotui.tui.screens.chance import ChanceScreen

        self.app.push_screen(ChanceScreen(self.chosen_pair(), self.symbols))

    def do_ranks(self) -> None:
        assert self.status is not None
        self.app.push_screen(RanksScreen(self.status.runs, self.symbols))

    def do_diagnose(self) -> None:
        self.dashboard.open_diagnosis([run for _, run in self.runs])

    def do_export(self) -> None:
        from reprotui.tui.screens.export import ExportScreen

        assert self.status is not None
        self.app.push_screen(ExportScreen([run.path for _, run in self.runs], self.status.name, self.checked))

    @work(thread=True, exclusive=True, group="verify", exit_on_error=False)
    def do_verify(self) -> None:
        found = verify_runs(self.runs)
        self.app.call_from_thread(self._show_verified, found)

    def _show_verified(self, found: Verified) -> None:
        self.table.verified = found.headline
        if found.problems:
            self.notify("\n".join(found.problems), severity="error", timeout=20, markup=False)

    def do_copy(self) -> None:
        assert self.status is not None
        self.dashboard.copy(shlex.join(self.status.command), "command")

    def do_copy_value(self) -> None:
        self.dashboard.copy(self.table.values(), "step")

    def do_chart(self, what: str) -> None:
        getattr(self.plots, what)()

    def do_filter(self) -> None:
        pane = self.focused.id if self.focused and self.focused.id in ("events", "log") else "events"
        if not self.news.region or (self.zoomed and self.zoomed not in ("events", "log")):
            self.zoomed = pane
        self.news.search(self.zoomed if self.zoomed in ("events", "log") else pane)

    def do_pane(self, name: str) -> None:
        pane = self.query_one(f"#{name}")
        if name == "strip" and len(self.runs) < 2:
            self.notify("one run alone has no divergence strip", timeout=3)
            return
        around = [widget for widget in pane.ancestors if isinstance(widget, Widget)]
        if self.zoomed or not pane.region or not all(widget.display for widget in around):
            self.zoomed = name
        # Behind a zoom it has no place yet, and what has none takes no focus.
        self.call_after_refresh(pane.focus)

    def do_zoom(self) -> None:
        focused = self.focused.id if self.focused else None
        self.zoomed = None if self.zoomed else focused if focused in PANES else "steps"
        remember("zoomed_pane", self.zoomed)

    def go_back(self) -> bool:
        if self.news.searching:
            self.news.end_search()
        elif self.zoomed:
            self.zoomed = None
            remember("zoomed_pane", None)
        elif self.chart.zoomed:
            self.chart.part = None
        else:
            return False
        return True
