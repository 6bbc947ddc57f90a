"""Train again as a worker does, and compare the checksums of every recorded step with the trace."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum import LeafSpec, jax_form
from reprotui.experiments.config import Perturbation
from reprotui.experiments.protocol import State
from reprotui.integrity import content_to_json, digest_state
from reprotui.record.engine import Engine
from reprotui.record.frameworks import describe_jax
from reprotui.record.layout import leaf_spec
from reprotui.run_directory import write_json
from reprotui.trace import PHASES, LeafTable, Record, Trace
from reprotui.trace.phases import ROOT_BYTES
from reprotui.worker.program import Program
from reprotui.worker.start import initial, restored
from reprotui.worker.training import flip_bit, load_program

Trees = list[tuple[str, str, Any]]
"""(phase, name, tree) of everything that a record covers, in causal order."""
LEAVES_NAMED = 50
"""Differing leaves that are named; after one step of training nearly all differ."""


class Recording:
    """Stands where the trace's writer stands for a worker: keeps the newest record instead of writing it."""

    def __init__(self) -> None:
        self._pending: Callable[[], Record] | None = None

    def put(self, pending: Callable[[], Record]) -> None:
        """Take a record that the device may still be computing."""
        self._pending = pending

    def newest(self) -> Record:
        """Wait for the device; return the record."""
        assert self._pending is not None
        return self._pending()


