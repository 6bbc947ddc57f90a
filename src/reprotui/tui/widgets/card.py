"""A card a run: what it is, how it differs from A, how far it is."""

from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from reprotui.race.monitor import RunStatus
from reprotui.tui.plot import short
from reprotui.tui.symbols import Symbols, plain

BAR, NARROW_BAR = 16, 8
STATE_COLOURS = {
    "running": "$equal", "finished": "$foreground", "paused": "$unknown", "starting": "$unknown", "created": "$unknown",
    "failed": "$differs", "killed": "$differs", "gone": "$differs", "stopped": "$unknown", "elsewhere": "$muted",
}  # fmt: skip


class RunCard(Static):
    """One run; in a narrow screen one line, otherwise three. A click makes it the target of pause, one step and stop."""

    DEFAULT_CSS = """
    RunCard { height: 3; width: 1fr; padding: 0 1; background: $surface; text-wrap: nowrap; text-overflow: ellipsis; }
    RunCard.-target { text-style: none; background: $panel; }
    """

    class Picked(Message):
        """A card was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, symbols: Symbols, index: int) -> None:
        super().__init__("")
        self.symbols, self.index = symbols, index
        self._shown: tuple[RunStatus, bool, bool] | None = None

    def show(self, run: RunStatus, target: bool, narrow: bool) -> None:
        """Show a run; nothing is drawn where nothing changed."""
        if self._shown == (run, target, narrow):
            return
        self._shown = run, target, narrow
        self.set_class(target, "-target")
        colour = f"$run-{'abcdefgh'[self.index]}"
        pointer = self.symbols.pointer if target else " "
        # Records and symbols come from files of others: none of it is read as markup.
        name = Content.assemble((pointer, "bold"), (plain(f"{run.label} ", self.symbols), f"bold {colour}"))
        state = Content.styled(plain(run.state, self.symbols), f"bold {STATE_COLOURS.get(run.state, '$foreground')}")
        plainly = "reference" if self.index == 0 else "same as A" if narrow else "same config as A"
        differs = self._text(" ".join(run.differs) or plainly)
        progress = self._progress(run, NARROW_BAR if narrow else BAR)
        tail = "  ".join(part for part in (run.backend, f"{run.threads} threads" if run.threads else "") if part)
        problem = " ".join((run.problem or _last_words(run)).split())
        if narrow:
            middle = self._text(problem) if problem else Content(" ").join([progress, differs])
            self.update(Content(" ").join([name + state, middle]), layout=False)
            return
        lines = [
            Content.assemble(name, differs.stylize("bold"), "  ", state),
            progress,
            Content.styled(plain(problem or tail, self.symbols), "$differs" if problem else "$muted"),
        ]
        self.update(Content("\n   ").join(lines), layout=False)

    def _progress(self, run: RunStatus, bar: int) -> Content:
        if run.step is None:
            return Content.styled("no step yet", "$muted")
        steps = run.steps or run.step or 1
        filled = min(bar, bar * run.step // steps)
        full, empty = ("#", "-") if self.symbols.ascii else ("━", "─")
        parts = [f" {run.step}/{run.steps or '?'}"]
        if run.rate:
            parts.append(f"{run.rate:,.0f}/s" if run.rate >= 10 else f"{run.rate:.2g}/s")
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


def _last_words(run: RunStatus) -> str:
    """Return the end of the log of a run that ended badly."""
    if run.state not in ("failed", "killed"):
        return ""
    lines = [line.strip() for line in run.log if line.strip()]
    return " / ".join(lines[-2:]) or ("its process is gone, and left neither a seal nor a word" if run.state == "killed" else "")


def duration(seconds: float) -> str:
    """Return a time that a person reads at a glance."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"
