"""What Home and the fleet share: a list that a thread keeps up to date while the screen is in front, and that can be narrowed."""

from __future__ import annotations

from textual import events, getters, on
from textual.widgets import Input

from reprotui.tui.listing_watch import ListingWatch
from reprotui.tui.screens.base import ActionScreen
from reprotui.tui.widgets.filter_box import FilterBox
from reprotui.tui.widgets.rows import Rows


class ListingScreen(ActionScreen):
    """A screen with a list and a box to filter it; `listing` is started by the subclass."""

    listing: ListingWatch
    filter_box = getters.query_one(FilterBox)

    @property
    def rows(self) -> Rows:
        """Return the list in front."""
        raise NotImplementedError

    def show_all(self) -> None:
        """Show everything again, narrowed by what stands in the box."""
        raise NotImplementedError

    def on_unmount(self) -> None:
        self.listing.stop()

    @on(events.ScreenSuspend)
    def _rest(self) -> None:
        self.listing.pause()

    @on(events.ScreenResume)
    def _go_on(self) -> None:
        self.listing.resume()

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

    def do_filter(self) -> None:
        self.filter_box.open()

    def do_refresh(self) -> None:
        self.listing.look_now()

    def go_back(self) -> bool:
        """Take the filter away."""
        if not self.filter_box.display:
            return False
        self.filter_box.close()
        self.rows.focus()
        self.show_all()
        return True
