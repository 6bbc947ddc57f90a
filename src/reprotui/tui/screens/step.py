"""One step, leaf by leaf: phases in causal order, the tree of leaves, and the history of the leaf under the cursor."""

from collections.abc import Sequence
from typing import Protocol

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.reactive import var
from textual.widgets import Input

from reprotui.compare.steps import index_of
from reprotui.compare.timeline import PairLine, Timeline
from reprotui.run_directory import RunDirectory
from reprotui.tui.leaf_tree import CAUSAL, LeafTree
from reprotui.tui.leaves import Leaf, StepLeaves, read_step
from reprotui.tui.replaying import PairReplay
from reprotui.tui.screens import explain
from reprotui.tui.screens.base import ActionScreen, bindings
from reprotui.tui.widgets.filter_box import FilterBox
from reprotui.tui.widgets.leaf_pane import LeafPane
from reprotui.tui.widgets.leaf_table import LeafTable, checksum_text
from reprotui.tui.widgets.rows import Rows
from reprotui.tui.widgets.step_band import StepBand

ORDERS = {
    "norm": "|Δ norm|", "different": "elements that differ", "max_abs": "max |Δ|", "max_relative": "max relative |Δ|",
    "max_ulp": "max ulp",
}  # fmt: skip
"""Orders of leaves in words, by what `figure` calls them."""
PANES = ("leaves", "detail-pane")


class Race(Protocol):
    """The race that a step belongs to; `line` is the comparison of the pair, None where one run is alone."""

    @property
    def timeline(self) -> Timeline:
        """Return all runs as they are now."""
        ...

    @property
    def line(self) -> PairLine | None:
        """Return the comparison of the pair as it is now."""
        ...

    def go_to_step(self, step: int) -> None:
        """Put the cursor on a step."""

    def do_export(self) -> None:
        """Ask where a report is written to."""


