"""What is worked out once and remembered: observing a step may cost no more than comparing a few identities."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Once:
    """What is worked out once for all calls that look alike, and remembered."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def __call__(self, key: Any, make: Callable[[], T]) -> T:
        """Return what was made for this key."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]
