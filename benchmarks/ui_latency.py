"""How long a person waits for the dashboard: start, opening runs, keys, a divergence, a page of a long table."""

import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.common import Progress
from benchmarks.ui_pages import draw_pages
from benchmarks.ui_runs import long_trace, two_writers
from benchmarks.ui_terminal import CURSOR, Terminal
from reprotui.errors import WorkerFailedError
from reprotui.race.start import ended

FRAMEWORKS = ("jax", "jaxlib", "flax", "optax", "orbax", "torch")
BYTES_A_ROW = 130
"""Of a long trace on disk, with a margin."""
DIVERGING_RATE = 200.0
"""Steps a second of runs that diverge: those of a small model."""
AHEAD_SECONDS = 0.5
"""Start of A before B there: a step that B commits has long been committed by A, without which it is no difference yet."""
DOWN, PAGE_DOWN = "\x1b[B", "\x1b[6~"

HOME_DRAWN = (r"\bquit\b",)
"""The footer is drawn last."""
TABLE_DRAWN, CHART_DRAWN = r"(?m)^ *\d+ [=≠?] +\d", "[\u2801-\u28ff]"
"""A row of the step table with its loss, and a dot of the chart."""
JUDGED = r"DIVERGED at step \d+ .*\blea(f|ves)\b"
"""The verdict names leaves once all was read and compared."""

_MODULES = """
import asyncio, sys
from pathlib import Path
from reprotui.tui.app import DashboardApp
async def main():
    app = DashboardApp(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.pause(0.5)
asyncio.run(main())
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def python_start(arguments: str = "import textual.app") -> float:
    """Return the seconds of a Python process that runs a statement."""
    start = time.perf_counter()
    with ended(subprocess.Popen([sys.executable, "-c", arguments], stdin=subprocess.DEVNULL)) as process:
        if process.wait():
            raise WorkerFailedError(f'python -c "{arguments}" failed: its traceback is above')
    return time.perf_counter() - start


def home_start(folder: Path) -> float:
    """Return the seconds to the first whole frame of Home, on an empty runs directory."""
    with Terminal(["--runs-dir", str(folder / "empty")], folder) as terminal:
        return terminal.wait_for(*HOME_DRAWN) - terminal.started


def open_pair(pair: Path, folder: Path) -> tuple[float, float]:
    """Return the seconds until table and chart of a recorded pair are there, and until all of it was read and judged."""
    with Terminal(["open", str(pair)], folder) as terminal:
        return terminal.wait_for(TABLE_DRAWN, CHART_DRAWN) - terminal.started, terminal.wait_for(JUDGED) - terminal.started


def frameworks_loaded(folder: Path, pair: Path) -> list[str]:
    """Return the frameworks that the dashboard has in `sys.modules` after Home, and after the race of a pair."""
    found: set[str] = set()
    for paths in ([], [str(pair)]):
        command = [sys.executable, "-c", _MODULES, str(folder / "empty"), *paths]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise WorkerFailedError(f"the dashboard does not run headless: {done.stderr[-500:]}")
        found |= set(done.stdout.split()) & set(FRAMEWORKS)
    return sorted(found)


def keys_idle(pair: Path, folder: Path, presses: int, generator: random.Random) -> tuple[list[float], list[float], list[float]]:
    """Press keys in the step table of a recorded pair, while nothing else happens.

    Returns:
        Seconds from a key to the frame that shows the cursor on the next row; to the last frame that it caused (chart,
        strip and titles follow); and from a page down, or a jump to an end, to its frame.
    """
    with Terminal(["open", str(pair)], folder) as terminal:
        terminal.wait_for(JUDGED)
        terminal.quiet()
        terminal.press("g")
        terminal.quiet()
        paints, settled, pages = [], [], []
        for key, into in [(DOWN, paints)] * presses + [(PAGE_DOWN, pages), ("G", pages), ("g", pages)] * (presses // 3):
            # A frame is drawn at the ticks of a clock: presses at one distance would always meet the same part of it.
            terminal.drain(generator.uniform(0.02, 0.06))
            start = terminal.press(key)
            into.append(terminal.wait_for_frame() - start)
            end = terminal.quiet() - start
            if into is paints:
                settled.append(end)
        return paints, settled, pages


def keys_while_writing(runs: Path, folder: Path, presses: int, rate: float, generator: random.Random) -> list[float]:
    """Press keys while two runs are written; return the seconds to the frame that shows the cursor on the next row."""
    with two_writers(runs, "keys", rate) as (path, _, _), Terminal(["open", str(path)], folder) as terminal:
        terminal.wait_for(TABLE_DRAWN, CHART_DRAWN)
        terminal.drain(1.0)
        terminal.press("g")
        terminal.drain(0.5)
        seconds = []
        for step in range(1, presses + 1):
            terminal.drain(generator.uniform(0.05, 0.15))
            start = terminal.press(DOWN)
            seconds.append(terminal.wait_for(rf"{CURSOR} *{step} ") - start)
        return seconds


def divergences(runs: Path, folder: Path, rounds: int, generator: random.Random, progress: Progress) -> list[float]:
    """Return the seconds from the commit of a differing step to the frame that says so; a new race each round."""
    seconds = []
    for number in range(rounds):
        writers = two_writers(runs, f"diverges-{number}", DIVERGING_RATE, AHEAD_SECONDS)
        with writers as (path, _, b), Terminal(["open", str(path)], folder) as terminal:
            terminal.wait_for(TABLE_DRAWN, CHART_DRAWN)
            terminal.drain(0.5 + generator.random())
            step, committed = b.diverge()
            seconds.append(terminal.wait_for(rf"DIVERGED at step {step}\b") - committed)
        progress.advance()
    return seconds


def pages_of_long_run(folder: Path, rows: int, pages: int, generator: random.Random) -> tuple[int, list[float]]:
    """Draw pages at random places of the step table over two runs of so many rows, one file for both.

    Returns:
        The rows that the disk had room for, and the seconds of each page: cold, records read from the file.
    """
    room = shutil.disk_usage(folder).free // 2 // BYTES_A_ROW
    rows = min(rows, room)
    paths = [folder / "long-a.db", folder / "long-b.db"]
    long_trace(paths[0], rows)
    with suppress(FileExistsError):
        paths[1].hardlink_to(paths[0])
    seconds = draw_pages(paths, rows, pages, generator)
    for path in paths:
        path.unlink()
    return rows, seconds
