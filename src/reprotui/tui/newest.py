"""What a thread has for a screen: the newest value alone, however slow the terminal is."""

from collections.abc import Callable
from typing import Generic, TypeVar

from textual.message_pump import MessagePump

T = TypeVar("T")


class Newest(Generic[T]):
    """Hand the newest of what a thread delivers to a screen; one message at most is under way.

    Args:
        screen: who takes it.
        take: called with the value, where the screen does everything else.
    """

    def __init__(self, screen: MessagePump, take: Callable[[T], None]) -> None:
        self._screen, self._take = screen, take
        self._told = False
        self._value: T

    def deliver(self, value: T) -> None:
        """Take a value from the thread."""
        self._value = value
        if not self._told:
            self._told = True
            self._screen.call_later(self._hand_over)

    def _hand_over(self) -> None:
        self._told = False
        self._take(self._value)
