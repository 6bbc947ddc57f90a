"""The benchmark of the dashboard keeps its form, and its terminal notices what it should. No timings."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.common import with_benchmarks
from benchmarks.ui_load import noise
from benchmarks.ui_runs import recorded_pair
from reprotui.compare import compare_runs, open_run

CHECKS = (
    "importing textual", "sys.modules", "table and chart", "key to paint, idle", "two runs writing", "95th percentile",
    "divergence", "page at a random place", "memory", "idle, the larger", "while idle", "while following", "somebody watches",
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers with the compilation cache of the session."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def in_process(code: str, directory: Path) -> str:
    """Run code in a process of its own: this one may hold jax's threads, and must not be forked then."""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, env=with_benchmarks(os.environ)
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_every_check_has_a_row_and_every_bar_a_note(tmp_path: Path) -> None:
    # Where all cores are busy, two seconds pass between two pictures of runs that are followed.
    sizes: dict[str, Any] = {
        "steps": 3000, "rows": 3000, "presses": 3, "pages": 3, "idle_seconds": 3.0, "watch_seconds": 0.5,
        "model": {"width": 32, "depth": 1},
    }  # fmt: skip
    code = f"""
import json
from benchmarks import run_benchmark, ui_load
ui_load.SETTLE_SECONDS = 0.2
print(json.dumps(run_benchmark("ui", count=1, **{sizes!r}), allow_nan=False))
"""
    result = json.loads(in_process(code, tmp_path))
    rows, notes = result["rows"], result["notes"]
    assert all(list(row) == ["check", "median", "p95", "unit", "n"] for row in rows)
    assert len({row["check"] for row in rows}) == len(rows) == 20
    # What idles writes nothing, and may need less than a clock tick; everything else takes something.
    assert all(row["median"] > 0 or row["check"].startswith("idle") for row in rows)
    assert all(math.isfinite(row["median"]) for row in rows)
    assert all(any(check in note for note in notes) for check in CHECKS), notes
    assert all(note.endswith("met") for note in notes)
    assert list(tmp_path.iterdir()) == []


def test_the_recorded_pair_differs_where_it_is_said(tmp_path: Path) -> None:
    pair, differs = recorded_pair(tmp_path, 500, seed=3)
    verdict = compare_runs(open_run(pair / "a", "A"), open_run(pair / "b", "B"))
    assert (verdict.kind, verdict.step, verdict.phase) == ("diverged", differs, "grads")


WAITING = """
from pathlib import Path
from benchmarks import ui_terminal
from reprotui.errors import WorkerFailedError

def said(terminal, text):
    try:
        terminal.wait_for(text)
    except WorkerFailedError as error:
        return str(error)
    return "shown"

here = Path.cwd()
with ui_terminal.Terminal(["open", "nowhere"], here) as terminal:
    print(said(terminal, "quit").replace(chr(10), " "))
with ui_terminal.Terminal(["--runs-dir", str(here / "runs")], here) as terminal:
    print(said(terminal, "quit"))
    ui_terminal.LIMIT_SECONDS = 0.2
    print(said(terminal, "no dashboard says this").replace(chr(10), " "))
"""


@pytest.mark.slow
def test_a_dashboard_that_ends_or_never_shows_something_is_no_measurement(tmp_path: Path) -> None:
    ended, shown, never = in_process(WAITING, tmp_path).splitlines()
    assert "nowhere" in ended
    assert shown == "shown"
    assert "never showed" in never


def test_noise_is_what_equal_measurements_differ_by() -> None:
    assert noise([100, 100, 100]) == 0
    assert noise([100, 90, 100]) == pytest.approx(0.1)


ENDINGS = """
import json, pyte
from benchmarks import run_benchmark

class Broken(pyte.Screen):
    resets = 0

    def reset(self):
        super().reset()
        self.resets += 1

    def draw(self, text):  # until all is drawn anew, another line stands there
        super().draw("x" * len(text) if self.cursor.y == 8 and self.resets == 1 else text)

whole = run_benchmark("endings", count=1, steps=(20, 20), busy=0)
pyte.Screen = Broken
print(json.dumps([whole, run_benchmark("endings", count=1, steps=(20, 20), busy=0)]))
"""


@pytest.mark.slow
def test_a_picture_that_is_broken_when_a_race_ends_is_told_from_a_whole_one(tmp_path: Path) -> None:
    whole, broken = json.loads(in_process(ENDINGS, tmp_path))
    assert [row["broken pictures"] for row in whole["rows"]] == [0] and whole["notes"][-1].endswith(": met")
    assert [row["broken pictures"] for row in broken["rows"]] == [1] and "NOT met" in broken["notes"][-1]
    assert broken["notes"][0].startswith("line 9 of ") and "xxx" in broken["notes"][0]
