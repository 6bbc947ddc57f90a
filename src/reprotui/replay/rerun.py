"""Train again as a worker does, and compare the checksums of every recorded step with the trace."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum import LeafSpec
from reprotui.checksum.leaves import spec_of, to_numpy
from reprotui.experiments.config import Perturbation
from reprotui.integrity import content_to_json, digest_state
from reprotui.manifest import RunManifest
from reprotui.record.engine import Engine
from reprotui.record.frameworks import describe_jax
from reprotui.record.trees import NamedLeaf, in_order
from reprotui.run_directory import write_json
from reprotui.schedule import Recording
from reprotui.trace import LeafTable, Record, Trace
from reprotui.trace.former import without_leaves
from reprotui.trace.phases import INIT, STEP, differing_phases
from reprotui.worker.program import Program
from reprotui.worker.start import Start, initial, restored
from reprotui.worker.steps import perturbed, take_step
from reprotui.worker.training import load_program

LEAVES_NAMED = 50
"""Differing leaves that are named; after one step of training nearly all differ."""


class NewestRecord:
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

    def event(self, kind: str, text: str) -> None:
        """Let a remark go: what is slow here was said in the run's own trace."""


class Replay:
    """One replay: the program, where it stands, and what it found.

    Args:
        request: what `reprotui.replay.running` writes; a `step` of None keeps no state.
        directory: gets the files of the state.
        keep_before: leave the state before the last step in `before`; steps take the buffers of what they begin with.
    """

    def __init__(self, request: dict[str, Any], directory: Path, keep_before: bool = False) -> None:
        self._request, self._directory = request, directory
        self._copies = keep_before or request["repeat"] > 1
        self.before: Start | None = None
        self.program: Program
        self._manifest = RunManifest.parse(request["manifest"], "the run to be replayed")
        self.program, config = load_program(self._manifest)
        self._perturbation = None if config.perturb is None else Perturbation.parse(config.perturb)
        self._recording = NewestRecord()
        recording: Any = self._recording
        self._engine = Engine(recording, Recording(statistics_every=1 << 62), order=self.program.order)
        self._trace = Trace(Path(request["trace"]))
        self.compared = 0

    def run(self) -> dict[str, Any]:
        """Replay up to `until`; return the result."""
        restore, wanted, until = self._manifest.restore, self._request["step"], self._request["until"]
        at = initial(self.program) if restore is None else restored(self.program, restore)
        difference = None
        if restore is None:
            at = at._replace(state=perturbed(at.state, 0, self._perturbation))
            self._engine.init(**at.state._asdict())
            difference = self._compare(0)
            if wanted == 0:
                self._store(in_order(INIT, at.state._asdict(), self.program.order))
        first, repeats = at.position.step, self._request["repeat"]
        before = None
        while at.position.step < until and difference is None:
            before = at._replace(state=jax.tree.map(jnp.copy, at.state)) if self._copies else None
            step = take_step(self.program, at, self._perturbation)
            at = step.after
            if step.number == wanted:
                self._store(in_order(STEP, step.trees(), self.program.order))
            if self._trace.row(step.number) is not None:
                self._engine.step(step.number, **step.trees())
                difference = self._compare(step.number)
            print(json.dumps({"step": step.number - first, "of": until - first}), flush=True)
        outcome, self.before = None, before
        if repeats > 1 and before is not None:
            outcome = self._repeat(before)
        return {"faithful": difference is None, "difference": difference, "compared": self.compared, "repeats": outcome}

    def describe(self) -> dict[str, Any]:
        """Return devices, program and data of this process, to be held against those of the run."""
        return {
            "devices": describe_jax(),
            "program": {name: self.program.description[name] for name in ("init", "step")},
            "data_digest": getattr(self.program.experiment, "data_digest", None),
        }

    def _compare(self, step: int) -> dict[str, Any] | None:
        """Hold the newest record against the trace's; return what differs."""
        record, row = self._recording.newest(), self._trace.row(step)
        if row is None:
            return None
        table = self._trace.table(row.version)
        recorded = self._trace.leaf_checksums(step)
        roots = without_leaves(record) if self._trace.one_update and recorded is None else record.roots
        if roots == row.roots and record.table.digest == table.digest:
            self.compared += 1
            return None
        phases = differing_phases(roots, row.roots)
        leaves = [] if recorded is None else _differing(record, table, recorded)
        return {"step": step, "phases": list(phases), "leaves": leaves[:LEAVES_NAMED], "leaf_count": len(leaves)}

    def _repeat(self, before: Start) -> dict[str, Any]:
        """Take one step many times from the same state; count the different outcomes."""
        outcomes: list[Record] = []
        number = before.position.step + 1
        for _ in range(self._request["repeat"]):
            copy = before._replace(state=jax.tree.map(jnp.copy, before.state))
            self._engine.step(number, **take_step(self.program, copy, self._perturbation).trees())
            outcomes.append(self._recording.newest())
        row = self._trace.row(number)
        whole = self._trace.one_update and self._trace.leaf_checksums(number) is None
        as_there = [without_leaves(record) if whole else record.roots for record in outcomes]
        return {
            "step": number, "count": len(outcomes), "distinct": len({record.roots for record in outcomes}),
            "as_recorded": sum(row is not None and roots == row.roots for roots in as_there),
        }  # fmt: skip

    def _store(self, named: list[NamedLeaf]) -> None:
        """Write every leaf as it is now, before a further step takes its buffers."""
        leaves: list[dict[str, Any]] = []
        content: list[tuple[LeafSpec, np.ndarray]] = []
        for number, (phase, path, leaf, _) in enumerate(named):
            spec, array = spec_of(path, leaf), np.array(to_numpy(leaf))
            # The types of ml_dtypes have no name in a .npy file; their bits have.
            raw = array.view(f"V{array.itemsize}") if array.dtype.kind == "V" else array
            np.save(self._directory / f"{number}.npy", raw, allow_pickle=False)
            leaves.append({"phase": phase, "path": path, "dtype": spec.dtype, "shape": spec.shape, "file": f"{number}.npy"})
            content.append((spec, array))
        value = {"leaves": leaves, "content": content_to_json(digest_state(content)), "created_ns": time.time_ns()}
        write_json(self._directory / "state.json", value)


def _differing(record: Record, table: LeafTable, recorded: np.ndarray) -> list[dict[str, str]]:
    """Return the leaves whose checksums are not the recorded ones, in the order of the record."""
    assert record.leaf_checksums is not None
    here = zip(record.table.phases, record.table.specs, np.frombuffer(record.leaf_checksums, "<u8"), strict=True)
    there = {(phase, spec): checksum for phase, spec, checksum in zip(table.phases, table.specs, recorded.tolist(), strict=True)}
    return [{"phase": phase, "path": spec.path} for phase, spec, checksum in here if there.get((phase, spec)) != int(checksum)]
