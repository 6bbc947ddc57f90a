"""The dashboard in a pseudo-terminal of 160x40: start, keys, scrolling, divergence, memory, idling, and whom it slows down."""

import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import ui_latency, ui_load
from benchmarks.common import Progress, at_most, ratio, say
from benchmarks.ui_runs import recorded_pair

ROUNDS = 5
STEPS = 1_000_000
ROWS = 10_000_000
WRITE_RATE = 2_000.0
"""Steps a second of each run while keys are pressed and bytes are counted."""
IDLE_SECONDS = 10.0
WATCH_SECONDS = 5.0
"""How long the workers are watched at a time, and left alone at a time."""
PRESSES = 20
"""Keys a round."""
PAGES = 40
"""Pages of the long table a round."""

START_BAR, OPEN_BAR = 2.0, 3.0
KEY_BAR_MS, BUSY_KEY_BAR_MS, BUSY_KEY_P95_BAR_MS = 8.0, 20.0, 50.0
PAGE_BAR_MS, DIVERGENCE_BAR_MS = 10.0, 150.0
MEMORY_BAR_MB, IDLE_BAR_PERCENT, FOLLOWING_BAR_KIB = 120.0, 0.5, 150.0
LEAST_NOISE = 0.01
"""A loss of steps below this share is none, even where the machine happens to be quieter."""

Rows = list[dict[str, Any]]


