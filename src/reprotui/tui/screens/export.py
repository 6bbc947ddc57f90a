"""Export: where the verification report goes, in which forms, and what it verifies."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, Static
from textual.worker import Worker, WorkerState

from reprotui.errors import ReprotuiError
from reprotui.tui.dashboard import dashboard_of
from reprotui.tui.reading import NEWS_SECONDS, CancelledError

if TYPE_CHECKING:
    from reprotui.report.model import Report
    from reprotui.tui.checkpoints import Item

FORMATS = {"markdown": "Markdown", "json": "JSON", "html": "HTML"}
SUFFIXES = {"markdown": ".md", "json": ".json", "html": ".html"}
VERIFIED = {
    "traces": "verify traces: every record against chain and seal",
    "checkpoints": "verify checkpoints: every file and leaf",
    "exact": "exact difference: replay the runs to where they first differ",
}


class Choice(Checkbox):
    """A box that is empty where it is not chosen: textual's tells by colour alone."""

    BUTTON_INNER = " "

    def watch_value(self) -> None:
        super().watch_value()
        self.BUTTON_INNER = "x" if self.value else " "


class ExportScreen(ModalScreen[None]):
    """Ask for a place, then write; a file that exists is overwritten only when asked again.

    Args:
        runs: run directories, the reference first.
        name: of the report.
        checked: checkpoints that were verified before, by their paths.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "close")]

    def __init__(self, runs: Sequence[Path], name: str, checked: "Mapping[Path, Item]") -> None:
        super().__init__()
        self._runs, self._checked = list(runs), dict(checked)
        stem = "".join(character if character.isalnum() or character in "._-" else "-" for character in name).strip("-")
        self._stem = f"report-{stem[:60]}"
        self._seen = str(Path.cwd() / self._stem)
        self._asked: str | None = None
        self._busy = False
        self._cancelled = Event()
        self._said = 0.0

    def compose(self) -> ComposeResult:
        with Vertical(id="export"):
            yield Static("Verdict, cause, evidence, configs, environment, losses, digests, commands.")
            yield Input(self._seen, id="export-path", placeholder="path without suffix")
            with Horizontal(id="export-formats"):
                for name, text in FORMATS.items():
                    yield Choice(text, value=True, id=f"export-{name}")
            with Vertical(id="export-verified"):
                for name, text in VERIFIED.items():
                    yield Choice(text, value=name == "traces", id=f"export-{name}")
            yield Static("", id="export-message", markup=False)
            with Horizontal(id="export-buttons"):
                yield Button("Write", variant="primary", id="export-write")
                yield Button("Cancel", id="export-cancel")

    def on_mount(self) -> None:
        self.query_one("#export").border_title = "report"
        self.query_one("#export").border_subtitle = "tab, space choose · enter writes · esc closes"
        self.query_one(Input).focus()
        if count := len(self._checked):
            self._say(f"{count} checkpoint{' was' if count == 1 else 's were'} verified before: the report says what was found")

    def on_unmount(self) -> None:
        self._cancelled.set()

    def action_back(self) -> None:
        """Cancel what is under way; where nothing is, close."""
        if self._busy:
            self._cancelled.set()
            self._say("cancelling …")
        else:
            self.dismiss()

    @on(Button.Pressed, "#export-cancel")
    def _cancel(self) -> None:
        self.action_back()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        if event.value != self._seen:  # the path that was proposed is news too, and takes away what was said at the beginning
            self._say("")
            self._asked = None
        self._seen = event.value

    @on(Input.Submitted)
    @on(Button.Pressed, "#export-write")
    def _write(self) -> None:
        if self._busy:
            return
        text = self.query_one(Input).value.strip()
        formats = [name for name in FORMATS if self.query_one(f"#export-{name}", Checkbox).value]
        if not text or not formats:
            self._say("a path is missing" if not text else "choose at least one form")
            return
        try:
            place = Path(text).expanduser()
        except RuntimeError as error:  # ~somebody who does not exist
            self._say(f"{text}: {error}")
            return
        if place.suffix in SUFFIXES.values():
            place = place.with_suffix("")
        if not place.name:
            self._say(f"{text} is a directory: a name is missing")
            return
        self._say("comparing and writing …")
        verified = [name for name in VERIFIED if self.query_one(f"#export-{name}", Checkbox).value]
        self._busy = True
        self._cancelled.clear()
        self._export(text, place, formats, verified, force=self._asked == text)

    @work(thread=True, exclusive=True, exit_on_error=False)
    def _export(self, text: str, place: Path, formats: list[str], verified: list[str], force: bool) -> None:
        from reprotui.report import write_report

        tell = self.app.call_from_thread
        try:
            existing = [path for name in formats if (path := place.with_name(place.name + SUFFIXES[name])).exists()]
            if existing and not force:
                tell(self._ask, text, existing)
                return
            report = self._collect(verified)
            if self._cancelled.is_set():
                raise CancelledError
            # All forms or none; one alone with its full name, because a stem may have dots of its own.
            out = place if len(formats) > 1 else place.with_name(place.name + SUFFIXES[formats[0]])
            written = write_report(report, out, formats, force=force)
        except CancelledError:
            if self.is_mounted:
                tell(self._end, "cancelled: nothing was written")
        except (ReprotuiError, OSError) as error:
            tell(self._end, str(error))
        else:
            tell(self._done, written)

    def _collect(self, verified: Sequence[str]) -> "Report":
        from reprotui.race.exact import exact_difference
        from reprotui.race.tolerance import compare_within, tolerance_of
        from reprotui.report import Verify, collect_report

        wanted = Verify(
            "traces" in verified, "checkpoints" in verified, exact_difference if "exact" in verified else None,
            {path.resolve(): (item.status, item.message) for path, item in self._checked.items()}, self._progress,
        )  # fmt: skip
        return collect_report(self._runs, wanted, judge=partial(compare_within, tolerance=tolerance_of(self._runs)))

    def _progress(self, text: str) -> None:
        """Say in the thread how far it is, now and then; raise where a person has cancelled."""
        if self._cancelled.is_set():
            raise CancelledError
        if time.monotonic() - self._said >= NEWS_SECONDS:
            self._said = time.monotonic()
            self.app.call_from_thread(self._say, f"{text} · esc cancels")

    @on(Worker.StateChanged)
    def _failed(self, event: Worker.StateChanged) -> None:
        if event.state == WorkerState.ERROR and isinstance(error := event.worker.error, Exception):
            dashboard_of(self).end_with(error)

    def _ask(self, text: str, existing: list[Path]) -> None:
        self._asked, self._busy = text, False
        names = ", ".join(path.name for path in existing)
        self._say(f"{names} in {existing[0].parent} would be overwritten: write once more to do so, or change the name")

    def _say(self, text: str) -> None:
        self.query_one("#export-message", Static).update(text)

    def _end(self, text: str) -> None:
        self._busy = False
        self._say(text)

    def _done(self, written: list[Path]) -> None:
        self.app.notify("written: " + ", ".join(str(path) for path in written), timeout=8)
        self.dismiss()
