"""Ask for a resume check: the uninterrupted command and its parts, or the step after which it is interrupted."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from reprotui.foreign import visible
from reprotui.tui.resume import ResumeForm

_ROWS = (
    ("full", "uninterrupted", "python train.py --steps 100"),
    ("first", "first part", "python train.py --steps 50 --save ck"),
    ("then", "goes on", "python train.py --steps 100 --resume ck"),
    ("at", "or stop after step", "50   (then it is started again; no parts)"),
)
"""Field of the form, what it is called, and an example."""


class ResumeScreen(ModalScreen[ResumeForm | None]):
    """A form of four lines; the result is what was typed, None where it was left by esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close"),
        Binding("down", "app.focus_next", "next"),
        Binding("up", "app.focus_previous", "previous"),
        Binding("ctrl+s,f5", "start", "start"),
    ]

    def __init__(self, form: ResumeForm) -> None:
        super().__init__()
        self.form = form

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            for name, label, example in _ROWS:
                yield Static(Content(label))
                yield Input(getattr(self.form, name), placeholder=example, id=name, compact=True)
            yield Static(id="problem")

    def on_mount(self) -> None:
        self.query_one("#ask").border_title = "is my resumed run the uninterrupted one?"
        self.query_one("#ask").border_subtitle = "enter goes on · ctrl+s starts · esc closes"
        self.query_one("#full", Input).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.form = replace(self.form, **{str(event.input.id): event.value.strip()})
        problem = self.form.problem if self.form != ResumeForm() else ""
        self.query_one("#problem", Static).update(Content.styled(visible(problem), "$differs"))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if self.form.problem or event.input.id != _ROWS[-1][0]:
            self.focus_next()
        else:
            self.dismiss(self.form)

    def action_start(self) -> None:
        """Start it where nothing is missing."""
        if not self.form.problem:
            self.dismiss(self.form)
