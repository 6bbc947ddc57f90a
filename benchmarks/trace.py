"""Writing and reading traces, against JSON lines that are flushed after every row."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Progress
from reprotui.checksum import LeafSpec
from reprotui.trace import LeafTable, Record, Trace, TraceWriter, verify_trace
from reprotui.trace.verify import roots_of

ROUNDS = 3
ROWS = {24: 50_000, 1000: 10_000}
"""Rows by number of leaves: some seconds each. 24 leaves are a small model's, 1000 make rows of 8 KB."""
DISTINCT = 64
"""Different records that are written in turns: drawing a million checksums would be measured otherwise."""


def run(count: int | None = None, seed: int = 0, *, rows: int | None = None) -> dict[str, Any]:
    """Write and read traces and JSON lines.

    Args:
        count: rounds.
        seed: of the checksums that are written.
        rows: rows for every table, instead of `ROWS`.

    Returns:
        A row a format and table: rows a second written (to the end of the seal), read (all steps, losses and roots),
        and verified (chain and roots recomputed); medians. Both formats hold step, time, loss, roots and leaf checksums,
        and in both a written row survives the death of the process.
    """
    found = []
    progress = Progress("trace", len(ROWS) * 2 * (count or ROUNDS))
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        for leaves, usual in ROWS.items():
            size = usual if rows is None else rows
            table, contents = leaf_table(leaves), _contents(leaf_table(leaves), seed)
            for name, measure in (("trace", _trace), ("JSON lines", _json_lines)):
                rounds = []
                for _ in range(count or ROUNDS):
                    rounds.append(measure(Path(folder) / "file", table, contents, size))
                    progress.advance()
                write, read, verify = (
                    None if entry[0] is None else size / statistics.median(entry)
                    for entry in zip(*(seconds for seconds, _ in rounds), strict=True)
                )
                found.append(
                    {
                        "format": f"{leaves} leaves, {name}",
                        "rows": size,
                        "written rows/s": write,
                        "read rows/s": read,
                        "verified rows/s": "–" if verify is None else verify,
                        "bytes a row": rounds[-1][1] / size,
                    }
                )
    return {"rows": found, "notes": []}


def leaf_table(leaves: int) -> LeafTable:
    """Return a table with so many leaves (8 or more) as a model with momentum has them."""
    head = [("batch", "batch/x"), ("batch", "batch/y"), ("rng", "rng"), ("forward", "loss"), ("forward", "metrics/accuracy")]
    layers = range((leaves - len(head)) // 3)
    extra = range(leaves - len(head) - 3 * len(layers))
    tail = [("grads", f"grads/dense_{layer}/kernel") for layer in layers]
    tail += [("optimizer", f"opt_state/0/trace/dense_{layer}/kernel") for layer in layers]
    tail += [("params", f"params/dense_{layer}/kernel") for layer in layers]
    tail += [("params", f"params/norm_{layer}/scale") for layer in extra]
    named = head + tail
    return LeafTable(tuple(phase for phase, _ in named), tuple(LeafSpec(path, "float32", (64, 64)) for _, path in named))


def _contents(table: LeafTable, seed: int) -> list[tuple[bytes, bytes]]:
    """Return leaf checksums with their roots."""
    drawn = np.random.default_rng(seed).integers(0, 2**64, (DISTINCT, len(table.specs)), np.uint64)
    return [(row.tobytes(), roots_of(row.tobytes(), table)) for row in drawn]


Times = tuple[tuple[float, float, float | None], int]
"""Seconds to write, read and verify (None where the format has nothing to verify), and the file's bytes."""


def _trace(path: Path, table: LeafTable, contents: list[tuple[bytes, bytes]], rows: int) -> Times:
    def record(step: int) -> Callable[[], Record]:
        leaves, roots = contents[step % DISTINCT]
        return lambda: Record(
            step=step,
            time_ns=time.time_ns(),
            table=table,
            roots=roots,
            loss=1 / (1 + step),
            loss_bits=step,
            leaf_checksums=leaves,
        )

    path.unlink(missing_ok=True)
    writer = TraceWriter(path)
    start = time.perf_counter()
    for step in range(rows):
        writer.put(record(step))
    seal = writer.seal()
    written = time.perf_counter()
    with Trace(path) as trace:
        trace.columns()
    read = time.perf_counter()
    verified = verify_trace(path, seal)
    end = time.perf_counter()
    if verified.problem or verified.records != rows:
        raise RuntimeError(f"a trace of {rows} rows does not verify: {verified}")
    return (written - start, read - written, end - read), path.stat().st_size


def _json_lines(path: Path, table: LeafTable, contents: list[tuple[bytes, bytes]], rows: int) -> Times:
    start = time.perf_counter()
    with path.open("w", encoding="utf-8") as file:
        for step in range(rows):
            leaves, roots = contents[step % DISTINCT]
            row = {
                "step": step, "time_ns": time.time_ns(), "loss": 1 / (1 + step), "loss_bits": step,
                "roots": np.frombuffer(roots, "<u8").tolist(), "leaves": np.frombuffer(leaves, "<u8").tolist(),
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
            file.flush()
    written = time.perf_counter()
    with path.open(encoding="utf-8") as file:
        parsed = [(row["step"], row["loss"], row["roots"]) for row in map(json.loads, file)]
    np.array([step for step, _, _ in parsed], np.int64)
    np.array([loss for _, loss, _ in parsed], np.float64)
    np.array([roots for _, _, roots in parsed], np.uint64)
    return (written - start, time.perf_counter() - written, None), path.stat().st_size
