"""A race of a lesson, live: verdict, runs, and the strip of all steps."""

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.reactive import var

from reprotui.compare.timeline import Timeline
from reprotui.race.monitor import Monitor
from reprotui.race.start import Processes
from reprotui.race.status import RaceStatus
from reprotui.run_directory import RunDirectory
from reprotui.tui.live import Watch
from reprotui.tui.newest import Newest
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.cards import Cards
from reprotui.tui.widgets.strip import DivergenceStrip
from reprotui.tui.widgets.verdict import VerdictBand


class LessonRun(Vertical):
    """What the runs of a lesson have come to.

    Args:
        symbols: the signs of this terminal.
        runs: (label, directory) of each.
        processes: their processes, by label.
        ended: called once with the status that has the last verdict.
    """

    DEFAULT_CSS = """
    LessonRun {
        height: auto;
        VerdictBand { max-height: 6; }
        Cards { height: auto; }
        RunCard { height: 1; padding: 0; }
        DivergenceStrip { height: 1; }
    }
    """
    status: var[RaceStatus | None] = var(None, init=False)
    timeline: var[Timeline] = var(Timeline, init=False)

    def __init__(
        self, symbols: Symbols, runs: Sequence[tuple[str, RunDirectory]], processes: Processes,
        ended: Callable[[RaceStatus], None],
    ) -> None:  # fmt: skip
        super().__init__()
        self._symbols, self._runs, self._ended = symbols, list(runs), ended
        self._watch = Watch(Monitor(runs, processes), Newest(self, self._take).deliver)

    def compose(self) -> ComposeResult:
        yield VerdictBand(self._symbols).data_bind(LessonRun.status)
        cards = Cards(self._symbols, self._runs).data_bind(LessonRun.status)
        cards.narrow = True
        yield cards
        yield DivergenceStrip(self._symbols)

    def on_mount(self) -> None:
        self._watch.start()

    def on_unmount(self) -> None:
        self._watch.stop()

    def _take(self, status: RaceStatus) -> None:
        if not self.is_mounted:
            return
        self.status = status
        self.query_one(DivergenceStrip).show(status.timeline, 0)
        if status.judged and not status.alive:
            self._ended(status)
