"""The leaves of a step as a tree in columns: path, dtype and shape, checksums, norms and maxima of both runs."""

from collections.abc import Callable

from reprotui.foreign import visible
from reprotui.tui.leaves import Branch, Leaf, LeafTree, Side, StepLeaves
from reprotui.tui.plot import short
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.rows import Cell, Rows

SUM, NUMBER = 17, 11
SPEC = 20


class LeafTable(Rows):
    """A tree whose rows are drawn one by one; a hundred thousand leaves are as quick as ten."""

    def __init__(self, symbols: Symbols, labels: tuple[str, str], alone: bool, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self._labels, self._alone = labels, alone
        self._tree: LeafTree | None = None
        self._statistics_step: int | None = None
        self._statistics_fresh = True

    def show(self, step: StepLeaves, tree: LeafTree, to_difference: bool) -> None:
        """Show a tree of a step; with `to_difference` the cursor goes to the first leaf that differs."""
        self._tree, self._statistics_step = tree, step.statistics_step
        self._statistics_fresh = step.statistics_step == step.step
        self.count = len(tree.rows)
        if to_difference:
            self.scroll_to(y=0, animate=False)
            self.go_to(tree.first_difference())
        self.refresh()

    @property
    def node(self) -> Branch | Leaf | None:
        """Return what the cursor is on."""
        rows = self._tree.rows if self._tree else []
        return rows[self.cursor][1] if self.cursor < len(rows) else None

    def fold(self) -> None:
        """Open or close the branch under the cursor."""
        node = self.node
        if isinstance(node, Branch) and self._tree is not None:
            node.open = not node.open
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

    def _columns(self, width: int) -> tuple[int, bool, bool, bool]:
        """Return the width of paths, and whether there is room for dtype, norms, maxima."""
        runs = 1 if self._alone else 2
        rest = width - 3 - runs * SUM
        spec = rest >= 24 + SPEC
        rest -= SPEC if spec else 0
        norms = rest >= 24 + (runs + (runs > 1)) * NUMBER
        rest -= (runs + (runs > 1)) * NUMBER if norms else 0
        maxima = rest >= 24 + runs * NUMBER
        rest -= runs * NUMBER if maxima else 0
        return max(12, rest), spec, norms, maxima

    def heading(self, width: int) -> list[Cell]:
        path, spec, norms, maxima = self._columns(width)
        a, b = self._labels
        runs = [a] if self._alone else [a, b]
        at = f"@{self._statistics_step}" if not self._statistics_fresh and self._statistics_step is not None else ""
        parts = [Cell(f"   {'leaf':<{path}}"), *([Cell(f"{'dtype[shape]':<{SPEC}}")] if spec else [])]
        parts += [Cell(f"{'checksum ' + run:<{SUM}}") for run in runs]
        if norms:
            parts += [Cell(f"{'norm ' + run + at:>{NUMBER}}") for run in runs]
            parts += [] if self._alone else [Cell(f"{self.symbols.delta + ' norm':>{NUMBER}}")]
        if maxima:
            parts += [Cell(f"{'max ' + run + at:>{NUMBER}}") for run in runs]
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
        sign, colour = (
            (self.symbols.differs, "differs")
            if differing
            else (self.symbols.unknown, "unknown")
            if unknown
            else (self.symbols.equal, "equal")
        )
        count = len(branch.leaves)
        why = "leaf rows not stored" if all(leaf.recorded for leaf in branch.leaves) else "not recorded in both runs"
        said = f"{differing} of {count} differ" if differing else why if unknown else "equal"
        said = "" if self._alone else f"  {said}"
        leaves = f"{count} {'leaf' if count == 1 else 'leaves'}"
        sign = " " if self._alone else sign
        return [
            Cell(f"{sign} ", colour),
            Cell(f"{'  ' * depth}{arrow} "),
            Cell(branch.name, "strong"),
            Cell(f"  {leaves}", "muted"),
            Cell(said, colour),
        ]

    def _leaf(self, depth: int, leaf: Leaf, width: int, prefix: str) -> list[Cell]:
        path, spec, norms, maxima = self._columns(width)
        differs = leaf.differs
        sign, colour = {
            True: (self.symbols.differs, "differs"),
            False: (self.symbols.equal, "equal"),
            None: (self.symbols.unknown, "unknown"),
        }[differs]  # fmt: skip
        if self._alone:
            sign, colour = " ", ""
        name = visible(f"{'  ' * depth}  {leaf.path.removeprefix(prefix)}")
        if len(name) > path - 1:
            name = name[: path - 2] + ("~" if self.symbols.ascii else "…")
        sides = [("a", leaf.a)] if self._alone else [("a", leaf.a), ("b", leaf.b)]
        same = differs is False
        parts = [
            Cell(f"{sign} ", colour),
            Cell(f" {name:<{path}}"),
            *([Cell(f"{_spec(leaf):<{SPEC}}", "differs" if _specs_differ(leaf) else "muted")] if spec else []),
        ]
        parts += [Cell(f"{checksum_text(side):<{SUM}}", "muted" if same else run) for run, side in sides]
        if norms:
            parts += self._numbers(sides, lambda side: side.norm, same or not self._statistics_fresh, delta=not self._alone)
        if maxima:
            parts += self._numbers(sides, lambda side: side.maximum, same or not self._statistics_fresh, delta=False)
        return parts

    def _numbers(
        self, sides: list[tuple[str, Side | None]], value: Callable[[Side], float | None], same: bool, delta: bool
    ) -> list[Cell]:
        values = [None if side is None else value(side) for _, side in sides]
        cells = [
            Cell(f"{short(number):>{NUMBER}}", "muted" if same else run) for number, (run, _) in zip(values, sides, strict=True)
        ]
        if delta:
            a, b = values[0], values[-1]
            text = "" if a is None or b is None else "0" if a == b else short(b - a, 3)
            cells.append(Cell(f"{text:>{NUMBER}}", "muted" if same or text in ("", "0") else "differs"))
        return cells


def _spec(leaf: Leaf) -> str:
    text = f"{leaf.spec.dtype}[{','.join(map(str, leaf.spec.shape))}]"
    if _specs_differ(leaf) and leaf.a and leaf.b:
        text = f"{leaf.a.spec.dtype}{list(leaf.a.spec.shape)}|{leaf.b.spec.dtype}{list(leaf.b.spec.shape)}".replace(" ", "")
    elif _specs_differ(leaf):
        text = f"only in {'B' if leaf.a is None else 'A'}"
    return text[: SPEC - 1]


def _specs_differ(leaf: Leaf) -> bool:
    return leaf.recorded and (leaf.a is None or leaf.b is None or leaf.a.spec != leaf.b.spec)


def checksum_text(side: Side | None) -> str:
    """Return a checksum in sixteen digits, or why there is none."""
    if side is None:
        return "–"
    return "not stored" if side.checksum is None else f"{side.checksum:016x}"
