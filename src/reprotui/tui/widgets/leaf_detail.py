"""One leaf in full: what it is, checksums, norms, elements of an exact difference, and its history over the steps around."""

from collections.abc import Iterator, Sequence

from textual.content import Content
from textual.widgets import Static

from reprotui.numbers import short
from reprotui.tui.leaves import Leaf, Moment
from reprotui.tui.symbols import Symbols, plain

COLUMN = 58
"""Cells of a block: where there is room for two, blocks stand side by side."""
NOT_FINITE = {"broken": "holds NaN or infinity", "meant": "holds NaN or infinity, as given"}


class LeafDetail(Static):
    """Text about the leaf under the cursor, in blocks that flow into columns."""

    DEFAULT_CSS = """
    LeafDetail { background: $surface; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, symbols: Symbols, labels: tuple[str, str], alone: bool, *, id: str | None = None) -> None:
        super().__init__("", id=id)
        self.symbols, self._labels, self._alone = symbols, labels, alone

    def show(
        self, leaf: Leaf | None, step: int, moments: Sequence[Moment], statistics_step: int | None, width: int,
        exact: Sequence[Sequence[Content]] = (),
    ) -> None:  # fmt: skip
        """Show a leaf; None shows what to do. `exact` are blocks of what a replay found about it."""
        if leaf is None:
            self.update(Content.styled("choose a leaf; enter gives it all the room, space opens and closes a branch", "$muted"))
            return
        blocks = [list(self._leaf(leaf, step, statistics_step)), *exact, [self._moment(moment, step) for moment in moments]]
        lines = beside([block for block in blocks if block], max(1, width // COLUMN))
        self.update(Content("\n").join(lines))

    def _leaf(self, leaf: Leaf, step: int, statistics_step: int | None) -> Iterator[Content]:
        symbols = self.symbols
        what = f"  {leaf.phase} {symbols.dot} {leaf.spec.dtype}{list(leaf.spec.shape)}"
        yield Content.assemble((plain(leaf.path, symbols), "bold"), (what, "$muted"))
        for label, colour, side in zip(self._labels, ("$run-a", "$run-b"), (leaf.a, leaf.b), strict=True):
            if self._alone and colour == "$run-b":
                break
            said = ""
            if side is None:
                text = "has no such leaf" if leaf.recorded else "this step is not recorded, or cannot be read"
            else:
                text = "not stored at this step" if side.checksum is None else f"{side.checksum:016x}"
                text += f"  norm {short(side.norm, 8)}  max {short(side.maximum, 8)}" if side.norm is not None else ""
                said = NOT_FINITE.get(side.not_finite, "")
            yield Content.assemble((f"{label}  ", f"bold {colour}"), plain(text, symbols))
            if said:
                yield Content.styled(f"   ! {said}", "$unknown" if side and side.not_finite == "broken" else "$muted")
        if leaf.a and leaf.a.norm is None and statistics_step is not None:
            yield Content.styled(f"   norm and max were taken last at step {statistics_step}", "$muted")

    def _moment(self, moment: Moment, step: int) -> Content:
        sign, colour = self._sign(moment)
        here = self.symbols.pointer if moment.step == step else " "
        parts = [(f"{here}{moment.step:>8} ", "bold" if moment.step == step else "$muted"), (f"{sign} ", f"bold {colour}")]
        parts.append((_hex(moment.a) + " ", "$muted" if moment.a == moment.b else "$run-a"))
        if not self._alone:
            parts.append((_hex(moment.b), "$muted" if moment.a == moment.b else "$run-b"))
        return Content.assemble(*parts)

    def _sign(self, moment: Moment) -> tuple[str, str]:
        if self._alone:
            return " ", "$foreground"
        sign, colour = self.symbols.judge(None if moment.a is None or moment.b is None else moment.a != moment.b)
        return sign, f"${colour}"


def beside(blocks: Sequence[Sequence[Content]], columns: int) -> list[Content]:
    """Return lines with the blocks in so many columns of about the same height, in their order down and then right."""
    height = sum(len(block) + 1 for block in blocks) / columns
    stacks: list[list[Content]] = [[]]
    for block in blocks:
        if stacks[-1] and len(stacks) < columns and len(stacks[-1]) + (len(block) + 1) / 2 > height:
            stacks.append([])
        stacks[-1] += [Content(""), *block] if stacks[-1] and columns > 1 else list(block)
    lines = []
    for at in range(max(map(len, stacks), default=0)):
        parts: list[Content] = []
        for stack in stacks[:-1]:
            line = stack[at] if at < len(stack) else Content("")
            parts += [line.truncate(COLUMN - 2, ellipsis=True), Content(" " * max(0, COLUMN - min(line.cell_length, COLUMN - 2)))]
        parts += [stacks[-1][at]] if at < len(stacks[-1]) else []
        lines.append(Content("").join(parts))
    return lines


def _hex(value: int | None) -> str:
    return "not stored      " if value is None else f"{value:016x}"
