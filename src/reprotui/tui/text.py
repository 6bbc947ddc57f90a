"""Texts cut and filled to columns: names, ages, counts, losses. No textual here."""

import math
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from reprotui.numbers import count, short
from reprotui.tui.symbols import Symbols, plain


def fit(text: str, width: int, symbols: Symbols, right: bool = False) -> str:
    """Return a text that is exactly so many cells wide; what is cut off ends in an ellipsis."""
    text = plain(text, symbols)
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, max(0, width - 1)) + ("." if symbols.ascii else "…") if width > 0 else ""
    return " " * (width - length) + text if right else text + " " * (width - length)


def fit_path(path: str, width: int, symbols: Symbols) -> str:
    """Return a path of a tree that is exactly so many cells wide; what is left out is in its middle: its end tells most."""
    path = plain(path, symbols)
    over = cell_len(path) - width
    head, slash, rest = path.partition("/")
    if over <= 0 or not slash or len(head) + 3 >= width:
        return fit(path, width, symbols)
    sign = "." if symbols.ascii else "…"
    return fit(f"{head}/{sign}{rest[over + 1 :]}", width, symbols)


def age(seconds: float) -> str:
    """Return how long ago something was, in at most four cells."""
    for size, unit in ((604800, "w"), (86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{min(999, int(seconds // size))}{unit}"
    return f"{max(0, int(seconds))}s"


def progress(step: int | None, steps: int | None) -> str:
    """Return how far a run is: one number where it has all its steps."""
    if step is None:
        return "" if steps is None else f"0/{count(steps)}"
    return count(step) if steps is None or step == steps else f"{count(step)}/{count(steps)}"


def loss(value: float | None) -> str:
    """Return a loss for the eye, nothing where there is none; equality is never judged by it."""
    return "" if value is None else short(value, 5)


BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
WIDE_RANGE = 8.0
"""From this ratio of the largest to the smallest value on, the scale is logarithmic."""


def spark(values: Sequence[float | None], width: int, scale: tuple[float, float] | None, symbols: Symbols) -> str:
    """Return values as a line of bars, None as a gap; empty where there is nothing to show.

    Args:
        values: evenly spaced; fewer cells than values show every so manyth, the last one always.
        width: cells.
        scale: the values of the lowest and the highest bar.
        symbols: the signs of this terminal.
    """
    if not values or scale is None or width < 4:
        return ""
    bars, cells = PLAIN_BARS if symbols.ascii else BARS, min(width, len(values))
    low, high = scale
    logarithmic = low > 0 and high / low > WIDE_RANGE

    def place(value: float) -> float:
        if high <= low:
            return 0.0
        if logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value / 2 - low / 2) / (high / 2 - low / 2)  # their difference may be infinite

    shown = [values[(cell + 1) * len(values) // cells - 1] for cell in range(cells)]
    return "".join(" " if value is None else bars[round(place(value) * (len(bars) - 1))] for value in shown)
