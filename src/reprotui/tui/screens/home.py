"""Home: runs and races of the runs directory, ready-made races, sample runs. The first frame waits for nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message
from textual.widgets import Input, Static
from textual.worker import Worker, WorkerState

from reprotui.tui.home_data import load_rest, matching
from reprotui.tui.listing_watch import ListingWatch
from reprotui.tui.screens.base import bindings
from reprotui.tui.screens.home_actions import DELETE, PRESETS, RUNS, SAMPLES, TABS, HomeActions
from reprotui.tui.widgets.detail import describe_entry, describe_preset, invitation
from reprotui.tui.widgets.entries import EntryRows
from reprotui.tui.widgets.keybar import KeyBar
from reprotui.tui.widgets.presets import PresetRows
from reprotui.tui.widgets.rows import Rows
from reprotui.tui.widgets.tabs import Tabs

if TYPE_CHECKING:  # what lists and starts needs numpy and pydantic: threads import it after the first frame
    from reprotui.race.entries import Entry


class HomeScreen(HomeActions):
    """What is there, and how to begin.

    Args:
        runs: the runs directory; it may not exist yet.
    """

    NAME = "home"
    BINDINGS = bindings("home")
    CSS_PATH = "home.tcss"
    AUTO_FOCUS = "#runs"

    class Listed(Message):
        """The listing thread has news."""

    def __init__(self, runs: Path) -> None:
        super().__init__(runs, ListingWatch(runs, self._deliver))
        self._listed = False
        self._news: tuple[tuple[Entry, ...], str] = (), ""
        self._told = False
        self._refused: tuple[bool, ...] = ()

    def compose(self) -> ComposeResult:
        yield Tabs(self.symbols, id="tabs")
        yield Input(placeholder="name, experiment, state or verdict", id="filter", compact=True, select_on_focus=False)
        yield EntryRows(self.symbols, id=RUNS)
        yield PresetRows(self.symbols, id=PRESETS)
        yield EntryRows(self.symbols, id=SAMPLES)
        with Container(id="empty"):
            yield Static(id="invitation")
        yield Static(id="detail")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#filter").display = False
        self.show_all()
        # What follows imports numpy and pydantic: not before the first frame stands.
        self.call_after_refresh(self.listing.start)

    def on_unmount(self) -> None:
        self.listing.stop()

    @on(events.ScreenSuspend)
    def _rest(self) -> None:
        self.listing.pause()

    @on(events.ScreenResume)
    def _go_on(self) -> None:
        self.listing.resume()

    def _deliver(self, entries: tuple[Entry, ...], problem: str) -> None:
        """Take a listing from the thread; one message at most is under way."""
        self._news = entries, problem
        if not self._told:
            self._told = True
            self.post_message(self.Listed())

    @on(Listed)
    def _take(self) -> None:
        self._told = False
        self.entries, self.problem = self._news
        self._listed = True
        if self.samples is None:
            self.run_worker(load_rest, group="rest", thread=True, exit_on_error=False)
        paths = {entry.path for entry in (*self.entries, *(self.samples or ()))}
        self.marked = [path for path in self.marked if path in paths]
        self.show_all()

    @on(Worker.StateChanged)
    def _take_rest(self, event: Worker.StateChanged) -> None:
        if event.worker.group == "rest" and event.state == WorkerState.SUCCESS:
            assert event.worker.result is not None
            presets, self.samples = event.worker.result
            self.query_one(PresetRows).show(presets)
            self.show_all()
        elif event.worker.group == DELETE and event.state == WorkerState.ERROR:
            self.say_error(event.worker.error)
            self.listing.look_now()
        elif event.worker.group == DELETE and event.state == WorkerState.SUCCESS:
            self.notify(f"deleted: {event.worker.result}", timeout=4)
            self.listing.look_now()

    def show_all(self) -> None:
        for name, found in ((RUNS, self.entries), (SAMPLES, self.samples or ())):
            self.query_one(f"#{name}", EntryRows).show(matching(found, self.filter if name == self.tab else ""), self.marked)
        empty = self.tab == RUNS and not self.query_one(f"#{RUNS}", EntryRows).count and (self._listed or self._nothing_there())
        for name in TABS:
            self.query_one(f"#{name}").display = name == self.tab and not empty
        self.query_one("#empty").display = empty
        if empty:
            text = invitation(
                self.runs_directory, self.problem, self.filter if self.entries else "", self.symbols, self.size.width
            )
            self.query_one("#invitation", Static).update(text)
        self._show_tabs()
        self._show_detail()
        self.refresh_keys()

    def _nothing_there(self) -> bool:
        """Say whether the directory is empty: one look that costs nothing, so that the first frame is the right one."""
        try:
            with os.scandir(self.runs_directory) as found:
                return next(found, None) is None
        except OSError:
            return True

    def _show_tabs(self) -> None:
        counts = {
            RUNS: len(self.entries) if self._listed else None,
            PRESETS: self.query_one(PresetRows).count or None,
            SAMPLES: None if self.samples is None else len(self.samples),
        }
        alive = sum(entry.alive for entry in self.entries)
        place = f"{f'{alive} running  ' if alive else ''}{self.runs_directory}"
        self.query_one(Tabs).show([(name, text, counts[name]) for name, text in TABS.items()], self.tab, place)

    def _show_detail(self) -> None:
        rows = self.rows
        current = rows.current if isinstance(rows, EntryRows | PresetRows) else None
        detail = self.query_one("#detail", Static)
        detail.display = current is not None and bool(rows.count)
        if isinstance(rows, PresetRows) and rows.current:
            detail.update(describe_preset(rows.current, self.runs_directory, self.symbols), layout=False)
        elif isinstance(rows, EntryRows) and rows.current:
            detail.update(describe_entry(rows.current, self.symbols), layout=False)

    @on(Rows.Moved)
    def _moved(self) -> None:
        self._show_detail()
        # Drawing the footer takes a third of a key's time: only where it changes.
        refused = tuple(self.why_not(f"home.{name}") is None for name in ("open", "mark", "delete"))
        if refused != self._refused:
            self._refused = refused
            self.refresh_keys()

    @on(Rows.Chosen)
    def _chosen(self) -> None:
        self.action_do("home.open")

    @on(Input.Changed, "#filter")
    def _filter_changed(self) -> None:
        self.show_all()

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self) -> None:
        self.rows.focus()

    def on_key(self, event: events.Key) -> None:
        """Let the arrows move in the list while a filter is being typed."""
        if event.key in ("up", "down") and isinstance(self.focused, Input):
            event.stop()
            self.rows.action_move(-1 if event.key == "up" else 1)
