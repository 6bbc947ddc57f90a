"""Texts cut and filled to columns: names, ages, counts, losses. No textual here."""

import math

from rich.cells import cell_len, set_cell_size

from reprotui.tui.symbols import Symbols, plain


def fit(text: str, width: int, symbols: Symbols, right: bool = False) -> str:
    """Return a text that is exactly so many cells wide; what is cut off ends in an ellipsis."""
    text = plain(text, symbols)
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, max(0, width - 1)) + ("." if symbols.ascii else "…") if width > 0 else ""
    return " " * (width - length) + text if right else text + " " * (width - length)


def age(seconds: float) -> str:
    """Return how long ago something was, in at most four cells."""
    for size, unit in ((604800, "w"), (86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{min(999, int(seconds // size))}{unit}"
    return f"{max(0, int(seconds))}s"


def count(number: int) -> str:
    """Return a count of steps in at most six cells."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**5, "k")):
        if number >= size:
            scaled = number / (1000 if unit == "k" else size)
            return f"{scaled:.4g}{unit}"
    return str(number)


def progress(step: int | None, steps: int | None) -> str:
    """Return how far a run is: one number where it has all its steps."""
    if step is None:
        return "" if steps is None else f"0/{count(steps)}"
    return count(step) if steps is None or step == steps else f"{count(step)}/{count(steps)}"


def loss(value: float | None) -> str:
    """Return a loss for the eye; equality is never judged by it."""
    if value is None:
        return ""
    return f"{value:.5g}" if math.isfinite(value) else str(value).replace("nan", "NaN")
