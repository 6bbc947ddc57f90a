"""The first kernel of a step that differs, with its line of source: found while one waits, cancelled by closing."""

from collections.abc import Sequence
from textwrap import wrap
from threading import Event
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from reprotui.errors import DIFFERS, SAME, ReprotuiError, UntrustedError
from reprotui.run_directory import RunDirectory
from reprotui.tui.reading import CancelledError
from reprotui.tui.screens.base import ActionScreen
from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.text import fit

NAMES = 12
"""Cells for what a line is about."""
WORDS = 20
"""Cells for what is said of it, at least."""


def why_not(pair: Sequence[tuple[str, RunDirectory]], step: int) -> str | None:
    """Return why a step cannot be explained, None where it can be tried."""
    if len(pair) < 2:
        return "one run alone has nothing to differ from; is it flaky? reprotui explain RUN --step N --repeat 20"
    return None if step > 0 else "step 0 is the state after init: explain takes a training step"


def open_explanation(screen: ActionScreen, pair: Sequence[tuple[str, RunDirectory]], step: int, trusted: bool = False) -> None:
    """Explain a step above a screen, which asks first where code would be run that was not recorded here."""

    def answered(error: UntrustedError | None) -> None:
        if error is not None:
            screen.ask_trust(error, lambda: open_explanation(screen, pair, step, trusted=True))

    screen.app.push_screen(ExplainScreen(pair, step, screen.symbols, trusted), answered)


class ExplainScreen(ModalScreen[UntrustedError | None]):
    """Explains a step of a pair; esc, q and X close it. It ends with the error where a person must allow what would be run."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,X,enter", "dismiss", "close")]

    class News(Message):
        """What is being done, or what was found: headline, lines below it, and the exit code of the command."""

        def __init__(self, text: str, lines: Sequence[tuple[str, str]] = (), code: int | None = None) -> None:
            super().__init__()
            self.text, self.lines, self.code = text, lines, code

    class Untrusted(Message):
        """The answer would take code that was not recorded here."""

        def __init__(self, error: UntrustedError) -> None:
            super().__init__()
            self.error = error

    def __init__(self, pair: Sequence[tuple[str, RunDirectory]], step: int, symbols: Symbols, trusted: bool = False) -> None:
        super().__init__()
        self._pair, self._step, self._symbols, self._trusted = tuple(pair), step, symbols, trusted
        self._cancel = Event()
        self._news = self.News("starting")

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(id="explanation")

    def on_mount(self) -> None:
        box = self.query_one("#help")
        box.border_title, box.border_subtitle = f"step {self._step}: what began to differ", "esc closes"
        box.focus()
        self.run_worker(self._explain, thread=True, exclusive=True, group="explain", exit_on_error=False)

    def on_unmount(self) -> None:
        self._cancel.set()

    def _explain(self) -> None:
        from reprotui.explain import NotExplained
        from reprotui.explain.lines import of_explanation, of_unfaithful
        from reprotui.race.explaining import explain_step, keep

        def say(text: str) -> None:
            if self._cancel.is_set():
                raise CancelledError
            self.post_message(self.News(text))

        try:
            found = explain_step(self._pair, self._step, say, trusted=self._trusted)
        except CancelledError:
            return
        except UntrustedError as error:
            self.post_message(self.Untrusted(error))
        except ReprotuiError as error:
            self.post_message(self.News(str(error), code=error.exit_code))
        else:
            if isinstance(found, NotExplained):
                self.post_message(self.News(*of_unfaithful(found), code=found.exit_code))
            else:
                kept = keep(self._pair, found)
                told = ("report", "it stands in reports of this race" if kept.path else f"not kept: {kept.problem}")
                head, lines = of_explanation(found)
                self.post_message(self.News(head, [*lines, *([told] if any(kept) else [])], code=found.exit_code))

    @on(News)
    def _told(self, event: News) -> None:
        self._news = event
        self._show()

    @on(events.Resize)
    def _show(self) -> None:
        news, symbols = self._news, self._symbols
        colours = {SAME: "bold $equal", DIFFERS: "bold $differs", None: "$muted"}
        lines = [Content.styled(plain(news.text, symbols), colours.get(news.code, "bold $unknown"))]
        box = self.query_one("#help")
        # The lines may need a scrollbar that is not there yet.
        bar = 0 if box.show_vertical_scrollbar else box.styles.scrollbar_size_vertical
        width = max(WORDS, box.scrollable_content_region.width - bar - NAMES - 1)
        before = None
        for name, text in news.lines:
            # Code keeps its indentation and is cut; everything else goes on below itself.
            code = name == "source"
            parts = [fit(text, width, symbols).rstrip()] if code else wrap(plain(text, symbols), width) or [""]
            names = ["" if name == before else plain(name, symbols), *[""] * (len(parts) - 1)]
            lines += [Content.assemble((f"{left:<{NAMES}} ", "$muted"), part) for left, part in zip(names, parts, strict=True)]
            before = name
        self.query_one("#explanation", Static).update(Content("\n").join(lines))

    @on(Untrusted)
    def _ask(self, event: Untrusted) -> None:
        self.dismiss(event.error)
