"""Reading checkpoints in the panel: verified and compared in a thread, with progress, and given up when asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

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
    from reprotui.checkpoints.signature import Signers
    from reprotui.integrity.status import Result

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
        self.signers: Signers | None = None

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

    def count_signatures_of(self, answer: str) -> bool:
        """Let the signatures of a public key, or of certificates, count from now on; of nobody where the answer is empty."""
        from reprotui.checkpoints.signature import load_signers
        from reprotui.checkpoints.signature.certificates import holds_certificates

        path = Path(answer).expanduser()
        try:
            if not answer:
                self.signers = None
            elif holds_certificates(path):
                self.signers = load_signers(certificate_chain=[path])
            else:
                self.signers = load_signers(path)
        except ReprotuiError as error:
            self.notify(str(error), severity="error", markup=False)
            return False
        self.notify(f"signatures are held against {path}" if answer else "signatures are not checked", timeout=4, markup=False)
        return True

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def sign(self, item: Item, private_key: Path) -> None:
        """Verify a checkpoint, and sign it where it is VALID."""
        from reprotui.checkpoints.sign import sign_verified

        what = f"signing {item.label} step {item.step}"
        try:
            result = sign_verified(item.path, private_key, progress=self.counter(what, item.size * 2))
        except CancelledError:
            self.end("cancelled")
            return
        except (ReprotuiError, OSError) as error:
            self.post_message(self.Progress(f"{what}: refused", None, [str(error)]))
            self.end("")
            return
        done = "signed" if result.status.value == "VALID" else f"not signed, {result.status.value}"
        self._show(item, result, f"{what}: {done}")
        self.end("")

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def verify(self, items: list[Item]) -> None:
        """Verify checkpoints, one after the other."""
        from reprotui.checkpoints.verify import verify_checkpoint

        bad = 0
        # Without a key the deepest level is asked for; with one, what was signed may be files alone.
        options: dict[str, Any] = {"level": "content"} if self.signers is None else {"level": None, "signers": self.signers}
        for number, item in enumerate(items, 1):
            what = f"verifying {item.label} step {item.step}" + (f", {number} of {len(items)}" if len(items) > 1 else "")
            try:
                result = verify_checkpoint(item.path, progress=self.counter(what, item.size * 2), **options)
            except CancelledError:
                self.end("cancelled")
                return
            except ReprotuiError as error:
                bad += 1
                self.post_message(self.Progress(what, replace(item, status="UNREADABLE", message=str(error)), [str(error)]))
                continue
            status = result.status.value
            bad += status != "VALID"
            self._show(item, result, f"{what}: {status}")
        if len(items) > 1:
            self.end(f"verified {len(items)}: " + (f"{bad} not VALID" if bad else "all VALID"))
        else:
            self.end("")

    def _show(self, item: Item, result: Result, text: str) -> None:
        """Show what a verification found, and the signature, in the checkpoint's row and below."""
        said = "every file and every leaf is what was saved" if result.level != "files" else "every file is what was saved"
        if result.findings:
            # A row has room for little: a leaf says more than a file whose name Orbax has drawn.
            first = next((finding for finding in result.findings if finding.leaf), result.findings[0])
            said = f"{first.leaf}: {first.message}" if first.leaf else f"{first.message} ({first.path})"
        details = [str(item.path), *(map(str, result.findings) if result.findings else [said])]
        signature = result.signature
        if signature is not None:
            details.append(f"signature: {signature}")
            details += [f"not signed: {'; '.join(signature.not_signed)}"] if signature.not_signed else []
        shown = replace(
            item, status=result.status.value, message=said, content=result.content or item.content,
            signature="" if signature is None else signature.brief,
        )  # fmt: skip
        self.post_message(self.Progress(text, shown, [*details, *result.notes]))

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
