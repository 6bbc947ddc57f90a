"""What recording a step costs, against the bare step and against hashing the state on the host."""

import collections
import hashlib
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import at_most, interleaved, ratio, say
from reprotui.experiments.discovery import ExperimentReference, load_experiment_class
from reprotui.experiments.protocol import State, StepOutput
from reprotui.record.engine import Engine
from reprotui.schedule import Recording
from reprotui.trace import TraceWriter
from reprotui.worker.program import Program
from reprotui.worker.training import STEPS_IN_FLIGHT, prepare, state_digest

ROUNDS = 7
"""Blocks of each variant: a median of seven stands three disturbed ones."""
MLP: dict[str, Any] = {}
"""digits-mlp as it comes: 0.56 M parameters, momentum."""
TRANSFORMER: dict[str, Any] = {"width": 256, "depth": 9, "heads": 4, "batch_size": 8, "context": 64, "optimizer": "adamw"}
"""7.2 M parameters on a generated text; a step takes some 270 ms on two cores."""
TEXT_CHARACTERS = 1 << 16
MLP_STEPS = 200
"""Steps a block: a third of a second, three commits of the writer."""
TRANSFORMER_STEPS = Recording.statistics_every
"""Steps a block: each block then holds one record with statistics, as one in ten does in a run."""

BARE, EVERY, TENTH, HOST = "bare", "recorded every step", "recorded every 10th step", "SHA-256 on the host every step"
BARS = {"digits-mlp": {EVERY: 1.30, TENTH: 1.05}, "transformer": {EVERY: 1.03}}
"""Highest acceptable ratio to the bare step."""


def run(
    count: int | None = None, seed: int = 0, *, mlp: dict[str, Any] | None = None, transformer: dict[str, Any] | None = None,
    mlp_steps: int = MLP_STEPS, transformer_steps: int = TRANSFORMER_STEPS,
) -> dict[str, Any]:  # fmt: skip
    """Measure both models.

    Args:
        count: rounds.
        seed: of the runs, and of the generated text.
        mlp, transformer: config values other than `MLP` and `TRANSFORMER`.
        mlp_steps, transformer_steps: steps a block.

    Returns:
        A row a variant: median milliseconds a step, and the median ratio to the bare block of the same round. A block
        ends when its last state is computed and its last record is committed.
    """
    rows, notes = [], []
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        text = Path(folder) / "text.txt"
        letters = np.random.default_rng(seed).choice(list("abcdefghijklmnopqrstuvwxyz ,.\n"), TEXT_CHARACTERS)
        text.write_text("".join(letters), encoding="utf-8")
        for name, overrides, steps in (
            ("digits-mlp", MLP if mlp is None else mlp, mlp_steps),
            ("transformer", {**(TRANSFORMER if transformer is None else transformer), "text": str(text)}, transformer_steps),
        ):
            say(f"compiling {name}")
            experiment = load_experiment_class(ExperimentReference(name, None))
            program = prepare(experiment, experiment.Config(seed=seed, **overrides))
            found, said = _measure(name, program, steps, count or ROUNDS, Path(folder) / name)
            rows += found
            notes += said
    return {"rows": rows, "notes": notes}


class _Chain:
    """One variant's own training: its state, so that buffers are donated as in a worker, its recorder and its trace."""

    def __init__(self, program: Program, variant: str, path: Path) -> None:
        self._program, self._variant = program, variant
        self._state: State = jax.tree.map(jnp.copy, program.initial)
        self._step = 0
        self.writer = self._recorder = None
        if variant in (EVERY, TENTH):
            self.writer = TraceWriter(path)
            self._recorder = Engine(self.writer, Recording(every=10 if variant == TENTH else 1), order=program.order)
            self._recorder.init(**self._state._asdict())

    def warm_up(self) -> None:
        """Take one step, and compile what recording it needs: checksums, and at the tenth record statistics."""
        batch, key, shown = self._advance()
        if self._recorder:
            for record in range(1, Recording.statistics_every + 1):
                self._record(record, batch, key, shown, force=True)
        elif self._variant == HOST:
            _hash_on_host(self._state, shown)
        self._step = Recording.statistics_every
        self._finish()

    def block(self, steps: int) -> float:
        """Take so many steps like a worker's loop; return seconds."""
        in_flight: collections.deque[Any] = collections.deque()
        start = time.perf_counter()
        for _ in range(steps):
            batch, key, shown = self._advance()
            if self._recorder:
                self._record(self._step, batch, key, shown)
            elif self._variant == HOST:
                _hash_on_host(self._state, shown)
            in_flight.append(shown.loss)
            if len(in_flight) > STEPS_IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft())
        self._finish()
        return time.perf_counter() - start

    def digest(self) -> str:
        """Return the content digest of the state that this variant arrived at."""
        return state_digest(self._state)

    def _advance(self) -> tuple[Any, Any, StepOutput]:
        self._step += 1
        batch, key = self._program.batch(self._step), self._program.key(self._step)
        self._state, shown = self._program.step(self._state, batch, key)
        return batch, key, shown

    def _record(self, step: int, batch: Any, key: Any, shown: StepOutput, force: bool = False) -> None:
        assert self._recorder is not None
        self._recorder.step(step, batch=batch, rng=key, **shown._asdict(), **self._state._asdict(), force=force)

    def _finish(self) -> None:
        jax.block_until_ready(self._state)
        if self.writer:
            self.writer.flush()


def _hash_on_host(state: State, shown: StepOutput) -> str:
    """Return the SHA-256 of parameters, gradients and optimizer state: what a user would write."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get((state.params, shown.grads, state.opt_state))):
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def _measure(name: str, program: Program, steps: int, rounds: int, stem: Path) -> tuple[list[dict[str, Any]], list[str]]:
    size = sum(leaf.size for leaf in jax.tree.leaves(program.initial.params))
    variants = (BARE, EVERY, TENTH, HOST)
    chains = {variant: _Chain(program, variant, stem.with_suffix(f".{number}.db")) for number, variant in enumerate(variants)}
    for chain in chains.values():
        chain.warm_up()
    blocks = {variant: partial(chain.block, steps) for variant, chain in chains.items()}
    seconds = interleaved(blocks, rounds, f"{name}, blocks of {steps} steps")
    rows = [
        {
            "variant": f"{name}, {variant}",
            "parameters": size,
            "ms a step": 1e3 * statistics.median(seconds[variant]) / steps,
            "ratio to bare": ratio(seconds[variant], seconds[BARE]),
        }
        for variant in variants
    ]
    limits = BARS[name]
    notes = [at_most(f"{name}, {variant}", ratio(seconds[variant], seconds[BARE]), limits[variant]) for variant in limits]
    same = len({chain.digest() for chain in chains.values()}) == 1
    notes.append(f"{name}: the final states of all variants are {'equal to the bit' if same else 'NOT EQUAL'}")
    for chain in chains.values():
        if chain.writer:
            chain.writer.close()
    return rows, notes
