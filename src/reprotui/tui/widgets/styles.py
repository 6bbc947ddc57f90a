"""Component styles by name, computed once: asking a widget for its style at every line costs more than drawing the line."""

from rich.style import Style
from textual.widget import Widget


class Styles:
    """Rich styles of a widget's component classes over its own; `clear` when the theme or the focus changed.

    Args:
        widget: the widget.
        prefix: its component classes are called `<prefix>--<name>`.
    """

    def __init__(self, widget: Widget, prefix: str) -> None:
        self._widget, self._prefix = widget, prefix
        self._known: dict[tuple[str, ...], Style] = {}

    def __call__(self, *names: str) -> Style:
        """Return the widget's own style with these components over it, in order; empty names are left out."""
        style = self._known.get(names)
        if style is None:
            style = self._widget.rich_style
            for name in names:
                if name:
                    style += self._widget.get_component_rich_style(f"{self._prefix}--{name}", partial=True)
            self._known[names] = style
        return style

    def clear(self) -> None:
        """Forget all styles."""
        self._known.clear()
