"""Pages of the step table, drawn in this process: the one part of the benchmarks that knows textual."""

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from textual.app import App, ComposeResult

from reprotui.compare.timeline import PairLine, RunLine, Timeline
from reprotui.errors import WorkerFailedError
from reprotui.tui.symbols import UNICODE
from reprotui.tui.theme import THEMES
from reprotui.tui.widgets.steps import StepTable

WIDTH, LINES = 160, 40


def draw_pages(traces: Sequence[Path], rows: int, pages: int, generator: random.Random) -> list[float]:
    """Return the seconds of each page at a random place: records read from the traces, lines made of them.

    Args:
        traces: of both runs, with so many rows each.
        rows: rows of the table.
        pages: how many.
        generator: draws the places.
    """
    return asyncio.run(_draw_pages(traces, rows, pages, generator))


class _TableApp(App[None]):
    def get_theme_variable_defaults(self) -> dict[str, str]:
        return THEMES[0].variables

    def compose(self) -> ComposeResult:
        yield StepTable(UNICODE)


async def _draw_pages(traces: Sequence[Path], rows: int, pages: int, generator: random.Random) -> list[float]:
    # What the table needs of a timeline, without reading the traces for it: their reading is measured elsewhere.
    line = RunLine(range(rows), np.zeros(rows, np.float32))
    pair = PairLine(range(rows), np.zeros(rows, np.uint8), None)
    timeline = Timeline((line, line), (pair,), range(rows), complete=True)
    app = _TableApp()
    seconds = []
    async with app.run_test(size=(WIDTH, LINES)) as pilot:
        table = app.query_one(StepTable)
        table.compare(traces, ("A", "B"))
        table.show(timeline, timeline.pairs[0])
        table.follow = False
        await pilot.pause()
        for _ in range(pages):
            place = generator.randrange(max(1, rows - LINES))
            start = time.perf_counter()
            table.scroll_to(y=place, animate=False, immediate=True)
            drawn = [table.render_line(y).text for y in range(LINES)]
            seconds.append(time.perf_counter() - start)
            if not drawn[1].split()[0] == str(place):
                raise WorkerFailedError(f"the page at row {place} begins with {drawn[1]!r}")
    return seconds
