"""What a person can do on the race screen: control the runs, go to a step, zoom, choose a pane, export, copy."""

from collections.abc import Sequence

from textual.widget import Widget

from reprotui.errors import ReprotuiError
from reprotui.race.monitor import RaceStatus
from reprotui.run_directory import RunDirectory
from reprotui.settings import remember, remembered
from reprotui.tui.actions import PANES
from reprotui.tui.screens.base import ActionScreen
from reprotui.tui.widgets.chart import ZOOM, LossChart
from reprotui.tui.widgets.steps import StepTable

PAN = 0.25
"""What a key moves the chart by, of what is seen."""


class RaceActions(ActionScreen):
    """The actions of `race.*`; `RaceScreen` lays out and shows."""

    def __init__(self, runs: Sequence[tuple[str, RunDirectory]], at_divergence: str | None) -> None:
        super().__init__()
        self.runs = list(runs)
        self.status: RaceStatus | None = None
        self.pair = 0
        self.target: int | None = None
        self.zoomed: str | None = None
        self.at_divergence = at_divergence
        self.jumped = False

    def show_status(self, status: RaceStatus, before: RaceStatus | None) -> None:
        """Show what changed."""
        raise NotImplementedError

    def show_timeline(self) -> None:
        """Show chart, strip and table again."""
        raise NotImplementedError

    def show_titles(self) -> None:
        """Show the titles of the panes again."""
        raise NotImplementedError

    def react(self, status: RaceStatus) -> None:
        """Stop or pause all runs at the first difference, where that was asked for."""
        command = self.at_divergence
        if command and status.alive and any(pair.first is not None for pair in status.timeline.pairs):
            self.at_divergence = None
            self.send(command, range(len(self.runs)))
            self.notify(f"first difference: {command} was asked of all runs", timeout=4)

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
        if name in ("pause", "advance", "stop") and not self._targets():
            label, state = self.runs[self.target or 0][0], status.runs[self.target or 0].state
            return f"run {label} is {state}: nothing to control; t chooses another"
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
        wanted = range(len(self.status.runs)) if self.target is None else [self.target]
        return [index for index in wanted if self.status.runs[index].alive]

    def send(self, command: str, targets: Sequence[int]) -> None:
        for index in targets:
            label, run = self.runs[index]
            try:
                run.send(command)
            except (OSError, ReprotuiError) as error:
                self.notify(f"{label}: {run.commands_path} cannot be written: {error}", severity="error")

    def do_pause(self) -> None:
        targets = self._targets()
        assert self.status is not None
        paused = all(self.status.runs[index].state == "paused" for index in targets)
        self.send("resume" if paused else "pause", targets)

    def do_advance(self) -> None:
        assert self.status is not None
        self.send("advance", [index for index in self._targets() if self.status.runs[index].state == "paused"])

    def do_stop(self) -> None:
        self.send("stop", self._targets())
        self.notify("stopping: each run finishes its step and seals its trace", timeout=3)

    def do_target(self) -> None:
        count = len(self.runs)
        self.set_target(0 if self.target is None else None if self.target + 1 >= count else self.target + 1)

    def set_target(self, target: int | None) -> None:
        self.target = target
        if self.status:
            self.show_status(self.status, self.status)
        whom = "all runs" if target is None else f"run {self.runs[target][0]}"
        self.notify(f"pause, one step and stop mean {whom}", timeout=2)

    def do_stop_at_divergence(self) -> None:
        self.at_divergence = None if self.at_divergence else "stop"
        self.notify("stop at the first difference: " + ("on" if self.at_divergence else "off"), timeout=3)
        if self.status:
            self.react(self.status)

    def do_follow(self) -> None:
        table = self.query_one(StepTable)
        table.follow = not table.follow
        if table.follow:
            table.go_to(table.count - 1)
        self.show_titles()

    def do_versus(self) -> None:
        self.choose_pair((self.pair + 1) % (len(self.runs) - 1))
        self.jumped = False
        self.show_timeline()
        self.show_titles()

    def chosen_pair(self) -> list[tuple[str, RunDirectory]]:
        """Return A and the run that is held against it; A alone where there is no other."""
        return [self.runs[0], *self.runs[self.pair + 1 : self.pair + 2]]

    def choose_pair(self, pair: int) -> None:
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

    def do_checkpoints(self) -> None:
        from reprotui.tui.screens.checkpoints import CheckpointsScreen

        self.app.push_screen(CheckpointsScreen(self.runs))

    def do_export(self) -> None:
        from reprotui.tui.screens.export import ExportScreen

        assert self.status is not None
        self.app.push_screen(ExportScreen([run.path for _, run in self.runs], self.status.name))

    def do_copy(self) -> None:
        from shlex import join

        assert self.status is not None
        self.dashboard.copy(join(self.status.command), "command")

    def do_copy_value(self) -> None:
        if text := self.query_one(StepTable).values():
            self.dashboard.copy(text, "step")
        else:
            self.notify("no step is recorded yet", timeout=3)

    def do_log_scale(self) -> None:
        chart = self.query_one(LossChart)
        chart.set_log(not chart.log_scale)
        remember("log_scale", chart.log_scale)
        self.show_titles()

    def do_zoom_in(self) -> None:
        self.query_one(LossChart).zoom(ZOOM)
        self.show_titles()

    def do_zoom_out(self) -> None:
        self.query_one(LossChart).zoom(1 / ZOOM)
        self.show_titles()

    def do_zoom_all(self) -> None:
        self.query_one(LossChart).zoom_all()
        self.show_titles()

    def do_pan_left(self) -> None:
        self.query_one(LossChart).pan(-PAN)

    def do_pan_right(self) -> None:
        self.query_one(LossChart).pan(PAN)

    def do_pane(self, name: str) -> None:
        pane = self.query_one(f"#{name}")
        if not pane.display:
            self.notify("one run alone has no divergence strip", timeout=3)
            return
        if (
            not pane.region
            or not all(widget.display for widget in pane.ancestors_with_self if isinstance(widget, Widget))
            or self.zoomed
        ):
            self._zoom(name)
        pane.focus()

    def do_zoom(self) -> None:
        focused = self.focused.id if self.focused else None
        self._zoom(None if self.zoomed else focused if focused in PANES else "steps")
        remember("zoomed_pane", self.zoomed)

    def zoom_as_before(self) -> None:
        """Give the whole screen to the pane that had it when a race was looked at last."""
        name = remembered().get("zoomed_pane")
        if name in PANES and self.query_one(f"#{name}").display:
            self._zoom(name)
            self.query_one(f"#{name}").focus()

    def _zoom(self, name: str | None) -> None:
        self.zoomed = name
        for pane in PANES:
            self.set_class(pane == name, f"-zoom-{pane}")
        self.set_class(name is not None, "-zoom")

    def go_back(self) -> bool:
        if self.zoomed:
            self._zoom(None)
            remember("zoomed_pane", None)
            return True
        if self.query_one(LossChart).zoomed:
            self.do_zoom_all()
            return True
        return False
