"""What grows with leaves, ranks and steps: bytes and milliseconds of a record, and comparing trainings of many ranks."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Progress
from benchmarks.trace import leaf_table
from reprotui.compare.ranks import compare_runs
from reprotui.compare.runs import open_run
from reprotui.manifest import Kind, RunManifest
from reprotui.ranks import rank_path
from reprotui.record.host import HostLeaves
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Recording
from reprotui.trace import LeafTable, Record, Trace, TraceWriter
from reprotui.trace.verify import roots_of

LEAVES = 100, 1000, 10_000
RANKS = 1, 8, 64
STEPS = 100_000
"""Steps of the trainings that are compared, each rank with all of them."""
COMPARED_LEAVES = 24
COPIES = frozenset(("grads/", "opt_state/", "params/"))
"""What all ranks hold alike."""
RECORDS = {100: 2000, 1000: 1000, 10_000: 200}
ELEMENTS = 1024
"""Elements of each leaf that is read: reading is paid by bytes, and this is what a leaf costs besides."""


def run(count: int | None = None, seed: int = 0, *, steps: int = STEPS) -> dict[str, Any]:
    """Write records of many leaves, and compare trainings of many ranks.

    Args:
        count: rounds of each figure.
        seed: of the checksums.
        steps: steps of each rank that is compared.

    Returns:
        A row a number of leaves and a row a number of ranks; medians. All ranks of a training read the same file: that spares the
        disk, and what they do with it is the same.
    """
    rounds = count or 3
    progress = Progress("growth", rounds * (len(LEAVES) + len(RANKS)))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as name:
        folder = Path(name)
        for leaves in LEAVES:
            found = [_recorded(folder / f"{leaves}-{number}.db", leaves, seed) for number in range(rounds)]
            progress.advance(rounds)
            bytes_, read, written = (statistics.median(values) for values in zip(*found, strict=True))
            rows.append({
                "what": f"a record of {leaves:,} leaves", "bytes": round(bytes_), "ms": round(read + written, 3),
                "of it": f"{read:.3f} reading, {written:.3f} writing",
            })  # fmt: skip
        trace = folder / "shared.db"
        _write(trace, leaf_table(COMPARED_LEAVES), steps, seed)
        for ranks in RANKS:
            pair = [_training(folder / f"{label}-{ranks}", trace, ranks, steps) for label in "ab"]
            seconds = []
            for _ in range(rounds):
                began = time.perf_counter()
                verdict = compare_runs(open_run(pair[0], "A"), open_run(pair[1], "B"))
                seconds.append(time.perf_counter() - began)
                progress.advance()
            rows.append({
                "what": f"two trainings of {ranks} ranks, {steps:,} steps, compared", "bytes": 2 * ranks * trace.stat().st_size,
                "ms": round(1000 * statistics.median(seconds)), "of it": verdict.headline,
            })  # fmt: skip
    return {"rows": rows, "notes": []}


def _recorded(path: Path, leaves: int, seed: int) -> tuple[float, float, float]:
    """Return bytes a record, and the milliseconds in which its leaves are read and in which it is written."""
    records, table = RECORDS[leaves], leaf_table(leaves)
    arrays = [np.full(ELEMENTS, number, np.float32) for number in range(leaves)]
    host = HostLeaves(arrays)
    host.read(arrays, False)
    began = time.perf_counter()
    for _ in range(20):
        host.read(arrays, False)
    read = (time.perf_counter() - began) / 20
    began = time.perf_counter()
    _write(path, table, records, seed)
    written = (time.perf_counter() - began) / records
    size = path.stat().st_size / records
    path.unlink()
    return size, 1000 * read, 1000 * written


def _write(path: Path, table: LeafTable, records: int, seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, 2**64, (64, len(table.specs)), np.uint64)
    contents = [(row.astype("<u8").tobytes(), roots_of(row.astype("<u8").tobytes(), table)) for row in drawn]

    def record(step: int) -> Callable[[], Record]:
        blob, roots = contents[step % len(contents)]
        return lambda: Record(step, step, table, roots, loss=0.5, loss_bits=0x3F000000, leaf_checksums=blob, copies=COPIES)

    writer = TraceWriter(path)
    for step in range(1, records + 1):
        writer.put(record(step))
    writer.seal()
    with Trace(path) as trace:
        assert trace.last_step() == records


def _training(path: Path, trace: Path, ranks: int, steps: int) -> Path:
    """Make a finished training of so many ranks that all have this trace."""
    for number in range(ranks):
        place = RunDirectory(rank_path(path, number))
        place.path.mkdir(parents=True)
        spread = {"rank": number, "world_size": ranks} if ranks > 1 else {}
        manifest = RunManifest.new(
            Kind.SCRIPT, path.name, ["python", "train.py"], Recording(), config={}, **spread,
            result={"state": "finished", "last_step": steps},
        )  # fmt: skip
        place.write_manifest(manifest.document)
        os.link(trace, place.trace_path)
    return path
