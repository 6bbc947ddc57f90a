"""Campaign: random single-bit flips. Is the step exact, is the leaf exact, and are equal runs silent?"""

import random
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import Progress, say
from reprotui.checksum import jax_form
from reprotui.compare import FirstDifference, compare_traces
from reprotui.experiments.config import ExperimentConfig, Perturbation
from reprotui.experiments.discovery import ExperimentReference, load_experiment_class
from reprotui.record.control import Control
from reprotui.schedule import Recording
from reprotui.trace import Trace, TraceWriter
from reprotui.worker import training
from reprotui.worker.program import Program

FLIPS = 500
CONTROL_SHARE = 5
"""A run without a flip for so many with one."""
STEPS = 6
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "digits-cnn": {"width": 4, "depth": 1, "batch_size": 16, "optimizer": "momentum"},
    "digits-mlp": {"width": 16, "depth": 1, "batch_size": 16, "optimizer": "momentum"},
}
"""Small, so that a run is short; the first has `extra` state and randomness in its steps."""


def run(count: int | None = None, seed: int = 0, *, steps: int = STEPS) -> dict[str, Any]:
    """Flip one random bit of one element of one leaf after one step in each run, and compare with the reference.

    Args:
        count: flips, over both experiments.
        seed: of the flips.
        steps: steps a run.

    Returns:
        A row an experiment and one for both: flips; how many were reported at exactly their step; with exactly their
        leaf, alone, in exactly its phase, alone; controls, and how many of them were reported to differ. Every flip
        that was not exact is a note that names it.
    """
    flips = count or FLIPS
    generator = random.Random(seed)
    rows, notes = [], []
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        for index, (name, overrides) in enumerate(EXPERIMENTS.items()):
            # The first takes the odd one.
            share = (flips + 1 - index) // len(EXPERIMENTS)
            controls = (flips // CONTROL_SHARE + 1 - index) // len(EXPERIMENTS)
            say(f"compiling {name}")
            campaign = _Campaign(name, {**overrides, "steps": steps}, Path(folder))
            row, said = campaign.run(share, controls, generator)
            rows.append(row)
            notes += said
    total = {key: sum(row[key] for row in rows) for key in rows[0] if key != "experiment"}
    return {"rows": [*rows, {"experiment": "both", **total}], "notes": notes}


class _Campaign:
    """One experiment, compiled once; every run has its own state, recorder and trace."""

    def __init__(self, name: str, overrides: dict[str, Any], folder: Path) -> None:
        self._name, self._folder = name, folder
        experiment_class = load_experiment_class(ExperimentReference(name, None))
        self._config: ExperimentConfig = experiment_class.Config(**overrides)
        self._program: Program = training.prepare(experiment_class, self._config)
        # Evaluation compiles anew in every run, and no trace holds it.
        self._program.experiment.evaluate = None
        self._leaves = [(path, leaf.size, 8 * leaf.dtype.itemsize) for path, leaf in jax_form.named_leaves(self._program.initial)]
        self._reference = self._train(None, folder / f"{name}.db")

    def run(self, flips: int, controls: int, generator: random.Random) -> tuple[dict[str, Any], list[str]]:
        """Run flips and controls; return the row and the notes."""
        progress = Progress(f"flips in {self._name}", flips + controls)
        steps = leaves = reports = 0
        notes = []
        for _ in range(flips):
            flip = self._draw(generator)
            first = self._first_difference(flip)
            step = first is not None and first.step == flip.step
            leaf = first is not None and first.phases == (_phase(flip),) and [found.path for found in first.leaves] == [flip.leaf]
            steps, leaves = steps + step, leaves + leaf
            if not (step and leaf):
                notes.append(f"{self._name}: {':'.join(map(str, flip))} was reported as {_describe(first)}")
            progress.advance()
        for _ in range(controls):
            first = self._first_difference(None)
            reports += first is not None
            if first is not None:
                notes.append(f"{self._name}: a control was reported as {_describe(first)}")
            progress.advance()
        row = {
            "experiment": self._name, "flips": flips, "step exact": steps, "leaf exact": leaves, "controls": controls,
            "controls reported": reports,
        }  # fmt: skip
        return row, notes

    def _draw(self, generator: random.Random) -> Perturbation:
        path, size, bits = generator.choice(self._leaves)
        return Perturbation(generator.randint(0, self._config.steps), path, generator.randrange(size), generator.randrange(bits))

    def _first_difference(self, flip: Perturbation | None) -> FirstDifference | None:
        path = self._train(flip, self._folder / "other.db")
        with Trace(self._reference) as a, Trace(path) as b:
            first = compare_traces(a, b).first
        path.unlink()
        return first

    def _train(self, flip: Perturbation | None, path: Path) -> Path:
        config = self._config.model_copy(update={"perturb": None if flip is None else ":".join(map(str, flip))})
        writer = TraceWriter(path)
        try:
            training.run_loop(self._program, config, Recording(), writer, Control(path.with_name("commands.jsonl")))
            writer.seal()
        except BaseException:
            writer.close()
            raise
        return path


def _phase(flip: Perturbation) -> str:
    """Return the phase in which a flipped leaf is recorded."""
    if flip.step == 0:
        return "init"
    return {"opt_state": "optimizer", "extra": "forward"}.get(flip.leaf.split("/")[0], "params")


def _describe(first: FirstDifference | None) -> str:
    if first is None:
        return "no difference"
    return f"step {first.step}, phases {', '.join(first.phases)}, leaves {', '.join(leaf.path for leaf in first.leaves)}"
