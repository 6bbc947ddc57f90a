"""Reading checkpoints in the panel: verified and compared in a thread, with progress, and given up when asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING

from textual import on, work
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from reprotui.errors import ReprotuiError
from reprotui.tui.reading import CancelledError, Counter
from reprotui.tui.screens.base import ActionScreen
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.checkpoint_table import CheckpointTable, Item

if TYPE_CHECKING:
    from reprotui.checkpoints.diff import CheckpointDifference, LeafDifference

ROWS, ROWS_SHORT = 16, 7
"""Lines of details there is room for, as the style sheet has it; what is cut is said."""


class CheckpointReading(ActionScreen):
    """What takes a while, for `CheckpointsScreen`: one at a time, never in the way of a run."""

    class Progress(Message):
        """Something is being read, or was: `item` is what is known now of a checkpoint, `text` what to say."""

        def __init__(self, text: str, item: Item | None = None, details: Sequence[str] = ()) -> None:
            super().__init__()
            self.text, self.item, self.details = text, item, list(details)

    def __init__(self) -> None:
        super().__init__()
        self.cancel = Event()
        self.busy = False

    def on_unmount(self) -> None:
        self.cancel.set()

    def say(self, text: str) -> None:
        """Say something above the list."""
        self.query_one("#checkpoints-place", Static).update(Content.styled(plain(text, self.symbols), "bold"))

    @on(Progress)
    def _progress(self, event: Progress) -> None:
        self.say(event.text)
        if event.item is not None:
            table = self.query_one(CheckpointTable)
            table.show([event.item if item.path == event.item.path else item for item in table.items])
        if event.details:
            rows = ROWS_SHORT if self.has_class("-short") else ROWS
            lines = event.details
            if len(lines) > rows:
                lines = [*lines[: rows - 1], f"and {len(lines) - rows + 1} more: reprotui checkpoint shows them all"]
            details = Content("\n").join(Content(plain(line, self.symbols)) for line in lines)
            shown = self.query_one("#checkpoints-details", Static)
            shown.set_class(event.item is None, "-columns")
            shown.update(details)

    def begin(self) -> None:
        """Note that something begins to be read."""
        self.cancel.clear()
        self.busy = True

    def do_cancel(self) -> None:
        self.cancel.set()

    def go_back(self) -> bool:
        if self.busy:
            self.cancel.set()
            return True
        return False

    def counter(self, what: str, size: int) -> Counter:
        """Return what tells how much was read of so many bytes."""
        return Counter(what, size, self.cancel, lambda text: self.post_message(self.Progress(text)))

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def verify(self, items: list[Item]) -> None:
        """Verify checkpoints, one after the other."""
        from reprotui.checkpoints.verify import verify_checkpoint

        bad = 0
        for number, item in enumerate(items, 1):
            what = f"verifying {item.label} step {item.step}" + (f", {number} of {len(items)}" if len(items) > 1 else "")
            try:
                result = verify_checkpoint(item.path, "content", progress=self.counter(what, item.size * 2))
            except CancelledError:
                self.end("cancelled")
                return
            except ReprotuiError as error:
                bad += 1
                self.post_message(self.Progress(what, replace(item, status="UNREADABLE", message=str(error)), [str(error)]))
                continue
            status = result.status.value
            bad += status != "VALID"
            found = [str(finding) for finding in result.findings]
            said = "every file and every leaf is what was saved"
            if result.findings:
                # A row has room for little: a leaf says more than a file whose name Orbax has drawn.
                first = next((finding for finding in result.findings if finding.leaf), result.findings[0])
                said = f"{first.leaf}: {first.message}" if first.leaf else f"{first.message} ({first.path})"
            shown = replace(item, status=status, message=said, content=result.content or item.content)
            details = [str(item.path), *(found or [said]), *result.notes]
            self.post_message(self.Progress(f"{what}: {status}", shown, details))
        if len(items) > 1:
            self.end(f"verified {len(items)}: " + (f"{bad} not VALID" if bad else "all VALID"))
        else:
            self.end("")

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def compare(self, a: Item, b: Item) -> None:
        """Compare two checkpoints leaf by leaf."""
        from reprotui.checkpoints.diff import diff_checkpoints

        what = f"comparing step {a.step} of {a.label} and {b.label}"
        try:
            found = diff_checkpoints(a.path, b.path, self.counter(what, a.size + b.size))
        except CancelledError:
            self.end("cancelled")
            return
        except ReprotuiError as error:
            self.post_message(self.Progress(f"{what}: cannot be read", None, [str(error)]))
            self.end("")
            return
        lines = _differences(found)
        self.post_message(self.Progress(f"{what}: {lines[0]}", None, lines))
        self.end("")

    def end(self, text: str) -> None:
        """Say the end of what was read, from its thread."""
        self.busy = False
        if text:
            self.post_message(self.Progress(text))
        self.app.call_from_thread(self.refresh_keys)


def _differences(found: CheckpointDifference) -> list[str]:
    if not found.leaves:
        return ["all leaves are equal to the bit"]
    lines = [f"{len(found.leaves)} of {found.equal + len(found.leaves)} leaves differ"]
    rows = [(leaf.path, *_difference(leaf)) for leaf in found.leaves]
    path, count, ulp = (max(len(row[column]) for row in rows) for column in range(3))
    return lines + [f"≠ {row[0]:<{path}}  {row[1]:>{count}}  {row[2]:>{ulp}}  {row[3]}".rstrip() for row in rows]


def _difference(leaf: LeafDifference) -> tuple[str, str, str]:
    """Return how many elements differ, by how much at most, and where first; else what is different."""
    elements = leaf.elements
    if elements is None:
        return leaf.kind, "", ""
    ulp = "" if elements.max_ulp is None else f"max {elements.max_ulp:,} ulp"
    return f"{elements.different:,} of {elements.elements:,}", ulp, f"first {list(elements.first_index or ())}"
