"""Races that end before somebody's eyes while all cores are busy: is what stands on the terminal what the dashboard shows?"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common import Progress, at_most
from benchmarks.ui_terminal import Terminal
from reprotui.errors import BadInputError
from reprotui.race.start import ended

RACES = 20
SIZE = 80, 24
MODEL = "width=32", "depth=1"
STEPS = 30, 120
"""Fewest and most steps of a race: it ends while the dashboard is still opening, or some pictures later."""
VERDICTS = (r"IDENTICAL through step \d+\s*\n", r"DIVERGED at step")
"""What the band says of a race that ended, of which the one has no `so far` behind it."""
KINDS: tuple[tuple[str, ...], ...] = ((), ("--b", "shuffle_from=11"), ("--b", "seed=1"))
"""Races whose verdicts have one line, three and more."""
SETTLE_SECONDS = 2.0
SPIN = "while True: pass"


def run(count: int | None = None, seed: int = 0, *, steps: tuple[int, int] = STEPS, busy: int | None = None) -> dict[str, Any]:
    """Let races end at 80x24, and hold the terminal's picture against the one that is drawn anew.

    Args:
        count: races.
        seed: of their lengths.
        steps: fewest and most steps of a race.
        busy: processes that do nothing but keep a core busy; as many as there are cores, unless told otherwise.

    Returns:
        A row a kind of race: how many ended, and how many left a broken picture; lines that were wrong stand in the notes.
        All bytes that the dashboard writes go through a terminal in the memory of this process (pyte).
    """
    races, generator = count or RACES, random.Random(seed)
    cores = busy if busy is not None else os.cpu_count() or 1
    progress = Progress("endings", races)
    found: dict[tuple[str, ...], list[list[str]]] = {kind: [] for kind in KINDS[:races]}
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as name, _kept_busy(cores):
        for number in range(races):
            kind = KINDS[number % len(KINDS)]
            command = ["race", "digits-mlp", *MODEL, f"steps={generator.randint(*steps)}", *kind, "--name", f"race-{number}"]
            found[kind].append(wrong_lines(command, Path(name)))
            progress.advance()
    broken = {kind: sum(bool(lines) for lines in each) for kind, each in found.items()}
    rows = [
        {"race": " ".join(kind) or "equal", "races": len(each), "broken pictures": broken[kind]} for kind, each in found.items()
    ]
    notes = [line for each in found.values() for lines in each for line in lines]
    what = f"broken pictures of {races} races at {'x'.join(map(str, SIZE))} with {cores} busy processes"
    notes.append(at_most(what, sum(broken.values()), 0))
    return {"rows": rows, "notes": notes}


def wrong_lines(command: Sequence[str], folder: Path) -> list[str]:
    """Let a race end, and return the lines of the terminal that are others when all of it is drawn anew."""
    try:
        import pyte
    except ImportError:
        raise BadInputError("this benchmark needs a terminal in memory: pip install pyte") from None
    screen = pyte.Screen(*SIZE)
    with Terminal(command, folder, SIZE, pyte.ByteStream(screen).feed) as terminal:
        terminal.wait_for("|".join(VERDICTS))
        _settled(terminal)
        before = [line.rstrip() for line in screen.display]
        # A terminal of another size is drawn from nothing: what stood wrong before does not stand there again.
        for width, height in ((SIZE[0], SIZE[1] + 1), SIZE):
            screen.reset()
            screen.resize(height, width)
            terminal.resize(width, height)
            terminal.wait_for_frame()
            _settled(terminal)
        after = [line.rstrip() for line in screen.display]
    return [
        f"line {row} of {command[-1]}: {wrong!r} stood there, {right!r} belongs there"
        for row, (wrong, right) in enumerate(zip(before, after, strict=True), 1)
        if wrong != right
    ]


def _settled(terminal: Terminal) -> None:
    """Wait until all is drawn: with busy cores, half a second may lie between a verdict and its cause."""
    while terminal.drain(SETTLE_SECONDS):
        pass


@contextmanager
def _kept_busy(count: int) -> Generator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(ended(subprocess.Popen([sys.executable, "-c", SPIN])))
        yield
