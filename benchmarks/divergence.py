"""Finding the first difference of two traces of a million steps, against parsing JSON lines."""

import json
import sqlite3
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import at_most, say
from reprotui.checksum import NAME, LeafSpec
from reprotui.compare import compare_traces
from reprotui.trace import PHASES, LeafTable, Trace
from reprotui.trace.phases import ROOT_BYTES, ROOTS_BYTES
from reprotui.trace.schema import connect_writer

STEPS = 1_000_000
ROUNDS = 7
BAR_SECONDS = 0.2
"""Longest acceptable time: what a person takes for at once."""

TABLE = LeafTable(
    PHASES[1:],
    tuple(
        LeafSpec(path, "float32", (64, 64))
        for path in ("batch/x", "rng", "loss", "grads/kernel", "opt_state/mu", "params/kernel")
    ),
)
FIRST_DIFFERING = PHASES.index("grads")
"""The runs differ from there on: gradients, optimizer and parameters; batch, keys and the loss of that step are the same."""


def run(count: int | None = None, seed: int = 0, *, steps: int = STEPS) -> dict[str, Any]:
    """Write two traces and two JSON lines files that differ from one step of the last tenth on, and compare them.

    Args:
        count: rounds.
        seed: of the content, and of the step.
        steps: steps a run.

    Returns:
        A row a way: median seconds, opening the files included, and the step that was found. The files are in the
        page cache, as those of runs that have just been recorded are.
    """
    generator = np.random.default_rng(seed)
    differs = int(generator.integers(steps - max(1, steps // 10), steps))
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        runs = contents(generator, steps, differs)
        paths = [Path(folder) / name for name in ("a.db", "b.db", "a.jsonl", "b.jsonl")]
        for index, (roots, losses) in enumerate(runs):
            say(f"writing {steps:,} steps of run {'AB'[index]}")
            write_trace(paths[index], roots, losses, differs if index else steps)
            _write_json_lines(paths[2 + index], roots, losses)
        say("comparing")
        by_trace = [_compare_traces(paths[0], paths[1]) for _ in range(count or ROUNDS)]
        by_lines = [_compare_json_lines(paths[2], paths[3])]
    seconds = statistics.median(time_ for time_, _, _ in by_trace)
    rows = []
    for way, found in (("compare_traces", by_trace), ("JSON lines, parsed", by_lines)):
        median = statistics.median(time_ for time_, _, _ in found)
        right = all(place == (differs, PHASES[FIRST_DIFFERING]) for _, *place_ in found for place in [tuple(place_)])
        rows.append(
            {
                "way": way, "steps": steps, "seconds": median, "× compare_traces": median / seconds, "differs at": differs,
                "step and phase right": "yes" if right else "NO",
            }
        )  # fmt: skip
    bar = at_most("compare_traces on a million steps", seconds, BAR_SECONDS, " s")
    return {"rows": rows, "notes": [bar] if steps == STEPS else []}


Content = tuple[np.ndarray, np.ndarray]
"""Roots uint64[steps, phases], which serve as the leaf checksums too (a leaf a phase), and losses float32[steps]."""


def contents(generator: np.random.Generator, steps: int, differs: int) -> list[Content]:
    """Return the content of two runs that differ from a step on."""
    roots = generator.integers(0, 2**64, (steps, len(PHASES)), np.uint64)
    roots[:, 0] = 0
    losses = generator.random(steps, np.float32)
    other = roots.copy()
    other[differs:, FIRST_DIFFERING:] ^= np.uint64(1)
    other_losses = losses.copy()
    other_losses[differs + 1 :] += np.float32(1)
    return [(roots, losses), (other, other_losses)]


def insert_table(connection: sqlite3.Connection) -> None:
    """Write the leaf table into a new trace."""
    connection.execute("INSERT INTO leaf_tables VALUES (0, ?)", (TABLE.digest,))
    connection.executemany(
        "INSERT INTO leaves VALUES (0, ?, ?, ?, ?, ?)",
        [
            (index, phase, spec.path, spec.dtype, ",".join(map(str, spec.shape)))
            for index, (phase, spec) in enumerate(zip(TABLE.phases, TABLE.specs, strict=True))
        ],
    )


def write_trace(path: Path, roots: np.ndarray, losses: np.ndarray, differs: int) -> None:
    """Write a sealed trace's content at once; the chain is a stand-in that differs from the difference on."""
    connection = connect_writer(path, {"checksum": NAME, "created_ns": "0"})
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("BEGIN")
    insert_table(connection)
    data, values, bits = roots.astype("<u8").tobytes(), losses.tolist(), losses.view("<u4").tolist()

    def rows() -> Iterator[tuple[Any, ...]]:
        for step in range(len(values)):
            record = data[step * ROOTS_BYTES : (step + 1) * ROOTS_BYTES]
            chain = struct.pack("<qq", step, step >= differs)
            yield step, 10**18 + 10**6 * step, values[step], bits[step], None, 0, record, chain

    connection.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows())
    leaf_rows = ((step, data[step * ROOTS_BYTES + ROOT_BYTES : (step + 1) * ROOTS_BYTES]) for step in range(len(values)))
    connection.executemany("INSERT INTO leaf_checksums VALUES (?, ?)", leaf_rows)
    connection.execute("COMMIT")
    connection.close()


def _write_json_lines(path: Path, roots: np.ndarray, losses: np.ndarray) -> None:
    bits = losses.view("<u4").tolist()
    with path.open("w", encoding="utf-8") as file:
        for step, values in enumerate(roots.tolist()):
            row = {"step": step, "time_ns": 10**18 + 10**6 * step, "loss_bits": bits[step], "roots": values, "leaves": values[1:]}
            file.write(json.dumps(row) + "\n")


def _compare_traces(a: Path, b: Path) -> tuple[float, int | None, str | None]:
    start = time.perf_counter()
    with Trace(a) as trace_a, Trace(b) as trace_b:
        first = compare_traces(trace_a, trace_b).first
    seconds = time.perf_counter() - start
    return seconds, first.step if first else None, first.phase if first else None


def _compare_json_lines(a: Path, b: Path) -> tuple[float, int | None, str | None]:
    start = time.perf_counter()
    with a.open(encoding="utf-8") as file_a, b.open(encoding="utf-8") as file_b:
        for row_a, row_b in zip(map(json.loads, file_a), map(json.loads, file_b), strict=True):
            if row_a["loss_bits"] != row_b["loss_bits"] or row_a["roots"] != row_b["roots"]:
                phase = next(name for name, x, y in zip(PHASES, row_a["roots"], row_b["roots"], strict=True) if x != y)
                return time.perf_counter() - start, row_a["step"], phase
    return time.perf_counter() - start, None, None
