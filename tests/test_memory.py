"""Memory in use, beside the records: what is asked, what a run keeps of it, and that it can harm nothing."""

import json
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import MLP, Cli
from reprotui.compare.metrics import MetricReader
from reprotui.record import memory
from reprotui.trace import Trace, TraceWriter, verify_trace
from test_compare import history, to_record


def written(path: Path, ask: Any) -> Path:
    """Write a trace whose writer is told at every record how much memory is in use."""
    writer = TraceWriter(path)
    writer.memory = ask
    for step, leaves in history(3).items():
        writer.put(lambda step=step, leaves=leaves: to_record(step, leaves, True))
    writer.seal()
    return path


def test_a_process_holds_memory_and_no_accelerators_without_a_framework_that_uses_any(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "jax", "jax._src.xla_bridge"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    host, accelerators = memory.in_use()
    assert accelerators is None
    assert (host is not None and 1 << 20 < host < 1 << 40) if memory.STATM.exists() else host is None
    monkeypatch.setattr(memory, "STATM", Path("/proc/nowhere"))
    assert memory.in_use() == (None, None)


@pytest.mark.parametrize(("started", "expected"), [(True, 700), (False, None)])
def test_accelerators_are_asked_only_once_a_framework_has_started_them(
    monkeypatch: pytest.MonkeyPatch, started: bool, expected: int | None
) -> None:
    cuda = SimpleNamespace(is_initialized=lambda: started, device_count=lambda: 2, memory_allocated=lambda device: 100 + device)
    devices = [SimpleNamespace(memory_stats=lambda found=found: found) for found in ({"bytes_in_use": 499}, None, {})]
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(local_devices=lambda: devices if started else pytest.fail("started")))
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", SimpleNamespace(backends_are_initialized=lambda: started))
    assert memory.in_use()[1] == expected


def test_memory_is_a_metric_and_no_part_of_what_is_compared(tmp_path: Path) -> None:
    some = written(tmp_path / "some.db", lambda: (123_000_000, 5_000_000))
    other = written(tmp_path / "other.db", lambda: (None, None))
    reader = MetricReader([some, other])
    assert reader.names()[-2:] == ("memory-mb", "gpu-memory-mb")
    assert MetricReader([other]).names() == tuple(name for name in reader.names() if "memory" not in name)
    host, none = reader.read("memory-mb")
    assert (host.values.tolist(), len(none.values)) == ([123.0] * 4, 0)
    assert reader.read("gpu-memory-mb")[0].values.tolist() == [5.0] * 4
    with Trace(some) as a, Trace(other) as b:
        assert [row.chain for row in a.rows()] == [row.chain for row in b.rows()]


def test_a_framework_that_raises_costs_no_record_and_former_traces_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SECONDS", 0)
    monkeypatch.setattr(memory, "in_use", lambda: 1 / 0)
    path = written(tmp_path / "trace.db", memory.Sampler())
    assert not len(MetricReader([path]).read("memory-mb")[0].values)
    found = verify_trace(path)
    assert (found.problem, found.last_step) == (None, 3)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE memory")
    connection.close()
    reader = MetricReader([path])
    assert "memory-mb" not in reader.names() and not reader.problems
    assert not len(reader.read("memory-mb")[0].values)


@pytest.mark.slow
def test_a_run_notes_the_memory_of_its_process(reprotui: Cli) -> None:
    reprotui("run", *MLP, "steps=3", "--name", "x")
    assert "memory-mb" in json.loads(reprotui("export", "x", "--list", "--json").stdout)["metrics"]
    values = [line.rsplit(",", 1)[1] for line in reprotui("export", "x", "--metric", "memory-mb").stdout.splitlines()[1:]]
    assert len(values) == 4 and values[0]
    assert all(20 < float(value) < 100_000 for value in values if value)
