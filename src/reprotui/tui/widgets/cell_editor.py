"""The input that lies over the cell of a form that is typed in."""

from textual import events
from textual.geometry import Region
from textual.widgets import Input

from reprotui.tui.widgets.form_grid import LEAVING, FormGrid


class CellEditor(Input):
    """Hidden until it is laid over a cell of a grid."""

    def __init__(self, grid: FormGrid, *, id: str | None = None) -> None:
        super().__init__(compact=True, select_on_focus=False, id=id)
        self._grid = grid
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
        # Behind a key that has ended typing, the others of its burst come here still.
        if event.key in LEAVING or not self.display:
            event.prevent_default()
            self._grid.on_key(event)
