"""What a person can do on Home: open, mark, filter, delete, begin something new."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.widgets import Input

from reprotui.tui.home_data import delete_all, start_first
from reprotui.tui.listing_watch import ListingWatch
from reprotui.tui.screens.starting import StartingScreen
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.entries import EntryRows
from reprotui.tui.widgets.presets import PresetRows
from reprotui.tui.widgets.rows import Rows

if TYPE_CHECKING:  # what lists needs numpy: threads import it after the first frame
    from reprotui.race.entries import Entry

RUNS, PRESETS, SAMPLES = "runs", "presets", "samples"
TABS = {RUNS: "runs", PRESETS: "ready-made races", SAMPLES: "sample runs"}
MOST_RUNS = 8
DELETE = "delete"


class HomeActions(StartingScreen):
    """The actions of `home.*`; `HomeScreen` lays out and shows."""

    ANSWERED: ClassVar[frozenset[str]] = StartingScreen.ANSWERED | {DELETE}

    def __init__(self, runs: Path, listing: ListingWatch) -> None:
        super().__init__()
        self.runs_directory = runs
        self.tab = RUNS
        self.entries: tuple[Entry, ...] = ()
        self.problem = ""
        self.marked: list[Path] = []
        self.samples: tuple[Entry, ...] | None = None
        self.listing = listing

    @property
    def rows(self) -> Rows:
        """Return the list in front."""
        return self.query_one(f"#{self.tab}", Rows)

    @property
    def filter(self) -> str:
        return self.query_one("#filter", Input).value.strip()

    def show_all(self) -> None:
        """Show lists, tabs and detail again."""
        raise NotImplementedError

    def why_not(self, action: str) -> str | None:
        if action in ("home.first", "home.open") and self.starting:
            return f"{self.starting} is being started"
        current = self.current
        if action == "home.open":
            if self.tab == PRESETS or self.chosen():
                problem = next((entry.problem for entry in self.chosen() if entry.problem), None)
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
        chosen = self.chosen()
        if not chosen:
            return "there is nothing to delete"
        running = next((entry.name for entry in chosen if entry.alive), None)
        return running and f"{running} is alive: open it and stop it first"

    @property
    def current(self) -> Entry | None:
        rows = self.rows
        return rows.current if isinstance(rows, EntryRows) and rows.count else None

    def chosen(self) -> list[Entry]:
        """Return the marked entries in the order of their marks, else the one under the cursor."""
        if self.tab == PRESETS:
            return []
        known = {entry.path: entry for entry in (*self.entries, *(self.samples or ()))}
        return [known[path] for path in self.marked] or [entry for entry in [self.current] if entry]

    def do_open(self) -> None:
        rows = self.rows
        if isinstance(rows, PresetRows):
            if rows.current:
                self.start_race(rows.current.name, partial(rows.current.start, self.runs_directory))
            return
        self.app.open_runs([entry.path for entry in self.chosen()])  # ty: ignore[missing-attribute]

    def do_mark(self) -> None:
        entry = self.current
        if entry is None:
            return
        if entry.path in self.marked:
            self.marked.remove(entry.path)
        elif sum(len(other.members) for other in (*self.chosen(), entry)) > MOST_RUNS and self.marked:
            self.notify(f"at most {MOST_RUNS} runs can be told apart on a screen", severity="warning", timeout=4)
            return
        else:
            self.marked.append(entry.path)
        for name in (RUNS, SAMPLES):
            self.query_one(f"#{name}", EntryRows).mark(self.marked)
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
        self.listing.look_now()

    def do_tab(self) -> None:
        names = list(TABS)
        self.action_tab(names[(names.index(self.tab) + 1) % len(names)])

    def action_tab(self, name: str) -> None:
        """Put a list in front."""
        self.tab = name
        self.show_all()
        self.rows.focus()

    def do_delete(self) -> None:
        from reprotui.race.delete import why_not_delete
        from reprotui.tui.screens.confirm import ConfirmScreen

        chosen = self.chosen()
        for entry in chosen:
            # The list may be older than the disk; what decides is asked once more when it is deleted.
            if reason := why_not_delete(self.runs_directory, entry.path):
                self.notify(f"{entry.name}: {reason}", severity="warning", timeout=6)
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
            self.run_worker(partial(delete_all, self.runs_directory, paths), group=DELETE, thread=True, exit_on_error=False)

    def go_back(self) -> bool:
        field = self.query_one("#filter", Input)
        if field.display:
            field.value = ""
            field.display = False
            self.rows.focus()
            self.show_all()
            return True
        if self.marked:
            self.marked = []
            self.show_all()
            return True
        return False
