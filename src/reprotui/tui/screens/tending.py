"""What Home does to runs and races besides opening them: mark, sort, rename, note, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import work
from textual.reactive import var

from reprotui.settings import remember, remembered
from reprotui.tui.home_data import ORDERS
from reprotui.tui.screens.ask import AskScreen
from reprotui.tui.screens.deleting import DeletingScreen
from reprotui.tui.symbols import plain

if TYPE_CHECKING:
    from reprotui.race.entries import Entry

REMEMBERED = "home_order"
MOST_RUNS = 8
"""Runs that one comparison has at most; marks have no such end."""


class TendingScreen(DeletingScreen):
    """A screen with a list whose entries can be marked, sorted, renamed and noted down upon."""

    marked: var[tuple[Path, ...]] = var((), init=False)
    """What will be compared or deleted, in the order of the marks."""
    order: var[str] = var(ORDERS[0], init=False)
    """What the lists are sorted by; with a minus before it, the other way round."""

    @property
    def current(self) -> Entry | None:
        """Return the run or race under the cursor."""
        raise NotImplementedError

    def shown(self) -> tuple[Entry, ...]:
        """Return what the list in front shows."""
        raise NotImplementedError

    def recall_order(self) -> None:
        """Sort as it was sorted last."""
        kept = str(remembered().get(REMEMBERED) or "")
        if kept.removeprefix("-") in ORDERS:
            self.set_reactive(TendingScreen.order, kept)

    def do_sort(self, by: str) -> None:
        self.action_sort(ORDERS[(ORDERS.index(self.order.removeprefix("-")) + int(by)) % len(ORDERS)])

    def do_reverse(self) -> None:
        self.action_sort(self.order.removeprefix("-"))

    def action_sort(self, order: str) -> None:
        """Sort the lists; a second time the same way, the other way round."""
        self.order = f"-{order}" if order == self.order else order
        remember(REMEMBERED, self.order)

    def do_mark(self) -> None:
        if entry := self.current:
            known = entry.path in self.marked
            self.marked = tuple(path for path in self.marked if path != entry.path) if known else (*self.marked, entry.path)

    def do_mark_all(self) -> None:
        here = [entry.path for entry in self.shown()]
        others = tuple(path for path in self.marked if path not in here)
        self.marked = others if set(here) <= set(self.marked) else (*others, *here)

    def why_not_open(self) -> str | None:
        """Return why what is chosen cannot be opened as one comparison."""
        chosen = self.chosen()
        if problem := next((entry.problem for entry in chosen if entry.problem), None):
            return f"it cannot be read: {problem}"
        count = sum(max(1, len(entry.members)) for entry in chosen)
        if len(chosen) > 1 and count > MOST_RUNS:
            return f"{count} runs are marked, at most {MOST_RUNS} are compared at a time; esc takes the marks away"
        return None if chosen else "there is nothing to open"

    def why_not_tend(self, action: str, recorded: bool, own: bool) -> str | None:
        """Return why an action does nothing now.

        Args:
            action: of the table of actions.
            recorded: the list in front is one of recorded runs.
            own: and they lie in the runs directory.
        """
        if action in ("home.sort", "home.sort_back", "home.reverse", "home.mark_all") and not recorded:
            return "this list stands in its order"
        if action == "home.mark" and self.current is None:
            return "there is nothing to mark" if recorded else "only recorded runs can be marked for comparison"
        if action in ("home.rename", "home.note") and (not own or self.current is None):
            return f"there is nothing to {action[5:]}" if own else "only runs and races of the runs directory are yours to change"
        if action == "home.delete":
            if not own:
                return "only runs and races of the runs directory can be deleted"
            chosen = self.chosen()
            alive = next((entry.name for entry in chosen if entry.alive), None)
            return f"{alive} is alive: open it and stop it first" if alive else None if chosen else "there is nothing to delete"
        return None

    def do_rename(self) -> None:
        from reprotui.race.delete import why_not_delete
        from reprotui.race.rename import rename

        if (entry := self.current) is None:
            return
        if reason := why_not_delete(self.runs_directory, entry.path):
            self.notify(f"{entry.name}: {reason}", severity="warning", timeout=6)
            return

        def answered(name: str | None) -> None:
            if name and name != entry.name:
                self._change(lambda: f"renamed: {rename(self.runs_directory, entry.path, name).name}")

        told = f"The directory {entry.path} gets this name."
        self.app.push_screen(AskScreen("rename", plain(told, self.symbols), "new name", entry.name), answered)

    def do_note(self) -> None:
        from reprotui.race.notes import write_note

        if (entry := self.current) is None:
            return

        def write(text: str) -> str:
            write_note(entry.path, text)
            return "note written" if text else "note taken away"

        def answered(text: str | None) -> None:
            if text is not None and text != entry.note:
                self._change(lambda: write(text))

        told = f"A note at {entry.name}, for the list and for reprotui runs."
        self.app.push_screen(AskScreen("note", plain(told, self.symbols), "what is worth knowing", entry.note), answered)

    @work(exit_on_error=False)
    async def _change(self, call: Callable[[], Any]) -> None:
        """Change something on the disk in a thread, say what, and look again."""
        try:
            said = await asyncio.to_thread(call)
        except Exception as error:
            self.say_error(error)
        else:
            self.notify(said, timeout=4)
        self.deleted()
