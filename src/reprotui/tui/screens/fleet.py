"""The fleet: every run and race of many directories, the worst first, and hosts, experiments or settings against them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.reactive import var
from textual.widgets import Static

from reprotui.tui.home_data import GROUPS, fleet_listing, matching
from reprotui.tui.listing_watch import Listed, ListingWatch
from reprotui.tui.newest import Newest
from reprotui.tui.screens.base import bindings
from reprotui.tui.screens.home import FLEET, LESSONS, RUNS, TABS, HomeScreen
from reprotui.tui.screens.listing import ListingScreen
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.filter_box import FilterBox
from reprotui.tui.widgets.fleet_rows import FleetRows, GroupMap
from reprotui.tui.widgets.rows import Rows
from reprotui.tui.widgets.tabs import Tabs

if TYPE_CHECKING:
    from reprotui.race.entries import Entry
    from reprotui.race.fleet import Group


class FleetScreen(ListingScreen):
    """What many directories hold.

    Args:
        directories: runs directories, races or runs.
        group, text: what is grouped by, and what is filtered for, at first.
    """

    NAME = "fleet"
    BINDINGS = bindings("fleet")
    CSS_PATH = "fleet.tcss"
    AUTO_FOCUS = "#fleet-rows"

    listed: var[Listed | None] = var(None, init=False)
    """What is there, None as long as nobody has looked."""
    by: var[str] = var(GROUPS[0], init=False)
    """What is grouped by."""
    chosen: var[str] = var("", init=False)
    """The group whose entries alone are listed, empty for all."""

    def __init__(self, directories: Sequence[Path], group: str = GROUPS[0], text: str = "") -> None:
        super().__init__()
        self.directories = tuple(directories)
        self.set_reactive(FleetScreen.by, group)
        self._text = text
        self._groups: list[Group] = []
        self.listing = ListingWatch(self.directories, partial(fleet_listing, directories), Newest(self, self._take).deliver)

    def compose(self) -> ComposeResult:
        yield Tabs(self.symbols, id="tabs")
        yield FilterBox(placeholder="name, host, experiment, state or verdict", id="filter", compact=True, select_on_focus=False)
        yield Static(id="counts")
        yield GroupMap(self.symbols, id="groups")
        yield FleetRows(self.symbols, id="fleet-rows")
        yield self.key_bar()

    def on_mount(self) -> None:
        if self._text:
            self.filter_box.value, self.filter_box.display = self._text, True
        self.show_all()
        self.call_after_refresh(self.listing.start)

    def _take(self, listed: Listed) -> None:
        self.listed = listed

    @property
    def rows(self) -> FleetRows:
        return self.query_one(FleetRows)

    @property
    def entries(self) -> Sequence[Entry]:
        """Return what the filter lets through, the chosen group or not."""
        return matching(self.listed.entries if self.listed else (), self.filter_box.value.strip())

    def show_all(self) -> None:
        """Show counts, groups and list again."""
        number = None if self.listed is None else len(self.listed.entries)
        place = str(self.directories[0]) if len(self.directories) == 1 else f"{len(self.directories)} directories"
        tabs = [*((name, text, None) for name, text in TABS.items()), (FLEET, "fleet", number)]
        self.query_one(Tabs).show(tabs, FLEET, place)
        if self.listed is None:
            self.query_one("#counts", Static).update("  reading …" if not self.symbols.ascii else "  reading ...")
        else:
            self._show_entries(self.listed)
        self.refresh_keys()

    watch_listed = watch_by = watch_chosen = show_all

    def _show_entries(self, listed: Listed) -> None:
        from reprotui.race import fleet

        entries = fleet.worst_first(self.entries)
        self._groups = fleet.grouped(entries, self.by)
        group = next((group for group in self._groups if group.name == self.chosen), None)
        shown = entries if group is None else group.entries
        counts = "  ".join(f"{number:,} {condition}" for condition, number in fleet.counted(shown).items())
        said = listed.problem or counts or ("nothing matches" if listed.entries else "nothing is there")
        self.query_one("#counts", Static).update(plain(f"  {f'{group.name}: ' if group else ''}{said}", self.symbols))
        told = fleet.standing_out(entries) if self.by == GROUPS[0] else ""
        self.query_one(GroupMap).show(self._groups, self.by, group.name if group else "", told)
        self.rows.show_fleet(shown, fleet.names_of(entries))

    @on(Rows.Moved)
    def _moved(self) -> None:
        self.refresh_keys()

    @on(Rows.Chosen)
    def _opened(self) -> None:
        self.action_do("fleet.open")

    def why_not(self, action: str) -> str | None:
        if action == "fleet.open":
            if self.rows.current is None:
                return "there is nothing to open"
            return f"it cannot be read: {self.rows.current.problem}" if self.rows.current.problem else None
        if action in ("fleet.next_group", "fleet.previous_group") and not self._groups:
            return "there are no groups"
        return None

    def do_open(self) -> None:
        if self.rows.current is not None:
            self.dashboard.open_runs([self.rows.current.path])

    def do_group(self) -> None:
        self.set_reactive(FleetScreen.chosen, "")
        self.by = GROUPS[(GROUPS.index(self.by) + 1) % len(GROUPS)]

    def do_turn(self, by: str) -> None:
        """Choose the next group, or the one before; all of them lie between the last and the first."""
        names = ["", *(group.name for group in self._groups)]
        place = names.index(self.chosen) if self.chosen in names else 0
        self.chosen = names[(place + int(by)) % len(names)]

    def action_group(self, index: int) -> None:
        """Choose a group that was clicked; once more takes all."""
        if index < len(self._groups):
            name = self._groups[index].name
            self.chosen = "" if name == self.chosen else name

    def do_leave(self, by: str) -> None:
        self.action_tab(RUNS if by == "1" else LESSONS)

    def action_tab(self, name: str) -> None:
        """Go to a list of Home, which lies below."""
        if name != FLEET:
            self.app.call_next(self._leave, name)  # not awaited: a tab that was clicked would wait for its own end

    async def _leave(self, name: str) -> None:
        await self.dismiss()
        if isinstance(self.app.screen, HomeScreen):
            self.app.screen.action_tab(name)

    def go_back(self) -> bool:
        if super().go_back():
            return True
        chosen, self.chosen = self.chosen, ""
        return bool(chosen)
