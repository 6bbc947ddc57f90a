"""What takes long is said on stderr, a line now and then: on a terminal, in a log and where `--json` is asked for."""

import time

from reprotui.cli import common

LINE_SECONDS = 2.0
"""How often: enough to see that it goes on."""


class Told:
    """Say on stderr how far something is; what ends within the first seconds says nothing."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            common.say(f"  {text}", stderr=True)
