"""Export: where the verification report goes, and in which forms."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, Static
from textual.worker import Worker, WorkerState, get_current_worker

from reprotui.errors import ReprotuiError

FORMATS = {"markdown": "Markdown", "json": "JSON", "html": "HTML"}
SUFFIXES = {"markdown": ".md", "json": ".json", "html": ".html"}


class ExportScreen(ModalScreen[None]):
    """Ask for a place, then write; a file that exists is overwritten only when asked again."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "close")]

    def __init__(self, runs: Sequence[Path], name: str) -> None:
        super().__init__()
        self._runs = list(runs)
        stem = "".join(character if character.isalnum() or character in "._-" else "-" for character in name).strip("-")
        self._stem = f"report-{stem[:60]}"
        self._asked: str | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="export"):
            yield Static("A verification report: verdict, cause, evidence, configs, environment, losses, digests, commands.")
            yield Input(str(Path.cwd() / self._stem), id="export-path", placeholder="path without suffix")
            with Horizontal(id="export-formats"):
                for name, text in FORMATS.items():
                    yield Checkbox(text, value=True, id=f"export-{name}")
            yield Static("", id="export-message", markup=False)
            with Horizontal(id="export-buttons"):
                yield Button("Write", variant="primary", id="export-write")
                yield Button("Cancel", id="export-cancel")

    def on_mount(self) -> None:
        self.query_one("#export").border_title = "report"
        self.query_one("#export").border_subtitle = "enter writes · esc closes"
        self.query_one(Input).focus()

    @on(Button.Pressed, "#export-cancel")
    def _cancel(self) -> None:
        self.dismiss()

    @on(Input.Changed)
    def _changed(self) -> None:
        self._say("")
        self._asked = None

    @on(Input.Submitted)
    @on(Button.Pressed, "#export-write")
    def _write(self) -> None:
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
        self._export(text, place, formats, force=self._asked == text)

    @work(thread=True, exclusive=True, exit_on_error=False)
    def _export(self, text: str, place: Path, formats: list[str], force: bool) -> None:
        from reprotui.report import collect_report, write_report

        try:
            existing = [path for name in formats if (path := place.with_name(place.name + SUFFIXES[name])).exists()]
            if existing and not force:
                self.app.call_from_thread(self._ask, text, existing)
                return
            report = collect_report(self._runs)
            # One form at a time with its full name: a stem may have dots of its own.
            written = [
                path
                for name in formats
                for path in write_report(report, place.with_name(place.name + SUFFIXES[name]), [name], force=force)
            ]
        except (ReprotuiError, OSError) as error:
            self.app.call_from_thread(self._say, str(error))
            return
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._done, written)

    @on(Worker.StateChanged)
    def _failed(self, event: Worker.StateChanged) -> None:
        if event.state == WorkerState.ERROR and isinstance(error := event.worker.error, Exception):
            self.app.end_with(error)  # ty: ignore[missing-attribute]

    def _ask(self, text: str, existing: list[Path]) -> None:
        self._asked = text
        names = ", ".join(path.name for path in existing)
        self._say(f"{names} in {existing[0].parent} would be overwritten: write once more to do so, or change the name")

    def _say(self, text: str) -> None:
        self.query_one("#export-message", Static).update(text)

    def _done(self, written: list[Path]) -> None:
        self.app.notify("written: " + ", ".join(str(path) for path in written), timeout=8)
        self.dismiss()
