"""The runs of a race of more than two as a table: how far each is, what it came to against the reference, and why."""

from textual.reactive import var

from reprotui.compare import Verdict
from reprotui.numbers import rate, short
from reprotui.race.status import RaceStatus, RunStatus
from reprotui.tui.symbols import Symbols
from reprotui.tui.text import fit
from reprotui.tui.widgets.card import last_words
from reprotui.tui.widgets.rows import Cell, Rows

STATE, LOSS, METRIC, RATE, AGAINST, AGAINST_NARROW = 10, 10, 10, 9, 22, 14
"""Cells of the columns; steps take what the longest needs, and why it differs has the rest."""
WITH_METRIC, WITH_RATE, WIDE = 96, 110, 100
"""From how many cells on there is room for a metric, the rate, and the whole verdict."""
STATES = {"running": "equal", "finished": "", "failed": "differs", "killed": "differs", "gone": "differs", "elsewhere": "muted"}


class RunTable(Rows):
    """A row a run, the reference first. The cursor is on the run that is held against it; a click there means it for keys."""

    DEFAULT_CSS = """
    RunTable { height: auto; max-height: 9; overflow-y: auto; background: $surface; }
    """

    status: var[RaceStatus | None] = var(None, init=False)
    pair: var[int] = var(0)
    target: var[int | None] = var(None, init=False)
    """The run that pause, one step and stop mean; None for all."""

    def __init__(self, symbols: Symbols, runs: int, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self.styles.height = runs + self.HEADINGS
        self.count = runs
        self._shown: tuple[list[Cell], ...] = ()

    def watch_status(self) -> None:
        width = self.scrollable_content_region.width
        shown = tuple(self.cells(index, width) for index in range(self.count)) if self.status else ()
        if shown != self._shown:
            self._shown = shown
            self.refresh()

    def watch_pair(self, pair: int) -> None:
        if self.cursor != pair + 1:
            self.go_to(pair + 1)
        self.refresh()

    def watch_target(self) -> None:
        self.refresh()

    def heading(self, width: int) -> list[Cell]:
        if self.status is None:
            return []
        metric, paced, against = self._columns(width)
        parts = f"    {'state':<{STATE}}{'step':>{self._steps()}} "
        parts += f"{'rate':>{RATE - 1}} " if paced else ""
        parts += f"{'loss':>{LOSS - 1}} "
        parts += f"{fit(metric, METRIC - 1, self.symbols, right=True)} " if metric else ""
        return [Cell(f"{parts} {f'against {self.status.runs[0].label}':<{against}}because")]

    def cells(self, index: int, width: int) -> list[Cell]:
        if self.status is None:
            return []
        run, colour = self.status.runs[index], "abcdefgh"[index]
        verdict = self.status.verdicts[index - 1] if index else None
        metric, paced, against = self._columns(width)
        pointer = self.symbols.pointer if index == self.pair + 1 else " "
        meant = self.symbols.marked if self.status.alive and self.target == index else " "
        cells = [
            Cell(f"{pointer}"), Cell(run.label, colour), Cell(f"{meant} "),
            Cell(f"{run.state:<{STATE}}", STATES.get(run.state, "unknown")),
            Cell(f"{_progress(run):>{self._steps()}} "),
        ]  # fmt: skip
        if paced:
            cells.append(Cell(f"{rate(run.rate) if run.rate else '':>{RATE - 1}} ", "muted"))
        cells.append(Cell(f"{'' if run.loss is None else short(run.loss, 5):>{LOSS - 1}} ", colour))
        if metric:
            value = dict(run.metrics).get(metric)
            cells.append(Cell(f"{'' if value is None else short(value, 4):>{METRIC - 1}} "))
        sign, tone, told = self._against(run, verdict, against >= AGAINST)
        used = sum(len(cell.text) for cell in cells) + 1 + against
        why, colour = _because(run, verdict, self.status.judged)
        return [
            *cells, Cell(f" {sign} ", tone), Cell(fit(told, against - 2, self.symbols), tone),
            Cell(fit(why, max(0, width - used), self.symbols).rstrip(), colour),
        ]  # fmt: skip

    def _columns(self, width: int) -> tuple[str, bool, int]:
        """Return the metric that there is room for, whether the rate is shown, and the cells of the verdict."""
        assert self.status is not None
        names = [name for run in self.status.runs for name, _ in run.metrics]
        metric = names[0] if names and width >= WITH_METRIC else ""
        paced = width >= WITH_RATE and any(run.rate for run in self.status.runs)
        return metric, paced, AGAINST if width >= WIDE else AGAINST_NARROW

    def _steps(self) -> int:
        return max(4, *(len(_progress(run)) for run in self.status.runs)) if self.status else 4

    def _against(self, run: RunStatus, verdict: Verdict | None, wide: bool) -> tuple[str, str, str]:
        """Return sign, colour and words of what a run came to against the reference."""
        if verdict is None:
            return " ", "muted", "reference" if wide else ""
        through = "" if verdict.equal_through is None else f"through {verdict.equal_through}"
        if verdict.kind == "diverged":
            near = verdict.tone != "diverged"
            where = "after the last record" if verdict.step is None else f"{verdict.step} {verdict.phase}"
            return self.symbols.near if near else self.symbols.differs, "unknown" if near else "differs", where
        if verdict.kind == "identical":
            return self.symbols.equal, "unknown" if verdict.broken or verdict.torn else "equal", through
        if verdict.kind == "incomplete" and run.alive:
            return (
                (self.symbols.equal, "equal", f"{through} so far") if through else (self.symbols.unknown, "muted", "no step yet")
            )
        return self.symbols.unknown, "unknown", through or "cannot tell"


def _progress(run: RunStatus) -> str:
    return "–" if run.step is None else f"{run.step}" if run.step == run.steps else f"{run.step}/{run.steps or '?'}"


def _because(run: RunStatus, verdict: Verdict | None, judged: bool) -> tuple[str, str]:
    """Return why a run differs, or what is wrong with it; else how its config differs, which made no difference so far."""
    if verdict is not None and verdict.kind == "diverged":
        if verdict.cause is not None:
            return ", ".join(verdict.cause.explained_by) or verdict.cause.sentence, ""
        return ("" if judged else "looking for the cause …"), "muted"
    problem = " ".join((run.problem or run.torn or last_words(run)).split())
    if problem or run.not_finite:
        return problem or (run.not_finite.sentence if run.not_finite else ""), "differs" if problem else "unknown"
    if verdict is None:
        return "", "muted"
    if verdict.reason and not run.alive:
        return verdict.reason, "unknown"
    return " ".join(run.differs) or "same config", "muted"
