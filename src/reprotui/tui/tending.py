"""What Home does to runs and races besides opening them: sort, mark, rename, note, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprotui.settings import remember, remembered
from reprotui.tui.home_data import ORDERS, delete_all
from reprotui.tui.symbols import plain

if TYPE_CHECKING:
    from reprotui.race.entries import Entry
    from reprotui.tui.screens.base import ActionScreen

REMEMBERED = "home_order"
MOST_RUNS = 8
"""Runs that one comparison has at most; marks have no such end."""
LISTED = 200
"""Entries that the question names."""


def kept_order() -> str:
    """Return how the lists were sorted last."""
    kept = str(remembered().get(REMEMBERED) or "")
    return kept if kept.removeprefix("-") in ORDERS else ORDERS[0]


def keep_order(order: str) -> None:
    """Sort the lists in this way the next time too."""
    remember(REMEMBERED, order)


def toggled(marked: tuple[Path, ...], paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the marks with all of these paths, or without them where all were marked."""
    others = tuple(path for path in marked if path not in paths)
    return others if set(paths) <= set(marked) else (*others, *paths)


def why_not_open(chosen: Sequence[Entry]) -> str | None:
    """Return why entries cannot be opened as one comparison."""
    if problem := next((entry.problem for entry in chosen if entry.problem), None):
        return f"it cannot be read: {problem}"
    count = sum(max(1, len(entry.members)) for entry in chosen)
    if len(chosen) > 1 and count > MOST_RUNS:
        return f"{count} runs are marked, at most {MOST_RUNS} are compared at a time; esc takes the marks away"
    return None if chosen else "there is nothing to open"


def why_not_tend(action: str, current: Entry | None, chosen: Sequence[Entry], *, recorded: bool, own: bool) -> str | None:
    """Return why an action on the list in front does nothing now.

    Args:
        action: of the table of actions.
        current: what is under the cursor.
        chosen: what is marked, or else under the cursor.
        recorded: the list is one of recorded runs.
        own: and they lie in the runs directory.
    """
    if action == "home.open":
        return why_not_open(chosen) if recorded else None
    if action in ("home.sort", "home.sort_back", "home.reverse", "home.mark_all") and not recorded:
        return "this list stands in its order"
    if action == "home.mark" and current is None:
        return "there is nothing to mark" if recorded else "only recorded runs can be marked for comparison"
    if action in ("home.rename", "home.note") and (not own or current is None):
        return f"there is nothing to {action[5:]}" if own else "only runs and races of the runs directory are yours to change"
    if action == "home.delete":
        if not own:
            return "only runs and races of the runs directory can be deleted"
        alive = next((entry.name for entry in chosen if entry.alive), None)
        return f"{alive} is alive: open it and stop it first" if alive else None if chosen else "there is nothing to delete"
    return None


class Tending:
    """Changes on the disk: asked for on a screen, made in a thread, and said.

    Args:
        screen: where it is asked and said.
        runs: the runs directory; nothing outside it is changed.
        look: called after each change, to list anew.
        seek: called with the new place of what was renamed, which stays under the cursor.
    """

    def __init__(self, screen: ActionScreen, runs: Path, look: Callable[[], None], seek: Callable[[Path], None]) -> None:
        self._screen, self._runs, self._look, self._seek = screen, runs, look, seek

    def begin(self, what: str, current: Entry | None, chosen: Sequence[Entry]) -> None:
        """Begin to change the entry under the cursor, or to delete what is chosen."""
        if what == "delete":
            self._delete(chosen)
        elif current is not None:
            (self._rename if what == "rename" else self._note)(current)

    def _rename(self, entry: Entry) -> None:
        """Ask for another name, and give it."""
        from reprotui.race.rename import rename

        if self._refused([entry]):
            return

        def answered(name: str | None) -> None:
            if name and name != entry.name:
                self._change(lambda: f"renamed: {rename(self._runs, entry.path, name).name}", entry.path.with_name(name))

        self._ask("rename", f"The directory {entry.path} gets this name.", "new name", entry.name, answered)

    def _note(self, entry: Entry) -> None:
        """Ask for a note at an entry, and write it."""
        from reprotui.race.notes import write_note

        def write(text: str) -> str:
            write_note(entry.path, text)
            return "note written" if text else "note taken away"

        def answered(text: str | None) -> None:
            if text is not None and text != entry.note:
                self._change(partial(write, text))

        told = f"A note at {entry.name}, for the list and for reprotui runs."
        self._ask("note", told, "what is worth knowing", entry.note, answered)

    def _delete(self, chosen: Sequence[Entry]) -> None:
        """Ask whether entries, at least one, shall be deleted from the disk, and do so after a yes."""
        from reprotui.tui.screens.confirm import ConfirmScreen

        if self._refused(chosen):
            return
        what = f"{len(chosen)} entries" if len(chosen) > 1 else "this race" if chosen[0].race else "this run"
        sizes = [f"  ({len(entry.members)} runs)" if entry.race else "" for entry in chosen]
        symbols = self._screen.symbols
        names = [plain(f"{entry.path}{size}", symbols) for entry, size in zip(chosen, sizes, strict=True)]
        if len(names) > LISTED:
            names = [*names[:LISTED], f"and {len(names) - LISTED} more"]
        question, consequence = f"Delete {what} from disk?", "Traces, logs and checkpoints in it are gone for good."

        def answered(yes: bool | None) -> None:
            if yes:
                paths = [entry.path for entry in chosen]
                self._change(lambda: f"deleted: {delete_all(self._runs, paths)}")

        self._screen.app.push_screen(ConfirmScreen(question, names, consequence, "delete"), answered)

    def _refused(self, chosen: Sequence[Entry]) -> bool:
        """Say what of it must stay where it is: the list may be older than the disk; the change itself asks once more."""
        from reprotui.race.delete import why_not_delete

        for entry in chosen:
            if reason := why_not_delete(self._runs, entry.path):
                self._screen.notify(f"{entry.name}: {reason}", severity="warning", timeout=6)
                return True
        return False

    def _ask(self, title: str, told: str, placeholder: str, value: str, answered: Callable[[str | None], None]) -> None:
        from reprotui.tui.screens.ask import AskScreen

        self._screen.app.push_screen(AskScreen(title, plain(told, self._screen.symbols), placeholder, value), answered)

    def _change(self, call: Callable[[], Any], then: Path | None = None) -> None:
        """Change something on the disk in a thread, say what, and look again, with the cursor on `then`."""

        async def change() -> None:
            try:
                said = await asyncio.to_thread(call)
            except Exception as error:
                self._screen.say_error(error)
            else:
                self._screen.notify(said, timeout=4)
                if then is not None:
                    self._seek(then)
            self._look()

        self._screen.run_worker(change(), exit_on_error=False)
