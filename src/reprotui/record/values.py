"""Numbers of a record as people read them."""

import math
from typing import Any


def readable(value: Any) -> float | int | str:
    """Return a scalar as JSON can hold it; infinities and NaN as text."""
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, float) and not math.isfinite(number):
        return str(number)
    return number if isinstance(number, int | float) else float(number)
