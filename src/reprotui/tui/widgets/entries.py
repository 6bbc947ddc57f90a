"""The list of races and runs: one line each, with as many columns as the terminal has room for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events
from textual.message import Message

from reprotui.tui.symbols import Symbols
from reprotui.tui.text import age, fit, loss, progress
from reprotui.tui.widgets.rows import Cell, Rows

if TYPE_CHECKING:  # reading traces needs numpy, which the first frame does not wait for
    from reprotui.race.entries import Entry, Outcome

LOSS, NORMAL, WIDE = 82, 98, 158
"""Widths from which A's loss, then the experiment and steps of their own, then both losses have room."""
VERDICT = 26
"""Cells that a verdict keeps beside a long name: it says at which step runs differ."""
STATES = {"running": "strong", "finished": "muted", "created": "strong", "stopped": "unknown", "elsewhere": "unknown"}
"""Colours of states; every other state is a failure."""


def sign_of(outcome: Outcome | None, symbols: Symbols) -> tuple[str, str]:
    """Return sign and colour of an outcome: of one that is equal so far, too; equal and not finite is no good sign."""
    if outcome is None:
        return "", "muted"
    equal = not outcome.broken and (outcome.kind == "identical" or outcome.headline.startswith("IDENTICAL"))
    return symbols.judge(True if outcome.torn or outcome.kind == "diverged" else False if equal else None)


