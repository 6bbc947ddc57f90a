"""The search for the cause of a race's difference: the table of what was changed and what came of it, live."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from reprotui.compare.diagnosis import HEADINGS
from reprotui.errors import ReprotuiError, UntrustedError
from reprotui.run_directory import RunDirectory
from reprotui.tui.newest import Newest
from reprotui.tui.screens.base import ActionScreen, bindings
from reprotui.tui.symbols import plain

if TYPE_CHECKING:
    from reprotui.compare.diagnosis import Diagnosis, Row

LOOK_SECONDS = 1.0
"""How often a search of another process is looked at: a pair of runs takes longer."""
TEXT_WIDTH = 36
"""Columns of what was changed, at most; what came of a longer one stands below it."""
BEGIN = (
    "Nothing was searched yet. Enter runs the command as it is, in pairs, until it is known how often they differ; then pairs "
    "with one change each: what makes the runs identical is the cause. Leaving the screen ends the search; it goes on later."
)


class DiagnosisScreen(ActionScreen):
    """The diagnosis of one race.

    Args:
        runs: its runs.
    """

    NAME = "diagnosis"
    BINDINGS = bindings("diagnosis")
    AUTO_FOCUS = "#table"

    found: var[Diagnosis | None] = var(None, init=False)
    """What is known; None where nothing was searched."""

    def __init__(self, runs: Sequence[RunDirectory]) -> None:
        super().__init__()
        self.runs, self.race = runs, runs[0].path.parent
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._newest: Newest[Diagnosis | Exception] = Newest(self, self._take)

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="answer")
        yield Static(id="notes")
        with VerticalScroll(id="table"):
            yield Static(id="rows")
        yield self.key_bar()

    def on_mount(self) -> None:
        name = plain(f"  {self.symbols.dot}  {self.race.name}", self.symbols)
        self.query_one("#head", Static).update(Content.assemble(("diagnose", "bold"), name))
        self._look()
        self._show()
        self.set_interval(LOOK_SECONDS, self._look)

    def on_unmount(self) -> None:
        self._stopping.set()

    @property
    def searching(self) -> bool:
        """Say whether this screen searches."""
        return self._thread is not None and self._thread.is_alive()

    def why_not(self, action: str) -> str | None:
        if action == "diagnosis.start":
            if self.searching or (self.found is not None and self.found.alive):
                return "the search is on"
            if self.found is not None and self.found.over:
                return "the search is over: it has its answer"
            if len(self.runs) < 2 or not (self.race / "race.json").exists():
                return "the cause is searched of a race: these runs were not started as one"
            if any(run.path.parent != self.race for run in self.runs):
                return "these are runs of several races: open one of them"
        if action == "diagnosis.stop" and not self.searching:
            return "nothing is searched here"
        return None

    def do_start(self) -> None:
        """Search, or go on with a search that ended early."""
        self._search(trusted=False)

    def do_stop(self) -> None:
        """End the search with what is known; it can go on later."""
        self._stopping.set()

    def do_copy_value(self) -> None:
        told = [] if self.found is None else [self.found.headline, *self.found.lines()]
        self.dashboard.copy("\n".join(told or [BEGIN]), "diagnosis")

    def _search(self, trusted: bool) -> None:
        self._stopping.clear()
        # Not a daemon: the runs that it started are ended before the dashboard is.
        self._thread = threading.Thread(target=self._run, args=(trusted,), name="reprotui-diagnosis")
        self._thread.start()
        self._show()

    def _run(self, trusted: bool) -> None:
        from reprotui.race.diagnose import Asked, diagnose

        try:
            diagnose(self.race, Asked(trusted=trusted), self._newest.deliver, self._stopping.is_set)
        except (ReprotuiError, OSError) as error:
            self._newest.deliver(error)

    def _take(self, news: Diagnosis | Exception) -> None:
        if not self.is_mounted:  # the screen was left meanwhile
            return
        if isinstance(news, UntrustedError):
            self.ask_trust(news, lambda: self._search(trusted=True))
        elif isinstance(news, Exception):
            self.say_error(news)
        else:
            self.found = news

    def _look(self) -> None:
        """Look at what the race keeps, where somebody else may be searching."""
        from reprotui.compare.diagnosis import read_diagnosis

        if self.searching:
            return
        try:
            self.found = read_diagnosis(self.race)
        except ReprotuiError as error:
            self.query_one("#answer", Static).update(plain(str(error), self.symbols))
        self.refresh_keys()

    def watch_found(self) -> None:
        if self.is_mounted:
            self._show()

    def _show(self) -> None:
        found, symbols = self.found, self.symbols
        answer, rows = self.query_one("#answer", Static), self.query_one("#rows", Static)
        if found is None:
            answer.update(plain("the first pairs are being run …" if self.searching else BEGIN, symbols))
        else:
            colour = {"identical": "$equal", "proved": "$differs"}.get(found.word, "$unknown")
            answer.update(Content.styled(plain(found.headline, symbols), f"bold {colour}"))
            self.query_one("#notes", Static).update(plain("\n".join(found.lines()), symbols))
            table = found.rows()
            width = min(TEXT_WIDTH, max(len(row.text) for row in table))
            change, pairs, came_to = HEADINGS
            head = Content.styled(f"   {change:<{width}} {pairs:>6}  {came_to}", "$muted")
            rows.update(Content("\n").join([head, *(self._line(row, width) for row in table)]))
        self.refresh_keys()

    def _line(self, row: Row, width: int) -> Content:
        symbols = self.symbols
        sign, colour = (symbols.dot, "muted") if row.equal is None else symbols.judge(not row.equal)
        text = plain(row.text, symbols)
        gap = " " * (width - len(text)) if len(text) <= width else "\n" + " " * (width + 3)
        pairs = f" {plain(row.pairs, symbols):>6}  "
        return Content.assemble((f" {sign} ", f"bold ${colour}"), text, gap, pairs, (plain(row.outcome, symbols), f"${colour}"))
