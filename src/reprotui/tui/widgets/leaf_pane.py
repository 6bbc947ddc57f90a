"""The pane of one leaf: what was recorded, what a replay found, and the elements, which are read in a thread."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.worker import get_current_worker

from reprotui.compare.steps import Steps, index_of
from reprotui.tui.leaf_tree import Branch
from reprotui.tui.leaves import Leaf, StepLeaves, history
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.leaf_detail import LeafDetail
from reprotui.tui.widgets.scroll import Scroll

if TYPE_CHECKING:
    from reprotui.replay import StateDifference
    from reprotui.tui.exact import LeafPicture

BEFORE, AFTER = 6, 14
"""Recorded steps around this one whose checksums of a leaf are shown."""
WAIT = 0.05
"""Seconds before the elements under a cursor are read: one that is moved on reads nothing."""


class LeafPane(Scroll):
    """Show the leaf under the cursor.

    Args:
        symbols: the signs of this terminal.
        labels: of A and of the other run.
        traces: theirs; one alone has one.
    """

    class Read(Message):
        """The elements of a leaf were read."""

        def __init__(self, difference: "StateDifference", place: tuple[str, str], seen: "LeafPicture") -> None:
            super().__init__()
            self.difference, self.place, self.seen = difference, place, seen

    def __init__(
        self, symbols: Symbols, labels: tuple[str, str], traces: Sequence[Path], *, id: str | None = None
    ) -> None:  # fmt: skip
        super().__init__(id=id)
        self.symbols, self._labels, self._traces = symbols, labels, list(traces)
        self._leaf: Leaf | None = None
        self._leaves: StepLeaves | None = None
        self._steps: Steps = range(0)
        self._difference: StateDifference | None = None
        self._seen: dict[tuple[str, str], LeafPicture] = {}

    def compose(self) -> ComposeResult:
        yield LeafDetail(self.symbols, self._labels, len(self._traces) == 1, id="detail")

    def show(
        self, node: Branch | Leaf | None, leaves: StepLeaves | None, steps: Steps, difference: "StateDifference | None"
    ) -> None:
        """Show what is under the cursor of a step.

        Args:
            node: that; a branch says nothing.
            leaves: the step.
            steps: all that were recorded, for the history.
            difference: what a replay of both runs found at this step.
        """
        if difference is not self._difference:
            self._difference, self._seen = difference, {}
        leaf = node if isinstance(node, Leaf) else None
        if leaf is not self._leaf:
            self.scroll_home(animate=False)
        self._leaf, self._leaves, self._steps = leaf, leaves, steps
        self._draw()

    def on_resize(self) -> None:
        """Draw again: how many blocks stand side by side, and how much of the history there is, follows from the room."""
        self._draw()

    def _draw(self) -> None:
        detail, leaf, leaves = self.query_one(LeafDetail), self._leaf, self._leaves
        width = self.scrollable_content_region.width - 2
        if leaf is None or leaves is None:
            detail.show(None, 0, (), None, width)
            return
        at = index_of(self._steps, leaves.step)
        before = BEFORE if self.size.height > 16 else 1
        around = [int(step) for step in self._steps[max(0, at - before) : at + AFTER]]
        moments = history(self._traces, leaf.phase, leaf.path, around)
        detail.show(leaf, leaves.step, moments, leaves.statistics_step, width, self._exact(leaf, width))

    def _exact(self, leaf: Leaf, width: int) -> Sequence[Sequence[Content]]:
        if self._difference is None:
            return ()
        from reprotui.tui.exact import describe
        from reprotui.tui.widgets.leaf_detail import COLUMN

        place = (leaf.phase, leaf.path)
        found = next((delta for delta in self._difference.leaves if (delta.phase, delta.path) == place), None)
        if found is not None and found.elements is not None and place not in self._seen:
            self.set_timer(WAIT, lambda: self._read(self._difference, place) if self._leaf is leaf else None)
        return describe(found, self._seen.get(place), self.symbols, min(width, COLUMN - 2) if width < 2 * COLUMN else COLUMN - 2)

    @work(thread=True, exclusive=True, group="leaf", exit_on_error=False)
    def _read(self, difference: "StateDifference", place: tuple[str, str]) -> None:
        from reprotui.tui.exact import picture

        found = next(delta for delta in difference.leaves if (delta.phase, delta.path) == place)
        seen = picture(difference, found)
        if not get_current_worker().is_cancelled:
            self.post_message(self.Read(difference, place, seen))

    def on_leaf_pane_read(self, event: Read) -> None:
        if event.difference is self._difference:
            self._seen[event.place] = event.seen
            if self._leaf is not None and (self._leaf.phase, self._leaf.path) == event.place:
                self._draw()
