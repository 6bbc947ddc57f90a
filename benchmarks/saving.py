"""What a checkpoint costs the training that goes on beside it: a large transformer, with and without saves."""

import collections
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.common import at_most, interleaved, say
from benchmarks.recording import TEXT_CHARACTERS, TRANSFORMER
from reprotui.checkpoints.save import Saver
from reprotui.experiments.discovery import ExperimentReference, load_experiment_class
from reprotui.manifest import Kind, RunManifest
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Recording
from reprotui.worker.program import Program
from reprotui.worker.start import initial, state_leaves
from reprotui.worker.training import STEPS_IN_FLIGHT, prepare, state_digest

ROUNDS = 5
STEPS = 20
"""Steps a block: several times as long as a save takes, so that all of it falls into the block."""
EVERY = 100
"""The schedule for which the bar holds."""
BAR = 2.0
"""Highest acceptable slowdown by it, in percent."""
BARE, SAVED = "bare", "one save a block"


def run(
    count: int | None = None, seed: int = 0, *, transformer: dict[str, Any] | None = None, steps: int = STEPS
) -> dict[str, Any]:
    """Measure blocks of steps with and without one save in them, in turns.

    Args:
        count: rounds.
        seed: of the run and of the generated text.
        transformer: config values other than those of `python -m benchmarks recording`.
        steps: steps a block.

    Returns:
        A row a variant: median milliseconds a step; seconds that a save adds, and for how long the loop itself stands
        still; the slowdown by a save every 100 steps.
    """
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        text = Path(folder) / "text.txt"
        letters = np.random.default_rng(seed).choice(list("abcdefghijklmnopqrstuvwxyz ,.\n"), TEXT_CHARACTERS)
        text.write_text("".join(letters), encoding="utf-8")
        say("compiling transformer")
        experiment = load_experiment_class(ExperimentReference("transformer", None))
        config = experiment.Config(seed=seed, **{**(TRANSFORMER if transformer is None else transformer), "text": str(text)})
        program = prepare(experiment, config)
        chains = {name: _Chain(program, Path(folder) / f"run{number}") for number, name in enumerate((BARE, SAVED))}
        for name, chain in chains.items():
            chain.block(2, save=name == SAVED)
        blocks = {name: partial(chain.block, steps, save=name == SAVED) for name, chain in chains.items()}
        seconds = interleaved(blocks, count or ROUNDS, f"transformer, blocks of {steps} steps")
        same = len({state_digest(chain.state) for chain in chains.values()}) == 1
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(program.initial))
    bare = statistics.median(seconds[BARE])
    added = statistics.median(b - a for a, b in zip(seconds[BARE], seconds[SAVED], strict=True))
    stall = statistics.median(chains[SAVED].stalls[1:])
    slowdown = 100 * added / (EVERY * bare / steps)
    rows = [
        {
            "variant": name, "state MB": size / 1e6, "ms a step": 1e3 * statistics.median(seconds[name]) / steps,
            "s added by a save": added if name == SAVED else 0.0, "ms the loop stands": 1e3 * stall if name == SAVED else 0.0,
            "% slower, every 100": slowdown if name == SAVED else 0.0,
        }
        for name in (BARE, SAVED)
    ]  # fmt: skip
    notes = [at_most("training slowed by a save every 100 steps", slowdown, BAR, " %")]
    notes.append(f"the final states are {'equal to the bit' if same else 'NOT EQUAL'}")
    return {"rows": rows, "notes": notes}


class _Chain:
    """One variant's own training."""

    def __init__(self, program: Program, path: Path) -> None:
        path.mkdir()
        self._program = program
        self._position, self.state = initial(program)
        self._path, self._step = path, 0
        self.stalls: list[float] = []

    def block(self, steps: int, *, save: bool) -> float:
        """Take so many steps like a worker's loop, with a save after the first; return seconds until all is done."""
        manifest = RunManifest.new(Kind.EXPERIMENT, "bench", [], Recording())
        saver = Saver(RunDirectory(self._path), manifest, lambda: None, lambda kind, text: None)
        in_flight: collections.deque[Any] = collections.deque()
        start = time.perf_counter()
        for number in range(steps):
            self._step += 1
            batch, key = self._program.batch(self._step), self._program.key(self._step)
            self.state, shown = self._program.step(self.state, batch, key)
            if save and number == 0:
                before = time.perf_counter()
                position = self._position._replace(step=self._step, batches=self._step, draws=self._step)
                saver.save(position, state_leaves(self.state))
                self.stalls.append(time.perf_counter() - before)
            in_flight.append(shown.loss)
            if len(in_flight) > STEPS_IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft())
        jax.block_until_ready(self.state)
        saver.close()
        return time.perf_counter() - start
