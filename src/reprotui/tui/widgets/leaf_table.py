"""The leaves of a step as a tree in columns: path, dtype and shape, checksums, and figures of what was recorded or replayed."""

from rich.cells import cell_len
from textual import events
from textual.message import Message
from textual.strip import Strip

from reprotui.trace.not_finite import named
from reprotui.tui.leaf_tree import CAUSAL, Branch, LeafTree
from reprotui.tui.leaves import Leaf, Side, StepLeaves
from reprotui.tui.symbols import Symbols
from reprotui.tui.text import fit, fit_path
from reprotui.tui.widgets import leaf_columns
from reprotui.tui.widgets.leaf_columns import Column, Layout
from reprotui.tui.widgets.rows import Cell, Rows


class LeafTable(Rows):
    """A tree whose rows are drawn one by one; a hundred thousand leaves are as quick as ten.

    The heading of the phase stays in sight while its leaves are scrolled through.
    """

    class Ordered(Message):
        """The heading of a column was clicked: its leaves are wanted in the order of `order`."""

        def __init__(self, order: str) -> None:
            super().__init__()
            self.order = order

    def __init__(self, symbols: Symbols, labels: tuple[str, str], alone: bool, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self._labels, self._alone = labels, alone
        self._tree: LeafTree | None = None
        self._groups: list[list[Column]] = []

    def show(self, step: StepLeaves, tree: LeafTree, to_difference: bool) -> None:
        """Show a tree of a step; with `to_difference` the cursor goes to the first leaf that differs."""
        labels = self._labels[:1] if self._alone else self._labels
        self._tree = tree
        self._groups = (
            leaf_columns.exact_columns(self.symbols)
            if tree.exact is not None
            else leaf_columns.recorded_columns(step, labels, self.symbols)
        )
        self.count = len(tree.rows)
        if to_difference:
            self.scroll_to(y=0, animate=False)
            self.go_to(0 if tree.order != CAUSAL else tree.first_difference())
        self.refresh()

    @property
    def orders(self) -> list[str]:
        """Return the orders that can be asked for now, the causal one first."""
        return [CAUSAL, *(column.order for group in self._groups for column in group if column.order)]

    @property
    def node(self) -> Branch | Leaf | None:
        """Return what the cursor is on."""
        rows = self._tree.rows if self._tree else []
        return rows[self.cursor][1] if self.cursor < len(rows) else None

    def go_to_leaf(self, leaf: Leaf) -> None:
        """Put the cursor on a leaf where it is among the rows."""
        for at, (_, node) in enumerate(self._tree.rows if self._tree else ()):
            if isinstance(node, Leaf) and (node.phase, node.path) == (leaf.phase, leaf.path):
                self.go_to(at)

    def fold(self, to: bool | None = None) -> None:
        """Open or close the branch under the cursor; None does what it is not."""
        node = self.node
        if isinstance(node, Branch) and self._tree is not None:
            node.open = not node.open if to is None else to
            self._refold()

    def open_all(self) -> None:
        """Open every branch, or close all."""
        if self._tree is not None:
            self._tree.open_all()
            self._refold()

    def _refold(self) -> None:
        assert self._tree is not None
        node = self.node
        self._tree.refresh()
        self.count = len(self._tree.rows)
        self.cursor = next((at for at, (_, other) in enumerate(self._tree.rows) if other is node), 0)
        self.refresh()

    def _stays(self, top: int) -> int | None:
        """Return the row of the phase that is drawn over the row `top`, the first that is seen; None where it is that row."""
        row = self._tree.phase_row(top) if self._tree else None
        return None if row == top else row

    def go_to(self, index: int, by_hand: bool = False) -> None:
        super().go_to(index, by_hand)
        top = self.scroll_offset.y
        if self.cursor == top and self._stays(top) is not None:
            self.scroll_to(y=top - 1, animate=False)

    def render_line(self, y: int) -> Strip:
        row = self._stays(self.scroll_offset.y) if y == self.HEADINGS else None
        if row is None or row >= self.count:
            return super().render_line(y)
        width = self.scrollable_content_region.width
        return self._strip(self.cells(row, width), width, "cursor" if row == self.cursor else "").apply_meta({"row": row})

    def on_click(self, event: events.Click) -> None:
        if event.y >= self.HEADINGS:
            return  # a row: what all rows do
        event.prevent_default()
        place = self._layout(width := self.scrollable_content_region.width)
        end = width
        for column in reversed(place.columns):
            if end - column.width <= event.x < end and column.order:
                self.post_message(self.Ordered(column.order))
                return
            end -= column.width
        self.post_message(self.Ordered(CAUSAL))

    def _layout(self, width: int) -> Layout:
        exact = self._tree is not None and self._tree.exact is not None
        return leaf_columns.layout(width, self._groups, 1 if self._alone else 2, exact)

    def heading(self, width: int) -> list[Cell]:
        place, order = self._layout(width), self._tree.order if self._tree else CAUSAL
        labels = self._labels[:1] if self._alone else self._labels
        title = "checksum " if place.checksum == leaf_columns.SUM else "sum "
        parts = [Cell(f"   {'leaf':<{place.path}}"), Cell(f"{'dtype[shape]':<{place.spec}}" if place.spec else "")]
        parts += [Cell(f"{title + run:<{place.checksum}}") for run in labels if place.checksum]
        for column in place.columns:
            mark = self.symbols.open if column.order and column.order == order else ""
            parts.append(Cell(f"{column.title + mark:>{column.width}}", "strong" if mark else ""))
        return parts

    def cells(self, index: int, width: int) -> list[Cell]:
        assert self._tree is not None
        depth, node = self._tree.rows[index]
        if isinstance(node, Branch):
            return self._branch(depth, node, width)
        return self._leaf(depth, node, width, self._tree.prefix_of(index))

    def _branch(self, depth: int, branch: Branch, width: int) -> list[Cell]:
        arrow = self.symbols.open if branch.open else self.symbols.closed
        unknown = any(leaf.differs is None for leaf in branch.leaves)
        differing = branch.differing
        sign, colour = self.symbols.judge(True if differing else None if unknown else False)
        count = len(branch.leaves)
        why = "leaf rows not stored" if all(leaf.recorded for leaf in branch.leaves) else "not recorded in both runs"
        said = f"{differing} of {count} differ" if differing else why if unknown else "equal"
        leaves = f"  {count} {'leaf' if count == 1 else 'leaves'}"
        broken = sum(leaf.not_finite == "broken" for leaf in branch.leaves)
        parts = [
            Cell(f"{' ' if self._alone else sign} ", colour), Cell(f"{'  ' * depth}{arrow} "), Cell(branch.name, "strong"),
            Cell(leaves, "muted"), Cell("" if self._alone else f"  {said}", colour),
            Cell(f"  {broken} not finite" if broken else "", "unknown"),
        ]  # fmt: skip
        place = self._layout(width)
        assert self._tree is not None
        if self._tree.exact is None:
            return parts
        figures = [leaf_columns.branch_figure(column, branch, self._tree.exact) for column in place.columns]
        room = width - sum(column.width for column in place.columns)
        used = sum(cell_len(cell.text) for cell in parts)
        if used > room:
            parts = parts[:3]  # how many differ stands in its column
            used = sum(cell_len(cell.text) for cell in parts)
        return [*parts, Cell(" " * (room - used)), *figures]

    def _leaf(self, depth: int, leaf: Leaf, width: int, prefix: str) -> list[Cell]:
        assert self._tree is not None
        place = self._layout(width)
        sign, colour = (" ", "") if self._alone else self.symbols.judge(leaf.differs)
        if self._tree.order == CAUSAL:
            name = fit(f"{'  ' * depth}  {leaf.path.removeprefix(prefix)}", place.path - 1, self.symbols)
        else:
            name = fit_path(named(leaf.phase, leaf.path), place.path - 1, self.symbols)
        sides = [("a", leaf.a)] if self._alone else [("a", leaf.a), ("b", leaf.b)]
        same = leaf.differs is False
        parts = [
            Cell(sign, colour),
            Cell("!" if leaf.not_finite else " ", "unknown" if leaf.not_finite == "broken" else "muted"),
            Cell(f" {name} "),
            Cell(f"{_spec(leaf):<{place.spec}}" if place.spec else "", "differs" if _specs_differ(leaf) else "muted"),
        ]
        if place.checksum:
            parts += [Cell(_sum(side, place.checksum), "muted" if same else run) for run, side in sides]
        return [*parts, *(leaf_columns.leaf_figure(column, leaf, self._tree.exact) for column in place.columns)]


def _spec(leaf: Leaf) -> str:
    text = f"{leaf.spec.dtype}[{','.join(map(str, leaf.spec.shape))}]"
    if _specs_differ(leaf) and leaf.a and leaf.b:
        text = f"{leaf.a.spec.dtype}{list(leaf.a.spec.shape)}|{leaf.b.spec.dtype}{list(leaf.b.spec.shape)}".replace(" ", "")
    elif _specs_differ(leaf):
        text = f"only in {'B' if leaf.a is None else 'A'}"
    return text[: leaf_columns.SPEC - 1]


def _specs_differ(leaf: Leaf) -> bool:
    return leaf.recorded and (leaf.a is None or leaf.b is None or leaf.a.spec != leaf.b.spec)


def _sum(side: Side | None, width: int) -> str:
    return f"{checksum_text(side)[: width - 1]:<{width}}"


def checksum_text(side: Side | None) -> str:
    """Return a checksum in sixteen digits, or why there is none."""
    if side is None:
        return "–"
    return "not stored" if side.checksum is None else f"{side.checksum:016x}"
