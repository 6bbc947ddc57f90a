"""The list of ready-made races: what happens, and what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reprotui.tui.symbols import Symbols
from reprotui.tui.text import fit
from reprotui.tui.widgets.rows import Cell, Rows

if TYPE_CHECKING:  # configs need pydantic, which the first frame does not wait for
    from reprotui.race.presets import Preset

NAME_WIDTH = 33


class PresetRows(Rows):
    """Ready-made races, one line each."""

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self.presets: tuple[Preset, ...] = ()

    def show(self, presets: Sequence[Preset]) -> None:
        """Show presets."""
        self.presets = tuple(presets)
        self.count = len(presets)
        self.refresh()

    @property
    def current(self) -> Preset | None:
        """Return the preset under the cursor."""
        return self.presets[self.cursor] if self.cursor < len(self.presets) else None

    def heading(self, width: int) -> list[Cell]:
        return [Cell(fit("     ready to start", 5 + NAME_WIDTH, self.symbols)), Cell("  what it shows")]

    def cells(self, index: int, width: int) -> list[Cell]:
        preset = self.presets[index]
        return [
            Cell(f" {index + 1:>2}  ", "muted"),
            Cell(fit(preset.name, NAME_WIDTH, self.symbols), "strong"),
            Cell("  " + fit(preset.sentence, max(0, width - NAME_WIDTH - 8), self.symbols), "muted"),
        ]
