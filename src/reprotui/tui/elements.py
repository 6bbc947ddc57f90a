"""An exact difference of two arrays as text: figures, histograms as bars, and a heat map of a matrix."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from textual.content import Content

from reprotui.integrity.bits import ElementPair
from reprotui.integrity.elements import ElementDifference
from reprotui.numbers import short
from reprotui.tui.symbols import Symbols, plain

BAR = 18
BITS_NAMED = 6
"""Bits that differ named by their numbers."""
HEAT = " ░▒▓█"
HEAT_ASCII = " .:*#"
"""Shades from equal to the largest difference of the map, by its logarithm."""
ZERO = float(np.finfo(np.float64).tiny)
"""What a heat map holds where bits differ and values do not."""


def figures(difference: ElementDifference, symbols: Symbols) -> list[Content]:
    """Return the figures of a difference, a line each."""
    if difference.equal:
        return [
            Content.styled(plain(f"{symbols.equal} all {difference.elements:,} elements are equal to the bit", symbols), "$equal")
        ]
    count = f"{symbols.differs} {difference.different:,} of {difference.elements:,} elements differ"
    lines = [Content.styled(plain(count, symbols), "bold $differs")]
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


def bits(name: str, pair: ElementPair, symbols: Symbols, width: int) -> list[Content]:
    """Return an element of both runs with its bits, a line each, and which of them differ.

    Args:
        name: which element it is, in a word.
        pair: the element.
        symbols: the signs of this terminal.
        width: cells of a line: bits are zeros and ones where these fit, hexadecimal where they do not.
    """
    value = max(len(text) for text in pair.values)
    digits = [pair.binary(number) for number in pair.bits]
    if 2 + value + 1 + len(digits[0]) > width:
        digits = [f"{number:0{(pair.width + 3) // 4}x}" for number in pair.bits]
    lines = [Content.styled(plain(f"{name} element {_place(pair.index)}", symbols), "$muted")]
    for label, colour, text, own in zip("AB", ("$run-a", "$run-b"), pair.values, digits, strict=True):
        other = digits[1 if label == "A" else 0]
        parts: list[tuple[str, str]] = [(f"{label} ", f"bold {colour}"), (f"{text:>{value}} ", colour)]
        for sign, against in zip(own, other, strict=True):
            parts.append((sign, "bold $differs" if sign != against else "$muted"))
        lines.append(Content.assemble(*parts))
    flipped = pair.flipped
    named = ", ".join(map(str, flipped[:BITS_NAMED])) + (
        f" and {len(flipped) - BITS_NAMED} more" if len(flipped) > BITS_NAMED else ""
    )
    said = f"XOR {pair.xor:0{(pair.width + 3) // 4}x}: {'bit' if len(flipped) == 1 else 'bits'} {named}"
    return [*lines, Content.styled(plain(f"  {said}", symbols), "$differs")]


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


def heat(grid: NDArray[np.float64], rows: int, columns: int, symbols: Symbols) -> list[Content]:
    """Return a heat map with its axes and what its shades mean; blank is equal, darker is larger.

    Args:
        grid: see `reprotui.integrity.elements.heat_map`.
        rows, columns: of the matrix that it is a picture of.
        symbols: the signs of this terminal.
    """
    if not grid.size or not (grid > 0).any():
        return []
    shades = HEAT_ASCII if symbols.ascii else HEAT
    steps = len(shades) - 2
    number = np.isfinite(grid) & (grid > ZERO)
    low, high = (float(np.log10(edge(grid[number]))) if number.any() else 0.0 for edge in (np.min, np.max))
    share = (np.log10(np.where(number, grid, 1.0)) - low) / (high - low) if high > low else np.ones_like(grid)
    level = np.where(number, 1 + np.round(np.clip(share, 0, 1) * steps), grid > 0).astype(int)
    edge, last = "|" if symbols.ascii else "│", len(grid) - 1
    gutter = len(str(rows - 1))
    lines = [Content.styled(plain(f"largest |{symbols.delta}| by row and column of [{rows}, {columns}]", symbols), "$muted")]
    ends = f"0{columns - 1:>{grid.shape[1] - 1}}" if grid.shape[1] > len(str(columns - 1)) else "0"
    lines.append(Content.styled(f"{'':{gutter}} {ends}", "$muted"))
    for at, (values, broken) in enumerate(zip(level, np.isinf(grid), strict=True)):
        name = "0" if at == 0 else str(rows - 1) if at == last else ""
        cells = [
            ("!", "bold $unknown") if lost else (shades[value], "$differs") for value, lost in zip(values, broken, strict=True)
        ]
        lines.append(Content.assemble((f"{name:>{gutter}}{edge}", "$muted"), *cells, (edge, "$muted")))
    meaning = (
        [f"{shades[1 + at]} {short(10 ** (low + (high - low) * at / steps), 2)}" for at in range(steps + 1)] if high > low else []
    )
    meaning = meaning or ([f"{shades[-1]} {short(10**high, 2)}"] if number.any() else [])
    meaning += [f"{shades[1]} 0 of another sign"] if ((grid > 0) & (grid <= ZERO)).any() else []
    meaning += ["! NaN or infinity"] if np.isinf(grid).any() else []
    return [*lines, Content.styled(plain(f"{'':{gutter}} {'  '.join(meaning)}", symbols), "$muted")]


def _place(index: tuple[int, ...] | None) -> str:
    return f"[{', '.join(map(str, index))}]" if index else "[]"
