"""Round values beside the axes: decades where the scale is logarithmic, else 1, 2 or 5 times a power of ten. No textual here."""

import math

import numpy as np

from reprotui.numbers import short, tidy
from reprotui.tui.plot import DOTS_Y, Scale

LABEL = 8
"""Most characters of a label at the left: what a chart leaves for it."""
APART = 3
"""Rows from one label to the next, at least."""
PLAIN = 0.0099, 99_999.0
"""Between these a decade is written without an exponent."""
ROUND = 1, 2, 5, 10
CLOCK = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000, 36000, 86400)
"""Seconds between two labels of an axis of time; above, whole days."""


def up(scale: Scale, height: int) -> dict[int, str]:
    """Return the labels of a chart so many cells high by their row; in a chart without a round value, its ends."""
    most = max(2, height // APART + 1)
    values = _decades(scale.low, scale.high, most) if scale.log else []
    texts = [tidy(f"{value:.0e}" if not PLAIN[0] <= value < PLAIN[1] else f"{value:.10g}") for value in values]
    if len(values) < 2:
        values = _even(scale.low, scale.high, most)
        texts = _decimal(values)
    dots = height * DOTS_Y
    rows = (scale.rows(np.array([*values, scale.low, scale.high]), dots) // DOTS_Y).clip(0, height - 1)
    *found, low, high = rows.tolist()
    labels: dict[int, str] = {}
    for row, text in zip(found, texts, strict=True):
        if not any(abs(row - other) < 2 for other in labels):
            labels[int(row)] = text
    if not labels:
        labels = {int(low): short(scale.low, 6, LABEL), int(high): short(scale.high, 6, LABEL)}
    return labels


def along(first: float, last: float, most: int, clock: bool = False) -> list[tuple[float, str]]:
    """Return places and labels along the lower axis, at most so many: steps, or with `clock` times in seconds."""
    if not clock:
        return [(value, f"{value:.0f}") for value in _even(first, last, most, least=1.0)]
    rough = (last - first) / max(1, most)
    every = next((step for step in CLOCK if step >= rough), 86400 * math.ceil(rough / 86400))
    start = math.ceil(first / every)
    return [(number * every, clock_text(number * every, every)) for number in range(start, math.floor(last / every) + 1)]


def clock_text(seconds: float, every: float = 1) -> str:
    """Return a time since the start: `12.5 s`, `3:20`, `1:05:00`."""
    if abs(seconds) < 60 or every < 1:
        return f"{seconds:.1f} s" if every < 1 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _decades(low: float, high: float, most: int) -> list[float]:
    """Return powers of ten, every so many where there is no room for all; with 2 and 5 times them where there is much."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = list(range(first, last + 1))
    if len(powers) > most:
        every = math.ceil(len(powers) / most)
        return [10.0**power for power in powers if power % every == 0]
    wide = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
    wide = [value for value in wide if low <= value <= high]
    return wide if len(wide) <= most else [10.0**power for power in powers]


def _even(low: float, high: float, most: int, least: float = 0.0) -> list[float]:
    rough = max((high - low) / max(1, most), least) or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    every = next(factor * power for factor in ROUND if factor * power >= rough * (1 - 1e-9))
    if not every > 0 or not math.isfinite(every) or high - low > every * 1000:
        return []
    return [number * every for number in range(math.ceil(low / every), math.floor(high / every) + 1)]


def _decimal(values: list[float]) -> list[str]:
    """Return evenly spaced values with as many decimals as one of them needs; with few digits where there is no room."""
    decimals = max((len(f"{value:.10g}".partition(".")[2].partition("e")[0]) for value in values), default=0)
    texts = [f"{value:.{decimals}f}" for value in values]
    unfit = any(len(text) > LABEL for text in texts) or any("e" in f"{value:.10g}" for value in values if value)
    return [short(value, 6, LABEL) for value in values] if unfit else texts
