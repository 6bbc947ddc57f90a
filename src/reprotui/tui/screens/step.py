"""One step, leaf by leaf: phases in causal order, the tree of leaves, and the history of the leaf under the cursor."""

from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from reprotui.compare.timeline import PairLine, index_of
from reprotui.errors import UntrustedError
from reprotui.tui.leaves import Leaf, LeafTree, StepLeaves, history, read_step
from reprotui.tui.screens.base import ActionScreen, bindings
from reprotui.tui.widgets.keybar import KeyBar
from reprotui.tui.widgets.leaf_detail import LeafDetail
from reprotui.tui.widgets.leaf_table import LeafTable, checksum_text
from reprotui.tui.widgets.rows import Rows
from reprotui.tui.widgets.step_band import StepBand

if TYPE_CHECKING:
    from reprotui.replay import StateDifference
    from reprotui.tui.screens.race_actions import RaceActions

BEFORE, AFTER = 6, 14
"""Recorded steps around this one whose checksums of a leaf are shown."""


class StepScreen(ActionScreen):
    """A step of the pair that a race screen shows; moving to another step moves that screen's cursor too."""

    NAME = "step"
    BINDINGS = bindings("step")
    CSS_PATH = "step.tcss"

    class Replayed(Message):
        """A replay goes on, in words, or ended: with a difference, or with words that say why there is none."""

        def __init__(self, found: "StateDifference | UntrustedError | str", ended: bool = False) -> None:
            super().__init__()
            self.found, self.ended = found, ended

    def __init__(self, race: "RaceActions", step: int) -> None:
        super().__init__()
        self._race = race
        self._pair = race.chosen_pair()
        self._step = step
        self._only_different = False
        self._pattern = ""
        self._leaves: StepLeaves | None = None
        self._exact: StateDifference | None = None
        self._said = ""
        self._replaying = False
        self._cancel = Event()

    def compose(self) -> ComposeResult:
        labels = (self._pair[0][0], self._pair[-1][0])
        alone = len(self._pair) == 1
        yield StepBand(self.symbols, [label for label, _ in self._pair], id="place")
        with Horizontal(id="panes"):
            yield LeafTable(self.symbols, labels, alone, id="leaves")
            with VerticalScroll(id="detail-pane", can_focus=False):
                yield LeafDetail(self.symbols, labels, alone, id="detail")
        yield Input(placeholder="part of a path, or a regular expression; esc ends", id="leaf-filter")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#leaf-filter").display = False
        self.query_one(LeafTable).focus()
        self._read()
        self.call_after_refresh(self._show_detail)  # how much of the history fits is known only now

    @property
    def _line(self) -> PairLine | None:
        status = self._race.status
        return status.timeline.pairs[self._race.pair] if status and status.timeline.pairs else None

    def on_unmount(self) -> None:
        self._cancel.set()

    def _read(self) -> None:
        self._leaves = read_step([run.trace_path for _, run in self._pair], self._step)
        if self._exact is not None and self._exact.a.step != self._step:
            self._exact, self._said = None, ""
        self._grow(to_difference=True)
        self._race.go_to_step(self._step)

    def _grow(self, to_difference: bool) -> None:
        assert self._leaves is not None
        tree = LeafTree(self._leaves, self._only_different, self._pattern)
        self.query_one(LeafTable).show(self._leaves, tree, to_difference)
        self._show_place()
        self._show_detail()

    def _show_place(self) -> None:
        assert self._leaves is not None
        notes = ["only differing leaves"] if self._only_different else []
        notes += [f"filter: {self._pattern}"] if self._pattern else []
        notes += [self._said] if self._said else []
        self.query_one(StepBand).show(self._leaves, self._line.first if self._line else None, notes)

    def _show_detail(self) -> None:
        table, detail = self.query_one(LeafTable), self.query_one(LeafDetail)
        node, leaves = table.node, self._leaves
        if not isinstance(node, Leaf) or leaves is None or self._race.status is None:
            detail.show(None, self._step, (), None)
            return
        steps = self._race.status.timeline.steps
        at = index_of(steps, self._step)
        before = BEFORE if self.query_one("#detail-pane").size.height > 16 else 1
        around = [int(step) for step in steps[max(0, at - before) : at + AFTER]]
        moments = history([run.trace_path for _, run in self._pair], node.phase, node.path, around)
        exact: Sequence[Content] = ()
        if self._exact is not None:
            from reprotui.tui.exact import describe

            exact = describe(self._exact, node, self.symbols)
        detail.show(node, self._step, moments, leaves.statistics_step, exact)

    def why_not(self, action: str) -> str | None:
        name, line = action.partition(".")[2], self._line
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
        return None

    def do_exact(self) -> None:
        if self._replaying:
            self._cancel.set()
            return
        self._begin_replay(trusted=False)

    def _begin_replay(self, trusted: bool) -> None:
        self._replaying = True
        self._cancel.clear()
        self._replay(self._step, trusted)

    @work(thread=True, exclusive=True, group="replay", exit_on_error=False)
    def _replay(self, step: int, trusted: bool) -> None:
        from reprotui.tui.exact import replay_pair

        found = replay_pair(self._pair, step, lambda text: self.post_message(self.Replayed(text)), self._cancel, trusted)
        self.post_message(self.Replayed(found, ended=True))

    @on(Replayed)
    def _replayed(self, event: Replayed) -> None:
        found = event.found
        if event.ended:
            self._replaying = False
        if isinstance(found, UntrustedError):
            self._said = "not replayed: the run was not recorded here"
            self.ask_trust(found, lambda: self._begin_replay(trusted=True))
        elif isinstance(found, str):
            self._said = found
        elif found.a.step == self._step:
            self._exact = found
            count = len(found.leaves)
            self._said = (
                f"exact: {count} of {count + found.equal} leaves differ" if count else "exact: every leaf is equal to the bit"
            )
            self.set_class(True, "-exact")
        self._show_place()
        if event.ended:
            self._show_detail()

    def go_to_step(self, step: int) -> None:
        """Show another step, or the next one that was recorded."""
        status = self._race.status
        if status is None or not len(status.timeline.steps):
            return
        steps = status.timeline.steps
        self._step = int(steps[min(index_of(steps, step), len(steps) - 1)])
        self._read()

    def do_first_difference(self) -> None:
        line = self._line
        if line is not None and line.first is not None:
            self.go_to_step(line.first)

    def do_next_difference(self) -> None:
        self._jump(backwards=False)

    def do_previous_difference(self) -> None:
        self._jump(backwards=True)

    def _jump(self, backwards: bool) -> None:
        line = self._line
        found = line.next_difference(self._step, backwards) if line else None
        if found is None:
            self.notify(f"no difference {'before' if backwards else 'behind'} step {self._step}", timeout=3)
        else:
            self.go_to_step(found)

    def do_next_step(self) -> None:
        self._move(1)

    def do_previous_step(self) -> None:
        self._move(-1)

    def _move(self, by: int) -> None:
        status = self._race.status
        assert status is not None
        steps = status.timeline.steps
        at = index_of(steps, self._step) + by
        if 0 <= at < len(steps):
            self.go_to_step(int(steps[at]))
        else:
            self.notify("this is the newest step" if by > 0 else "this is the first step", timeout=2)

    def do_only_different(self) -> None:
        self._only_different = not self._only_different
        self._grow(to_difference=True)

    def do_filter(self) -> None:
        box = self.query_one("#leaf-filter", Input)
        box.display = True
        box.focus()

    def do_toggle(self) -> None:
        self.query_one(LeafTable).fold()

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
        box = self.query_one("#leaf-filter", Input)
        if self._replaying:
            self._cancel.set()
            return True
        if box.display:
            box.value = ""
            self._end_filter()
            return True
        if self._pattern or self._only_different:
            self._pattern, self._only_different = "", False
            self._grow(to_difference=True)
            return True
        return False

    def _end_filter(self) -> None:
        self.query_one("#leaf-filter").display = False
        self.query_one(LeafTable).focus()

    @on(Input.Changed, "#leaf-filter")
    def _filtered(self, event: Input.Changed) -> None:
        self._pattern = event.value.strip()
        self._grow(to_difference=True)

    @on(Input.Submitted, "#leaf-filter")
    def _submitted(self) -> None:
        self._end_filter()

    @on(Rows.Moved, "#leaves")
    def _moved(self) -> None:
        self._show_detail()

    @on(Rows.Chosen, "#leaves")
    def _chosen(self) -> None:
        self.do_toggle()
