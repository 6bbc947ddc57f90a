"""Records are the same wherever their leaves lie: one description of a leaf, one order, one root, whoever took the checksums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from reprotui.checksum import numpy_form
from reprotui.checksum.leaves import is_key, is_leaf, raw_bytes, spec_of, to_numpy
from reprotui.record import host
from reprotui.record.engine import Engine
from reprotui.replay.rerun import NewestRecord
from reprotui.schedule import Recording
from reprotui.trace import PHASES, Record
from reprotui.trace.phases import INIT, STEP

BATCH = np.arange(12, dtype=np.float32).reshape(3, 4)
TREES = {
    "batch": {"x": BATCH, "y": np.arange(3, dtype=np.int32)}, "rng": np.array([1, 2], np.uint32), "loss": np.float32(0.25),
    "metrics": {"b": np.float32(0.5), "a": np.int32(3)}, "extra": (), "grads": {"w": BATCH * 3}, "opt_state": (BATCH * 2,),
    "params": {"w": BATCH + 1, "b": np.zeros(0, np.float32)},
}  # fmt: skip


def record(trees: dict[str, object], order: dict[str, dict[str, int]] | None = None) -> Record:
    """Return the record of one step, with statistics."""
    writer = NewestRecord()
    Engine(writer, Recording(), order=order).step(1, **trees)  # ty: ignore[invalid-argument-type]
    return writer.newest()


def on_device(trees: dict[str, object]) -> dict[str, object]:
    return jax.tree.map(jnp.asarray, trees)


def as_tensors(trees: dict[str, object]) -> dict[str, object]:
    return jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)) if np.ndim(leaf) else leaf, trees)


def proof(found: Record) -> tuple[object, ...]:
    """Return everything of a record that is compared between runs."""
    return found.table, found.roots, found.leaf_checksums, found.loss, found.loss_bits, found.metrics


@pytest.mark.parametrize("elsewhere", [on_device, as_tensors], ids=["jax", "torch"])
def test_a_record_is_the_same_wherever_its_leaves_lie(elsewhere) -> None:
    here, there = record(TREES), record(elsewhere(TREES))
    assert proof(here) == proof(there)
    assert here.loss == 0.25 and here.metrics == '{"a": 3, "b": 0.5}'
    mixed = record({**TREES, "params": elsewhere(TREES)["params"], "loss": elsewhere(TREES)["loss"]})
    assert proof(mixed) == proof(here)
    assert here.leaf_stats is not None and there.leaf_stats is not None
    close = [np.frombuffer(found.leaf_stats, "<f4") for found in (here, there)]
    assert np.allclose(*close)


@pytest.mark.parametrize("place", [dict, on_device], ids=["on the host", "on the device"])
def test_the_root_of_a_phase_is_that_of_its_leaves_and_of_no_other_phase(place) -> None:
    found = record(place(TREES))
    assert found.leaf_checksums is not None
    sums = np.frombuffer(found.leaf_checksums, "<u8")
    roots = dict(zip(PHASES, np.frombuffer(found.roots, "<u8").tolist(), strict=True))
    assert {phase: numpy_form.root(sums[start:end]) for phase, start, end in found.table.slices} | {"init": 0} == roots
    other = record(place({**TREES, "grads": {"w": BATCH * 3 + 1}}))
    differing = [
        phase for phase, root in zip(PHASES, np.frombuffer(other.roots, "<u8").tolist(), strict=True) if root != roots[phase]
    ]
    assert differing == ["grads"]


@pytest.mark.parametrize("place", [dict, on_device], ids=["on the host", "on the device"])
def test_leaves_stand_phase_by_phase_and_within_a_tree_in_the_order_of_the_program(place) -> None:
    paths = [spec.path for spec in record(place(TREES)).table.specs]
    assert paths == [
        "batch/x", "batch/y", "rng", "loss", "metrics/a", "metrics/b", "grads/w", "opt_state/0", "params/b", "params/w",
    ]  # fmt: skip
    order = {"params": {"params/w": 0, "params/b": 1}, "optimizer": {"opt_state/0": 2}}
    ordered = record(place(TREES), order)
    assert [spec.path for spec in ordered.table.specs][-3:] == ["opt_state/0", "params/w", "params/b"]
    assert proof(ordered) != proof(record(place(TREES)))


@pytest.mark.parametrize("place", [dict, on_device], ids=["on the host", "on the device"])
def test_a_metric_without_a_name_is_kept_as_a_number_too(place) -> None:
    assert record(place({**TREES, "metrics": np.float32(0.5)})).metrics == '{"metrics": 0.5}'
    assert record(place({**TREES, "metrics": np.ones(2, np.float32)})).metrics is None


def test_batches_of_another_shape_and_type_are_described_anew() -> None:
    writer = NewestRecord()
    engine = Engine(writer, Recording())  # ty: ignore[invalid-argument-type]
    found = []
    for step, batch in enumerate([BATCH, jnp.asarray(BATCH), BATCH[:2], BATCH.astype(np.float64), BATCH], 1):
        engine.step(step, batch=batch)
        found.append(writer.newest())
    assert [(item.table.specs[0].dtype, item.table.specs[0].shape) for item in found] == [
        ("float32", (3, 4)), ("float32", (3, 4)), ("float32", (2, 4)), ("float64", (3, 4)), ("float32", (3, 4)),
    ]  # fmt: skip
    assert found[0].roots == found[1].roots == found[4].roots
    assert len({item.roots for item in found}) == 3


def test_every_tree_has_one_phase_and_records_stand_in_causal_order() -> None:
    for places in (INIT, STEP):
        assert [PHASES.index(phase) for phase, _ in places] == sorted(PHASES.index(phase) for phase, _ in places)
        assert len({name for _, name in places}) == len(places)


def test_a_slow_checksum_of_the_host_is_told_to_whoever_listens_and_stops_no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(host, "shortfall", lambda: "no machine code")
    monkeypatch.setattr(NewestRecord, "event", lambda self, kind, text: told.append(kind))
    record(on_device(TREES))
    assert told == []  # nothing of it lies in the host's memory
    record(TREES)
    assert told == ["slow-checksums"]
    monkeypatch.undo()
    monkeypatch.setattr(host, "shortfall", lambda: "no machine code")
    assert record(TREES).loss == 0.25


def test_a_leaf_is_described_the_same_whatever_library_it_is_of() -> None:
    for leaf in (BATCH, jnp.asarray(BATCH), torch.from_numpy(BATCH), BATCH.astype(">f4")):
        assert is_leaf(leaf) and not is_key(leaf)
        assert spec_of("x", leaf) == ("x", "float32", (3, 4))
        assert bytes(raw_bytes(to_numpy(leaf))) == BATCH.tobytes()
    key = jax.random.key(7)
    assert is_leaf(key) and is_key(key) and spec_of("k", key) == ("k", "key<fry>", ())
    assert to_numpy(key).tolist() == jax.random.key_data(key).tolist()
    assert spec_of("n", 1.5) == ("n", "float64", ()) and spec_of("n", True) == ("n", "bool", ())
    assert not any(map(is_leaf, ("text", None, len, {})))
