"""The benchmarks: the campaigns find every flip and lose no acknowledged step; the others keep their form. No timings."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import BENCHMARKS, run_benchmark
from benchmarks.common import with_benchmarks
from conftest import PATIENCE, eventually

SMALL_MODEL = {"width": 8, "depth": 1, "batch_size": 4}
SIZES: dict[str, dict[str, Any]] = {
    "recording": {
        "mlp": SMALL_MODEL,
        "transformer": {**SMALL_MODEL, "heads": 2, "context": 8},
        "mlp_steps": 3,
        "transformer_steps": 3,
    },
    "racing": {"steps": {"torch_small": 6}},
    "checksum": {"side": 64},
    "trace": {"rows": 50},
    "divergence": {"steps": 500},
    "verifying": {"elements": 1000},
}
ROWS = {"recording": 8, "racing": 1, "checksum": 6, "trace": 4, "divergence": 2, "startup": 9, "verifying": 3}
"""Fewest rows: a GPU and torch add some."""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keep compiled programs out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("xla")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        yield


def bench(name: str, count: int, folder: Path) -> dict[str, Any]:
    """Run a benchmark through the command line."""
    command = [sys.executable, "-m", "benchmarks", name, "--count", str(count), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=folder, env=with_benchmarks(os.environ))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[name]


@pytest.mark.slow
def test_every_flip_is_found_at_its_step_and_leaf(tmp_path: Path) -> None:
    result = bench("flips", 20, tmp_path)
    both = result["rows"][-1]
    assert both == {
        "experiment": "both", "flips": 20, "step exact": 20, "leaf exact": 20, "controls": 4, "controls reported": 0,
    }, result["notes"]  # fmt: skip
    assert result["notes"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_kill_loses_no_acknowledged_step(tmp_path: Path) -> None:
    result = bench("kills", 3, tmp_path)
    early, later = result["rows"]
    assert early["kills"] + later["kills"] == 3
    assert [row["lost acknowledged steps"] for row in result["rows"]] == [0, 0]
    assert early["state right"] == early["kills"]
    for check in ("opened", "chain holds", "state right", "verdict incomplete"):
        assert later[check] == later["kills"], (check, result["notes"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_rows_have_the_same_keys_and_a_label_each(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    result = run_benchmark(name, count=1, **SIZES.get(name, {}))
    rows = result["rows"]
    assert len(rows) >= ROWS[name]
    assert all(list(row) == list(rows[0]) for row in rows)
    labels = [next(iter(row.values())) for row in rows]
    assert len(set(labels)) == len(labels)
    assert all(isinstance(note, str) for note in result["notes"])
    json.dumps(result, allow_nan=False)
    assert capfd.readouterr().out == ""
    if name == "recording":
        assert sum("equal to the bit" in note for note in result["notes"]) == 2


def test_divergence_names_the_step_that_the_seed_chose() -> None:
    rows = [run_benchmark("divergence", count=1, seed=seed, steps=500)["rows"] for seed in (1, 2)]
    assert all(row["step and phase right"] == "yes" for found in rows for row in found)
    assert rows[0][0]["differs at"] != rows[1][0]["differs at"]


@pytest.mark.slow
def test_an_interrupted_benchmark_leaves_no_files(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "verifying"], cwd=tmp_path,
        env=with_benchmarks({**os.environ, "TMPDIR": str(temporary)}),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    eventually("it works on its files", lambda: list(temporary.glob("*/*/*")))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert b"interrupted" in said
    assert b"Traceback" not in said
    assert list(temporary.iterdir()) == []


def test_the_command_offers_every_benchmark_and_refuses_others(tmp_path: Path) -> None:
    def said(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "benchmarks", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=with_benchmarks(os.environ))

    helped = said("--help")
    assert helped.returncode == 0 and all(f"  {name:<13}{text}" in helped.stdout for name, text in BENCHMARKS.items())
    assert "examples:\n  python -m benchmarks " in helped.stdout
    refused = said("nothing")
    assert refused.returncode == 2 and "'nothing'" in refused.stderr and "Traceback" not in refused.stderr
