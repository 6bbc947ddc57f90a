"""The checkpoints of the runs on the race screen: what is there, whether it is what was saved, and how two differ."""

from collections.abc import Sequence
from dataclasses import replace
from threading import Event

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from reprotui.errors import ReprotuiError
from reprotui.run_directory import RunDirectory
from reprotui.tui.reading import CancelledError, Counter
from reprotui.tui.screens.base import ActionScreen, bindings
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.checkpoint_table import CheckpointTable, Item, keep_status
from reprotui.tui.widgets.keybar import KeyBar


class CheckpointsScreen(ActionScreen):
    """List, verify and compare; reading happens in a thread, can be cancelled, and never stands in a run's way."""

    NAME = "checkpoints"
    BINDINGS = bindings("checkpoints")
    CSS_PATH = "checkpoints.tcss"

    class Listed(Message):
        """The list was read."""

        def __init__(self, items: list[Item]) -> None:
            super().__init__()
            self.items = items

    class Progress(Message):
        """Something is being read, or was: `item` is what is known now of a checkpoint, `text` what to say."""

        def __init__(self, text: str, item: Item | None = None, details: Sequence[str] = ()) -> None:
            super().__init__()
            self.text, self.item, self.details = text, item, list(details)

    def __init__(self, runs: Sequence[tuple[str, RunDirectory]]) -> None:
        super().__init__()
        self._runs = list(runs)
        self._cancel = Event()
        self._busy = False

    def compose(self) -> ComposeResult:
        yield Static("checkpoints are being listed …", id="checkpoints-place")
        yield CheckpointTable(self.symbols, id="checkpoints")
        yield Static("", id="checkpoints-details")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(CheckpointTable).focus()
        self._list()

    def on_unmount(self) -> None:
        self._cancel.set()

    @work(thread=True, exclusive=True, group="list", exit_on_error=False)
    def _list(self) -> None:
        from reprotui.checkpoints.listing import list_checkpoints

        items = []
        for index, (label, run) in enumerate(self._runs):
            try:
                found = list_checkpoints(run.path)
            except ReprotuiError as error:
                items.append(Item(index, label, run.path, None, 0, None, None, "UNREADABLE", str(error)))
                continue
            items += [
                Item(
                    index, label, entry.path, entry.step, entry.size, entry.created_ns, entry.content,
                    entry.problem.value if entry.problem else "", entry.message,
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
        self._say(
            f"{count} checkpoint{'' if count == 1 else 's'} of {len(self._runs)} run{'' if len(self._runs) == 1 else 's'}{how}"
        )
        self.refresh_keys()

    def _say(self, text: str) -> None:
        self.query_one("#checkpoints-place", Static).update(Content.styled(plain(text, self.symbols), "bold"))

    @on(Progress)
    def _progress(self, event: Progress) -> None:
        self._say(event.text)
        if event.item is not None:
            table = self.query_one(CheckpointTable)
            table.show([event.item if item.path == event.item.path else item for item in table.items])
        if event.details:
            details = Content("\n").join(Content(plain(line, self.symbols)) for line in event.details)
            self.query_one("#checkpoints-details", Static).update(details)

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
            return None if self._busy else "nothing is being verified or compared"
        if name == "save":
            return _why_not_save(*self._runs[self._item.run if self._item else 0])
        if name == "refresh":
            return None
        if self._item is None:
            return "there is no checkpoint: save with --save-every N, or s while a run goes on"
        if self._busy and name != "copy_value":
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
            self._begin([item])

    def do_verify_all(self) -> None:
        self._begin(list(self.query_one(CheckpointTable).items))

    def _begin(self, items: list[Item]) -> None:
        self._cancel.clear()
        self._busy = True
        self._verify(items)

    def do_cancel(self) -> None:
        self._cancel.set()

    def do_refresh(self) -> None:
        self._list()

    def do_save(self) -> None:
        label, run = self._runs[self._item.run if self._item else 0]
        try:
            run.send("save")
        except (OSError, ReprotuiError) as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self.notify(f"run {label} saves after its step; r lists it", timeout=4)
        self.set_timer(2.0, self._list)

    def do_diff(self) -> None:
        item, other = self._item, self._partner()
        if item is not None and other is not None:
            self._cancel.clear()
            self._busy = True
            a, b = sorted((item, other), key=lambda side: side.run)
            self._compare(a, b)

    def do_restore(self) -> None:
        from reprotui.tui.screens.ask import AskScreen

        item = self._item
        if item is None:
            return
        what = (
            f"Verify step {item.step} of {item.label}, then go on from it in a new run, beside the old one. Empty: the same "
            "config, so every further step must be equal to the bit. Or config to change from there."
        )

        def go_on(answer: str | None) -> None:
            if answer is not None:
                self._busy = True
                self._cancel.clear()
                self._restore(item, answer)

        self.app.push_screen(AskScreen(f"restore step {item.step} of {item.label}", what, "key=value …"), go_on)

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _restore(self, item: Item, answer: str) -> None:
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
                self._counter(what, item.size * 2),
            )  # fmt: skip
        except CancelledError:
            self._end("cancelled")
            return
        except ReprotuiError as error:
            self.post_message(self.Progress(f"{what}: refused", None, [str(error)]))
            self._end("")
            return
        self._end(f"{what}: goes on in {started.path}")
        # Beside the run that it comes from: whether they stay equal is the question.
        self.app.call_from_thread(self.dashboard.open_runs, [run, started.path], {"B": started.process})

    def do_copy_value(self) -> None:
        if (item := self._item) is not None:
            text = f"{item.path}\n{item.status or 'not verified'} content {item.content or 'unknown'}\n{item.message}".strip()
            self.dashboard.copy(text, "checkpoint")

    def _counter(self, what: str, size: int) -> Counter:
        return Counter(what, size, self._cancel, lambda text: self.post_message(self.Progress(text)))

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _verify(self, items: list[Item]) -> None:
        from reprotui.checkpoints.verify import verify_checkpoint

        bad = 0
        for number, item in enumerate(items, 1):
            what = f"verifying {item.label} step {item.step}" + (f", {number} of {len(items)}" if len(items) > 1 else "")
            try:
                result = verify_checkpoint(item.path, "content", progress=self._counter(what, item.size * 2))
            except CancelledError:
                self._end("cancelled")
                return
            except ReprotuiError as error:
                bad += 1
                self.post_message(self.Progress(what, replace(item, status="UNREADABLE", message=str(error)), [str(error)]))
                continue
            status = result.status.value
            bad += status != "VALID"
            found = [str(finding) for finding in result.findings]
            said = found[0] if found else "every file and every leaf is what was saved"
            shown = replace(item, status=status, message=said, content=result.content or item.content)
            details = [f"{item.path}", *(found or [said]), *result.notes]
            self.post_message(self.Progress(f"{what}: {status}", shown, details))
        if len(items) > 1:
            self._end(f"verified {len(items)}: " + (f"{bad} not VALID" if bad else "all VALID"))
        else:
            self._end("")

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _compare(self, a: Item, b: Item) -> None:
        from reprotui.checkpoints.diff import diff_checkpoints

        what = f"comparing step {a.step} of {a.label} and {b.label}"
        try:
            found = diff_checkpoints(a.path, b.path, self._counter(what, a.size + b.size))
        except CancelledError:
            self._end("cancelled")
            return
        except ReprotuiError as error:
            self.post_message(self.Progress(f"{what}: cannot be read", None, [str(error)]))
            self._end("")
            return
        lines = (
            [f"{len(found.leaves)} of {found.equal + len(found.leaves)} leaves differ"]
            if found.leaves
            else ["all leaves are equal to the bit"]
        )
        for leaf in found.leaves[:12]:
            said = "dtype or shape differ, or it is on one side only"
            if leaf.elements is not None:
                ulp = "" if leaf.elements.max_ulp is None else f", max {leaf.elements.max_ulp:,} ulp"
                first = list(leaf.elements.first_index or ())
                said = f"{leaf.elements.different:,} of {leaf.elements.elements:,} elements, first {first}{ulp}"
            lines.append(f"≠ {leaf.path}  {said}")
        self.post_message(self.Progress(f"{what}: {lines[0]}", None, lines))
        self._end("")

    def _end(self, text: str) -> None:
        """Say the end of what was read, from its thread."""
        self._busy = False
        if text:
            self.post_message(self.Progress(text))
        self.app.call_from_thread(self.refresh_keys)

    def go_back(self) -> bool:
        if self._busy:
            self._cancel.set()
            return True
        return False


def _why_not_save(label: str, run: RunDirectory) -> str | None:
    try:
        if run.state() != "running":
            return f"run {label} does not run: there is nothing to save now"
        return None if run.saves() else "a script of its own saves in its own way: reprotui does not"
    except ReprotuiError as error:
        return str(error)
