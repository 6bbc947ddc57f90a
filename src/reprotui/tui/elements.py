"""An exact difference of two arrays as text: figures, histograms as bars, and a heat map of a matrix."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from textual.content import Content

from reprotui.integrity.elements import ElementDifference
from reprotui.tui.plot import short
from reprotui.tui.symbols import Symbols, plain

BAR = 18
HEAT = " ░▒▓█"
HEAT_ASCII = " .:*#"
"""From equal to the largest difference of the map, by its logarithm."""


def figures(difference: ElementDifference, symbols: Symbols) -> list[Content]:
    """Return the figures of a difference, a line each."""
    if difference.equal:
        return [
            Content.styled(plain(f"{symbols.equal} all {difference.elements:,} elements are equal to the bit", symbols), "$equal")
        ]
    count = f"{symbols.differs} {difference.different:,} of {difference.elements:,} elements differ"
    lines = [Content.styled(plain(count, symbols), "bold $differs")]
    if difference.first_index is not None and difference.first_values is not None:
        a, b = difference.first_values
        lines.append(
            Content.assemble(f"first at {_place(difference.first_index)}  ", (f"A {a}", "$run-a"), "  ", (f"B {b}", "$run-b"))
        )
    if difference.max_abs is not None:
        at = f" at {_place(difference.max_abs_index)}" if difference.max_abs_index is not None else ""
        lines.append(Content(plain(f"max |{symbols.delta}| {short(difference.max_abs, 5)}{at}", symbols)))
    parts = []
    if difference.max_relative is not None:
        parts.append(f"max relative {short(difference.max_relative, 4)}")
    if difference.max_ulp is not None:
        parts.append(f"max {difference.max_ulp:,} ulp")
    if difference.not_finite:
        parts.append(f"{difference.not_finite:,} with NaN or infinity")
    return [*lines, Content(plain("  ".join(parts), symbols))] if parts else lines


def histogram(title: str, bins: Sequence[tuple[str, int]], symbols: Symbols) -> list[Content]:
    """Return a histogram as bars; bins before the first and behind the last that hold anything are left out."""
    filled = [index for index, (_, count) in enumerate(bins) if count]
    if not filled:
        return []
    largest = max(count for _, count in bins)
    sign = "#" if symbols.ascii else "█"
    lines = [Content.styled(plain(title, symbols), "$muted")]
    for label, count in bins[filled[0] : filled[-1] + 1]:
        bar = sign * max(1 if count else 0, round(BAR * count / largest))
        lines.append(Content.assemble((f"{plain(label, symbols):>9} ", "$muted"), (f"{bar:<{BAR}}", "$differs"), f" {count:,}"))
    return lines


def heat(grid: NDArray[np.float64], symbols: Symbols) -> list[Content]:
    """Return a heat map, a line a row of the grid: blank for equal, darker for larger differences."""
    if not grid.size or not (grid > 0).any():
        return []
    shades = HEAT_ASCII if symbols.ascii else HEAT
    finite = grid[np.isfinite(grid) & (grid > 0)]
    logs = np.log10(np.where(np.isfinite(grid) & (grid > 0), grid, 1.0))
    low, high = (float(np.log10(finite.min())), float(np.log10(finite.max()))) if finite.size else (0.0, 0.0)
    share = (logs - low) / (high - low) if high > low else np.ones_like(logs)
    level = np.where(grid > 0, 1 + np.round(share * (len(shades) - 2)), 0).astype(int)
    level = np.where(np.isinf(grid), len(shades) - 1, level)
    edge = "|" if symbols.ascii else "│"
    title = f"where: rows and columns of the matrix, largest {symbols.delta} darkest"
    lines = [Content.styled(plain(title, symbols), "$muted")]
    for row in level:
        lines.append(Content.assemble((edge, "$muted"), ("".join(shades[value] for value in row), "$differs"), (edge, "$muted")))
    return lines


def _place(index: tuple[int, ...] | None) -> str:
    return f"[{', '.join(map(str, index))}]" if index else "[]"
