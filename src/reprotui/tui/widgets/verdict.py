"""The verdict, largest thing on the screen: a band with the headline, the cause, and what it rests on."""

from textual.content import Content
from textual.widgets import Static

from reprotui.race.monitor import RaceStatus
from reprotui.tui.symbols import Symbols, plain


class VerdictBand(Static):
    """A coloured band; its classes (`-identical`, `-diverged`, …) give the colour, its words the meaning."""

    DEFAULT_CSS = """
    VerdictBand {
        height: auto; padding: 0 1; background: $panel; color: $foreground; text-wrap: wrap;
        &.-identical { background: $equal; color: $on-verdict; }
        &.-diverged { background: $verdict-differs; color: $on-verdict; }
        &.-incomplete, &.-incomparable { background: $unknown; color: $on-verdict; }
        &.-so-far { background: $panel; color: $foreground; }
    }
    """
    KINDS = ("identical", "diverged", "incomplete", "incomparable", "so-far")

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__("", id=id)
        self.symbols = symbols
        self._shown = Content("")

    def show(self, status: RaceStatus) -> None:
        """Say what a race has come to."""
        verdict = status.verdict
        so_far = status.alive and (verdict is None or verdict.kind == "incomplete")
        kind = "so-far" if so_far or verdict is None else verdict.kind
        for name in self.KINDS:
            self.set_class(name == kind, f"-{name}")
        sign = {"identical": self.symbols.equal, "diverged": self.symbols.differs, "so-far": self.symbols.equal}.get(
            kind, self.symbols.unknown
        )
        if so_far and (verdict is None or verdict.equal_through is None):
            sign = self.symbols.unknown
        against = f"{verdict.b} against {verdict.a}: " if verdict and len(status.verdicts) > 1 else ""
        lines = [Content.styled(plain(f"{sign}  {against}{status.headline}", self.symbols), "bold")]
        lines += [Content(plain(f"   {text}", self.symbols)) for text in self._explain(status)]
        content = Content("\n").join(lines)
        if content != self._shown:
            # A new layout only for another number of lines: this is called many times a second.
            layout = (
                len(content.plain.splitlines()) != len(self._shown.plain.splitlines()) or content.cell_length > self.size.width
            )
            self._shown = content
            self.update(content, layout=layout)

    def _explain(self, status: RaceStatus) -> list[str]:
        verdict = status.verdict
        if verdict is None or verdict.kind != "diverged":
            lines = [f"{run.label}: {run.problem}" for run in status.runs if run.problem][:2]
            if verdict and verdict.kind == "identical":
                count = len(status.timeline.pairs[0].steps)
                lines.append(f"all checksums of {count:,} recorded steps agree, and so do the digests of the final states")
            return [*lines, *_nan(status), *(verdict.notes[:1] if verdict else ())]
        if verdict.cause is None:
            return ["" if status.judged else "looking for the cause …"]
        lines = [verdict.cause.sentence]
        if verdict.leaves:
            shown = ", ".join(leaf.path for leaf in verdict.leaves[:3])
            lines.append(f"first: {shown}" + (f" and {len(verdict.leaves) - 3} more" if len(verdict.leaves) > 3 else ""))
        if verdict.cause.unrelated:
            lines.append(f"differs too, but does not explain it: {'; '.join(verdict.cause.unrelated)}")
        return [*lines, *_nan(status)]


def _nan(status: RaceStatus) -> list[str]:
    """Say from which step on a loss is NaN; a person who sees an empty chart looks here."""
    since = {run.label: line.nan_since for run, line in zip(status.runs, status.timeline.runs, strict=True)}
    named = ", ".join(f"{label} since step {step}" for label, step in since.items() if step is not None)
    return [f"the loss is NaN: {named}"] if named else []
