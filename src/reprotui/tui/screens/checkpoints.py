"""The checkpoints of the runs on the race screen: what is there, whether it is what was saved, and how two differ."""

from collections.abc import Sequence
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.message import Message
from textual.widgets import Static

from reprotui.errors import ReprotuiError, UntrustedError
from reprotui.run_directory import RunDirectory
from reprotui.tui.reading import CancelledError
from reprotui.tui.screens.ask import AskScreen
from reprotui.tui.screens.base import bindings
from reprotui.tui.screens.checkpoint_reading import CheckpointReading
from reprotui.tui.widgets.checkpoint_table import CheckpointTable, Item, keep_status
from reprotui.tui.widgets.keybar import KeyBar

SAVE_POLL_SECONDS = 0.25
"""How often the panel looks for a checkpoint that it asked for."""


class CheckpointsScreen(CheckpointReading):
    """List, verify and compare; reading happens in a thread, can be cancelled, and never stands in a run's way."""

    NAME = "checkpoints"
    BINDINGS = bindings("checkpoints")
    CSS_PATH = "checkpoints.tcss"

    class Listed(Message):
        """The list was read."""

        def __init__(self, items: list[Item]) -> None:
            super().__init__()
            self.items = items

    def __init__(self, runs: Sequence[tuple[str, RunDirectory]]) -> None:
        super().__init__()
        self._runs = list(runs)

    def compose(self) -> ComposeResult:
        yield Static("checkpoints are being listed …", id="checkpoints-place")
        yield CheckpointTable(self.symbols, id="checkpoints")
        yield Static("", id="checkpoints-details")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(CheckpointTable).focus()
        self._list()

    @work(thread=True, exclusive=True, group="list", exit_on_error=False)
    def _list(self) -> None:
        from reprotui.checkpoints.listing import list_checkpoints

        items = []
        for index, (label, run) in enumerate(self._runs):
            try:
                found = list_checkpoints(run.path, self.signers)
            except ReprotuiError as error:
                items.append(Item(index, label, run.path, None, 0, None, None, "UNREADABLE", str(error)))
                continue
            items += [
                Item(
                    index, label, entry.path, entry.step, entry.size, entry.created_ns, entry.content,
                    entry.problem.value if entry.problem else "", entry.message,
                    "" if entry.signature is None else entry.signature.brief,
                )
                for entry in found
            ]  # fmt: skip
        self.post_message(self.Listed(items))

    @on(Listed)
    def _listed(self, event: Listed) -> None:
        table = self.query_one(CheckpointTable)
        known = {item.path: item for item in table.items if item.status == "VALID"}
        # What was verified stays so on the screen as long as size and digest are what they were.
        table.show([keep_status(item, known.get(item.path)) for item in event.items])
        count = len(event.items)
        how = "" if count else ": save with --save-every N, or s while it runs"
        self.say(
            f"{count} checkpoint{'' if count == 1 else 's'} of {len(self._runs)} run{'' if len(self._runs) == 1 else 's'}{how}"
        )
        self.refresh_keys()

    # What a person does

    @property
    def _item(self) -> Item | None:
        table = self.query_one(CheckpointTable)
        return table.items[table.cursor] if table.cursor < len(table.items) else None

    def why_not(self, action: str) -> str | None:
        name = action.partition(".")[2]
        if not action.startswith("checkpoints."):
            return None
        if name == "cancel":
            return None if self.busy else "nothing is being verified or compared"
        if name == "save":
            return _why_not_save(*self._runs[self._item.run if self._item else 0])
        if name in ("refresh", "key"):
            return None
        if self._item is None:
            return "there is no checkpoint: save with --save-every N, or s while a run goes on"
        if self.busy and name != "copy_value":
            return "something is being read already: x cancels it"
        if name == "restore" and self._item.step is None:
            return "this is no checkpoint of a step"
        if name == "diff" and self._partner() is None:
            return "no other run has a checkpoint at this step"
        return None

    def _partner(self) -> Item | None:
        """Return the checkpoint of another run at the same step: of A for the others, of the next run for A."""
        item = self._item
        if item is None or item.step is None:
            return None
        others = [other for other in self.query_one(CheckpointTable).items if other.run != item.run and other.step == item.step]
        return min(others, key=lambda other: other.run, default=None)

    def do_verify(self) -> None:
        if (item := self._item) is not None:
            self.begin()
            self.verify([item])

    def do_verify_all(self) -> None:
        self.begin()
        self.verify(list(self.query_one(CheckpointTable).items))

    def do_refresh(self) -> None:
        self._list()

    def do_save(self) -> None:
        label, run = self._runs[self._item.run if self._item else 0]
        before = _saved(run)
        try:
            run.send("save")
        except (OSError, ReprotuiError) as error:
            self.notify(str(error), severity="error")
            return
        self.notify(f"run {label} saves after its step", timeout=4)

        def look() -> None:
            over = _why_not_save(label, run) is not None
            if over or _saved(run) != before:
                timer.stop()
                self._list()

        timer = self.set_interval(SAVE_POLL_SECONDS, look)

    def do_key(self) -> None:
        what = (
            "A public key (PEM): checkpoints must be signed with its private key. Or certificates (PEM): the signer's must lead "
            "to one of their roots. Empty: signatures are not checked."
        )

        def take(answer: str | None) -> None:
            if answer is not None and self.count_signatures_of(answer):
                self._list()

        self.app.push_screen(AskScreen("whose signatures count", what, "public.pem"), take)

    def do_sign(self) -> None:
        from reprotui.run_directory import PASSWORD_VARIABLE

        item = self._item
        if item is None:
            return
        what = (
            f"Verify step {item.step} of {item.label}, then sign it with an EC private key (PEM, on P-256, P-384 or P-521). "
            f"The password of an encrypted one is taken from ${PASSWORD_VARIABLE}."
        )

        def go_on(answer: str | None) -> None:
            if answer:
                self.begin()
                self.sign(item, Path(answer).expanduser())

        self.app.push_screen(AskScreen(f"sign step {item.step} of {item.label}", what, "private.pem"), go_on)

    def do_diff(self) -> None:
        item, other = self._item, self._partner()
        if item is not None and other is not None:
            self.begin()
            a, b = sorted((item, other), key=lambda side: side.run)
            self.compare(a, b)

    def do_restore(self) -> None:
        item = self._item
        if item is None:
            return
        what = (
            f"Verify step {item.step} of {item.label}, then go on from it in a new run, beside the old one. Empty: the same "
            "config, so every further step must be equal to the bit. Or config to change from there."
        )

        def go_on(answer: str | None) -> None:
            if answer is not None:
                self.begin()
                self._restore(item, answer)

        self.app.push_screen(AskScreen(f"restore step {item.step} of {item.label}", what, "key=value …"), go_on)

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _restore(self, item: Item, answer: str, trusted: bool = False) -> None:
        from reprotui.experiments.config import parse_overrides
        from reprotui.race.resume import resume_command, start_resumed

        what = f"restoring step {item.step} of {item.label}"
        self.post_message(self.Progress(f"{what} …"))
        run = self._runs[item.run][1].path
        try:
            assert item.step is not None
            overrides = parse_overrides(answer.split())
            started = start_resumed(
                self.dashboard.runs_directory, None, run, item.step, overrides, resume_command(run, item.step, overrides),
                self.counter(what, item.size * 2), trusted=trusted,
            )  # fmt: skip
        except CancelledError:
            self.end("cancelled")
            return
        except UntrustedError as error:
            self.end(f"{what}: not recorded here")
            self.app.call_from_thread(self.ask_trust, error, lambda: self._restore_trusted(item, answer))
            return
        except ReprotuiError as error:
            self.post_message(self.Progress(f"{what}: refused", None, [str(error)]))
            self.end("")
            return
        self.end(f"{what}: goes on in {started.path}")
        # Beside the run that it comes from: whether they stay equal is the question.
        self.app.call_from_thread(self.dashboard.open_runs, [run, started.path], {"B": started.process})

    def _restore_trusted(self, item: Item, answer: str) -> None:
        self.begin()
        self._restore(item, answer, trusted=True)

    def do_copy_value(self) -> None:
        if (item := self._item) is not None:
            text = f"{item.path}\n{item.status or 'not verified'} content {item.content or 'unknown'}\n{item.message}".strip()
            text += f"\nsignature: {item.signature}" if item.signature else ""
            self.dashboard.copy(text, "checkpoint")


def _saved(run: RunDirectory) -> set[str]:
    """Return which checkpoints a run has finished, as its directory tells: cheap enough to ask again and again."""
    return {path.name for path in (run.path / "checkpoints").glob("*.manifest.json")}


def _why_not_save(label: str, run: RunDirectory) -> str | None:
    try:
        if run.state() != "running":
            return f"run {label} does not run: there is nothing to save now"
        return None if run.saves() else "a script of its own saves in its own way: reprotui does not"
    except ReprotuiError as error:
        return str(error)
