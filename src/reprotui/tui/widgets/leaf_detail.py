"""One leaf in full: what it is, both checksums, norms and maxima, and its history over the steps around."""

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from reprotui.tui.leaves import Leaf, Moment
from reprotui.tui.plot import short
from reprotui.tui.symbols import Symbols, plain


class LeafDetail(Static):
    """Text about the leaf under the cursor."""

    DEFAULT_CSS = """
    LeafDetail { background: $surface; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, symbols: Symbols, labels: tuple[str, str], alone: bool, *, id: str | None = None) -> None:
        super().__init__("", id=id)
        self.symbols, self._labels, self._alone = symbols, labels, alone

    def show(
        self, leaf: Leaf | None, step: int, moments: Sequence[Moment], statistics_step: int | None,
        exact: Sequence[Content] = (),
    ) -> None:  # fmt: skip
        """Show a leaf; None shows what to do. `exact` is what a replay found about it."""
        if leaf is None:
            self.update(Content.styled("choose a leaf to see its history; space opens and closes a branch", "$muted"))
            return
        symbols = self.symbols
        what = f"  {leaf.phase} {symbols.dot} {leaf.spec.dtype}{list(leaf.spec.shape)}"
        lines = [Content.assemble((plain(leaf.path, symbols), "bold"), (what, "$muted"))]
        for label, colour, side in zip(self._labels, ("$run-a", "$run-b"), (leaf.a, leaf.b), strict=True):
            if self._alone and colour == "$run-b":
                break
            if side is None:
                text = "has no such leaf" if leaf.recorded else "this step is not recorded, or cannot be read"
            else:
                checksum = "not stored at this step" if side.checksum is None else f"{side.checksum:016x}"
                text = checksum + (
                    f"   norm {short(side.norm, 8)}   max {short(side.maximum, 8)}" if side.norm is not None else ""
                )
            lines.append(Content.assemble((f"{label}  ", f"bold {colour}"), plain(text, symbols)))
        if leaf.a and leaf.a.norm is not None and statistics_step != step:
            lines.append(Content.styled(f"   norm and max are those of step {statistics_step}", "$muted"))
        lines += exact
        for moment in moments:
            sign, colour = self._sign(moment)
            here = symbols.pointer if moment.step == step else " "
            parts = [(f"{here}{moment.step:>8} ", "bold" if moment.step == step else "$muted"), (f"{sign} ", f"bold {colour}")]
            parts.append((_hex(moment.a) + " ", "$muted" if moment.a == moment.b else "$run-a"))
            if not self._alone:
                parts.append((_hex(moment.b), "$muted" if moment.a == moment.b else "$run-b"))
            lines.append(Content.assemble(*parts))
        self.update(Content("\n").join(lines))

    def _sign(self, moment: Moment) -> tuple[str, str]:
        if self._alone:
            return " ", "$foreground"
        if moment.a is None or moment.b is None:
            return self.symbols.unknown, "$unknown"
        return (self.symbols.equal, "$equal") if moment.a == moment.b else (self.symbols.differs, "$differs")


def _hex(value: int | None) -> str:
    return "not stored      " if value is None else f"{value:016x}"
