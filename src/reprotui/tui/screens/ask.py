"""A question with one line to answer it."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from reprotui.foreign import visible


class AskScreen(ModalScreen[str | None]):
    """Ask for a line of text; the result is what was typed, None where it was left by esc."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "close")]

    def __init__(self, title: str, explanation: str, placeholder: str, value: str = "") -> None:
        super().__init__()
        self._title, self._explanation, self._placeholder, self._value = title, explanation, placeholder, value

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Static(Content(visible(self._explanation)))
            yield Input(self._value, placeholder=self._placeholder)

    def on_mount(self) -> None:
        self.query_one("#ask").border_title = Content(visible(self._title))
        self.query_one("#ask").border_subtitle = "enter goes on · esc closes"
        self.query_one(Input).focus()

    @on(Input.Submitted)
    def _answer(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())
