"""A list of any length that draws only the lines that are seen: the step table and the leaf table are made of it."""

from typing import ClassVar, NamedTuple

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.strip import Strip

from reprotui.foreign import visible
from reprotui.tui.symbols import Symbols
from reprotui.tui.widgets.styles import Styles


class Cell(NamedTuple):
    """A text and the name of its colour: a component class without the `rows--` before it."""

    text: str
    colour: str = ""


class Rows(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows that a subclass gives one by one; the first line of the widget is a heading that does not scroll.

    A subclass implements `cells` and `heading` (or sets `HEADINGS` to 0), and sets `count` when it has more rows.
    """

    HEADINGS: ClassVar[int] = 1

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"rows--{name}"
        for name in (
            "heading", "cursor", "first", "differs", "equal", "unknown", "muted", "strong", *"abcdefgh",
        )
    }  # fmt: skip
    DEFAULT_CSS = """
    Rows {
        background: $background; color: $foreground; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1;
        .rows--heading { color: $muted; text-style: bold; }
        .rows--cursor { background: $block-cursor-background; }
        .rows--first { background: $first-row; text-style: bold; }
        .rows--differs { color: $differs; }
        .rows--equal { color: $equal; }
        .rows--unknown { color: $unknown; }
        .rows--muted { color: $muted; }
        .rows--strong { text-style: bold; }
        .rows--a { color: $run-a; } .rows--b { color: $run-b; } .rows--c { color: $run-c; } .rows--d { color: $run-d; }
        .rows--e { color: $run-e; } .rows--f { color: $run-f; } .rows--g { color: $run-g; } .rows--h { color: $run-h; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup,ctrl+b", "page(-1)", show=False),
        Binding("pagedown,ctrl+f", "page(1)", show=False),
        Binding("ctrl+u", "page(-0.5)", show=False),
        Binding("home,g", "go(0)", show=False),
        Binding("end,G", "go(-1)", show=False),
    ]

    class Moved(Message):
        """The cursor stands on another row; `by_hand` says that a person did it."""

        def __init__(self, rows: "Rows", index: int, by_hand: bool) -> None:
            super().__init__()
            self.rows, self.index, self.by_hand = rows, index, by_hand

        @property
        def control(self) -> "Rows":
            return self.rows

    class Chosen(Message):
        """A row was clicked twice, or clicked where it stood already."""

        def __init__(self, rows: "Rows", index: int) -> None:
            super().__init__()
            self.rows, self.index = rows, index

        @property
        def control(self) -> "Rows":
            return self.rows

    class Scrolled(Message):
        """A person scrolled, by wheel, bar or key."""

        def __init__(self, rows: "Rows") -> None:
            super().__init__()
            self.rows = rows

    def __init__(self, symbols: Symbols, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.symbols = symbols
        self.cursor = 0
        self._count = 0
        self._style = Styles(self, "rows")

    def cells(self, index: int, width: int) -> list[Cell]:
        """Return what stands in a row."""
        raise NotImplementedError

    def heading(self, width: int) -> list[Cell]:
        """Return what stands above the rows."""
        return []

    def emphasis(self, index: int) -> str:
        """Return the colour name of a whole row, empty for none."""
        return ""

    @property
    def count(self) -> int:
        """Return how many rows there are."""
        return self._count

    @count.setter
    def count(self, count: int) -> None:
        self._count = count
        self.cursor = max(0, min(self.cursor, count - 1))
        size = Size(0, count + self.HEADINGS)  # the heading covers the first line
        if self.show_vertical_scrollbar and size.height > self.virtual_size.height:
            # Nothing moves: setting the size would lay the whole screen out again, and draw it twice.
            self.set_reactive(Rows.virtual_size, size)
            self.call_later(self._move_thumb)  # once the list has followed its end, if it does
        else:
            self.virtual_size = size

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        # As the base class does it, but for what is beside the rows.
        if self.show_vertical_scrollbar:
            self._move_thumb()
        if round(old_value) != round(new_value):
            self.refresh_rows()

    def _move_thumb(self) -> None:
        """Put the scrollbar where the rows are, and draw what looks otherwise then: a list that grows moves it all the time."""
        bar = self.vertical_scrollbar
        before = _thumb(bar)
        bar.set_reactive(ScrollBar.window_virtual_size, self.virtual_size.height)
        bar.set_reactive(ScrollBar.position, bar.validate_position(self.scroll_y))
        after = _thumb(bar)
        changed = [row for row, (old, new) in enumerate(zip(before, after, strict=False)) if old != new]
        if len(before) != len(after):  # a list that was as long as what is seen had no thumb
            bar.refresh()
        elif changed:
            bar.refresh(*(Region(0, row, 1, 1) for row in changed))

    def refresh_rows(self) -> None:
        """Draw all rows again, but not the border and the scrollbar."""
        self.refresh(Region(0, 0, *self.scrollable_content_region.size))

    @property
    def page_rows(self) -> int:
        """Return how many rows are seen at once."""
        return max(1, self.scrollable_content_region.height - self.HEADINGS)

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if y < self.HEADINGS:
            return self._strip(self.heading(width), width, "heading")
        index = self.scroll_offset.y + y - self.HEADINGS
        if index >= self._count:
            return Strip.blank(width, self._style())
        emphasis = self.emphasis(index)
        if index == self.cursor and (self.has_focus or (self.HEADINGS and not emphasis)):
            emphasis = "cursor"
        return self._strip(self.cells(index, width), width, emphasis).apply_meta({"row": index})

    def _strip(self, cells: list[Cell], width: int, emphasis: str) -> Strip:
        # Neighbours of one colour are one segment, and so are blanks with what is before them, where no background tells
        # them apart: a segment costs 40 bytes of colour on the wire, which was most of what following sends.
        segments: list[Segment] = []
        for raw, colour in cells:
            text = visible(raw)  # a row of foreign names is one row
            style = self._style(emphasis, colour)
            before = segments[-1] if segments else None
            blank = before and before.style and not text.strip() and style.bgcolor == before.style.bgcolor
            if before and (blank or style == before.style):
                segments[-1] = Segment(before.text + text, before.style)
            elif text:
                segments.append(Segment(text, style))
        strip = Strip(segments).adjust_cell_length(width, segments[-1].style if segments else self._style(emphasis))
        return strip.simplify()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._style.clear()

    def refresh_row(self, index: int) -> None:
        """Draw one row again."""
        self.refresh(Region(0, index - self.scroll_offset.y + self.HEADINGS, self.size.width, 1))

    def on_resize(self) -> None:
        """Keep the cursor in view where it was: at the first layout, and when the terminal changes."""
        if self._count and not self.scroll_offset.y <= self.cursor < self.scroll_offset.y + self.page_rows:
            self.scroll_to(y=max(0, self.cursor - self.page_rows // 2), animate=False)

    def go_to(self, index: int, by_hand: bool = False) -> None:
        """Put the cursor on a row and bring it into view, in the middle where it was out of view."""
        if not self._count:
            return
        index = max(0, min(index, self._count - 1))
        before, self.cursor = self.cursor, index
        top = self.scroll_offset.y
        if not top <= index < top + self.page_rows:
            near = abs(index - before) <= 1
            # By a quarter of a page: a key that only moves the cursor draws two rows, one that scrolls draws all of them.
            jump = self.page_rows // 4
            target = (index - jump if index < top else index - self.page_rows + 1 + jump) if near else index - self.page_rows // 2
            self.scroll_to(y=max(0, target), animate=False)
        if before != index:
            self.refresh_row(before)
        self.refresh_row(index)
        self.post_message(self.Moved(self, index, by_hand))

    def action_move(self, rows: int) -> None:
        self.go_to(self.cursor + rows, by_hand=True)

    def action_page(self, pages: float) -> None:
        rows = int(pages * self.page_rows)
        self.scroll_to(y=max(0, self.scroll_offset.y + rows), animate=False)
        self.go_to(self.cursor + rows, by_hand=True)

    def action_go(self, index: int) -> None:
        self.go_to(index if index >= 0 else self._count - 1, by_hand=True)

    def on_click(self, event: events.Click) -> None:
        index = event.style.meta.get("row")
        if index is None:
            return
        event.stop()
        chosen = event.chain > 1 or index == self.cursor
        self.go_to(index, by_hand=True)
        if chosen:
            self.post_message(self.Chosen(self, index))

    def on_scroll_to(self) -> None:
        self.post_message(self.Scrolled(self))  # the bar was dragged, or clicked beside its grip

    on_scroll_up = on_scroll_down = on_scroll_to

    def on_mouse_scroll_up(self) -> None:
        self.post_message(self.Scrolled(self))

    def on_mouse_scroll_down(self) -> None:
        self.post_message(self.Scrolled(self))

    def on_focus(self) -> None:
        self.refresh_row(self.cursor)

    def on_blur(self) -> None:
        self.refresh_row(self.cursor)


def _thumb(bar: ScrollBar) -> list[Segment]:
    """Return what a scrollbar shows."""
    rows, seen = bar.window_virtual_size, bar.window_size
    picture = ScrollBarRender.render_bar(bar.size.height, rows, seen if seen < rows else 0, bar.position)
    return list(picture.segments)
