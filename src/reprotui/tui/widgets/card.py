"""A card a run: what it is, how it differs from A, how far it is."""

from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive, var
from textual.widget import Widget

from reprotui.numbers import duration, rate, short, whole
from reprotui.race.status import RaceStatus, RunStatus
from reprotui.tui.symbols import Symbols, plain

BAR, NARROW_BAR = 16, 8
STATE_COLOURS = {
    "running": "$equal", "finished": "$foreground", "paused": "$unknown", "starting": "$unknown", "created": "$unknown",
    "failed": "$differs", "killed": "$differs", "gone": "$differs", "stopped": "$unknown", "elsewhere": "$muted",
}  # fmt: skip


class RunCard(Widget):
    """One run; in a narrow screen one line, otherwise three. A click makes it the target of pause, one step and stop."""

    DEFAULT_CSS = """
    RunCard { height: 3; width: 1fr; padding: 0 1; background: $surface; text-wrap: nowrap; text-overflow: ellipsis; }
    RunCard.-target { text-style: none; background: $panel; }
    """

    status: var[RaceStatus | None] = var(None, init=False)
    target: var[int | None] = var(None, init=False)
    run: var[RunStatus | None] = var(None, init=False)
    meant: reactive[bool] = reactive(False, init=False, toggle_class="-target")
    """Whether pause, one step and stop mean this run."""
    narrow: reactive[bool] = reactive(False, init=False)

    class Picked(Message):
        """A card was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, symbols: Symbols, index: int) -> None:
        super().__init__()
        self.symbols, self.index = symbols, index
        self._drawn: list[Content] = []

    def watch_status(self, status: RaceStatus | None) -> None:
        if status is not None:
            self.run = status.runs[self.index]
            self.meant = self.target in (None, self.index) and status.alive

    def watch_target(self) -> None:
        self.watch_status(self.status)

    def watch_run(self) -> None:
        # What a step changes is one line of three: over SSH only that is sent.
        before, lines = self._drawn, self._lines()
        if len(before) != len(lines):
            self.refresh()
            return
        changed = [row for row, new in enumerate(lines) if not before[row].is_same(new)]
        if changed:
            self.refresh(*(Region(0, row, self.content_size.width, 1) for row in changed))

    def render(self) -> Content:
        self._drawn = self._lines()
        return Content("\n").join(self._drawn)

    def _lines(self) -> list[Content]:
        run, narrow = self.run, self.narrow
        if run is None:
            return []
        colour = f"$run-{'abcdefgh'[self.index]}"
        pointer = self.symbols.pointer if self.meant else " "
        # Records and symbols come from files of others: none of it is read as markup.
        name = Content.assemble((pointer, "bold"), (plain(f"{run.label} ", self.symbols), f"bold {colour}"))
        state = Content.styled(plain(run.state, self.symbols), f"bold {STATE_COLOURS.get(run.state, '$foreground')}")
        known = not {run.state, self.status.runs[0].state if self.status else run.state} & {"unreadable", "gone"}
        same = ("same as A" if narrow else "same config as A") if known else "config unknown"
        plainly = "reference" if self.index == 0 else same
        differs = self._text(" ".join(run.differs) or plainly)
        progress = self._progress(run, NARROW_BAR if narrow else BAR)
        tail = "  ".join(
            part for part in (run.backend, f"{run.threads} threads" if run.threads else "", run.asked, run.checked) if part
        )
        problem = " ".join((run.problem or run.torn or last_words(run)).split())
        if narrow:
            behind = self._text(run.not_finite.when).stylize("$differs") if run.not_finite else differs
            middle = self._text(problem) if problem else Content(" ").join([progress, behind])
            return [Content(" ").join([name + state, middle])]
        problem = problem or (run.not_finite.sentence if run.not_finite else "")
        indent = Content("   ")
        return [
            Content.assemble(name, differs.stylize("bold"), "  ", state),
            indent + progress,
            indent + Content.styled(plain(problem or tail, self.symbols), "$differs" if problem else "$muted"),
        ]

    def _progress(self, run: RunStatus, bar: int) -> Content:
        if run.step is None:
            return Content.styled("no step yet", "$muted")
        steps = run.steps or run.step or 1
        filled = min(bar, bar * run.step // steps)
        full, empty = ("#", "-") if self.symbols.ascii else ("━", "─")
        parts = [f" {whole(run.step)}/{whole(run.steps) if run.steps else '?'}"]
        if run.rate:
            parts.append(rate(run.rate))
        if (left := run.seconds_left) is not None:
            parts.append(f"{duration(left)} left")
        if run.loss is not None:
            parts.append(f"loss {short(run.loss, 5)}")
        colour = f"$run-{'abcdefgh'[self.index]}"
        return Content.assemble((full * filled, colour), (empty * (bar - filled), "$muted"), "  ".join(parts))

    def _text(self, text: str) -> Content:
        return Content(plain(text, self.symbols))

    def on_click(self) -> None:
        self.post_message(self.Picked(self.index))


def last_words(run: RunStatus) -> str:
    """Return the end of the log of a run that ended badly."""
    if run.state not in ("failed", "killed"):
        return ""
    lines = [line.strip() for line in run.log if line.strip()]
    return " / ".join(lines[-2:]) or ("its process is gone, and left neither a seal nor a word" if run.state == "killed" else "")
