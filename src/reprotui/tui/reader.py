"""The reader of `reprotui docs`: one page at a time, links lead on, and back."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Markdown, Static

from reprotui.errors import BadInputError
from reprotui.pages import ORDER, read_page
from reprotui.settings import load_settings
from reprotui.tui.themed import ThemedApp


class ReaderApp(ThemedApp[None]):
    """A page of the documentation, and those that it leads to.

    Args:
        page: its name; empty for the list of all.
        symbols: `auto`, `unicode` or `ascii`; None takes that of the settings.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #page { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    #page Markdown { max-width: 110; }
    #keys { dock: bottom; width: 100%; height: 1; padding: 0 1; background: $panel; color: $foreground; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+q", "quit", "leave"),
        Binding("escape,backspace,left,h", "back", "back"),
        Binding("right_square_bracket,n", "turn(1)", "next page"),
        Binding("left_square_bracket,p", "turn(-1)", "page before"),
        Binding("j,down", "line(1)", "down"),
        Binding("k,up", "line(-1)", "up"),
        Binding("space,pagedown,ctrl+f", "screenful(1)", "a screen down"),
        Binding("pageup,ctrl+b", "screenful(-1)", "a screen up"),
        Binding("g,home", "end(-1)", "top"),
        Binding("G,end", "end(1)", "end"),
    ]

    def __init__(self, page: str, symbols: str | None = None) -> None:
        super().__init__(load_settings(), symbols)
        self.page, self._before = page.removesuffix(".md"), list[str]()

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page"):
            yield Markdown(read_page(self.page), open_links=False)
        yield Static(Content.from_markup("[b]space[/b] down [b]\\[ ][/b] pages [b]esc[/b] back [b]q[/b] leave"), id="keys")

    async def show(self, page: str) -> None:
        """Show a page from its beginning."""
        self.page = page
        await self.query_one(Markdown).update(read_page(page))
        self._scroll.scroll_home(animate=False)

    @property
    def _scroll(self) -> VerticalScroll:
        return self.query_one("#page", VerticalScroll)

    @on(Markdown.LinkClicked)
    async def _follow(self, event: Markdown.LinkClicked) -> None:
        event.stop()
        target, _, anchor = event.href.partition("#")
        if "://" in target:
            self.notify(f"{target}: not opened from here", timeout=4)
            return
        if target:
            before = self.page
            try:
                await self.show(target.rpartition("/")[2].removesuffix(".md"))
            except BadInputError:
                self.notify(f"{target} is a file of the repository", timeout=4)
                return
            self._before.append(before)
        if anchor:
            self.query_one(Markdown).goto_anchor(anchor)

    async def action_back(self) -> None:
        """Go to the page before; from the first one to the list, from the list nowhere."""
        if self._before:
            await self.show(self._before.pop())
        elif self.page:
            await self.show("")

    async def action_turn(self, by: int) -> None:
        """Go to the next page, or to the one before it."""
        pages = ["", *ORDER]
        self._before.append(self.page)
        await self.show(pages[(pages.index(self.page) + by) % len(pages)])

    def action_line(self, by: int) -> None:
        self._scroll.scroll_relative(y=by, animate=False)

    def action_screenful(self, by: int) -> None:
        self._scroll.scroll_relative(y=by * max(1, self._scroll.size.height - 2), animate=False)

    def action_end(self, by: int) -> None:
        (self._scroll.scroll_end if by > 0 else self._scroll.scroll_home)(animate=False)
