"""Delete runs and races from disk, after asking."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from reprotui.tui.home_data import delete_all
from reprotui.tui.screens.starting import StartingScreen
from reprotui.tui.symbols import plain

if TYPE_CHECKING:
    from reprotui.race.entries import Entry


LISTED = 200
"""Entries that the question names."""


class DeletingScreen(StartingScreen):
    """A screen whose chosen runs and races can be deleted."""

    def chosen(self) -> list[Entry]:
        """Return what would be deleted."""
        raise NotImplementedError

    def deleted(self) -> None:
        """Look at the disk again."""

    def do_delete(self) -> None:
        from reprotui.race.delete import why_not_delete
        from reprotui.tui.screens.confirm import ConfirmScreen

        chosen = self.chosen()
        for entry in chosen:
            # The list may be older than the disk; what decides is asked once more when it is deleted.
            if reason := why_not_delete(self.runs_directory, entry.path):
                self.notify(f"{entry.name}: {reason}", severity="warning", timeout=6)
                return
        what = f"{len(chosen)} entries" if len(chosen) > 1 else "this race" if chosen[0].race else "this run"
        sizes = [f"  ({len(entry.members)} runs)" if entry.race else "" for entry in chosen]
        names = [plain(f"{entry.path}{size}", self.symbols) for entry, size in zip(chosen, sizes, strict=True)]
        if len(names) > LISTED:
            names = [*names[:LISTED], f"and {len(names) - LISTED} more"]
        question, consequence = f"Delete {what} from disk?", "Traces, logs and checkpoints in it are gone for good."

        def answered(yes: bool | None) -> None:
            if yes:
                self._delete([entry.path for entry in chosen])

        self.app.push_screen(ConfirmScreen(question, names, consequence, "delete"), answered)

    @work(exit_on_error=False)
    async def _delete(self, paths: list[Path]) -> None:
        try:
            deleted = await asyncio.to_thread(delete_all, self.runs_directory, paths)
        except Exception as error:
            self.say_error(error)
        else:
            self.notify(f"deleted: {deleted}", timeout=4)
        self.deleted()
