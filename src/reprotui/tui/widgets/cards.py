"""The cards of all runs, a table from three on; what is asked of the runs: pause, go on, stop, now or at the first difference."""

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.reactive import var

from reprotui.race.lockstep import Leader
from reprotui.race.status import RaceStatus
from reprotui.run_directory import RunDirectory
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.card import RunCard
from reprotui.tui.widgets.rows import Rows
from reprotui.tui.widgets.run_table import RunTable


class Cards(Horizontal):
    """A card a run; one of them, or all, are meant by pause, one step and stop.

    Args:
        symbols: the signs of this terminal.
        runs: (label, directory) of each.
        leader: brings them to one step.
        stop: stop all runs at the first difference.
        id: the widget's id.
    """

    status: var[RaceStatus | None] = var(None, init=False)
    target: var[int | None] = var(None, init=False)
    """The run that is meant, None for all."""
    narrow: var[bool] = var(False, init=False)
    """Whether a card has one line."""
    pair: var[int] = var(0)
    """Which of the other runs is held against the first."""

    class Versus(Message):
        """Another run is to be held against the first."""

        def __init__(self, pair: int) -> None:
            super().__init__()
            self.pair = pair

    def __init__(
        self, symbols: Symbols, runs: Sequence[tuple[str, RunDirectory]], leader: Leader | None = None, stop: bool = False,
        *, id: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(id=id)
        self._symbols, self._runs = symbols, list(runs)
        self.leader = leader or Leader(self._runs, self.notify)
        self.stop_at_divergence = stop

    def compose(self) -> ComposeResult:
        if len(self._runs) > 2:
            table = RunTable(self._symbols, len(self._runs), id="runs")
            yield table.data_bind(Cards.status, Cards.target, Cards.pair)
            return
        for index in range(len(self._runs)):
            yield RunCard(self._symbols, index).data_bind(Cards.status, Cards.target, Cards.narrow)

    def watch_status(self, status: RaceStatus | None) -> None:
        if status and self.stop_at_divergence and status.alive and any(pair.first is not None for pair in status.timeline.pairs):
            self.stop_at_divergence = False
            self.leader.ask("stop", range(len(self._runs)))
            self.notify("first difference: stop was asked of all runs", timeout=4)

    def why_not(self, action: str, status: RaceStatus) -> str | None:
        """Return why an action does nothing now, as far as the runs decide that."""
        if action in ("pause", "advance", "stop", "hold", "stop_at_divergence", "target", "follow") and not status.alive:
            return "no run is alive: there is nothing to control or to follow"
        if action in ("pause", "advance", "stop") and not self._alive(status):
            run = status.runs[self.target or 0]
            return f"run {run.label} is {run.state}: nothing to control; t chooses another"
        if action == "advance" and not self._paused(status):
            return "one step goes from a paused run: pause it first"
        if action == "hold" and len(status.runs) < 2:
            return "one run alone has nothing to differ from"
        if action == "hold" and all(pair.first is not None for pair in status.timeline.pairs):
            return "the first difference is there already: d goes to it"
        return None

    def _alive(self, status: RaceStatus) -> list[int]:
        """Return which of the runs that are meant can go on."""
        meant = range(len(status.runs)) if self.target is None else [self.target]
        return [index for index in meant if status.runs[index].listens]

    def _paused(self, status: RaceStatus) -> list[int]:
        return [index for index in self._alive(status) if status.runs[index].state == "paused"]

    def pause(self, status: RaceStatus) -> None:
        """Pause the runs that are meant, all of them after the same step; let them go on where all are paused."""
        alive, paused = self._alive(status), self._paused(status)
        if alive == paused:
            self.leader.let_go()
            self.leader.ask("resume", alive)
        elif self.target is None:
            self.leader.pause(status)
        else:
            self.leader.let_go(status)
            self.leader.ask("pause", alive)

    def advance(self, status: RaceStatus) -> None:
        """Let all that are paused go on to the step after the slowest; or the one that is meant do one step."""
        if self.target is None:
            self.leader.advance(status)
        else:
            self.leader.ask("advance", self._paused(status))

    def stop(self, status: RaceStatus) -> None:
        """Let them finish their step and end."""
        meant = range(len(status.runs)) if self.target is None else [self.target]
        self.leader.ask("stop", [index for index in meant if status.runs[index].alive])
        self.notify("stopping: each run finishes its step and seals its trace", timeout=3)

    def hold(self, status: RaceStatus) -> None:
        """Let all runs go on side by side, and pause them at their first difference; or let them go on by themselves again."""
        if self.leader.to_difference:
            self.leader.let_go(status)
            self.notify("hold at the first difference: off", timeout=3)
        else:
            self.leader.lead(status)
            self.notify("side by side to the first difference, and held there", timeout=3)

    def stop_at(self, status: RaceStatus) -> None:
        """Stop all runs at the first difference, which may have been seen already; or leave them alone again."""
        self.stop_at_divergence = not self.stop_at_divergence
        self.notify("stop at the first difference: " + ("on" if self.stop_at_divergence else "off"), timeout=3)
        self.watch_status(status)

    def choose(self, target: int | None) -> None:
        """Mean one run, or all."""
        self.target = target
        whom = "all runs" if target is None else f"run {self._runs[target][0]}"
        self.notify(f"pause, one step and stop mean {whom}", timeout=2)

    def choose_next(self) -> None:
        """Mean the next run, and all behind the last."""
        following = 0 if self.target is None else self.target + 1
        self.choose(following if following < len(self._runs) else None)

    @on(Rows.Moved, "#runs")
    def _pointed(self, event: Rows.Moved) -> None:
        if event.by_hand and event.index:
            self.post_message(self.Versus(event.index - 1))

    @on(Rows.Chosen, "#runs")
    def _meant(self, event: Rows.Chosen) -> None:
        self.choose(None if self.target == event.index else event.index)

    @on(RunCard.Picked)
    def _picked(self, event: RunCard.Picked) -> None:
        self.choose(None if self.target == event.index else event.index)
