"""Home: runs and races of the runs directory, ready-made races, sample runs, lessons. The first frame waits for nothing."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events, getters, on, work
from textual.app import ComposeResult
from textual.containers import Container
from textual.reactive import var
from textual.widgets import Static

from reprotui.settings import remembered
from reprotui.tui.home_data import ORDERS, arranged, is_empty, load_rest, runs_listing, start_first
from reprotui.tui.listing_watch import Listed, ListingWatch
from reprotui.tui.newest import Newest
from reprotui.tui.previews import Previews
from reprotui.tui.screens.base import bindings
from reprotui.tui.screens.listing import ListingScreen
from reprotui.tui.screens.starting import StartingScreen
from reprotui.tui.tending import Tending, keep_order, kept_order, toggled, why_not_tend
from reprotui.tui.widgets.detail import invitation
from reprotui.tui.widgets.detail_pane import DetailPane
from reprotui.tui.widgets.entries import EntryRows
from reprotui.tui.widgets.filter_box import FilterBox
from reprotui.tui.widgets.lesson_rows import LessonRows
from reprotui.tui.widgets.presets import PresetRows
from reprotui.tui.widgets.rows import Rows
from reprotui.tui.widgets.tabs import Tabs

if TYPE_CHECKING:  # what lists and starts needs numpy and pydantic: threads import it after the first frame
    from reprotui.lessons.catalog import Lesson
    from reprotui.race.entries import Entry

RUNS, PRESETS, SAMPLES, LESSONS, FLEET = "runs", "presets", "samples", "lessons", "fleet"
TABS = {RUNS: "runs", PRESETS: "ready-made races", SAMPLES: "sample runs", LESSONS: "lessons"}
"""The lists of this screen; the fleet stands among them, on a screen of its own."""


class HomeScreen(ListingScreen, StartingScreen):
    """What is there, and how to begin.

    Args:
        runs: the runs directory; it may not exist yet.
        tab: the list in front.
    """

    NAME = "home"
    BINDINGS = bindings("home")
    CSS_PATH = "home.tcss"
    AUTO_FOCUS = "#runs"

    tab: var[str] = var(RUNS, init=False)
    """The list in front."""
    listed: var[Listed | None] = var(None, init=False)
    """What is in the runs directory, None as long as nobody has looked."""
    samples: var[tuple[Entry, ...] | None] = var(None, init=False)
    marked: var[tuple[Path, ...]] = var((), init=False)
    """What will be compared or deleted, in the order of the marks."""
    order: var[str] = var(ORDERS[0], init=False)
    """What the lists are sorted by; with a minus before it, the other way round."""

    presets = getters.query_one(PresetRows)
    lessons = getters.query_one(LessonRows)

    def __init__(self, runs: Path, tab: str = RUNS) -> None:
        super().__init__()
        self.runs_directory = runs
        self.set_reactive(HomeScreen.tab, tab)
        self.listing = ListingWatch([runs], partial(runs_listing, runs), Newest(self, self._take).deliver)
        self.previews = Previews(self, self._show_detail)
        self.tending = Tending(self, runs, self.do_refresh, lambda path: self.query_one(f"#{RUNS}", EntryRows).seek(path))

    def compose(self) -> ComposeResult:
        yield Tabs(self.symbols, id="tabs")
        yield FilterBox(placeholder="name, experiment, state or verdict", id="filter", compact=True, select_on_focus=False)
        with Container(id="body"):
            with Container(id="lists"):
                yield EntryRows(self.symbols, id=RUNS)
                yield PresetRows(self.symbols, id=PRESETS)
                yield LessonRows(self.symbols, id=LESSONS)
                yield EntryRows(self.symbols, id=SAMPLES)
                with Container(id="empty"):
                    yield Static(id="invitation")
            yield DetailPane(self.symbols, self.runs_directory, self.previews, id="detail")
        yield self.key_bar()

    def on_mount(self) -> None:
        self.set_reactive(HomeScreen.order, kept_order())
        self.show_all()
        self.rows.focus()
        self.call_after_refresh(self.listing.start)  # it imports numpy and pydantic: not before the first frame stands

    @on(events.ScreenResume)
    def _show_progress(self) -> None:
        self._show_lessons(self.lessons.lessons)

    def _take(self, listed: Listed) -> None:
        there = {entry.path for entry in (*listed.entries, *(self.samples or ()))}
        self.marked = tuple(path for path in self.marked if path in there)
        self.listed = listed
        if self.samples is None:
            self._load_rest()

    @work(exclusive=True, group="rest", exit_on_error=False)
    async def _load_rest(self) -> None:
        presets, lessons, samples = await asyncio.to_thread(load_rest)
        self.presets.show(presets)
        self._show_lessons(lessons)
        self.samples = samples

    def _show_lessons(self, lessons: tuple[Lesson, ...]) -> None:
        if lessons:
            from reprotui.lessons.progress import read_progress

            self.lessons.show(lessons, read_progress(remembered()))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return what is in the runs directory, as far as somebody has looked."""
        return self.listed.entries if self.listed else ()

    @property
    def rows(self) -> Rows:
        """Return the list in front."""
        return self.query_one(f"#{self.tab}", Rows)

    @property
    def current(self) -> Entry | None:
        """Return the run or race under the cursor."""
        return self.rows.current if isinstance(self.rows, EntryRows) and self.rows.count else None

    def chosen(self) -> list[Entry]:
        """Return the marked entries in the order of their marks, else the one under the cursor."""
        if self.tab in (PRESETS, LESSONS):
            return []
        if not self.marked:
            return [self.current] if self.current else []
        known = {entry.path: entry for entry in (*self.entries, *(self.samples or ()))}
        return [known[path] for path in self.marked]

    def show_all(self) -> None:
        """Show lists, tabs and detail again."""
        text = self.filter_box.value.strip()
        for name, found in ((RUNS, self.entries), (SAMPLES, self.samples or ())):
            entries = arranged(found, text if name == self.tab else "", self.order)
            self.query_one(f"#{name}", EntryRows).show(entries, self.marked, self.order)
        empty = self.tab == RUNS and not self.rows.count and (self.listed is not None or is_empty(self.runs_directory))
        for name in TABS:
            self.query_one(f"#{name}").display = name == self.tab and not empty
        self.query_one("#empty").display = empty
        self.set_class(empty, "-nothing")
        if empty:
            problem, searched = self.listed.problem if self.listed else "", text if self.entries else ""
            says = invitation(self.runs_directory, problem, searched, self.symbols, self.size.width)
            self.query_one("#invitation", Static).update(says)
        self._show_tabs()
        self._show_detail()
        self.refresh_keys()

    watch_tab = watch_listed = watch_samples = watch_order = show_all

    def watch_marked(self) -> None:
        for name in (RUNS, SAMPLES):
            self.query_one(f"#{name}", EntryRows).mark(self.marked)
        self._show_tabs()
        self.refresh_keys()

    def _show_tabs(self) -> None:
        counts = {
            RUNS: len(self.entries) if self.listed else None,
            PRESETS: self.presets.count or None,
            LESSONS: self.lessons.count or None,
            SAMPLES: None if self.samples is None else len(self.samples),
        }
        alive = sum(entry.alive for entry in self.entries)
        marked = f"{len(self.marked)} marked  " if self.marked else ""
        place = f"{marked}{f'{alive} running  ' if alive else ''}{self.runs_directory}"
        tabs = [*((name, text, counts[name]) for name, text in TABS.items()), (FLEET, "fleet", None)]
        self.query_one(Tabs).show(tabs, self.tab, place)

    def _show_detail(self) -> None:
        self.query_one(DetailPane).show(self.rows)

    @on(Rows.Moved)
    def _moved(self) -> None:
        self._show_detail()
        self.refresh_keys()

    @on(Rows.Chosen)
    def _chosen(self) -> None:
        self.action_do("home.open")

    @on(EntryRows.Sorted)
    def _sorted(self, event: EntryRows.Sorted) -> None:
        self.sort(event.order)

    def why_not(self, action: str) -> str | None:
        if action in ("home.first", "home.open") and self.starting:
            return f"{self.starting} is being started"
        if action == "home.filter" and self.tab in (PRESETS, LESSONS):
            return f"{TABS[self.tab]} are few: there is nothing to filter"
        own = self.tab == RUNS
        return why_not_tend(action, self.current, self.chosen(), recorded=own or self.tab == SAMPLES, own=own)

    def do_open(self) -> None:
        rows = self.rows
        if isinstance(rows, LessonRows):
            if rows.current:
                from reprotui.tui.screens.lesson import LessonScreen

                self.app.push_screen(LessonScreen(self.runs_directory, rows.current))
        elif not isinstance(rows, PresetRows):
            self.dashboard.open_runs([entry.path for entry in self.chosen()])
        elif rows.current:
            self.start_race(rows.current.name, partial(rows.current.start, self.runs_directory))

    def do_mark(self) -> None:
        if self.current:
            self.marked = toggled(self.marked, [self.current.path])
            self.rows.action_move(1)

    def do_mark_all(self) -> None:
        if isinstance(self.rows, EntryRows):
            self.marked = toggled(self.marked, [entry.path for entry in self.rows.entries])

    def do_sort(self, by: str) -> None:
        self.sort(ORDERS[(ORDERS.index(self.order.removeprefix("-")) + int(by)) % len(ORDERS)])

    def sort(self, order: str) -> None:
        """Sort the lists; a second time the same way, the other way round."""
        self.order = f"-{order}" if order == self.order else order
        keep_order(self.order)

    def do_tend(self, what: str) -> None:
        self.tending.begin(what, self.current, self.chosen())

    def do_preview(self) -> None:
        self.toggle_class("-peek")  # more room where it is below the list, and none where it is beside it

    def do_new(self) -> None:
        from reprotui.tui.screens.new_race import NewRaceScreen

        self.app.push_screen(NewRaceScreen(self.runs_directory))

    def do_first(self) -> None:
        self.start_race("the default experiment against itself", partial(start_first, self.runs_directory))

    def do_turn(self, by: str) -> None:
        names = [*TABS, FLEET]
        self.action_tab(names[(names.index(self.tab) + int(by)) % len(names)])

    def do_lessons(self) -> None:
        self.action_tab(LESSONS)

    def do_fleet(self) -> None:
        self.action_tab(FLEET)

    def action_tab(self, name: str) -> None:
        """Put a list in front; the fleet has a screen of its own."""
        if name == FLEET:
            from reprotui.tui.screens.fleet import FleetScreen

            self.app.push_screen(FleetScreen([self.runs_directory]))
            return
        self.tab = name
        self.rows.focus()

    def go_back(self) -> bool:
        if super().go_back():
            return True
        marked, self.marked = self.marked, ()
        return bool(marked)
