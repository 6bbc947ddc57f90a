"""The step table: every recorded step of a pair, ten million as quickly as ten."""

from collections.abc import Sequence
from pathlib import Path

from reprotui.compare.timeline import PairLine, Timeline, index_of, phases_of
from reprotui.trace import PHASES, StepRow
from reprotui.trace.phases import ROOT_BYTES
from reprotui.tui.plot import short
from reprotui.tui.records import PairRecords
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.rows import Cell, Rows

LOSS, DELTA = 10, 9
ROOT = 9
"""A root's first eight digits and a space; the step's own screen has all sixteen."""


class StepTable(Rows):
    """Step, losses, their difference, roots of gradients and update, and the phases that differ; columns as room allows."""

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self._records = PairRecords(())
        self._timeline = Timeline()
        self._pair: PairLine | None = None
        self._labels = ("A", "B")
        self._first: int | None = None
        self.follow = True

    def compare(self, traces: Sequence[Path], labels: tuple[str, str]) -> None:
        """Show another pair of runs."""
        self._records, self._labels = PairRecords(traces), labels
        self.refresh()

    def show(self, timeline: Timeline, pair: int | None, first: int | None, newest: int | None = None) -> None:
        """Show what is recorded by now; with `follow`, the cursor goes on to the step `newest`, None for the last of all."""
        width = self.scrollable_content_region.width
        same, columns = self._seen_is_settled() and first == self._first, self._columns(width)
        self._timeline, self._first = timeline, first
        self._pair = timeline.pairs[pair] if pair is not None else None
        ends = [int(line.steps[-1]) for line in timeline.runs if len(line.steps)]
        self._records.update(timeline.steps, min(ends) if len(ends) == len(timeline.runs) else -1)
        self.count = len(timeline.steps)
        end = self.count - 1 if newest is None else min(index_of(timeline.steps, newest), self.count - 1)
        if self.follow and self.count and end != self.cursor:
            self.scroll_to(y=max(0, end + 1 - self.page_rows), animate=False)
            self.go_to(end)
        elif same and columns == self._columns(width):
            return  # what is seen has long been recorded by both: news below it are no news here
        self.refresh()

    def _seen_is_settled(self) -> bool:
        """Say whether all rows that are seen were recorded by every run when the table was last shown."""
        end = self.scroll_offset.y + self.page_rows
        return 0 < end <= self.count and self._records.is_settled(end - 1)

    @property
    def step(self) -> int | None:
        """Return the step that the cursor is on."""
        return int(self._timeline.steps[self.cursor]) if self.cursor < len(self._timeline.steps) else None

    @property
    def unseen(self) -> int:
        """Return how many steps are below what is seen."""
        return max(0, self.count - self.scroll_offset.y - self.page_rows)

    def go_to_step(self, step: int, by_hand: bool = True) -> None:
        """Put the cursor on a step, or on the next one that was recorded."""
        self.go_to(index_of(self._timeline.steps, step), by_hand)

    def values(self) -> str:
        """Return what the row of the cursor says, in full, for the clipboard."""
        if self.step is None:
            return ""
        pair = self._records[self.cursor]
        lines = [f"step {pair.step}"]
        for label, row in zip(self._labels, (pair.a, pair.b), strict=True):
            if row is not None:
                roots = " ".join(f"{phase}={row.root(phase):016x}" for phase in PHASES if row.root(phase))
                bits = "" if row.loss_bits is None else f" loss_bits={row.loss_bits:#x}"
                lines.append(f"{label} loss={_loss(row)}{bits} {roots}")
        return "\n".join(lines)

    def emphasis(self, index: int) -> str:
        return "first" if self._first is not None and int(self._timeline.steps[index]) == self._first else ""

    def heading(self, width: int) -> list[Cell]:
        a, b = self._labels
        step, roots, phases = self._columns(width)
        if self._pair is None:
            return [
                Cell(f"{'step':>{step}}  "),
                Cell(f"{'loss':>{LOSS}} "),
                *(Cell(f" {name:<{ROOT}}") for name in ("grads", "update") if roots),
            ]
        parts = [Cell(f"{'step':>{step}}   "), Cell(f"{'loss ' + a:>{LOSS}} "), Cell(f"{'loss ' + b:>{LOSS}} ")]
        parts.append(Cell(f"{self.symbols.delta + ' loss':>{DELTA}}  "))
        if roots:
            parts += [
                Cell(f"{name:<{ROOT}}")
                for name in (f"grads {a}", f"grads {b}", f"update {a}", f"update {b}")[: 4 if roots > 2 else 2]
            ]
        return [*parts, Cell("phases" if phases else "")]

    def _columns(self, width: int) -> tuple[int, int, int]:
        """Return the width of the step, how many roots there is room for, and the room for the phases."""
        step = max(5, len(str(self._timeline.last or 0)) + 1)
        rest = width - step - 3 - 2 * (LOSS + 1) - DELTA - 2
        roots = 4 if rest >= 4 * ROOT + 14 else 2 if rest >= 2 * ROOT + 14 else 0
        return step, roots, rest - roots * ROOT

    def cells(self, index: int, width: int) -> list[Cell]:
        pair = self._records[index]
        step, roots, phases = self._columns(width)
        if self._records.problem and pair.a is None and pair.b is None:
            return [Cell(f"{pair.step:>{step}} "), Cell(f"{self.symbols.unknown} {self._records.problem}", "unknown")]
        if self._pair is None:
            names = ("grads", "update") if roots else ()
            return [
                Cell(f"{pair.step:>{step}}  "),
                Cell(f"{_loss(pair.a):>{LOSS}} ", "a"),
                *(Cell(f" {_root(pair.a, name):<{ROOT}}") for name in names),
            ]
        sign, colour, differing = self._difference(pair.a, pair.b)
        delta = _delta(pair.a, pair.b)
        parts = [
            Cell(f"{pair.step:>{step}} "), Cell(f"{sign} ", colour), Cell(f"{_loss(pair.a):>{LOSS}} ", "a"),
            Cell(f"{_loss(pair.b):>{LOSS}} ", "b"), Cell(f"{delta:>{DELTA}}  ", "differs" if delta not in ("", "0") else "muted"),
        ]  # fmt: skip
        for name in ("grads", "update")[: roots // 2]:
            same = pair.a is not None and pair.b is not None and pair.a.root(name) == pair.b.root(name)
            parts += [
                Cell(f"{_root(pair.a, name):<{ROOT}}", "muted" if same else "a"),
                Cell(f"{_root(pair.b, name):<{ROOT}}", "muted" if same else "b"),
            ]
        return [*parts, Cell(_fit(differing, phases), colour)]

    def _difference(self, a: StepRow | None, b: StepRow | None) -> tuple[str, str, str]:
        if a is None or b is None:
            missing = self._labels[0] if a is None else self._labels[1]
            return self.symbols.unknown, "unknown", f"not in {missing}"
        mask = self._pair.mask(a.step) if self._pair else None
        if mask is None:
            mask = _mask(a, b)
        if mask:
            return self.symbols.differs, "differs", " ".join(phases_of(mask))
        return self.symbols.equal, "equal", ""


def _mask(a: StepRow, b: StepRow) -> int:
    parts = range(len(PHASES))
    return sum(
        1 << index for index in parts if a.roots[index * ROOT_BYTES :][:ROOT_BYTES] != b.roots[index * ROOT_BYTES :][:ROOT_BYTES]
    )


def _loss(row: StepRow | None) -> str:
    if row is None or row.loss_bits is None:
        return "" if row is None else "–"
    return "NaN" if row.loss is None else short(row.loss, 7, LOSS)


def _delta(a: StepRow | None, b: StepRow | None) -> str:
    if a is None or b is None or a.loss_bits is None or b.loss_bits is None:
        return ""
    if a.loss_bits == b.loss_bits:
        return "0"
    if a.loss is None or b.loss is None:
        return "NaN"
    return short(b.loss - a.loss, 3, DELTA) if a.loss != b.loss else "bits"


def _root(row: StepRow | None, phase: str) -> str:
    value = 0 if row is None else row.root(phase)
    return f"{value:016x}"[:8] if value else ""


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…" if width > 0 else ""
