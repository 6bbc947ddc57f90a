"""What was asked of the runs when they were started: what is recorded and saved, when they stop, where scripts come from."""

import shlex
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from reprotui.errors import ReprotuiError
from reprotui.manifest import Kind, RunManifest, assignment
from reprotui.race.chosen import chosen
from reprotui.run_directory import RunDirectory
from reprotui.tui.symbols import Symbols, plain

DEFAULTS = "nothing but the defaults: every step is recorded, nothing is saved by itself, all go on to their end"


class AskedScreen(ModalScreen[None]):
    """What was asked of the runs of a comparison; esc, q and I close it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,I,enter", "dismiss", "close")]

    def __init__(self, runs: Sequence[tuple[str, RunDirectory]], symbols: Symbols) -> None:
        super().__init__()
        self._runs, self._symbols = tuple(runs), symbols

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(Content("\n").join(self._lines()))

    def on_mount(self) -> None:
        box = self.query_one("#help")
        box.border_title, box.border_subtitle = "what was asked", "esc closes"
        box.focus()

    def _lines(self) -> list[Content]:
        read = [(label, run, _manifest(run)) for label, run in self._runs]
        manifests = [manifest for _, _, manifest in read if manifest]
        races = {run.path.parent for _, run, manifest in read if manifest and manifest.race}
        asked = chosen(manifests, races.pop() if len(races) == 1 else None) or (DEFAULTS,)
        lines = [Content(plain(text, self._symbols)) for text in asked]
        for label, run, manifest in read:
            name = (
                f"{plain(label, self._symbols)}  ",
                f"bold $run-{label[0].lower() if label[:1] in tuple('ABCDEFGH') else 'a'}",
            )
            told = _what(manifest) if manifest else f"{run.path} cannot be read"
            lines += [Content(""), Content.assemble(name, plain(told, self._symbols))]
        if manifests:
            command = plain(f"$ {shlex.join(manifests[0].command)}", self._symbols)
            lines += [Content(""), Content.styled(command, "$muted")]
        return lines


def _manifest(run: RunDirectory) -> RunManifest | None:
    try:
        return run.manifest()
    except ReprotuiError:
        return None


def _what(manifest: RunManifest) -> str:
    """Return what a run trains: the command of a script, or an experiment with its whole config."""
    if manifest.launch is not None:
        return " ".join([*(f"{name}={value}" for name, value in manifest.launch.variables.items()), *manifest.launch.words])
    config = " ".join(assignment(name, value) for name, value in manifest.config.items())
    return f"{manifest.experiment.name or '?'}  {config}" if manifest.kind is Kind.EXPERIMENT else str(manifest.experiment.name)
