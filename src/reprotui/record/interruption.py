"""An interruption that was asked for: which step it comes after, and the signal that is sent as from outside."""

import os
import signal
import threading
from typing import Any

from reprotui.observation import Interruption


class Interrupter:
    """Sends this process a signal, once.

    Args:
        asked: after how many steps, and which; None for none.
    """

    def __init__(self, asked: Interruption | None) -> None:
        self._asked, self._first = asked, 0

    def due(self, step: int) -> str:
        """Return the name of the signal that comes after this step, empty for none; steps count from the first one shown."""
        if self._asked is None or step < 1:
            return ""
        self._first = self._first or step
        return f"SIG{self._asked.by}" if step - self._first + 1 >= self._asked.after else ""

    def send(self, name: str, own: Any, before: Any) -> None:
        """Send the signal: the script's own handler acts on it, or what would without an observer.

        Args:
            name: of the signal.
            own: the observer's handler of SIGTERM, which gives way.
            before: what was there before it.
        """
        self._asked = None
        if signal.getsignal(signal.SIGTERM) == own and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        os.kill(os.getpid(), signal.Signals[name])
