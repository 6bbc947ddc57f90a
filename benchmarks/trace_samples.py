"""Pairs of runs for the campaign `trace_faults`: sealed, with rows longer than a page, and killed with a journal beside."""

import shutil
from pathlib import Path

import numpy as np

from reprotui.checksum import LeafSpec
from reprotui.experiments.discovery import find_experiment
from reprotui.race.prepare import Member, Request, prepare_race
from reprotui.trace import LeafTable, Record, TraceWriter
from reprotui.trace.verify import roots_of

SAMPLES = {"small": (300, 12), "wide": (60, 700), "killed": (200, 12)}
"""Steps and leaves. Of `wide`, a row of leaf checksums is longer than a page; `killed` has no seal, and its journal left."""
STATISTICS_EVERY = 20


def write_sample(runs: Path, name: str) -> Path:
    """Write two equal runs; return the directory of their race."""
    steps, leaves = SAMPLES[name]
    members = [Member(label, {"steps": steps}) for label in "ab"]
    path, (first, second) = prepare_race(Request(runs, name, []), find_experiment(None), members)
    writer = TraceWriter(first.trace_path)
    writer.event("started", "")
    for step in range(steps + 1):
        record = _record(step, leaves, last=step == steps)
        writer.put(lambda record=record: record)
    writer.event("finished", f"after step {steps}")
    writer.flush()
    if name == "killed":
        for file in first.path.glob("trace.db*"):
            shutil.copy(file, second.path)
        seal, result = None, None
        writer.close()
        for file in second.path.glob("trace.db*"):
            shutil.copy(file, first.path)
    else:
        seal = writer.seal()
        shutil.copy(first.trace_path, second.trace_path)
        result = {"state": "finished", "last_step": steps, "digests": {"params": "0" * 64, "state": "0" * 64}, "ended_ns": 1}
    for run in (first, second):
        run.update_manifest(result=result, seal=seal, devices={"backend": "cpu", "cpu_threads": 2})
    return path


def _record(step: int, leaves: int, last: bool) -> Record:
    """Return the record of a step: the state after init, a step, or the last one, whose batch is smaller."""
    state = [LeafSpec(f"params/layer_{number}/kernel", "float32", (8, 4)) for number in range(leaves - 3)]
    if step == 0:
        table = LeafTable(("init",) * len(state), tuple(state))
    else:
        inputs = [
            LeafSpec("batch/x", "float32", (3 if last else 8, 4)),
            LeafSpec("rng", "key<fry>", ()),
            LeafSpec("loss", "float32", ()),
        ]
        table = LeafTable(("batch", "rng", "forward", *("params" for _ in state)), (*inputs, *state))
    drawn = np.random.default_rng(step).integers(0, 1 << 64, len(table.specs), np.uint64)
    blob, loss = drawn.astype("<u8").tobytes(), np.float32(2 / (1 + step))
    statistics = np.ones((len(table.specs), 2), "<f4").tobytes() if step % STATISTICS_EVERY == 0 else None
    return Record(
        step, 10**18 + step, table, roots_of(blob, table), float(loss), int(loss.view(np.uint32)), '{"accuracy": 0.5}', blob,
        statistics,
    )  # fmt: skip
