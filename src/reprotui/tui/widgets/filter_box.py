"""The line in which a list is narrowed: opened by a key, gone with esc."""

from textual.widgets import Input


class FilterBox(Input):
    """An input that is seen only while it is used."""

    def on_mount(self) -> None:
        self.display = False

    def open(self) -> None:
        """Let a person type."""
        self.display = True
        self.focus()

    def close(self) -> None:
        """Go away, and narrow nothing any more."""
        self.value = ""
        self.display = False
