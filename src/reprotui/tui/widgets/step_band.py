"""The head of a step: whether it differs, where first, and every phase in causal order."""

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from reprotui.numbers import short
from reprotui.trace.not_finite import first_and_then, named
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
        &.-broken { background: $unknown; color: $on-verdict; }
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
        broken = [named(leaf.phase, leaf.path) for leaf in leaves.leaves if leaf.not_finite == "broken"]
        self.set_class(equal and not broken and not alone, "-identical")
        self.set_class(bool(broken) and not differing, "-broken")  # equal bits of NaN are equal, and healthy they are not
        sign = (
            "!"
            if broken and not differing
            else " "
            if alone
            else self.symbols.judge(True if differing else False if equal else None)[0]
        )
        lines = [f"{sign}  {self._headline(leaves, differing, equal, first)}", f"   {self._phases(leaves)}"]
        lines += [f"   {leaves.problem}"] if leaves.problem else []
        lines += [f"   not finite: {first_and_then(broken)}"] if broken else []
        if sum(leaves.calls.values()) > 1:
            lines.append("   a step of " + ", ".join(f"{count} × {name}" for name, count in leaves.calls.items()))
        if leaves.asked:
            lines.append("   asked before it: " + ", ".join(f"{count} × {name}" for name, count in leaves.asked.items()))
        for label, losses in zip(self._labels, leaves.losses, strict=False):
            if losses:
                lines.append(f"   loss in {label}'s {len(losses):,} iterations: from {_shown(losses[0])} to {_shown(losses[-1])}")
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
        parts = []
        for phase, differs in leaves.phases.items():
            own = [leaf for leaf in leaves.leaves if leaf.phase == phase]
            if len(self._labels) == 1:
                parts.append(f"{phase} {len(own)}")
                continue
            count = f" {sum(leaf.differs is True for leaf in own)}/{len(own)}" if differs else ""
            parts.append(f"{phase} {self.symbols.judge(differs)[0]}{count}")
        arrow, room = self.symbols.arrow, self.app.size.width - 5
        return next((line for sign in (f"  {arrow}  ", f" {arrow} ") if len(line := sign.join(parts)) <= room), arrow.join(parts))


def _shown(loss: float | str) -> str:
    return short(loss, 5) if isinstance(loss, float) else str(loss)
