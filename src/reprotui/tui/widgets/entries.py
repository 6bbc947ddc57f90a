"""The list of races and runs: one line each, with as many columns as the terminal has room for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reprotui.tui.symbols import Symbols
from reprotui.tui.text import age, fit, loss, progress
from reprotui.tui.widgets.rows import Cell, Rows

if TYPE_CHECKING:  # reading traces needs numpy, which the first frame does not wait for
    from reprotui.race.entries import Entry, Outcome

NORMAL, WIDE = 98, 158
"""Widths from which experiment and loss, and both losses, have room."""
STATES = {"running": "strong", "finished": "muted", "created": "strong", "stopped": "unknown", "elsewhere": "unknown"}
"""Colours of states; every other state is a failure."""


def sign_of(outcome: Outcome | None, symbols: Symbols) -> tuple[str, str]:
    """Return sign and colour of an outcome: of one that is equal so far, too."""
    if outcome is None:
        return "", "muted"
    if outcome.kind == "diverged":
        return symbols.differs, "differs"
    if outcome.kind == "identical" or outcome.headline.startswith("IDENTICAL"):
        return symbols.equal, "equal"
    return symbols.unknown, "unknown"


class EntryRows(Rows):
    """Races and runs, newest first; marked ones carry the letters that they will have in the comparison."""

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self.entries: tuple[Entry, ...] = ()
        self.marks: dict[Path, str] = {}
        self._now = time.time()
        self._name_width = 8

    def show(self, entries: Sequence[Entry], marked: Sequence[Path]) -> None:
        """Show entries; the cursor stays on the one where it was."""
        before = self.current
        self.entries = tuple(entries)
        self._now = time.time()
        self._name_width = max((len(entry.name) for entry in entries), default=8)
        self.mark(marked)
        place = next((index for index, entry in enumerate(entries) if before and entry.path == before.path), self.cursor)
        if len(entries) != self.count:
            self.count = len(entries)
        self.cursor = max(0, min(place, self.count - 1))
        self.refresh()

    def mark(self, marked: Sequence[Path]) -> None:
        """Give the marked entries the letters of their runs, in the order in which they were marked."""
        sizes = {entry.path: max(1, len(entry.members)) for entry in self.entries}
        self.marks, taken = {}, 0
        for path in marked:
            size = sizes.get(path, 1)
            letters = "ABCDEFGH"[taken : taken + size] or "-"
            self.marks[path] = letters if len(letters) < 3 else f"{letters[0]}-{letters[-1]}"
            taken += size
        self.refresh()

    @property
    def current(self) -> Entry | None:
        """Return the entry under the cursor."""
        return self.entries[self.cursor] if self.cursor < len(self.entries) else None

    def heading(self, width: int) -> list[Cell]:
        name, verdict = self._widths(width)
        cells = [Cell(fit("", 5, self.symbols)), Cell(fit("name", name, self.symbols))]
        if width >= NORMAL:
            cells.append(Cell(fit("  experiment", 16, self.symbols)))
        cells.append(Cell(fit(" state", 17 if width < NORMAL else 14, self.symbols)))
        if width >= NORMAL:
            cells += [Cell(fit("steps", 12, self.symbols, right=True)), Cell(fit("loss A", 11, self.symbols, right=True))]
        if width >= WIDE:
            cells.append(Cell(fit("loss B", 11, self.symbols, right=True)))
        return [*cells, Cell(fit("    verdict", verdict, self.symbols)), Cell(fit("age", 5, self.symbols, right=True))]

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
        if width >= NORMAL:
            cells += [Cell(fit(text, 11, symbols, right=True), colour) for text, colour in self._losses(entry, width)]
        sign, colour = sign_of(entry.outcome, symbols)
        text = f"{sign} {entry.outcome.headline}" if entry.outcome else ""
        if entry.trouble:
            text, colour = f"{symbols.unknown} {entry.trouble.replace(f'{entry.path}/', '')}", "unknown"
        seconds = self._now - entry.created_ns / 1e9 if entry.created_ns else None
        return [
            *cells,
            Cell(f"  {fit(text, verdict - 2, symbols)}", colour),
            Cell(fit("" if seconds is None else age(seconds), 5, symbols, right=True), "muted"),
        ]

    def _progress(self, entry: Entry, width: int) -> list[Cell]:
        known = [member for member in entry.members if member.step is not None]
        slowest = min(known, key=lambda member: member.step or 0, default=None)
        steps = slowest.steps if slowest else next((member.steps for member in entry.members), None)
        state = entry.state if not entry.problem else "unreadable"
        far = progress(slowest.step if slowest and len(known) == len(entry.members) else None, steps) if steps else ""
        colour = STATES.get(state.rpartition(" ")[2], "differs")
        if state == "unreadable":
            colour = "unknown"
        if width < NORMAL:
            return [Cell(fit(f" {state} {'' if ' ' in state or entry.problem else far}", 17, self.symbols), colour)]
        return [Cell(fit(f" {state}", 14, self.symbols), colour), Cell(fit(far, 12, self.symbols, right=True))]

    def _losses(self, entry: Entry, width: int) -> list[tuple[str, str]]:
        texts = [loss(member.loss) for member in entry.members[:2]] + ["", ""]
        colours = ["differs" if text == "NaN" else "" for text in texts]
        return list(zip(texts, colours, strict=True))[: 2 if width >= WIDE else 1]

    def _widths(self, width: int) -> tuple[int, int]:
        """Return the widths of name and verdict, which share what the others leave."""
        others = 5 + 5 + (17 if width < NORMAL else 16 + 14 + 12 + 11 + (11 if width >= WIDE else 0))
        room = max(20, width - others)
        name = min(self._name_width, max(12, room - 44 if width >= NORMAL else room // 2), 60)
        return name, room - name