class Replay:
    """One replay: the program, where it stands, and what it found."""

    def __init__(self, request: dict[str, Any], directory: Path) -> None:
        self._request, self._directory = request, directory
        self._program: Program
        self._program, config = load_program(request["manifest"])
        self._perturbation = None if config.perturb is None else Perturbation.parse(config.perturb)
        self._recording = Recording()
        recording: Any = self._recording
        self._engine = Engine(recording, statistics_every=1 << 62, order=self._program.order, layouts=self._program.layouts)
        self._trace = Trace(Path(request["trace"]))
        self.compared = 0

    def run(self) -> dict[str, Any]:
        """Replay up to `until`; return the result."""
        restore, wanted, until = (self._request[name] for name in ("restore", "step", "until"))
        position, state = initial(self._program) if restore is None else restored(self._program, restore)
        step, difference = position.step, None
        before = state
        if step == 0 and restore is None:
            state = self._perturbed(state, 0)
            self._engine.init(params=state.params, opt_state=state.opt_state, extra=state.extra)
            difference = self._compare(0)
            if wanted == 0:
                self._store([("init", name, getattr(state, name)) for name in State._fields])
        first, repeats = step, self._request["repeat"]
        while step < until and difference is None:
            step += 1
            number = step - first
            if repeats > 1:
                before = jax.tree.map(jnp.copy, state)
            state, trees = self._step(state, step, position.batches + number, position.draws + number, position.key)
            if step == wanted:
                self._store(trees)
            if self._trace.row(step) is not None:
                self._observe(step, trees)
                difference = self._compare(step)
            print(json.dumps({"step": number, "of": until - first}), flush=True)
        outcome = None
        if repeats > 1 and step > first:
            outcome = self._repeat(before, step, position, first)
        return {"faithful": difference is None, "difference": difference, "compared": self.compared, "repeats": outcome}

    def describe(self) -> dict[str, Any]:
        """Return devices, program and data of this process, to be held against those of the run."""
        return {
            "devices": describe_jax(),
            "program": {name: self._program.description[name] for name in ("init", "step")},
            "data_digest": getattr(self._program.experiment, "data_digest", None),
        }

    def _step(self, state: State, step: int, batches: int, draws: int, root: Any) -> tuple[State, Trees]:
        batch, key = self._program.batch(batches), self._program.key(draws, root)
        state, shown = self._program.step(state, batch, key)
        state = self._perturbed(state, step)
        return state, [
            ("batch", "batch", batch), ("rng", "rng", key), ("forward", "loss", shown.loss),
            ("forward", "metrics", shown.metrics), ("forward", "extra", state.extra), ("grads", "grads", shown.grads),
            ("update", "opt_state", state.opt_state), ("update", "params", state.params),
        ]  # fmt: skip

    def _observe(self, step: int, trees: Trees) -> None:
        self._engine.step(step, **{name: tree for _, name, tree in trees})

    def _perturbed(self, state: State, step: int) -> State:
        perturbation = self._perturbation
        return flip_bit(state, perturbation) if perturbation is not None and perturbation.step == step else state

    def _compare(self, step: int) -> dict[str, Any] | None:
        """Hold the newest record against the trace's; return what differs."""
        record, row = self._recording.newest(), self._trace.row(step)
        if row is None:
            return None
        table = self._trace.table(row.version)
        if record.roots == row.roots and record.table.digest == table.digest:
            self.compared += 1
            return None
        phases = [
            phase for index, phase in enumerate(PHASES)
            if record.roots[(at := index * ROOT_BYTES) : at + ROOT_BYTES] != row.roots[at : at + ROOT_BYTES]
        ]  # fmt: skip
        recorded = self._trace.leaf_checksums(step)
        leaves = [] if recorded is None else _differing(record, table, recorded)
        return {"step": step, "phases": phases, "leaves": leaves[:LEAVES_NAMED], "leaf_count": len(leaves)}

    def _repeat(self, before: State, step: int, position: Any, first: int) -> dict[str, Any]:
        """Take one step many times from the same state; count the different outcomes."""
        outcomes: list[bytes] = []
        number = step - first
        for _ in range(self._request["repeat"]):
            copy = jax.tree.map(jnp.copy, before)
            _, trees = self._step(copy, step, position.batches + number, position.draws + number, position.key)
            self._observe(step, trees)
            outcomes.append(self._recording.newest().roots)
        row = self._trace.row(step)
        recorded = None if row is None else row.roots
        return {
            "step": step, "count": len(outcomes), "distinct": len(set(outcomes)),
            "as_recorded": sum(outcome == recorded for outcome in outcomes),
        }  # fmt: skip

    def _store(self, trees: Trees) -> None:
        """Write every leaf as it is now, before a further step takes its buffers."""
        leaves: list[dict[str, Any]] = []
        content: list[tuple[LeafSpec, np.ndarray]] = []
        named = [
            (PHASES.index(phase), group, self._program.order.get(phase, {}).get(path, index), path, leaf)
            for group, (phase, name, tree) in enumerate(trees)
            for index, (path, leaf) in enumerate(jax_form.named_leaves(tree, name))
        ]
        for number, (at, _, _, path, leaf) in enumerate(sorted(named, key=lambda item: item[:3])):
            spec = leaf_spec(path, leaf)
            is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            array = np.array(jax.random.key_data(leaf) if is_key else leaf)
            # The types of ml_dtypes have no name in a .npy file; their bits have.
            raw = array.view(f"V{array.itemsize}") if array.dtype.kind == "V" else array
            np.save(self._directory / f"{number}.npy", raw, allow_pickle=False)
            leaves.append({"phase": PHASES[at], "path": path, "dtype": spec.dtype, "shape": spec.shape, "file": f"{number}.npy"})
            content.append((spec, array))
        value = {"leaves": leaves, "content": content_to_json(digest_state(content)), "created_ns": time.time_ns()}
        write_json(self._directory / "state.json", value)


def _differing(record: Record, table: LeafTable, recorded: np.ndarray) -> list[dict[str, str]]:
    """Return the leaves whose checksums are not the recorded ones, in the order of the record."""
    assert record.leaf_checksums is not None
    here = zip(record.table.phases, record.table.specs, np.frombuffer(record.leaf_checksums, "<u8"), strict=True)
    there = {(phase, spec): checksum for phase, spec, checksum in zip(table.phases, table.specs, recorded.tolist(), strict=True)}
    return [{"phase": phase, "path": spec.path} for phase, spec, checksum in here if there.get((phase, spec)) != int(checksum)]
