"""The step table: every recorded step of a pair, ten million as quickly as ten."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from textual.content import Content
from textual.reactive import var
from textual.strip import Strip

from reprotui.compare.steps import index_of
from reprotui.compare.timeline import PairLine, Timeline, phases_of
from reprotui.numbers import short
from reprotui.race.status import RaceStatus
from reprotui.trace import PHASES, StepRow
from reprotui.trace.phases import MARKS, differing_phases
from reprotui.tui.records import PairRecords
from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.widgets.rows import Cell, Rows

LOSSES, DELTA = (10, 9, 8, 7), 9
"""How wide a loss may be: the widest that leaves room for the roots; and its difference."""
MARKED = PHASES[1:]
"""The phases that have a mark in each row: `init` stands in record 0 alone, in the place of the batch."""
SHOWN = ("grads", "params")
"""The phases whose roots are shown."""
POINT_SECONDS = 0.03
"""How long crosshair and titles wait behind a cursor that is moved by hand: the row under it is drawn first."""
LEAST, MOST = 6, 16
"""Hexadecimal digits of a root: fewer than the least only where not even the narrowest losses leave more."""


class _Layout(NamedTuple):
    """How wide the columns are: of the step, a loss, a root (0: there is none), and of what follows."""

    step: int
    loss: int
    root: int
    rest: int


class StepTable(Rows):
    """Step, losses, their difference, roots of gradients and parameters, and a mark for each phase that differs; digits as room
    allows. The first differing row stays on top where it would be above what is seen."""

    follow: var[bool] = var(True, init=False)
    """Whether the cursor goes on to the newest step."""
    pointed: var[int | None] = var(None, init=False)
    """The cursor's step, `POINT_SECONDS` late where a person moves it."""
    status: var[RaceStatus | None] = var(None, init=False)
    verified: var[str] = var("", init=False)
    """What the verification of the traces came to, in few words; empty where nobody asked."""
    title: var[str] = var("", init=False)

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self._records = PairRecords(())
        self._timeline = Timeline()
        self._pair: PairLine | None = None
        self._labels = ("A", "B")
        self._first: int | None = None
        self._pointing = False
        self._jumped = False

    def compare(self, traces: Sequence[Path], labels: tuple[str, str]) -> None:
        """Show another pair of runs."""
        self._records, self._labels, self._jumped = PairRecords(traces), labels, False
        self.show_title()
        self.refresh()

    def show(self, timeline: Timeline, pair: PairLine | None, newest: int | None = None) -> None:
        """Show what is recorded by now of a pair, or of one run alone (None).

        With `follow`, the cursor goes on to the step `newest`, None for the last of all.
        """
        width = self.scrollable_content_region.width
        first = pair.first if pair else None
        same, columns = self._seen_is_settled() and first == self._first, self._columns(width)
        self._timeline, self._pair, self._first = timeline, pair, first
        ends = [int(line.steps[-1]) for line in timeline.runs if len(line.steps)]
        self._records.update(timeline.steps, min(ends) if len(ends) == len(timeline.runs) else -1)
        self.count = len(timeline.steps)
        end = self.count - 1 if newest is None else min(index_of(timeline.steps, newest), self.count - 1)
        if self.follow and self.count and end != self.cursor:
            self.scroll_to(y=max(0, end + 1 - self.page_rows), animate=False)
            self.go_to(end)
            self.refresh_rows()
        elif not same or columns != self._columns(width):
            self.refresh_rows()  # otherwise, all that is seen was recorded by both long ago: news below it are no news here
        if first is not None and not self._jumped:
            # The one step that a person came for: shown once; after that the cursor stays where it is put.
            self._jumped, self.follow = True, False
            self.go_to_step(first, by_hand=False)
        # Now, and not by the message that the cursor moved: a frame less for every look at runs that are followed.
        self.pointed = self.step

    def watch_title(self, title: str) -> None:
        self.border_title = Content(title)  # text alone would be read as markup

    def show_title(self) -> None:
        """Say which pair is shown, where there are several, and whether newer steps are seen."""
        status, dot, title = self.status, self.symbols.dot, "3 steps"
        if status and len(status.runs) > 2:
            title += f" {self._labels[1]} against {self._labels[0]}"
        if status and status.alive and self.follow:
            title += f" {dot} following"
        elif status and status.alive and self.unseen:
            title += f" {dot} {self.unseen:,} new"
        if status and not status.timeline.complete:
            title += f" {dot} reading …"
        if self.verified:
            title += f" {dot} {self.verified}"
        self.title = plain(title, self.symbols)

    watch_status = watch_follow = watch_verified = show_title

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.show_title()

    def on_rows_moved(self, event: Rows.Moved) -> None:
        if not event.by_hand:
            self._point()
            return
        if event.index < self.count - 1:
            self.follow = False
        if not self._pointing:
            # A frame is drawn as one rectangle: with the crosshair in it, a moved cursor would draw the whole screen.
            self._pointing = True
            self.set_timer(POINT_SECONDS, self._point)

    def _point(self) -> None:
        self._pointing = False
        self.pointed = self.step

    def on_rows_scrolled(self) -> None:
        self.follow = False

    def _seen_is_settled(self) -> bool:
        """Say whether all rows that are seen were recorded by every run when the table was last shown."""
        end = self.scroll_offset.y + self.page_rows
        return 0 < end <= self.count and self._records.is_settled(end - 1)

    @property
    def _first_index(self) -> int | None:
        """Return the row of the first differing step, None while there is none."""
        return None if self._first is None else index_of(self._timeline.steps, self._first)

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
                lines.append(f"{label} loss={_loss(row, LOSSES[0])}{bits} {roots}")
        return "\n".join(lines)

    def emphasis(self, index: int) -> str:
        return "first" if self._first is not None and int(self._timeline.steps[index]) == self._first else ""

    def render_line(self, y: int) -> Strip:
        first, top = self._first_index, self.scroll_offset.y
        if y == self.HEADINGS and first is not None and first < top and self.cursor != top:
            width = self.scrollable_content_region.width
            return self._strip(self.cells(first, width), width, "first").apply_meta({"row": first})
        return super().render_line(y)

    def heading(self, width: int) -> list[Cell]:
        layout = self._columns(width)
        pair = self._pair is not None
        labels = self._labels if pair else self._labels[:1]
        cells = [Cell(f"{'step':>{layout.step}}{'   ' if pair else '  '}")]
        cells += [Cell(f"{_fit('loss ' + label if pair else 'loss', layout.loss):>{layout.loss}} ") for label in labels]
        cells += [Cell(f"{self.symbols.delta + ' loss':>{DELTA}} ")] if pair else []
        if layout.root:
            texts = [f"{name} {label}" if pair else name for name in SHOWN for label in labels]
            if any(len(text) > layout.root for text in texts):
                texts = [f"{MARKS[name]} {label}" if pair else MARKS[name] for name in SHOWN for label in labels]
            cells += [Cell(f"{_fit(text, layout.root):<{layout.root}} ") for text in texts]
        return [*cells, Cell("phases" if pair and layout.rest > 0 else "")]

    def _columns(self, width: int) -> _Layout:
        """Return how wide the columns are: marks always, then roots of six digits, then wide losses, then more digits."""
        runs = 1 if self._pair is None else 2
        step = max(5, len(str(self._timeline.last or 0)) + 1)
        fixed = step + (3 + DELTA + 1 + len(MARKED) if runs == 2 else 2)
        roots = runs * len(SHOWN)
        for loss in LOSSES:
            room = (width - fixed - runs * (loss + 1)) // roots - 1
            if room >= LEAST:
                break
        root = max(0, min(room, MOST))
        return _Layout(step, loss, root, width - fixed - runs * (loss + 1) - roots * (root + 1) + len(MARKED) * (runs - 1))

    def cells(self, index: int, width: int) -> list[Cell]:
        pair = self._records[index]
        step, loss, root, rest = self._columns(width)
        if self._records.problem and pair.a is None and pair.b is None:
            return [Cell(f"{pair.step:>{step}} "), Cell(f"{self.symbols.unknown} {self._records.problem}", "unknown")]
        if self._pair is None:
            marks, lost = self.status.runs[0].marks if self.status else {}, self._not_finite(pair.a)
            text, colour = (lost, "unknown") if lost else self.symbols.checked(marks.get(pair.step, ""))
            return [
                Cell(f"{pair.step:>{step}}  "),
                Cell(f"{_loss(pair.a, loss):>{loss}} ", "a"),
                *(Cell(f"{_root(pair.a, name, root):<{root}} ") for name in SHOWN if root),
                Cell(_fit(text, rest), colour),
            ]
        sign, colour, marks = self._difference(pair.a, pair.b, rest)
        delta = _delta(pair.a, pair.b)
        parts = [
            Cell(f"{pair.step:>{step}} "), Cell(f"{sign} ", colour), Cell(f"{_loss(pair.a, loss):>{loss}} ", "a"),
            Cell(f"{_loss(pair.b, loss):>{loss}} ", "b"),
            Cell(f"{delta:>{DELTA}} ", "differs" if delta not in ("", "0") else "muted"),
        ]  # fmt: skip
        for name in SHOWN if root else ():
            same = pair.a is not None and pair.b is not None and pair.a.root(name) == pair.b.root(name)
            parts += [
                Cell(f"{_root(row, name, root):<{root}} ", "muted" if same else own)
                for row, own in ((pair.a, "a"), (pair.b, "b"))
            ]
        return [*parts, Cell(_fit(marks, rest), colour)]

    def _difference(self, a: StepRow | None, b: StepRow | None, room: int) -> tuple[str, str, str]:
        if a is None or b is None:
            missing = self._labels[0] if a is None else self._labels[1]
            return *self.symbols.judge(None), f"not in {missing}" if room >= len(f"not in {missing}") else f"no {missing}"
        mask = self._pair.mask(a.step) if self._pair else None
        phases = differing_phases(a.roots, b.roots) if mask is None else phases_of(mask)
        sign, colour = self.symbols.judge(bool(phases))
        lost = self._lost(a, b)
        unmarked = {phase: "x" if phase in lost else self.symbols.dot for phase in PHASES}
        marks = [MARKS[phase] if phase in phases else unmarked[phase] for phase in PHASES]
        text = "".join(marks[:1] + marks[2:] if a.step == 0 else marks[1:])
        if not lost:
            return sign, colour, text if phases else ""
        # Where both agree, that is all there is to say of the step, and not that all is well.
        more = f" {self._not_finite(a, b)}"
        return sign, colour if phases else "unknown", text + (more if room >= len(text + more) else "")

    def _not_finite(self, *rows: StepRow | None) -> str:
        """Say which phases hold NaN or infinity in records of one step; nothing where all is finite."""
        lost = self._lost(*rows)
        return f"not finite: {' '.join(lost)}" if lost else ""

    def _lost(self, *rows: StepRow | None) -> list[str]:
        """Return the phases that hold NaN or infinity in records of one step."""
        runs = self._timeline.runs
        at = next((at for at, pair in enumerate(self._timeline.pairs, 1) if pair is self._pair), 0)
        steps = {row.step for row in rows if row is not None}
        found = {phase for step in steps for line in (runs[0], runs[at]) for phase in line.not_finite(step, step + 1)}
        # Of records of before nobody noted it, but a loss that is NaN says so itself.
        found |= {"forward" for row in rows if row is not None and row.loss is None and row.loss_bits is not None}
        return [phase for phase in PHASES if phase in found]


def _loss(row: StepRow | None, width: int) -> str:
    if row is None or row.loss_bits is None:
        return "" if row is None else "–"
    return "NaN" if row.loss is None else short(row.loss, 7, width)


def _delta(a: StepRow | None, b: StepRow | None) -> str:
    if a is None or b is None or a.loss_bits is None or b.loss_bits is None:
        return ""
    if a.loss_bits == b.loss_bits:
        return "" if a.loss is None else "0"
    if a.loss is None or b.loss is None:
        return "NaN"
    return short(b.loss - a.loss, 3, DELTA) if a.loss != b.loss else "bits"


def _root(row: StepRow | None, phase: str, digits: int) -> str:
    value = 0 if row is None else row.root(phase)
    return f"{value:016x}"[:digits] if value else ""


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…" if width > 0 else ""
