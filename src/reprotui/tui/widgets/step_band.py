"""The head of a step: whether it differs, where first, and every phase in causal order."""

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from reprotui.tui.leaves import StepLeaves
from reprotui.tui.symbols import Symbols, plain


class StepBand(Static):
    """A band coloured by what the step came to; words and signs say the same."""

    DEFAULT_CSS = """
    StepBand {
        height: auto; max-height: 5; padding: 0 1; background: $panel; color: $foreground;
        text-wrap: nowrap; text-overflow: ellipsis;
        &.-diverged { background: $verdict-differs; color: $on-verdict; }
        &.-identical { background: $equal; color: $on-verdict; }
    }
    """

    def __init__(self, symbols: Symbols, labels: Sequence[str], *, id: str | None = None) -> None:
        super().__init__("", id=id)
        self.symbols, self._labels = symbols, tuple(labels)

    def show(self, leaves: StepLeaves, first: int | None, notes: Sequence[str]) -> None:
        """Show a step.

        Args:
            leaves: the step.
            first: the first diverging step of the runs, None where there is none.
            notes: what narrows the list below, and what is being done.
        """
        alone = len(self._labels) == 1
        differing = [phase for phase, differs in leaves.phases.items() if differs]
        equal = bool(leaves.phases) and all(differs is False for differs in leaves.phases.values())
        self.set_class(bool(differing) and not alone, "-diverged")
        self.set_class(equal and not alone, "-identical")
        sign = " " if alone else self.symbols.differs if differing else self.symbols.equal if equal else self.symbols.unknown
        lines = [f"{sign}  {self._headline(leaves, differing, equal, first)}", f"   {self._phases(leaves)}"]
        lines += [f"   {leaves.problem}"] if leaves.problem else []
        if sum(leaves.calls.values()) > 1:
            lines.append("   a step of " + ", ".join(f"{count} × {name}" for name, count in leaves.calls.items()))
        lines += [f"   {' · '.join(notes)}"] if notes else []
        texts = [Content(plain(line, self.symbols)) for line in lines]
        self.update(Content("\n").join([texts[0].stylize("bold"), *texts[1:]]))

    def _headline(self, leaves: StepLeaves, differing: list[str], equal: bool, first: int | None) -> str:
        if len(self._labels) == 1:
            return f"step {leaves.step}"
        head = f"step {leaves.step} · {self._labels[1]} against {self._labels[0]}"
        if differing:
            return f"{head} · first in {differing[0]}" + (" · the first diverging step" if first == leaves.step else "")
        return head + (" · all phases equal" if equal else " · not recorded in both runs")

    def _phases(self, leaves: StepLeaves) -> str:
        marks = {True: self.symbols.differs, False: self.symbols.equal, None: self.symbols.unknown}
        parts = []
        for phase, differs in leaves.phases.items():
            own = [leaf for leaf in leaves.leaves if leaf.phase == phase]
            if len(self._labels) == 1:
                parts.append(f"{phase} {len(own)}")
                continue
            count = f" {sum(leaf.differs is True for leaf in own)}/{len(own)}" if differs else ""
            parts.append(f"{phase} {marks[differs]}{count}")
        return f"  {self.symbols.arrow}  ".join(parts)
