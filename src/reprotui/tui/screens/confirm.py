"""A question before something that cannot be undone; it names what it is about, and the safe answer is the first."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from reprotui.foreign import visible


class ConfirmScreen(ModalScreen[bool]):
    """Ask; `y` and the second button mean yes, everything else no.

    Args:
        question: one line.
        names: what it is about, a line each.
        consequence: what cannot be undone.
        yes: the word on the button.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n,q", "answer(False)", "no"),
        Binding("y", "answer(True)", "yes"),
        Binding("left,right,h,l,up,down", "other", "other button", show=False),
    ]
    DEFAULT_CSS = """
    ConfirmScreen {
        align: center middle; background: $background 60%;
        #confirm {
            width: 72; max-width: 94%; height: auto; max-height: 90%; border: round $differs; padding: 0 2; background: $surface;
        }
        #names { height: auto; max-height: 12; margin: 1 0; }
        #buttons { height: 1; align-horizontal: right; margin: 1 0 0 0; }
        Button { margin-left: 2; }
    }
    """

    def __init__(self, question: str, names: Sequence[str], consequence: str, yes: str) -> None:
        super().__init__()
        self._question, self._names, self._consequence, self._yes = question, tuple(names), consequence, yes

    def compose(self) -> ComposeResult:
        with Vertical(id="confirm"):
            yield Static(Content.styled(visible(self._question), "bold"))
            with VerticalScroll(id="names", can_focus=False):
                yield Static(Content("\n").join(Content.styled(visible(f"  {name}"), "$differs") for name in self._names))
            yield Static(Content.styled(self._consequence, "$muted"))
            with Horizontal(id="buttons"):
                yield Button("keep  (n, esc)", id="no", compact=True)
                yield Button(f"{self._yes}  (y)", id="yes", variant="error", compact=True)

    def on_mount(self) -> None:
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)

    def action_other(self) -> None:
        self.focus_next()
