"""The list of checkpoints: run, step, status, size, age and content digest of each."""

import time

from reprotui.tui.checkpoints import Item, equal_content, same_step
from reprotui.tui.symbols import Symbols
from reprotui.tui.text import fit
from reprotui.tui.widgets.rows import Cell, Rows

BEFORE, WITH_DIGEST, AGAINST = 57, 110, 5
"""Cells before digest and message, from how many on there is room for the digest, and those of the other run's content."""


class CheckpointTable(Rows):
    """A row a checkpoint; those of a step together, each with whether its content is that of the first."""

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self.items: list[Item] = []

    def show(self, items: list[Item]) -> None:
        """Show these checkpoints."""
        self.items = items
        self.count = len(items)
        self.refresh()

    def heading(self, width: int) -> list[Cell]:
        digest = f"{'content digest':<18}" if width >= WITH_DIGEST else ""
        return [Cell(f"   {'run':<5}{'step':>9}  {'status':<13}{'':<{AGAINST}}{'size':>10}  {'age':>6}  {digest}what")]

    def cells(self, index: int, width: int) -> list[Cell]:
        item = self.items[index]
        good, unknown = item.status == "VALID", item.status in ("", "UNCHECKED", "UNREGISTERED", "INCOMPLETE")
        sign, colour = self.symbols.judge(None if unknown else not good)
        step = "–" if item.step is None else str(item.step)
        same = equal_content(item, self.items)
        mark, tone = self.symbols.judge(None if same is None else not same)
        against = "" if same is None else f"{mark} {same_step(item, self.items)[0].label}"
        said = item.message.splitlines()[0] if item.message else item.path.name
        said = f"{item.signature} · {said}" if item.signature else said
        digest = [Cell(f"{(item.content or '')[:16]:<18}", "muted")] if width >= WITH_DIGEST else []
        return [
            Cell(f" {sign} ", colour), Cell(f"{item.label:<5}", "abcdefgh"[item.run]), Cell(f"{step:>9}  "),
            Cell(f"{item.said:<13}", colour), Cell(f"{against:<{AGAINST}}", tone), Cell(f"{_size(item.size):>10}  "),
            Cell(f"{_age(item.created_ns):>6}  ", "muted"), *digest,
            Cell(fit(said, width - BEFORE - (18 if digest else 0), self.symbols)),
        ]  # fmt: skip


def _size(size: int) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size} B"
        size /= 1024  # ty: ignore[invalid-assignment]
    return f"{size:.3g} GB"


def _age(created_ns: int | None) -> str:
    if created_ns is None:
        return ""
    seconds = max(0, time.time() - created_ns / 1e9)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
