"""The input that lies over the cell of a form that is typed in."""

from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Input

MOVES = {"up": (-1, 0), "down": (1, 0), "tab": (0, 1), "shift+tab": (0, -1)}
"""Keys that leave the cell, with the rows and columns that they go."""


class CellEditor(Input):
    """Hidden until it is laid over a cell."""

    class Left(Message):
        """A key leads to another cell."""

        def __init__(self, rows: int, columns: int) -> None:
            super().__init__()
            self.rows, self.columns = rows, columns

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(compact=True, select_on_focus=False, id=id)
        self.display = False

    def lay_over(self, region: Region) -> None:
        """Begin with no text over a cell."""
        with self.prevent(Input.Changed):
            self.value = ""
        self.styles.offset = (region.x, region.y)
        self.styles.width = region.width
        self.display = True
        self.screen.set_focus(self)  # at once, and not when there is time: the next key is on its way

    def on_key(self, event: events.Key) -> None:
        if move := MOVES.get(event.key):
            event.stop()
            event.prevent_default()
            self.post_message(self.Left(*move))
