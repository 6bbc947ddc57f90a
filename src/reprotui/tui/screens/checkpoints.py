"""The checkpoints of the runs on the race screen: what is there, whether it is what was saved, and how two differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from textual import getters, on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from reprotui.errors import ReprotuiError, UntrustedError
from reprotui.run_directory import RunDirectory
from reprotui.tui import checkpoints
from reprotui.tui.checkpoints import Found, Item
from reprotui.tui.reading import CancelledError, Counter
from reprotui.tui.screens.ask import AskScreen
from reprotui.tui.screens.base import ActionScreen, bindings
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.checkpoint_table import CheckpointTable
from reprotui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from reprotui.checkpoints.signature import Signers

SAVE_POLL_SECONDS = 0.25
"""How often the panel looks for a checkpoint that it asked for."""
ROWS, ROWS_SHORT = 16, 7
"""Lines of details there is room for, as the style sheet has it; what is cut is said."""


class CheckpointsScreen(ActionScreen):
    """List, verify and compare; reading happens in a thread, can be cancelled, and never stands in a run's way."""

    NAME = "checkpoints"
    BINDINGS = bindings("checkpoints")
    CSS_PATH = "checkpoints.tcss"

    table = getters.query_one(CheckpointTable)
    details = getters.query_one("#checkpoints-details", Static)

    class News(Message):
        """Something is being read, or was; a message, so that the last word comes behind what the thread said before."""

        def __init__(self, text: str, found: Found | None = None) -> None:
            super().__init__()
            self.text, self.found = text, found

    def __init__(self, runs: Sequence[tuple[str, RunDirectory]], checked: dict[Path, Item]) -> None:
        super().__init__()
        self._runs = list(runs)
        self._checked = checked
        """What was found by reading, kept by who opened this: for the next time, and for the report."""
        self._cancel, self._busy = Event(), False
        self._signers: Signers | None = None
        self._read_lines: dict[Path, Sequence[str]] = {}

    def compose(self) -> ComposeResult:
        yield Static("checkpoints are being listed …", id="checkpoints-place")
        yield CheckpointTable(self.symbols, id="checkpoints")
        yield Static("", id="checkpoints-details")
        yield self.key_bar()

    def on_mount(self) -> None:
        self.table.focus()
        self._list()

    def on_unmount(self) -> None:
        self._cancel.set()

    @work(exclusive=True, group="list", exit_on_error=False)
    async def _list(self) -> None:
        items = await asyncio.to_thread(checkpoints.list_items, self._runs, self._signers)
        # What was verified stays so on the screen as long as size and digest are what they were.
        kept = [checkpoints.keep_status(item, self._checked.get(item.path)) for item in items]
        for item in kept:
            if item.path in self._checked and item != self._checked[item.path] and not item.status:
                del self._checked[item.path]  # another one stands in its place
        self.table.show(kept)
        self._read_lines = {item.path: self._read_lines.get(item.path, ()) for item in self.table.items if item.status}
        count, runs = len(items), len(self._runs)
        how = "" if count else ": save with --save-every N, or s while it runs"
        self._say(f"{count} checkpoint{'' if count == 1 else 's'} of {runs} run{'' if runs == 1 else 's'}{how}")
        self._detail()
        self.refresh_keys()

    do_refresh = _list

    @on(Rows.Moved, "#checkpoints")
    def _detail(self) -> None:
        """Show what is known of the checkpoint under the cursor, and of the others at its step."""
        if (item := self._item) is not None:
            self._lines(checkpoints.described(item, self.table.items, self._read_lines.get(item.path, ())))

    def _say(self, text: str) -> None:
        self.query_one("#checkpoints-place", Static).update(Content.styled(plain(text, self.symbols), "bold"))

    @on(News)
    def _show(self, news: News) -> None:
        self._say(news.text)
        item, lines = (news.found.item, news.found.details) if news.found else (None, ())
        if item is not None:
            self._read_lines[item.path], self._checked[item.path] = lines, item
            self.table.show([item if item.path == other.path else other for other in self.table.items])
            self._detail()
        elif lines:
            self._lines(lines)

    def _lines(self, lines: Sequence[str]) -> None:
        rows = ROWS_SHORT if self.has_class("-short") else ROWS
        if len(lines) > rows:
            lines = [*lines[: rows - 1], f"and {len(lines) - rows + 1} more: reprotui checkpoint shows them all"]
        self.details.update(Content("\n").join(Content(plain(line, self.symbols)) for line in lines))

    def _tell(self, text: str, found: Found | None = None) -> None:
        self.post_message(self.News(text, found))

    def _begin(self, reading: Coroutine[Any, Any, None]) -> None:
        """Begin to read; one thing at a time."""
        self._cancel.clear()
        self._busy = True
        self.run_worker(self._to_the_end(reading), group="read", exclusive=True, exit_on_error=False)

    async def _to_the_end(self, reading: Coroutine[Any, Any, None]) -> None:
        try:
            await reading
        except CancelledError:
            self._tell("cancelled")
        finally:
            self._busy = False
            self.refresh_keys()

    def _counter(self, what: str, size: int) -> Counter:
        return Counter(what, size, self._cancel, self._tell)

    async def _read(self, what: str, size: int, call: Callable[[Counter], Found], refused: str = "refused") -> None:
        """Read something in a thread, and say what was found, or why nothing was."""
        try:
            found = await asyncio.to_thread(call, self._counter(what, size))
        except (ReprotuiError, OSError) as error:
            self._tell(f"{what}: {refused}", Found("", None, [str(error)]))
        else:
            self._tell(f"{what}: {found.text}", found)

    async def _verify(self, items: Sequence[Item]) -> None:
        bad = 0
        for number, item in enumerate(items, 1):
            what = f"verifying {item.label} step {item.step}" + (f", {number} of {len(items)}" if len(items) > 1 else "")
            counter = self._counter(what, item.size * 2)
            found = await asyncio.to_thread(checkpoints.verify, item, self._signers, counter)
            bad += found.text != "VALID"
            self._tell(f"{what}: {found.text}" if found.text else what, found)
        if len(items) > 1:
            self._tell(f"verified {len(items)}: " + (f"{bad} not VALID" if bad else "all VALID"))

    async def _restore(self, item: Item, answer: str, trusted: bool = False) -> None:
        assert item.step is not None
        what, run = f"restoring step {item.step} of {item.label}", self._runs[item.run][1].path
        self._tell(f"{what} …")
        try:
            into, counter = self.dashboard.runs_directory, self._counter(what, item.size * 2)
            started = await asyncio.to_thread(checkpoints.restore, run, item.step, answer, into, counter, trusted)
        except UntrustedError as error:
            self._tell(f"{what}: not recorded here")
            self.ask_trust(error, lambda: self._begin(self._restore(item, answer, trusted=True)))
        except ReprotuiError as error:
            self._tell(f"{what}: refused", Found("", None, [str(error)]))
        else:
            self._tell(f"{what}: goes on in {started.path}")
            # Beside the run that it comes from: whether they stay equal is the question.
            self.dashboard.open_runs([run, started.path], {"B": started.process})

    @property
    def _item(self) -> Item | None:
        return self.table.items[self.table.cursor] if self.table.cursor < len(self.table.items) else None

    def _partner(self) -> Item | None:
        return None if (item := self._item) is None else checkpoints.partner(item, self.table.items)

    def why_not(self, action: str) -> str | None:
        screen, _, name = action.partition(".")
        if screen != "checkpoints" or name in ("refresh", "key"):
            return None
        if name == "save":
            return checkpoints.why_not_save(*self._runs[self._item.run if self._item else 0])
        if self._item is None:
            return "there is no checkpoint: save with --save-every N, or s while a run goes on"
        if self._busy and name != "copy_value":
            return "something is being read already: esc cancels it"
        if name == "restore" and self._item.step is None:
            return "this is no checkpoint of a step"
        if name == "diff" and self._partner() is None:
            return "no other run has a checkpoint at this step"
        return None

    def do_verify(self) -> None:
        if (item := self._item) is not None:
            self._begin(self._verify([item]))

    def do_verify_all(self) -> None:
        self._begin(self._verify(list(self.table.items)))

    def do_save(self) -> None:
        label, run = self._runs[self._item.run if self._item else 0]
        before = checkpoints.saved(run)
        try:
            run.send("save")
        except (OSError, ReprotuiError) as error:
            self.notify(str(error), severity="error")
            return
        self.notify(f"run {label} saves after its step", timeout=4)

        def look() -> None:
            if checkpoints.saved(run) != before or checkpoints.why_not_save(label, run) is not None:
                timer.stop()
                self._list()

        timer = self.set_interval(SAVE_POLL_SECONDS, look)

    def _ask(self, title: str, what: str, placeholder: str, go_on: Callable[[str], None]) -> None:
        def answered(answer: str | None) -> None:
            if answer is not None:
                go_on(answer)

        self.app.push_screen(AskScreen(title, what, placeholder), answered)

    def do_key(self) -> None:
        what = (
            "A public key (PEM): checkpoints must be signed with its private key. Or certificates (PEM): the signer's must lead "
            "to one of their roots. Empty: signatures are not checked."
        )
        self._ask("whose signatures count", what, "public.pem", self._count_signatures_of)

    def _count_signatures_of(self, answer: str) -> None:
        try:
            self._signers = checkpoints.signers_of(answer)
        except ReprotuiError as error:
            self.notify(str(error), severity="error")
            return
        path = Path(answer).expanduser()
        self.notify(f"signatures are held against {path}" if answer else "signatures are not checked", timeout=4)
        self._list()

    def do_sign(self) -> None:
        from reprotui.run_directory import PASSWORD_VARIABLE

        item = self._item
        if item is None:
            return
        name = f"step {item.step} of {item.label}"
        what = (
            f"Verify {name}, then sign it with an EC private key (PEM, on P-256, P-384 or P-521). "
            f"The password of an encrypted one is taken from ${PASSWORD_VARIABLE}."
        )

        def go_on(answer: str) -> None:
            if answer:
                call = partial(checkpoints.sign, item, Path(answer).expanduser())
                self._begin(self._read(f"signing {item.label} step {item.step}", item.size * 2, call))

        self._ask(f"sign {name}", what, "private.pem", go_on)

    def do_diff(self) -> None:
        item, other = self._item, self._partner()
        if item is not None and other is not None:
            a, b = sorted((item, other), key=lambda side: side.run)
            what = f"comparing step {a.step} of {a.label} and {b.label}"
            self._begin(self._read(what, a.size + b.size, partial(checkpoints.compare, a, b), refused="cannot be read"))

    def do_restore(self) -> None:
        item = self._item
        if item is None:
            return
        what = (
            f"Verify step {item.step} of {item.label}, then go on from it in a new run, beside the old one. Empty: the same "
            "config, so every further step must be equal to the bit. Or config to change from there."
        )

        def go_on(answer: str) -> None:
            self._begin(self._restore(item, answer))

        self._ask(f"restore step {item.step} of {item.label}", what, "key=value …", go_on)

    def do_copy_value(self) -> None:
        if (item := self._item) is not None:
            text = f"{item.path}\n{item.status or 'not verified'} content {item.content or 'unknown'}\n{item.message}".strip()
            text += f"\nsignature: {item.signature}" if item.signature else ""
            self.dashboard.copy(text, "checkpoint")

    def go_back(self) -> bool:
        if self._busy:
            self._cancel.set()
        return self._busy