def run(
    count: int | None = None, seed: int = 0, *, steps: int = STEPS, rows: int = ROWS, presses: int = PRESSES, pages: int = PAGES,
    idle_seconds: float = IDLE_SECONDS, watch_seconds: float = WATCH_SECONDS, model: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure what a person feels.

    Args:
        count: rounds.
        seed: of contents, places and moments.
        steps: of the recorded pair.
        rows: of the long table.
        presses, pages: keys, and pages of the long table, a round.
        idle_seconds, watch_seconds: how long idling and watched workers are measured at a time.
        model: config of those workers, other than the default experiment's own.

    Returns:
        A row a check: median, 95th percentile (the largest, where there are few), unit, number of measurements. Ratios
        are to `python -c "import textual.app"` of the same round.
    """
    rounds, generator = count or ROUNDS, random.Random(seed)
    found: Rows = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as name:
        folder = Path(name)
        runs = folder / "runs"
        say(f"ui: writing two runs of {steps:,} steps")
        pair, _ = recorded_pair(runs, steps, seed)
        _starts(pair, folder, rounds, steps, found, notes)
        _keys(pair, runs, folder, rounds * presses, generator, found, notes)
        say("ui: divergences")
        seconds = ui_latency.divergences(runs, folder, rounds, generator, Progress("ui, divergences", rounds))
        _add(found, "divergence committed → on the screen", seconds, "ms")
        notes.append(at_most("divergence to the screen, median", 1e3 * statistics.median(seconds), DIVERGENCE_BAR_MS, " ms"))
        _pages(folder, rows, rounds * pages, generator, found, notes)
        _load(pair, runs, folder, idle_seconds, steps, found, notes)
        _workers(runs, folder, rounds, watch_seconds, model or {}, generator, found, notes)
    return {"rows": found, "notes": notes}


def _starts(pair: Path, folder: Path, rounds: int, steps: int, found: Rows, notes: list[str]) -> None:
    base, home, shown, judged = [], [], [], []
    ui_latency.home_start(folder)  # compiles what was never imported
    progress = Progress("ui, starts", rounds)
    for _ in range(rounds):
        base.append(ui_latency.python_start())
        home.append(ui_latency.home_start(folder))
        opened = ui_latency.open_pair(pair, folder)
        shown.append(opened[0])
        judged.append(opened[1])
        progress.advance()
    _add(found, 'python -c "import textual.app"', base, "ms")
    _add(found, "start to the first frame of Home", home, "ms")
    _add(found, f"start to table and chart, pair of {steps:,} steps", shown, "ms")
    _add(found, "start to the verdict with its leaves, same pair", judged, "ms")
    notes.append(at_most("first frame of Home against importing textual", ratio(home, base), START_BAR, " ×"))
    notes.append(at_most("table and chart against importing textual", ratio(shown, base), OPEN_BAR, " ×"))
    loaded = ui_latency.frameworks_loaded(folder, pair)
    absent = f"of {', '.join(ui_latency.FRAMEWORKS)}, {', '.join(loaded) or 'none'} is in sys.modules of the dashboard"
    notes.append(f"{absent}: {'NOT met' if loaded else 'met'}")


def _keys(
    pair: Path, runs: Path, folder: Path, presses: int, generator: random.Random, found: Rows, notes: list[str]
) -> None:  # fmt: skip
    say("ui: keys")
    paints, settled, pages = ui_latency.keys_idle(pair, folder, presses, generator)
    busy = ui_latency.keys_while_writing(runs, folder, presses, WRITE_RATE, generator)
    _add(found, "key to paint, idle", paints, "ms")
    _add(found, "key to the last frame that it causes, idle", settled, "ms")
    _add(found, "page down, first or last step, idle", pages, "ms")
    _add(found, f"key to paint, two runs writing {WRITE_RATE:,.0f} steps/s each", busy, "ms")
    notes.append(at_most("key to paint, idle, median", 1e3 * statistics.median(paints), KEY_BAR_MS, " ms"))
    notes.append(at_most("key to paint, two runs writing, median", 1e3 * statistics.median(busy), BUSY_KEY_BAR_MS, " ms"))
    notes.append(at_most("the same, 95th percentile", 1e3 * _p95(busy), BUSY_KEY_P95_BAR_MS, " ms"))


def _pages(folder: Path, rows: int, pages: int, generator: random.Random, found: Rows, notes: list[str]) -> None:
    say(f"ui: writing a run of {rows:,} steps")
    written, seconds = ui_latency.pages_of_long_run(folder, rows, pages, generator)
    if written < rows:
        notes.append(f"the disk has no room for {rows:,} rows: {written:,} were written")
    _add(found, f"page at a random place among {written:,} rows", seconds, "ms")
    notes.append(at_most("page at a random place, median", 1e3 * statistics.median(seconds), PAGE_BAR_MS, " ms"))


def _load(pair: Path, runs: Path, folder: Path, seconds: float, steps: int, found: Rows, notes: list[str]) -> None:
    say("ui: memory, idle, following")
    home, opened = ui_load.home_idle(folder, seconds), ui_load.pair_idle(pair, folder, seconds)
    cpu, written = ui_load.following(runs, folder, seconds, WRITE_RATE)
    for what, (memory, idle, idle_bytes) in (("Home, empty", home), (f"pair of {steps:,} steps", opened)):
        _add_one(found, f"memory, {what}", memory, "MB")
        _add_one(found, f"idle, {what}", idle, "% of a core")
        _add_one(found, f"idle bytes, {what}", idle_bytes, "B/s")
    _add_one(found, "following two runs", cpu, "% of a core")
    _add_one(found, "bytes while following two runs", written / 1024, "KiB/s")
    notes.append(at_most(f"memory with a pair of {steps:,} steps", opened[0], MEMORY_BAR_MB, " MB"))
    notes.append(at_most("idle, the larger of both", max(home[1], opened[1]), IDLE_BAR_PERCENT, " % of a core"))
    notes.append(at_most("bytes written while idle", max(home[2], opened[2]), 0, " B/s"))
    notes.append(at_most("bytes written while following", written / 1024, FOLLOWING_BAR_KIB, " KiB/s"))


def _workers(
    runs: Path, folder: Path, rounds: int, seconds: float, model: Mapping[str, Any], generator: random.Random, found: Rows,
    notes: list[str],
) -> None:  # fmt: skip
    say("ui: workers, watched and alone")
    watched, alone = ui_load.watched_workers(runs, folder, 2 * rounds, seconds, model, generator)
    _add(found, "workers with a dashboard open", watched, "steps/s", scale=1)
    _add(found, "workers alone", alone, "steps/s", scale=1)
    limit = max(LEAST_NOISE, ui_load.noise(alone))
    lost = 1 - ratio(watched, alone)
    notes.append(
        at_most("steps lost because somebody watches", 100 * lost, round(100 * limit, 1), " % (noise of the workers alone)")
    )


def _add(found: Rows, check: str, values: Sequence[float], unit: str, scale: float = 1e3) -> None:
    scaled = [scale * value for value in values]
    found.append({"check": check, "median": statistics.median(scaled), "p95": _p95(scaled), "unit": unit, "n": len(scaled)})


def _add_one(found: Rows, check: str, value: float, unit: str) -> None:
    found.append({"check": check, "median": value, "p95": "–", "unit": unit, "n": 1})


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