class EntryRows(Rows):
    """Races and runs, newest first; marked ones carry the letters that they will have in the comparison."""

    class Sorted(Message):
        """The heading of a column was clicked."""

        def __init__(self, order: str) -> None:
            super().__init__()
            self.order = order

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self.entries: tuple[Entry, ...] = ()
        self.marks: dict[Path, str] = {}
        self._now = time.time()
        self._name_width, self._state_width = 8, 0
        self._order = ""
        self._sought: Path | None = None

    def show(self, entries: Sequence[Entry], marked: Sequence[Path], order: str = "") -> None:
        """Show entries, sorted by the column `order`; the cursor stays on the one where it was."""
        before, self._order = self.current.path if self.current else None, order
        self.entries = tuple(entries)
        self._now = time.time()
        self._name_width = max((len(entry.name) for entry in entries), default=8)
        self._state_width = max((len(self._state(entry)[0]) for entry in entries), default=0)
        self.mark(marked)
        place = next((index for index, entry in enumerate(entries) if entry.path == before), self.cursor)
        if len(entries) != self.count:
            self.count = len(entries)
        self.cursor = max(0, min(place, self.count - 1))
        if self._sought is not None:
            self.seek(self._sought)
        self.refresh()

    def seek(self, path: Path) -> None:
        """Put the cursor on an entry, at once or as soon as it is listed: a list made during a renaming may have neither name."""
        self._sought = path
        place = next((index for index, entry in enumerate(self.entries) if entry.path == path), None)
        if place is not None:
            self._sought = None
            self.go_to(place)

    def mark(self, marked: Sequence[Path]) -> None:
        """Give the marked entries the letters of their runs, in the order in which they were marked."""
        sizes = {entry.path: max(1, len(entry.members)) for entry in self.entries}
        self.marks, taken = {}, 0
        for path in marked:
            size = sizes.get(path, 1)
            letters = "ABCDEFGH"[taken : taken + size]
            named = letters if len(letters) < 3 else f"{letters[0]}-{letters[-1]}"
            self.marks[path] = named if taken + size <= 8 else self.symbols.marked
            taken += size
        self.refresh()

    @property
    def current(self) -> Entry | None:
        """Return the entry under the cursor."""
        return self.entries[self.cursor] if self.cursor < len(self.entries) else None

    def heading(self, width: int) -> list[Cell]:
        return [cell for _, cell in self._headings(width)]

    def _headings(self, width: int) -> list[tuple[str, Cell]]:
        """Return the heading of each column, with what a list is sorted by there."""
        name, verdict = self._widths(width)
        wide = width >= NORMAL
        columns = [("", "", 5, False), ("name", "name", name, False)]
        columns += [("experiment", "  experiment", 16, False)] if wide else []
        columns.append(("state", " state", 14 if wide else self._short_state, False))
        columns += [("steps", "steps", 12, True)] if wide else []
        columns += [("loss", "loss A", 11, True)] if width >= LOSS else []
        columns += [("loss", "loss B", 11, True)] if width >= WIDE else []
        columns += [("verdict", "    verdict", verdict, False), ("age", "age", 5, True)]
        order, backwards = self._order.removeprefix("-"), self._order.startswith("-")
        arrow = ("^" if self.symbols.ascii else "▴") if backwards else self.symbols.open
        return [
            (
                key,
                Cell(
                    fit(f"{text}{arrow}" if key and key == order and text != "loss B" else text, room, self.symbols, right=right)
                ),
            )
            for key, text, room, right in columns
        ]

    def on_click(self, event: events.Click) -> None:
        """Sort by the column whose heading is clicked."""
        if event.style.meta.get("row") is not None or event.y != 0:
            return
        event.prevent_default()
        at = event.x
        for key, cell in self._headings(self.scrollable_content_region.width):
            at -= len(cell.text)
            if at < 0:
                if key:
                    self.post_message(self.Sorted(key))
                return

    def cells(self, index: int, width: int) -> list[Cell]:
        entry, symbols = self.entries[index], self.symbols
        name, verdict = self._widths(width)
        mark = self.marks.get(entry.path, "")
        cells = [
            Cell(f" {fit(mark, 4, symbols)}", mark[0].lower() if mark[:1].isalpha() else "muted"),
            Cell(fit(entry.name, name, symbols), "strong" if entry.alive else ""),
        ]
        if width >= NORMAL:
            cells.append(Cell(fit(f"  {entry.experiment}", 16, symbols), "muted"))
        cells += self._progress(entry, width)
        if width >= LOSS:
            cells += [Cell(fit(text, 11, symbols, right=True), colour) for text, colour in self._losses(entry, width)]
        sign, colour = sign_of(entry.outcome, symbols)
        text = f"{sign} {entry.outcome.headline}" if entry.outcome else ""
        if entry.trouble:
            text, colour = f"{symbols.unknown} {entry.trouble.replace(f'{entry.path}/', '')}", "unknown"
        if entry.note:
            text = f"{text}  {symbols.dot} {entry.note}"
        seconds = self._now - entry.created_ns / 1e9 if entry.created_ns else None
        return [
            *cells,
            Cell(f"  {fit(text, verdict - 2, symbols)}", colour),
            Cell(fit("" if seconds is None else age(seconds), 5, symbols, right=True), "muted"),
        ]

    def _state(self, entry: Entry) -> tuple[str, str]:
        """Return state and progress of an entry."""
        known = [member for member in entry.members if member.step is not None]
        slowest = min(known, key=lambda member: member.step or 0, default=None)
        steps = slowest.steps if slowest else next((member.steps for member in entry.members), None)
        far = progress(slowest.step if slowest and len(known) == len(entry.members) else None, steps) if steps else ""
        state = entry.state if not entry.problem else "unreadable"
        return f"{state} {'' if ' ' in state or entry.problem else far}".rstrip(), far

    @property
    def _short_state(self) -> int:
        """Return the width of state and progress in one column: what it does not need is the verdict's."""
        return max(8, min(17, self._state_width + 2))

    def _progress(self, entry: Entry, width: int) -> list[Cell]:
        both, far = self._state(entry)
        state = entry.state if not entry.problem else "unreadable"
        colour = "unknown" if state == "unreadable" else STATES.get(state.rpartition(" ")[2], "differs")
        if width < NORMAL:
            return [Cell(fit(f" {both}", self._short_state, self.symbols), colour)]
        return [Cell(fit(f" {state}", 14, self.symbols), colour), Cell(fit(far, 12, self.symbols, right=True))]

    def _losses(self, entry: Entry, width: int) -> list[tuple[str, str]]:
        texts = [loss(member.loss) for member in entry.members[:2]] + ["", ""]
        colours = ["differs" if text == "NaN" else "" for text in texts]
        return list(zip(texts, colours, strict=True))[: 2 if width >= WIDE else 1]

    def _widths(self, width: int) -> tuple[int, int]:
        """Return the widths of name and verdict, which share what the others leave."""
        others = 5 + 5 + (self._short_state if width < NORMAL else 16 + 14 + 12) + 11 * ((width >= LOSS) + (width >= WIDE))
        room = max(20, width - others)
        name = min(self._name_width, max(12, room - VERDICT), 100)
        return name, room - name
