"""How numbers are written for the eye: the one home of formats, for screens, pages and the command line.

A number that names something, such as a step, stands as it is (`step 14364`); a number of things has its thousands apart
(`14,364 steps`). Equality is never judged by what stands here.
"""

import math

MOST_DECIMALS = 6
"""Decimals of a number in a column, at most: about what a float32 holds beside one digit before the point."""


def short(value: float | None, digits: int = 4, width: int | None = None) -> str:
    """Return a number in few characters, with fewer digits where `width` has no room; NaN and infinities by their names.

    Exponents are as short as they can be (`1e-7`), None is a dash.

    >>> short(0.0904281), short(1234567.0), short(float("nan")), short(None)
    ('0.09043', '1.235e6', 'NaN', '–')
    """
    if value is None:
        return "–"
    if (name := _unusual(value)) is not None:
        return name
    text = tidy(f"{value:.{digits}g}")
    return text if width is None or len(text) <= width or digits == 1 else short(value, digits - 1, width)


def aligned(value: float | None, width: int, signed: bool = False) -> str:
    """Return a number for a column of so many characters: always as many decimals, so that points stand under each other.

    What has no digit there, or no room, is written with an exponent. The text is not padded.

    >>> [aligned(value, 10) for value in (0.897, 12.5, 0.0000123, 4567890.0)]
    ['0.897000', '12.500000', '1.23000e-5', '4.567890e6']
    """
    if value is None:
        return "–"
    if (name := _unusual(value)) is not None:
        return name
    sign = "+" if signed else ""
    decimals = max(0, min(MOST_DECIMALS, width - 4))
    text = f"{value:{sign}.{decimals}f}"
    if len(text) <= width and abs(value) >= 10.0 ** (2 - decimals):
        return text
    for digits in range(decimals, -1, -1):
        text = tidy(f"{value:{sign}.{digits}e}")
        if len(text) <= width:
            break
    return text


def whole(number: int) -> str:
    """Return a number of things, thousands apart: `14,364`."""
    return f"{number:,}"


def count(number: int) -> str:
    """Return a number of things in at most six characters: `14364`, `143.6k`, `2.5M`."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**5, "k")):
        if number >= size:
            return f"{number / (1000 if unit == 'k' else size):.4g}{unit}"
    return str(number)


def rate(per_second: float) -> str:
    """Return how many a second: `213/s`, `0.25/s`."""
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{short(per_second, 2)}/s"


def duration(seconds: float) -> str:
    """Return a time that a person reads at a glance: `45 s`, `12 min`, `3 h 05 min`."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    return f"{rounded // 60} min" if rounded < 3600 else f"{rounded // 3600} h {rounded % 3600 // 60:02} min"


def seconds_of(text: str) -> float:
    """Read a time as a person types it: `90`, `90s`, `10m`, `1.5h`.

    Raises:
        ValueError: it is none, or not above zero.

    >>> seconds_of("10m"), seconds_of("90"), seconds_of("1.5h")
    (600.0, 90.0, 5400.0)
    """
    size = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    seconds = float(text if size is None else text[:-1]) * (size or 1.0)
    if not (0 < seconds < math.inf):
        raise ValueError(f"{text!r} is no time above zero")
    return seconds


def tidy(text: str) -> str:
    """Return a number that Python wrote without the zeros of its exponent: `1e-07` is `1e-7`, `1e+10` is `1e10`."""
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text


def _unusual(value: float) -> str | None:
    """Return NaN, infinities and zero by their names, None for every other number."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return "0" if value == 0 else None
