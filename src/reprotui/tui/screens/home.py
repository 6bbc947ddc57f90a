"""Home: runs and races of the runs directory, ready-made races, sample runs. The first frame waits for nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message
from textual.widgets import Input, Static
from textual.worker import Worker, WorkerState

from reprotui.tui.home_data import delete_all, load_rest, matching, start_first
from reprotui.tui.listing_watch import ListingWatch
from reprotui.tui.screens.base import bindings
from reprotui.tui.screens.starting import StartingScreen
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.detail import describe_entry, describe_preset, invitation
from reprotui.tui.widgets.entries import EntryRows
from reprotui.tui.widgets.keybar import KeyBar
from reprotui.tui.widgets.presets import PresetRows
from reprotui.tui.widgets.rows import Rows
from reprotui.tui.widgets.tabs import Tabs

if TYPE_CHECKING:  # what lists and starts needs numpy and pydantic: threads import it after the first frame
    from reprotui.race.entries import Entry

RUNS, PRESETS, SAMPLES = "runs", "presets", "samples"
TABS = {RUNS: "runs", PRESETS: "ready-made races", SAMPLES: "sample runs"}
MOST_RUNS = 8
_DELETE = "delete"


class HomeScreen(StartingScreen):
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
        super().__init__()
        self.runs_directory = runs
        self.tab = RUNS
        self.entries: tuple[Entry, ...] = ()
        self.problem = ""
        self._marked: list[Path] = []
        self._samples: tuple[Entry, ...] | None = None
        self._listed = False
        self._news: tuple[tuple[Entry, ...], str] = (), ""
        self._told = False
        self._refused: tuple[bool, ...] = ()
        self._watch = ListingWatch(runs, self._deliver)

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
        self._show()
        # What follows imports numpy and pydantic: not before the first frame stands.
        self.call_after_refresh(self._watch.start)

    def on_unmount(self) -> None:
        self._watch.stop()

    @on(events.ScreenSuspend)
    def _rest(self) -> None:
        self._watch.pause()

    @on(events.ScreenResume)
    def _go_on(self) -> None:
        self._watch.resume()

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
        if self._samples is None:
            self.run_worker(load_rest, group="rest", thread=True, exit_on_error=False)
        paths = {entry.path for entry in (*self.entries, *(self._samples or ()))}
        self._marked = [path for path in self._marked if path in paths]
        self._show()

    @on(Worker.StateChanged)
    def _take_rest(self, event: Worker.StateChanged) -> None:
        if event.worker.group == "rest" and event.state == WorkerState.SUCCESS:
            assert event.worker.result is not None
            presets, self._samples = event.worker.result
            self.query_one(PresetRows).show(presets)
            self._show()
        elif event.worker.group == _DELETE and event.state == WorkerState.ERROR:
            self.say_error(event.worker.error)
            self._watch.look_now()
        elif event.worker.group == _DELETE and event.state == WorkerState.SUCCESS:
            self.notify(f"deleted: {event.worker.result}", timeout=4, markup=False)
            self._watch.look_now()

    @property
    def rows(self) -> Rows:
        """Return the list in front."""
        return self.query_one(f"#{self.tab}", Rows)

    @property
    def filter(self) -> str:
        return self.query_one("#filter", Input).value.strip()

    def _show(self) -> None:
        for name, found in ((RUNS, self.entries), (SAMPLES, self._samples or ())):
            self.query_one(f"#{name}", EntryRows).show(matching(found, self.filter if name == self.tab else ""), self._marked)
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
            SAMPLES: None if self._samples is None else len(self._samples),
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
        self._show()

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self) -> None:
        self.rows.focus()

    def on_key(self, event: events.Key) -> None:
        """Let the arrows move in the list while a filter is being typed."""
        if event.key in ("up", "down") and isinstance(self.focused, Input):
            event.stop()
            self.rows.action_move(-1 if event.key == "up" else 1)

    def why_not(self, action: str) -> str | None:
        if action in ("home.first", "home.open") and self.starting:
            return f"{self.starting} is being started"
        current = self._current
        if action == "home.open":
            if self.tab == PRESETS or self._chosen_entries():
                problem = next((entry.problem for entry in self._chosen_entries() if entry.problem), None)
                return problem and f"it cannot be read: {problem}"
            return "there is nothing to open"
        if action == "home.mark":
            if current is None:
                return "only recorded runs can be marked for comparison" if self.tab == PRESETS else "there is nothing to mark"
            return f"it cannot be read: {current.problem}" if current.problem else None
        if action == "home.filter" and self.tab == PRESETS:
            return "ready-made races are few: there is nothing to filter"
        if action == "home.delete":
            return self._why_not_delete()
        return None

    def _why_not_delete(self) -> str | None:
        if self.tab != RUNS:
            return "only runs and races of the runs directory can be deleted"
        chosen = self._chosen_entries()
        if not chosen:
            return "there is nothing to delete"
        running = next((entry.name for entry in chosen if entry.alive), None)
        return running and f"{running} is alive: open it and stop it first"

    @property
    def _current(self) -> Entry | None:
        rows = self.rows
        return rows.current if isinstance(rows, EntryRows) and rows.count else None

    def _chosen_entries(self) -> list[Entry]:
        """Return the marked entries in the order of their marks, else the one under the cursor."""
        if self.tab == PRESETS:
            return []
        known = {entry.path: entry for entry in (*self.entries, *(self._samples or ()))}
        return [known[path] for path in self._marked] or [entry for entry in [self._current] if entry]

    def do_open(self) -> None:
        rows = self.rows
        if isinstance(rows, PresetRows):
            if rows.current:
                self.start_race(rows.current.name, partial(rows.current.start, self.runs_directory))
            return
        self.app.open_runs([entry.path for entry in self._chosen_entries()])  # ty: ignore[missing-attribute]

    def do_mark(self) -> None:
        entry = self._current
        if entry is None:
            return
        if entry.path in self._marked:
            self._marked.remove(entry.path)
        elif sum(len(other.members) for other in (*self._chosen_entries(), entry)) > MOST_RUNS and self._marked:
            self.notify(f"at most {MOST_RUNS} runs can be told apart on a screen", severity="warning", timeout=4)
            return
        else:
            self._marked.append(entry.path)
        for name in (RUNS, SAMPLES):
            self.query_one(f"#{name}", EntryRows).mark(self._marked)
        self.rows.action_move(1)

    def do_new(self) -> None:
        from reprotui.tui.screens.new_race import NewRaceScreen

        self.app.push_screen(NewRaceScreen(self.runs_directory))

    def do_first(self) -> None:
        self.start_race("the default experiment against itself", partial(start_first, self.runs_directory))

    def do_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def do_refresh(self) -> None:
        self._watch.look_now()

    def do_tab(self) -> None:
        names = list(TABS)
        self.action_tab(names[(names.index(self.tab) + 1) % len(names)])

    def action_tab(self, name: str) -> None:
        """Put a list in front."""
        self.tab = name
        self._show()
        self.rows.focus()

    def do_delete(self) -> None:
        from reprotui.race.delete import why_not_delete
        from reprotui.tui.screens.confirm import ConfirmScreen

        chosen = self._chosen_entries()
        for entry in chosen:
            # The list may be older than the disk; what decides is asked once more when it is deleted.
            if reason := why_not_delete(self.runs_directory, entry.path):
                self.notify(f"{entry.name}: {reason}", severity="warning", timeout=6, markup=False)
                return
        names = [f"{entry.path}" + (f"  ({len(entry.members)} runs)" if entry.race else "") for entry in chosen]
        what = f"{len(chosen)} entries" if len(chosen) > 1 else "this race" if chosen[0].race else "this run"
        consequence = "Traces, logs and checkpoints in it are gone for good."
        self.app.push_screen(
            ConfirmScreen(f"Delete {what} from disk?", [plain(name, self.symbols) for name in names], consequence, "delete"),
            partial(self._delete, [entry.path for entry in chosen]),
        )

    def _delete(self, paths: Sequence[Path], answer: bool | None) -> None:
        if answer:
            self.run_worker(partial(delete_all, self.runs_directory, paths), group=_DELETE, thread=True, exit_on_error=False)

    def go_back(self) -> bool:
        field = self.query_one("#filter", Input)
        if field.display:
            field.value = ""
            field.display = False
            self.rows.focus()
            self._show()
            return True
        if self._marked:
            self._marked = []
            self._show()
            return True
        return False
