"""The verdict, largest thing on the screen: a band with the headline, the cause, and what it rests on."""

from textwrap import wrap

from textual.content import Content
from textual.geometry import Region
from textual.reactive import var
from textual.widget import Widget

from reprotui.compare import Verdict
from reprotui.race.status import RaceStatus
from reprotui.tui.symbols import Symbols, plain


class VerdictBand(Widget):
    """A coloured band; its classes (`-identical`, `-diverged`, …) give the colour, its words the meaning."""

    DEFAULT_CSS = """
    VerdictBand {
        height: auto; padding: 0 1; background: $panel; color: $foreground; text-wrap: wrap;
        &.-identical { background: $equal; color: $on-verdict; }
        &.-diverged { background: $verdict-differs; color: $on-verdict; }
        &.-incomplete, &.-incomparable, &.-broken { background: $unknown; color: $on-verdict; }
        &.-so-far { background: $panel; color: $foreground; }
    }
    """
    status: var[RaceStatus | None] = var(None, init=False)
    pair: var[int] = var(0)
    """Which of the verdicts is told below the headline, where there are several."""
    INDENT = "   "
    """Before all lines but the headline, also where one goes on below itself."""
    KINDS = ("identical", "diverged", "incomplete", "incomparable", "so-far", "broken")

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.symbols = symbols
        self._head, self._lines = "", list[str]()
        self._shown: list[Content] = []

    def watch_status(self, status: RaceStatus | None) -> None:
        if status is None:
            return
        verdict = status.verdict
        so_far = status.alive and (verdict is None or verdict.kind == "incomplete")
        torn = any(run.torn for run in status.runs)
        kind = "so-far" if so_far or verdict is None else verdict.tone
        if (so_far or verdict is None or verdict.kind == "identical") and _broken(status):
            kind = "broken"  # equal bits of NaN are equal, and healthy they are not
        if kind == "so-far" and any(run.standing.ended_badly for run in status.runs):
            kind = "incomplete"  # the others go on, and this one never comes to its end
        kind = "diverged" if torn else kind
        for name in self.KINDS:
            self.set_class(name == kind, f"-{name}")
        sign = {
            "broken": "!",
            "identical": self.symbols.equal,
            "diverged": self.symbols.differs,
            "so-far": self.symbols.equal,
        }.get(kind, self.symbols.unknown)
        if so_far and not torn and (verdict is None or verdict.equal_through is None):
            sign = self.symbols.unknown
        if verdict is not None and verdict.kind == "diverged":
            sign = self.symbols.near if kind == "identical" else self.symbols.differs
        self._head, self._lines = f"{sign}  {status.headline}", self._explain(status)
        self._write()

    def on_resize(self) -> None:
        self._write()

    def _write(self) -> None:
        """Show the headline and the lines below it, as wide as the band is now."""
        width = self.content_size.width
        lines = [Content.styled(plain(self._head, self.symbols), "bold")] if self._head else []
        for text in self._lines:
            text = plain(text, self.symbols)
            parts = wrap(text, max(1, width - len(self.INDENT))) if width else [text]
            lines += [Content(f"{self.INDENT}{part}") for part in parts or [""]]
        before, self._shown = self._shown, lines
        alike = len(before) == len(lines)
        changed = [row for row, new in enumerate(lines) if not (alike and before[row].is_same(new))]
        if not alike or (changed and any(line.cell_length > width for line in lines)):
            self.refresh(layout=True)  # only for another number of lines: this is called many times a second
        elif changed:
            self.refresh(*(Region(0, row, width, 1) for row in changed))

    def render(self) -> Content:
        return Content("\n").join(self._shown)

    def watch_pair(self) -> None:
        self.watch_status(self.status)

    def _explain(self, status: RaceStatus) -> list[str]:
        torn = [f"{run.label}: {run.torn}" for run in status.runs if run.torn] if status.verdicts else []
        return [*torn[:2], *self._explained(status)]

    def _explained(self, status: RaceStatus) -> list[str]:
        verdict = status.verdict
        if len(status.verdicts) > 1:
            verdict = status.verdicts[self.pair]
            return [f"{verdict.b} against {verdict.a}: {verdict.headline_while(status.alive)}", *self._why(status, verdict)]
        return self._why(status, verdict)

    def _why(self, status: RaceStatus, verdict: Verdict | None) -> list[str]:
        if verdict is None or verdict.kind != "diverged":
            lines = [f"{run.label}: {run.problem}" for run in status.runs if run.problem][:2]
            if verdict and verdict.kind == "identical":
                count = len(status.timeline.pairs[self.pair].steps)
                ends = ", and so do the digests of the final states" if verdict.ends_equal else ""
                lines.append(f"all checksums of {count:,} recorded steps agree{ends}")
            return [*lines, *(verdict.notes[:1] if verdict else ())]
        if verdict.cause is None:
            return ["" if status.judged else "looking for the cause …"]
        lines = [verdict.cause.sentence]
        lines += [f"{name}: {text}" for name, text in (verdict.distance.lines if verdict.distance else ())]
        if verdict.leaves:
            shown = ", ".join(leaf.path for leaf in verdict.leaves[:3])
            lines.append(f"first: {shown}" + (f" and {len(verdict.leaves) - 3} more" if len(verdict.leaves) > 3 else ""))
        if verdict.cause.unrelated:
            lines.append(f"differs too, but does not explain it: {'; '.join(verdict.cause.unrelated)}")
        return lines


def _broken(status: RaceStatus) -> bool:
    """Say whether a run stands at NaN or infinity."""
    return any(run.not_finite is not None and run.not_finite.until is None for run in status.runs)