class StepScreen(ActionScreen):
    """A step of the pair that a race screen shows; moving to another step moves that screen's cursor too."""

    NAME = "step"
    BINDINGS = bindings("step")
    CSS_PATH = "step.tcss"

    zoomed: var[str | None] = var(None, init=False)
    """The pane that has all the room."""

    def __init__(self, race: Race, pair: Sequence[tuple[str, RunDirectory]], step: int) -> None:
        super().__init__()
        self._race = race
        self._pair = list(pair)
        self._step = step
        self._only_different = False
        self._pattern = ""
        self._order = CAUSAL
        self._leaves: StepLeaves | None = None
        self._tree: LeafTree | None = None
        self._replay = PairReplay(self, self._pair)

    def compose(self) -> ComposeResult:
        labels = (self._pair[0][0], self._pair[-1][0])
        alone = len(self._pair) == 1
        yield StepBand(self.symbols, [label for label, _ in self._pair], id="place")
        with Horizontal(id="panes"):
            yield LeafTable(self.symbols, labels, alone, id="leaves")
            yield LeafPane(self.symbols, labels, [run.trace_path for _, run in self._pair], id="detail-pane")
        yield FilterBox(placeholder="part of a path, or a regular expression; esc ends", id="leaf-filter")
        yield self.key_bar()

    def on_mount(self) -> None:
        self.query_one(LeafTable).focus()
        self._read()

    def on_unmount(self) -> None:
        self._replay.cancel()

    def watch_zoomed(self, zoomed: str | None) -> None:
        for pane in PANES:
            self.set_class(pane == zoomed, f"-zoom-{pane}")

    def _read(self) -> None:
        self._leaves = read_step([run.trace_path for _, run in self._pair], self._step)
        self._replay.look_at(self._step)
        self.set_class(self._replay.found is not None, "-exact")
        self._grow()
        self._race.go_to_step(self._step)

    def _grow(self) -> None:
        """Make the rows anew, and put the cursor where it began."""
        assert self._leaves is not None
        table = self.query_one(LeafTable)
        table.show(self._leaves, self._make_tree(self._order), to_difference=True)
        if self._order not in table.orders:
            self._order = CAUSAL
            table.show(self._leaves, self._make_tree(CAUSAL), to_difference=True)
        self._show_place()
        self._show_detail()

    def _make_tree(self, order: str) -> LeafTree:
        assert self._leaves is not None
        self._tree = LeafTree(self._leaves, self._only_different, self._pattern, order, self._replay.leaves)
        return self._tree

    def _show_figures(self) -> None:
        """Put what was found beside the leaves, and leave cursor and branches as they are."""
        table, before = self.query_one(LeafTable), self._tree
        assert self._leaves is not None and before is not None
        if before.order != CAUSAL:
            self._grow()
            return
        before.exact = self._replay.leaves
        table.show(self._leaves, before, to_difference=False)

    def _show_place(self) -> None:
        assert self._leaves is not None
        notes = [f"sorted by {ORDERS[self._order]}"] if self._order != CAUSAL else []
        notes += ["only differing leaves"] if self._only_different else []
        notes += [text for text in (self._pattern and f"filter: {self._pattern}", self._replay.said) if text]
        self.query_one(StepBand).show(self._leaves, self._race.line.first if self._race.line else None, notes)

    def _show_detail(self) -> None:
        node = self.query_one(LeafTable).node
        self.query_one(LeafPane).show(node, self._leaves, self._race.timeline.steps, self._replay.found)

    def why_not(self, action: str) -> str | None:
        name, line = action.partition(".")[2], self._race.line
        if not action.startswith("step."):
            return None
        if name in ("next_difference", "previous_difference", "first_difference", "only_different"):
            if line is None:
                return "one run alone has nothing to differ from"
            if line.first is None and name != "only_different":
                return "the runs do not differ at any step so far"
        if name == "export" and len(self._pair) < 2:
            return "a report compares runs: open two, or a race"
        if name == "exact" and len(self._pair) < 2:
            return "one run alone: its state comes by `reprotui replay RUN --step N`"
        if name == "explain":
            return explain.why_not(self._pair, self._step)
        if name == "sort" and len(self.query_one(LeafTable).orders) < 2:
            return "nothing to sort by: x replays the step, and counts elements that differ"
        return None

    def do_exact(self) -> None:
        self._replay.begin(self._step)

    def do_explain(self) -> None:
        explain.open_explanation(self, self._pair, self._step)

    @on(PairReplay.News)
    def _replayed(self, event: PairReplay.News) -> None:
        if self._replay.take(event, self._step):
            self.set_class(True, "-exact")
            self._show_figures()
        self._show_place()
        if event.ended:
            self._show_detail()

    def go_to_step(self, step: int) -> None:
        """Show another step, or the next one that was recorded."""
        steps = self._race.timeline.steps
        self._step = int(steps[min(index_of(steps, step), len(steps) - 1)])
        self._read()

    def do_first_difference(self) -> None:
        if (line := self._race.line) is not None and line.first is not None:
            self.go_to_step(line.first)

    def do_next_difference(self) -> None:
        self._go_to_difference(backwards=False)

    def do_previous_difference(self) -> None:
        self._go_to_difference(backwards=True)

    def _go_to_difference(self, backwards: bool) -> None:
        if (step := self.find_difference(self._race.line, self._step, backwards)) is not None:
            self.go_to_step(step)

    def do_next_step(self) -> None:
        self._move(1)

    def do_previous_step(self) -> None:
        self._move(-1)

    def _move(self, by: int) -> None:
        steps = self._race.timeline.steps
        at = index_of(steps, self._step) + by
        if 0 <= at < len(steps):
            self.go_to_step(int(steps[at]))
        else:
            self.notify("this is the newest step" if by > 0 else "this is the first step", timeout=2)

    def do_only_different(self) -> None:
        self._only_different = not self._only_different
        self._grow()

    def do_sort(self) -> None:
        orders = self.query_one(LeafTable).orders
        self._sort_by(orders[(orders.index(self._order) + 1) % len(orders)])

    @on(LeafTable.Ordered)
    def _ordered(self, event: LeafTable.Ordered) -> None:
        self._sort_by(event.order)

    def _sort_by(self, order: str) -> None:
        self._order = order
        self._grow()

    def do_open_leaf(self) -> None:
        table = self.query_one(LeafTable)
        if isinstance(table.node, Leaf) and table.has_focus:
            self.zoomed = "detail-pane"
            self.query_one(LeafPane).focus()
        elif table.has_focus:
            self.do_fold()

    def do_detail(self) -> None:
        """Go to the other pane; where one has all the room, that goes along."""
        to_table = not self.query_one(LeafTable).has_focus
        if self.zoomed:
            self.zoomed = "leaves" if to_table else "detail-pane"
        (self.query_one(LeafTable) if to_table else self.query_one(LeafPane)).focus()

    def do_zoom(self) -> None:
        self.zoomed = None if self.zoomed else "leaves" if self.query_one(LeafTable).has_focus else "detail-pane"

    def do_filter(self) -> None:
        self.query_one(FilterBox).open()

    def do_fold(self, to: str = "") -> None:
        self.query_one(LeafTable).fold({"open": True, "close": False}.get(to))

    def do_expand_all(self) -> None:
        self.query_one(LeafTable).open_all()

    def do_export(self) -> None:
        self._race.do_export()

    def do_copy_value(self) -> None:
        node = self.query_one(LeafTable).node
        if not isinstance(node, Leaf):
            self.notify("put the cursor on a leaf first", timeout=3)
            return
        lines = [f"step {self._step} {node.phase} {node.path} {node.spec.dtype}{list(node.spec.shape)}"]
        for (label, _), side in zip(self._pair, (node.a, node.b), strict=False):
            lines.append(f"{label} {checksum_text(side)}")
        self.dashboard.copy("\n".join(lines), "leaf")

    def go_back(self) -> bool:
        box = self.query_one(FilterBox)
        if self._replay.busy:
            self._replay.cancel()
            return True
        if box.display:
            box.close()
            self.query_one(LeafTable).focus()
            return True
        if self.zoomed or not self.query_one(LeafTable).has_focus:
            self.zoomed = None
            self.query_one(LeafTable).focus()
            return True
        if self._pattern or self._only_different or self._order != CAUSAL:
            self._pattern, self._only_different, self._order = "", False, CAUSAL
            self._grow()
            return True
        return False

    @on(Input.Changed, "#leaf-filter")
    def _filtered(self, event: Input.Changed) -> None:
        self._pattern = event.value.strip()
        self._grow()

    @on(Input.Submitted, "#leaf-filter")
    def _submitted(self) -> None:
        self.query_one(FilterBox).display = False
        self.query_one(LeafTable).focus()

    @on(Rows.Moved, "#leaves")
    def _moved(self) -> None:
        self._show_detail()

    @on(Rows.Chosen, "#leaves")
    def _chosen(self) -> None:
        self.do_open_leaf()
