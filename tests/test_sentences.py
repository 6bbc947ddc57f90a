"""Every sentence that a comparison can say: it is said where its premises were recorded, and not where one of them is taken away.

The table is complete: each text that stands in the code of these sentences is said by a row of it.
"""

import ast
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import reprotui.compare as package
from conftest import parsed
from reprotui.asked import Asked
from reprotui.chance import Chance
from reprotui.checksum import LeafSpec
from reprotui.compare import FirstDifference, compare_runs, open_run
from reprotui.compare.cause import find_cause, unseen_cause
from reprotui.compare.chance import entries
from reprotui.compare.coverage import gaps
from reprotui.compare.verdict import Cause
from reprotui.run_directory import this_process
from reprotui.trace import PHASES, TraceWriter
from reprotui.trace.not_finite import packed
from test_compare import MANIFEST, History, changed, edited, first, history, run, to_record, without

Entries = dict[str, Any]
SCRIPT = {key: value for key, value in MANIFEST.items() if key in ("environment", "devices", "experiment")} | {
    "config": {},
    "command": ["python", "train.py"],
    "launch": {"words": ["python", "train.py"], "variables": {}, "directory": "/", "options": "{}"},
}
BY_HAND = {key: value for key, value in SCRIPT.items() if key != "launch"}
GPU = edited("devices", {"backend": "gpu"})
TORCH_GPU = SCRIPT | {"devices": {"backend": "torch cuda", "deterministic_algorithms": False}}


def place(kind: str, source: str, value: str | None = None, step: int = 0, line: int = 3) -> Chance:
    return Chance(step, kind, source, "train.py", line, f"text {line}", value)


SHUFFLE = place("draw", "random.shuffle")
CLOCK = place("seed", "jax.random.key", "1"), place("seed", "jax.random.key", "2")
FILE = place("file", "open(data.npy)", "8 bytes, SHA-256 aa"), place("file", "open(data.npy)", "8 bytes, SHA-256 bb")


class Runs(NamedTuple):
    """Two runs and where they first differ; without `b`, both have the manifest of `a`."""

    first: FirstDifference
    a: Entries = MANIFEST
    b: Entries | None = None
    found_at: int | None = None
    chance: tuple[list[Chance], list[Chance]] = ([], [])

    def cause(self) -> Cause:
        places = entries(*self.chance, self.first.step)
        return find_cause(parsed(self.a), parsed(self.a if self.b is None else self.b), self.first, self.found_at, places)

    def words(self) -> str:
        cause = self.cause()
        return "\n".join([cause.sentence, cause.advice, *cause.evidence])


def hidden(where: FirstDifference, *phases: str) -> FirstDifference:
    """Return a first difference of runs that did not record some phases."""
    return replace(where, recorded=tuple(phase for phase in PHASES if phase not in phases))


def entered(a: Entries, **settings: Any) -> Entries:
    return a | {"config": {**a["config"], **settings}}


def both(*places: Chance) -> tuple[list[Chance], list[Chance]]:
    return list(places), list(places)


def lacking(manifest: Entries, *names: str) -> Entries:
    return {key: value for key, value in manifest.items() if key not in names}


INIT, BATCH, KEY = first("init", step=0, previous=None), first("batch", "batch/x"), first("rng", "rng/key")
OPTIMIZER = first("optimizer", "opt_state/m")
FORWARD, GRADS, UPDATE = first("forward", "loss"), first("grads", "grads/w"), first("params")
MEAN = first("forward", "extra/mean")
TWO = first("params", "params/w", "params/b")
STREAM = first("rng", "rng/python")
SOME_STEPS = {"previous": 2}
REPLACED = first("batch", "replaced/params/w")
ONE_REPLACED = replace(REPLACED, leaves=(replace(REPLACED.leaves[0], b=None, checksum_b=None),))
OTHER_SHAPE = replace(GRADS, leaves=(replace(GRADS.leaves[0], b=LeafSpec("w", "float32", (3,))),))
LATER = first("params", "loss")
THREADS = edited("devices/cpu_threads", 2)
PROGRAM = edited("program/step/jaxpr", "9")

ROWS: list[tuple[str, Runs, Runs]] = [
    # What was seen to be equal
    ("the first thing that is recorded differs", Runs(INIT), Runs(FORWARD)),
    ("step 5: state, batch, key and loss are equal, the gradients are not", Runs(GRADS), Runs(hidden(GRADS, "batch"))),
    (
        "state, batch, key, loss, gradients and new optimizer state are equal, the updated parameters are not",
        Runs(UPDATE),
        Runs(replace(UPDATE, state_seen=False)),
    ),
    ("loss and gradients are equal, the updated parameters are not", Runs(hidden(UPDATE, "optimizer")), Runs(UPDATE)),
    ("loss and gradients are equal, the optimizer's new state is not", Runs(OPTIMIZER), Runs(UPDATE)),
    ("gradients are equal, what the optimizer makes of them is not", Runs(first("optimizer", "updates/w")), Runs(OPTIMIZER)),
    ("new optimizer state are equal, the updated state is not", Runs(first("params", "opt_state/G/m")), Runs(UPDATE)),
    ("the state before the step is equal, its batch is not", Runs(BATCH), Runs(replace(BATCH, state_seen=False))),
    ("the step's key is not", Runs(KEY), Runs(BATCH)),
    ("what the forward pass gives is not", Runs(FORWARD), Runs(GRADS)),
    (
        "loss and gradients were not seen: it began in forward, gradients or update",
        Runs(hidden(UPDATE, "forward", "grads")),
        Runs(UPDATE),
    ),
    ("batch was not seen: it began in batch or forward", Runs(hidden(FORWARD, "batch")), Runs(FORWARD)),
    ("nothing that enters was seen", Runs(hidden(replace(BATCH, state_seen=False), "params")), Runs(BATCH)),
    (
        "the first recorded difference is in grads; the state that the step started from is not recorded",
        Runs(replace(GRADS, previous=2)),
        Runs(GRADS),
    ),
    ("steps between 2 and 5 were not recorded: it began in one of them or here", Runs(replace(GRADS, previous=2)), Runs(GRADS)),
    (
        "nothing before step 5 was recorded, not even the state after init: it began before it or here",
        Runs(replace(GRADS, previous=None)),
        Runs(GRADS),
    ),
    (
        "differing leaves of grads: grads/a, grads/b, grads/c and 1 more",
        Runs(first("grads", *(f"grads/{name}" for name in "abcd"))),
        Runs(GRADS),
    ),
    ("leaf rows are not stored at this step", Runs(replace(GRADS, leaves=(), leaves_known=False)), Runs(GRADS)),
    ("what the step before gave is equal, what this one works on is not", Runs(REPLACED), Runs(replace(REPLACED, previous=2))),
    (
        "what it works on is not equal; what the step before gave is not recorded",
        Runs(replace(REPLACED, previous=2)),
        Runs(REPLACED),
    ),
    ("the step's first update is equal, what follows it is not", Runs(LATER), Runs(replace(LATER, updated=False))),
    (
        "what was recorded of the step before it is equal, what follows it is not",
        Runs(replace(LATER, updated=False)),
        Runs(LATER),
    ),
    ("traced program (jaxpr): equal", Runs(GRADS), Runs(GRADS, lacking(MANIFEST, "program"), MANIFEST)),
    ("lowered program (StableHLO): different", Runs(GRADS, MANIFEST, edited("program/step/stablehlo", "9")), Runs(GRADS)),
    ("compiled program (optimized HLO): equal", Runs(GRADS), Runs(GRADS, MANIFEST, edited("program/step", {"jaxpr": "1"}))),
    # Settings, environment, sources
    ("the initial state differs, because of seed: 0 → 1", Runs(INIT, MANIFEST, edited("config/seed", 1)), Runs(INIT)),
    (
        "inputs give different results, because of devices.cpu_threads: 8 → 2",
        Runs(GRADS, MANIFEST, THREADS),
        Runs(GRADS, MANIFEST, lacking(THREADS, "devices")),
    ),
    (
        "because of python: CPython 3.11.7 → 3",
        Runs(GRADS, MANIFEST, edited("environment/python", "3")),
        Runs(GRADS, MANIFEST, lacking(MANIFEST, "environment")),
    ),
    (
        "because of cpu.affinity: 8 → 2",
        Runs(GRADS, lacking(MANIFEST, "devices"), lacking(edited("environment/cpu/affinity", 2), "devices")),
        Runs(GRADS, MANIFEST, edited("environment/cpu/affinity", 2)),
    ),
    (
        "because of experiment source: eeeeeeeeeeee → ffffffffffff",
        Runs(GRADS, MANIFEST, edited("experiment/source_digest", "f" * 64)),
        Runs(GRADS, MANIFEST, edited("experiment/source_digest", None)),
    ),
    (
        "(train.py)",
        Runs(
            GRADS,
            edited("experiment/sources", {"train.py": "1"}),
            edited("experiment", {"source_digest": "f", "sources": {"train.py": "2"}}),
        ),
        Runs(GRADS, MANIFEST, edited("experiment/source_digest", "f")),
    ),
    (
        "the batch differs, because of variables.PYTHONHASHSEED: 0 → 1",
        Runs(BATCH, MANIFEST, edited("environment/variables/PYTHONHASHSEED", "1")),
        Runs(BATCH),
    ),
    (
        "the batch differs: the data themselves differ",
        Runs(BATCH, MANIFEST, edited("data_digest", "e")),
        Runs(BATCH, MANIFEST, edited("data_digest", None)),
    ),
    ("the step's key differs, because of seed: 0 → 1", Runs(KEY, MANIFEST, edited("config/seed", 1)), Runs(KEY)),
    ("the optimizer differs: lr: 0.05 → 0.1", Runs(UPDATE, MANIFEST, edited("config/lr", 0.1)), Runs(UPDATE)),
    (
        "the update differs with equal gradients and equal optimizer state, because of devices.cpu_threads: 8 → 2",
        Runs(UPDATE, MANIFEST, THREADS),
        Runs(hidden(UPDATE, "grads"), MANIFEST, THREADS),
    ),
    (
        "the update differs with equal gradients, because of devices.cpu_threads: 8 → 2",
        Runs(hidden(UPDATE, "optimizer"), MANIFEST, THREADS),
        Runs(UPDATE, MANIFEST, THREADS),
    ),
    (
        "the optimizer's new state differs with equal gradients, because of devices.cpu_threads: 8 → 2",
        Runs(OPTIMIZER, MANIFEST, THREADS),
        Runs(UPDATE, MANIFEST, THREADS),
    ),
    (
        "the updated state differs, because of devices.cpu_threads: 8 → 2",
        Runs(hidden(UPDATE, "grads"), MANIFEST, THREADS),
        Runs(UPDATE, MANIFEST, THREADS),
    ),
    (
        "a bit was flipped on purpose (perturb): a simulated silent data corruption",
        Runs(UPDATE, MANIFEST, edited("config/perturb", "5:params/w:0:0")),
        Runs(UPDATE),
    ),
    (
        "the runs came to differ after step 2, because of devices.cpu_threads: 8 → 2",
        Runs(replace(GRADS, previous=2), MANIFEST, THREADS),
        Runs(GRADS, MANIFEST, THREADS),
    ),
    (
        "the runs came to differ before step 5, because of",
        Runs(replace(GRADS, previous=None), MANIFEST, THREADS),
        Runs(GRADS, MANIFEST, THREADS),
    ),
    (
        "to see where it began, race again with --every 1",
        Runs(replace(GRADS, previous=2), MANIFEST, THREADS),
        Runs(GRADS, MANIFEST, THREADS),
    ),
    (
        "the trees differ (shape), because of devices.cpu_threads: 8 → 2",
        Runs(OTHER_SHAPE, MANIFEST, THREADS),
        Runs(GRADS, MANIFEST, THREADS),
    ),
    ("and no recorded difference of config or code explains it", Runs(OTHER_SHAPE), Runs(OTHER_SHAPE, MANIFEST, THREADS)),
    ("both scripts put something else in the place of params/w, and not the same", Runs(REPLACED), Runs(ONE_REPLACED)),
    ("one script put something else in the place of params/w, the other did not", Runs(ONE_REPLACED), Runs(REPLACED)),
    (
        "in the place of params/w, and not the same, because of lr: none → 1",
        Runs(REPLACED, SCRIPT, entered(SCRIPT, lr=1)),
        Runs(REPLACED, SCRIPT),
    ),
    (
        "; of the settings nothing differs but out: x → y",
        Runs(BATCH, entered(SCRIPT, out="x"), entered(SCRIPT, out="y")),
        Runs(BATCH, entered(SCRIPT, out="x", lr=1), entered(SCRIPT, out="y", lr=2)),
    ),
    (
        "because of lr: 1 → 2",
        Runs(
            BATCH,
            BY_HAND | {"command": ["python", "train.py", "--lr", "1"]},
            BY_HAND | {"command": ["python", "train.py", "--lr", "2"]},
        ),
        Runs(BATCH, BY_HAND),
    ),
    (
        "because of command: python train.py → python -O train.py",
        Runs(BATCH, BY_HAND, BY_HAND | {"command": ["python", "-O", "train.py"]}),
        Runs(BATCH, BY_HAND, BY_HAND | {"command": ["python", "/elsewhere/train.py"]}),
    ),
    # Nothing around the runs explains it
    ("and neither config, environment nor program explains it", Runs(GRADS), Runs(GRADS, lacking(MANIFEST, "program"))),
    (
        "and neither config nor environment explains it",
        Runs(GRADS, lacking(MANIFEST, "program")),
        Runs(GRADS, lacking(MANIFEST, "program", "environment")),
    ),
    ("and config does not explain it", Runs(GRADS, lacking(MANIFEST, "program", "environment")), Runs(GRADS)),
    ("and nothing is recorded of what stands around the runs", Runs(GRADS, {}), Runs(GRADS)),
    (
        "an initialiser without a seed, more likely than a computation that is not deterministic",
        Runs(INIT),
        Runs(INIT, MANIFEST, edited("config/seed", 1)),
    ),
    ("give the initialiser a seed; race it against itself (--repeat 3), and with threads=1", Runs(INIT), Runs(INIT, SCRIPT)),
    ("what made it is not the same each time", Runs(BATCH), Runs(BATCH, found_at=7)),
    ("the batch differs: its order or selection does, and nothing recorded explains it", Runs(BATCH, found_at=7), Runs(BATCH)),
    (
        "seed what makes the batch, or look for iteration over sets, racing threads and unseeded NumPy, in worker processes too",
        Runs(BATCH),
        Runs(GRADS),
    ),
    ("B's batch of step 5 is A's batch of step 7", Runs(BATCH, found_at=7), Runs(BATCH)),
    ("it was made from another seed, or otherwise", Runs(KEY), Runs(KEY, MANIFEST, edited("config/seed", 1))),
    ("look where the key is made: a seed from the clock, or None, does this", Runs(KEY), Runs(STREAM)),
    (
        "the state of Python's generator differs: one run drew from it what the other did not, or was given another seed",
        Runs(STREAM, SCRIPT),
        Runs(KEY, SCRIPT),
    ),
    (
        "give what may draw at another time a generator of its own: random.Random(0), numpy.random.default_rng(0)",
        Runs(STREAM, SCRIPT),
        Runs(KEY, SCRIPT),
    ),
    (
        "equal inputs give different results, and neither config, environment nor program explains it: the computation is",
        Runs(GRADS),
        Runs(hidden(GRADS, "batch")),
    ),
    ("equal recorded inputs give different results", Runs(hidden(GRADS, "batch")), Runs(GRADS)),
    (
        "something that is not recorded differs (batch), or the computation is not deterministic",
        Runs(hidden(GRADS, "batch")),
        Runs(GRADS),
    ),
    ("something that is not recorded differs (the program)", Runs(GRADS, lacking(MANIFEST, "program")), Runs(GRADS)),
    ("something that is not recorded differs (the environment)", Runs(GRADS, lacking(MANIFEST, "environment")), Runs(GRADS)),
    ("something that is not recorded differs (the state before the step)", Runs(replace(GRADS, state_seen=False)), Runs(GRADS)),
    ("something that is not recorded differs (what the script's functions captured)", Runs(GRADS, SCRIPT), Runs(GRADS)),
    (
        "something that is not recorded differs (what else the script uses)",
        Runs(GRADS, SCRIPT | {"devices": {"backend": "torch cpu"}}),
        Runs(GRADS, SCRIPT),
    ),
    (
        "something that is not recorded differs (the program)",
        Runs(GRADS, SCRIPT | {"result": {"state": "finished", "coverage": {"captured": {}}}}),
        Runs(GRADS, SCRIPT | {"result": {"state": "finished", "coverage": {}}}),
    ),
    (
        "race it against itself (--repeat 3); a batch overwritten while it is still read does this: hand over copies",
        Runs(GRADS, SCRIPT),
        Runs(GRADS),
    ),
    ("but the steps before it were not recorded", Runs(replace(GRADS, previous=2)), Runs(GRADS)),
    ("race again with --every 1", Runs(replace(GRADS, previous=2)), Runs(GRADS)),
    ("the state differs, but the steps before it were not recorded", Runs(replace(UPDATE, previous=2)), Runs(UPDATE)),
    (
        "the programs differ, and neither config nor environment explains it",
        Runs(GRADS, MANIFEST, PROGRAM),
        Runs(GRADS, MANIFEST, lacking(MANIFEST, "program")),
    ),
    (
        "all inputs of the step are equal: the programs differ, and neither config nor environment explains it",
        Runs(UPDATE, MANIFEST, PROGRAM),
        Runs(UPDATE),
    ),
    ("compare the sources of the two runs", Runs(GRADS, MANIFEST, PROGRAM), Runs(GRADS)),
    (
        ": each process chooses its GPU kernels anew, by timing them, and some add up in no fixed order",
        Runs(GRADS, GPU),
        Runs(GRADS, lacking(GPU, "environment")),
    ),
    (
        "explains it: likely the computation is not deterministic: each process chooses",
        Runs(hidden(GRADS, "batch"), GPU),
        Runs(GRADS, GPU),
    ),
    ("race it with deterministic=true", Runs(GRADS, GPU), Runs(GRADS)),
    (
        "race it with XLA_FLAGS=--xla_gpu_deterministic_ops=true",
        Runs(GRADS, SCRIPT | {"devices": GPU["devices"]}),
        Runs(GRADS, SCRIPT),
    ),
    (
        "likely the computation is not deterministic: some of PyTorch's GPU kernels add up in no fixed order",
        Runs(TWO, TORCH_GPU),
        Runs(TWO, TORCH_GPU | {"devices": {"backend": "torch cuda"}}),
    ),
    (
        "call torch.use_deterministic_algorithms(True), set CUBLAS_WORKSPACE_CONFIG=:4096:8, and race it again",
        Runs(TWO, TORCH_GPU),
        Runs(TWO, SCRIPT),
    ),
    (
        "the state changed in 2 leaves while all inputs of the step are equal: the computation is not deterministic",
        Runs(TWO, GPU),
        Runs(UPDATE, GPU),
    ),
    (
        "the state changed in opt_state/m while all inputs of the step are equal: the computation is not deterministic",
        Runs(replace(OPTIMIZER, phases=("optimizer", "params")), GPU),
        Runs(OPTIMIZER, GPU),
    ),
    ("a chip that fails does so rarely, a program that is not deterministic often", Runs(UPDATE), Runs(GRADS)),
    ("the state changed in extra/mean while all inputs", Runs(MEAN), Runs(hidden(MEAN, "grads"))),
    # Where chance came in
    (
        "the batch differs, because random.shuffle at train.py:3 draws from Python's generator, which nothing seeded",
        Runs(BATCH, SCRIPT, chance=both(SHUFFLE)),
        Runs(BATCH, SCRIPT, chance=([SHUFFLE], [])),
    ),
    (
        "because something drew from torch's generator before train.py:3, and nothing seeded it",
        Runs(INIT, SCRIPT, chance=both(place("draw", "torch's generator"))),
        Runs(INIT, SCRIPT, chance=both(place("seed", "torch.manual_seed", "0"))),
    ),
    (
        "call torch.manual_seed(0) before everything",
        Runs(INIT, SCRIPT, chance=both(place("draw", "torch's generator"))),
        Runs(INIT, SCRIPT),
    ),
    ("the state of Python's generator is not", Runs(STREAM, SCRIPT), Runs(KEY, SCRIPT)),
    (
        "draws from NumPy's generator, which nothing seeded",
        Runs(BATCH, SCRIPT, chance=both(place("draw", "numpy.random.rand"))),
        Runs(BATCH, SCRIPT, chance=both(place("draw", "numpy.random.rand", step=5))),
    ),
    ("call random.seed(0) before it", Runs(BATCH, SCRIPT, chance=both(SHUFFLE)), Runs(BATCH, SCRIPT)),
    (
        "call numpy.random.seed(0) before it",
        Runs(BATCH, SCRIPT, chance=both(place("draw", "numpy.random.rand"))),
        Runs(BATCH, SCRIPT),
    ),
    (
        "the step's key differs, because jax.random.key at train.py:3 was given another seed (A 1, B 2)",
        Runs(KEY, SCRIPT, chance=([CLOCK[0]], [CLOCK[1]])),
        Runs(KEY, SCRIPT, chance=both(CLOCK[0])),
    ),
    (
        "jax.random.key at train.py:3 was given another seed (A 2, B 1)",  # the second of two calls on one line
        Runs(KEY, SCRIPT, chance=([*CLOCK], [CLOCK[0], CLOCK[0]])),
        Runs(KEY, SCRIPT, chance=both(*CLOCK)),
    ),
    (
        "jax.random.key at train.py:3 was given another seed",
        Runs(KEY, SCRIPT, chance=([CLOCK[0]], [CLOCK[1]])),
        Runs(KEY, SCRIPT, chance=([*CLOCK], [CLOCK[1]])),  # nobody knows which of the two B reached
    ),
    ("give it a seed that is written down: text 3", Runs(KEY, SCRIPT, chance=([CLOCK[0]], [CLOCK[1]])), Runs(KEY, SCRIPT)),
    (
        "the initial state differs, because numpy.random.default_rng at train.py:3 was given no seed",
        Runs(INIT, SCRIPT, chance=both(place("seed", "numpy.random.default_rng"))),
        Runs(INIT, SCRIPT, chance=both(place("seed", "numpy.random.default_rng", "1"))),
    ),
    ("give it a seed: text 3", Runs(INIT, SCRIPT, chance=both(place("seed", "numpy.random.default_rng"))), Runs(INIT, SCRIPT)),
    (
        "the batch differs, likely because hash(str) at train.py:3 is another number in each process (PYTHONHASHSEED is not set)",
        Runs(BATCH, SCRIPT, chance=both(place("hash", "hash(str)"))),
        Runs(BATCH, SCRIPT),
    ),
    ("use hashlib, or set PYTHONHASHSEED=0", Runs(BATCH, SCRIPT, chance=both(place("hash", "hash(str)"))), Runs(BATCH, SCRIPT)),
    (
        "likely because os.urandom at train.py:3 gives what the operating system draws",
        Runs(BATCH, SCRIPT, chance=both(place("entropy", "os.urandom"))),
        Runs(BATCH, SCRIPT),
    ),
    (
        "draw from a generator with a seed instead: text 3",
        Runs(BATCH, SCRIPT, chance=both(place("entropy", "os.urandom"))),
        Runs(BATCH, SCRIPT),
    ),
    (
        "because data.npy, read at train.py:3, differs (A 8 bytes, SHA-256 aa, B 8 bytes, SHA-256 bb)",
        Runs(BATCH, SCRIPT, chance=([FILE[0]], [FILE[1]])),
        Runs(BATCH, SCRIPT, chance=([FILE[0]], [place("file", "open(data.npy)")])),
    ),
    (
        "keep what is read as it is, or give both runs a copy of their own",
        Runs(BATCH, SCRIPT, chance=([FILE[0]], [FILE[1]])),
        Runs(BATCH, SCRIPT),
    ),
    (
        "because os.listdir(data) at train.py:3 gave other names, or another order",
        Runs(BATCH, SCRIPT, chance=([place("folder", "os.listdir(data)", "1")], [place("folder", "os.listdir(data)", "2")])),
        Runs(BATCH, SCRIPT, chance=both(place("folder", "os.listdir(data)", "1"))),
    ),
    (
        "sort what a listing of a folder gives: its order is the file system's",
        Runs(BATCH, SCRIPT, chance=([place("folder", "os.listdir(data)", "1")], [place("folder", "os.listdir(data)", "2")])),
        Runs(BATCH, SCRIPT),
    ),
    (
        "draws from Python's generator, which nothing seeded; or because hash(str) at train.py:4",
        Runs(BATCH, SCRIPT, chance=both(place("hash", "hash(str)", line=4), SHUFFLE)),
        Runs(BATCH, SCRIPT, chance=both(SHUFFLE)),
    ),
    (
        ", and 1 more such places",
        Runs(BATCH, SCRIPT, chance=both(SHUFFLE, *(place("hash", "hash(str)", line=line) for line in (4, 5)))),
        Runs(BATCH, SCRIPT, chance=both(SHUFFLE)),
    ),
    (
        "grads differs with equal recorded inputs, likely because random.shuffle",
        Runs(GRADS, SCRIPT, chance=both(SHUFFLE)),
        Runs(replace(GRADS, previous=2), SCRIPT, chance=both(SHUFFLE)),
    ),
    (
        "the runs came to differ before step 5 was over, likely because",
        Runs(replace(GRADS, previous=2), SCRIPT, chance=both(SHUFFLE)),
        Runs(GRADS, SCRIPT, chance=both(SHUFFLE)),
    ),
    (
        "because of lr: none → 1, or because random.shuffle at train.py:3",
        Runs(BATCH, SCRIPT, entered(SCRIPT, lr=1), chance=both(SHUFFLE)),
        Runs(BATCH, SCRIPT, entered(SCRIPT, lr=1)),
    ),
    (
        "the state of Python's generator differs, because random.seed at train.py:3 was given another seed (A 1, B 2)",
        Runs(STREAM, SCRIPT, chance=([place("seed", "random.seed", "1")], [place("seed", "random.seed", "2")])),
        Runs(STREAM, SCRIPT),
    ),
    # Corruption, which is said last and needs everything
    (
        "all inputs of the step are equal: silent data corruption, or an update that is not deterministic",
        Runs(UPDATE),
        Runs(hidden(UPDATE, "grads")),
    ),
    (
        ": something that is not recorded differs (gradients), the update is not deterministic, or, last, silent data corruption",
        Runs(hidden(UPDATE, "grads")),
        Runs(UPDATE),
    ),
]
EVERYTHING = "silent data corruption, or an update"


@pytest.mark.parametrize(("said", "runs", "twin"), ROWS, ids=[said[:60] for said, *_ in ROWS])
def test_a_sentence_is_said_where_its_premises_are_recorded_and_only_there(said: str, runs: Runs, twin: Runs) -> None:
    assert said in runs.words()
    assert said not in twin.words()


TAKEN: dict[str, Runs] = {
    "the batch": Runs(hidden(UPDATE, "batch")),
    "the loss": Runs(hidden(UPDATE, "forward")),
    "the gradients": Runs(hidden(UPDATE, "grads")),
    "the state before": Runs(replace(UPDATE, state_seen=False)),
    "the step before": Runs(replace(UPDATE, previous=2)),
    "A's program": Runs(UPDATE, lacking(MANIFEST, "program"), MANIFEST),
    "B's program": Runs(UPDATE, MANIFEST, lacking(MANIFEST, "program")),
    "an equal program": Runs(UPDATE, MANIFEST, PROGRAM),
    "A's environment": Runs(UPDATE, lacking(MANIFEST, "environment"), MANIFEST),
    "B's environment": Runs(UPDATE, MANIFEST, lacking(MANIFEST, "environment")),
    "an equal environment": Runs(UPDATE, MANIFEST, edited("environment/packages/jax", "1")),
    "the devices": Runs(UPDATE, lacking(MANIFEST, "devices")),
    "a loop of reprotui's own": Runs(UPDATE, SCRIPT),
}


@pytest.mark.parametrize("premise", TAKEN)
def test_corruption_is_said_first_only_where_everything_that_enters_was_recorded_and_is_equal(premise: str) -> None:
    assert EVERYTHING in Runs(UPDATE).cause().sentence and Runs(UPDATE).cause().kind == "corruption"
    cause = TAKEN[premise].cause()
    assert EVERYTHING not in cause.sentence and cause.kind != "corruption"
    assert "corruption" not in cause.sentence or cause.sentence.endswith("or, last, silent data corruption")


# Whole runs


def judged(tmp_path: Path, a: Any = None, b: Any = None, **manifest: Any) -> str:
    """Return the headline, reason and notes of a comparison of two runs; a history, or what `run` takes."""
    number = len(list(tmp_path.iterdir()))
    views = [
        run(tmp_path / f"{label}{number}", history(5) if steps is None else steps, **entries)
        for label, steps, entries in (("a", a, {}), ("b", b, manifest))
    ]
    verdict = compare_runs(*views)
    cause = verdict.cause.sentence if verdict.cause else ""
    return "\n".join([verdict.headline, verdict.reason, *verdict.notes, cause, str(verdict.ends_equal)])


def covered(**coverage: Any) -> dict[str, Any]:
    return {"state": "finished", "last_step": 5, "digests": {"state": "same"}, "coverage": coverage}


def renamed(steps: History) -> History:
    """Return a history of another model: its parameters have other names."""
    return {
        step: {name.replace("params/", "params/x/"): value for name, value in leaves.items()} for step, leaves in steps.items()
    }


OF_RUNS: dict[str, tuple[Callable[[Path], str], Callable[[Path], str]]] = {
    "IDENTICAL through step 5": (judged, lambda path: judged(path, b=changed(history(5), 5, "params:params/w"))),
    "DIVERGED at step 5 · params · 1 leaf": (lambda path: judged(path, b=changed(history(5), 5, "params:params/w")), judged),
    "in 3 recorded steps ": (
        lambda path: judged(path, history(4, 2), history(4, 2), seal={"records": 3}),
        lambda path: judged(path, seal={"records": 6}),
    ),
    "phase grads is recorded in one run only": (
        lambda path: judged(path, b=without(history(5), "grads:grads/w", "grads:grads/b")), judged,
    ),
    "they recorded no step in common": (lambda path: judged(path, {1: history(5)[1]}, {2: history(5)[2]}), judged),
    "stops there, ": (lambda path: judged(path, b=history(3)), judged),
    "INCOMPLETE · no common step yet": (
        lambda path: judged(path, {1: history(5)[1]}, {2: history(5)[2]}, result={"state": "failed"}), judged,
    ),
    " failed": (lambda path: judged(path, result={"state": "failed"}), judged),
    " was stopped": (lambda path: judged(path, result={"state": "stopped"}), judged),
    "the records do not tell all. ": (lambda path: judged(path, result=covered(gaps=["who knows"])), judged),
    "3 of 8 calls of train lie in no record": (
        lambda path: judged(path, result=covered(calls={"train": {"made": 8, "recorded": 5, "sampled_out": 0}})),
        lambda path: judged(path, result=covered(calls={"train": {"made": 8, "recorded": 5, "sampled_out": 3}})),
    ),
    "all checksums agree, but the content digests of the final states do not": (
        lambda path: judged(path, result={"state": "finished", "last_step": 5, "digests": {"state": "other"}}), judged,
    ),
    "DIVERGED after step 5 · in calls that were not recorded": (
        lambda path: judged(path, result={"state": "finished", "last_step": 7, "digests": {"state": "other"}}), judged,
    ),
    "all records agree, the final states do not: it began after step 5, in calls that lie in no record": (
        lambda path: judged(path, result={"state": "finished", "last_step": 7, "digests": {"state": "other"}}), judged,
    ),
    "they have no parameter leaf in common: these are different models": (
        lambda path: judged(path, b=renamed(history(5))), judged,
    ),
    "True": (judged, lambda path: judged(path, result={"state": "finished", "digests": {}})),
}  # fmt: skip


@pytest.mark.parametrize("said", OF_RUNS)
def test_what_a_verdict_says_of_whole_runs_rests_on_their_records(said: str, tmp_path: Path) -> None:
    runs, twin = OF_RUNS[said]
    assert said in runs(tmp_path)
    assert said not in twin(tmp_path)


def test_what_differs_behind_the_last_record_is_likely_because_of_what_differs_around(tmp_path: Path) -> None:
    texts = [unseen_cause(parsed(MANIFEST), parsed(b), 5, []).sentence for b in (MANIFEST, edited("config/lr", 0.1))]
    assert ["likely because of lr: 0.05 → 0.1" in text for text in texts] == [False, True]
    named = [unseen_cause(parsed(MANIFEST), parsed(MANIFEST), 5, unseen).evidence for unseen in ([], ["calls of f"])]
    assert named == [("the last steps were not recorded",), ("calls of f",)]


def heard(tmp_path: Path, **of_b: Any) -> str:
    """Return all that is said of two runs; `of_b` tells how B is another one than A: see `spoken`."""
    number = len(list(tmp_path.iterdir()))
    of_a, both_are = of_b.pop("a", {}), of_b.pop("both", {})
    views = [spoken(tmp_path / f"{label}{number}", **{**both_are, **entries}) for label, entries in (("a", of_a), ("b", of_b))]
    verdict = compare_runs(*views, verify=of_b.get("damaged", False), allowed=None)
    while_alive = [verdict.headline_while(alive=True)] if of_b.get("alive") else []
    cause = [verdict.cause.sentence, verdict.cause.advice, *verdict.cause.evidence] if verdict.cause else []
    return "\n".join([verdict.headline, verdict.reason, *while_alive, *verdict.notes, *verdict.torn, *cause])


def spoken(
    path: Path, steps: History | None = None, asked: Sequence[tuple[str, int]] = (), torn: str = "", damaged: bool = False,
    broken: dict[int, str] | None = None, alive: bool = False, empty: bool = False, **manifest: Any,
) -> Any:  # fmt: skip
    """Write a run; `asked` are calls of networks before step 3, `broken` the leaves that are not finite from a step on."""
    view = run(path, None, **({"result": None} if alive or empty else {}), **manifest)
    if empty:
        return view
    writer, flaws = TraceWriter(path / "trace.db"), broken or {}
    for step, leaves in (history(5) if steps is None else steps).items():
        record = to_record(step, leaves, True)
        flawed = np.array([spec.path in flaws.get(step, "").split() for spec in record.table.specs])
        writer.put(lambda record=record, flawed=flawed: replace(record, not_finite=packed(flawed)))
    if asked:
        networks = tuple(dict.fromkeys(name for name, _ in asked))
        which = bytes(networks.index(name) for name, _ in asked)
        digests = b"".join(number.to_bytes(8, "little") for _, number in asked)
        writer.asked(lambda: Asked(3, networks, which, digests))
    if torn:
        writer.event("torn", torn)
    writer.seal()
    if damaged:
        with sqlite3.connect(path / "trace.db") as connection:
            connection.execute("UPDATE steps SET loss_bits = 9 WHERE step = 3")
        connection.close()
    return open_run(path, path.name.upper())


CONSTANT = {step: {**({"batch:captured/X": 7} if step == 1 else {}), **leaves} for step, leaves in history(5).items()}
LATE = {step: {**({"batch:captured/train/X": 7} if step == 4 else {}), **leaves} for step, leaves in history(5).items()}
SOLVER = {
    step: {**leaves, f"{'params' if step else 'init'}:params/error": (step, "float32", ())} for step, leaves in history(5).items()
}
UPDATED = changed(history(5), 3, "params:params/w")
ACTED = [("Actor", 1), ("Actor", 2)]
HEARD: list[tuple[str, Entries, Entries]] = [
    # What is said, how the runs are that it is said of, and where one of its premises is taken away
    (
        "what the network was asked differs, at its 2nd call before step 3: an evaluation, or acting, that no training came of",
        {"both": {"asked": ACTED}, "asked": [("Actor", 1), ("Actor", 3)]},
        {"both": {"asked": ACTED}},
    ),
    (
        "what the network Critic was asked differs, at its 1st call",
        {"both": {"asked": [*ACTED, ("Critic", 3)]}, "asked": [*ACTED, ("Critic", 4)]},
        {"both": {"asked": ACTED}, "asked": [("Actor", 4)]},
    ),
    (
        "what the network was asked differs, at its 2nd call before step 3",
        {"a": {"asked": ACTED}, "asked": ACTED[:1]},
        {"a": {"asked": ACTED}},  # B's calls were not recorded
    ),
    ("TORN in", {"torn": "TORN at step 2 · params/w"}, {}),
    ("not finite from step 2 on: first forward/loss", {"both": {"broken": {2: "loss", 3: "loss", 4: "loss", 5: "loss"}}}, {}),
    (
        "finite again from step 4 on",
        {"both": {"broken": {2: "loss", 3: "loss"}}},
        {"both": {"broken": {2: "loss", 3: "loss", 4: "loss", 5: "loss"}}},
    ),
    ("not finite at times from step 2 on", {"broken": {2: "loss", 4: "loss"}}, {"broken": {2: "loss", 3: "loss"}}),
    (
        "batch/x held NaN or infinity from step 2 on, as given: that alone does not count as broken",
        {"broken": {2: "batch/x"}},
        {"broken": {2: "loss"}},
    ),
    (
        "params/error held NaN or infinity from step 0 on, as given",
        {"both": {"steps": SOLVER, "broken": {0: "params/error", 1: "params/error"}}},
        {"both": {"steps": SOLVER, "broken": {0: "params/w", 1: "params/w"}}},
    ),
    (
        "what the step captured differs from the start (X: a constant of the step's program)",
        {"a": {"steps": CONSTANT}, "steps": changed(CONSTANT, 1, "batch:captured/X")},
        {"a": {"steps": CONSTANT}, "steps": changed(CONSTANT, 1, "batch:batch/x")},
    ),
    (
        "seed what these arrays are made with, and read them from the same file",
        {"a": {"steps": CONSTANT}, "steps": changed(CONSTANT, 1, "batch:captured/X")},
        {
            "a": {"steps": CONSTANT},
            "steps": changed(CONSTANT, 1, "batch:captured/X"),
            "data_digest": "2",
            "both": {"data_digest": "1"},
        },
    ),
    (
        "what the step captured is not",
        {"a": {"steps": CONSTANT}, "steps": changed(CONSTANT, 1, "batch:captured/X")},
        {"a": {"steps": CONSTANT}, "steps": changed(CONSTANT, 1, "batch:batch/x")},
    ),
    (
        "what the step captured differs from step 4 on (train/X: a constant of train)",
        {"a": {"steps": LATE, "result": covered(captured={"train": ["X"]})}, "steps": changed(LATE, 4, "batch:captured/train/X")},
        {"a": {"steps": LATE, "result": covered(captured={})}, "steps": changed(LATE, 4, "batch:captured/train/X")},
    ),
    (
        " is process 0 of its training and ",
        {"steps": UPDATED, "a": {"devices": {"process": 0}}, "devices": {"process": 1}},
        {"steps": UPDATED, "both": {"devices": {"process": 1}}},
    ),
    (
        "each holds other data; the first difference is in params at step 3",
        {"steps": UPDATED, "devices": {"process": 1}},
        {"devices": {"process": 1}},
    ),
    (" has not started before its first record", {"empty": True}, {}),
    (" is still running", {"alive": True, "process": asdict(this_process())}, {}),
    (" was killed and left no seal", {"alive": True, "process": {**asdict(this_process()), "started": "0"}}, {}),
    (" has no seal, its process is on another host", {"alive": True, "process": {"pid": 1, "host": "elsewhere"}}, {}),
    ("IDENTICAL through step 5 · so far", {"alive": True, "process": asdict(this_process())}, {"steps": UPDATED}),
    ("STARTING · no common step yet", {"alive": True, "empty": True}, {"alive": True, "process": asdict(this_process())}),
    (" does not verify", {"damaged": True}, {}),
    ("INCOMPARABLE · ", {"steps": renamed(history(5))}, {}),
    ("they recorded no step in common", {"a": {"steps": {1: history(1)[1]}}, "steps": {2: history(2)[2]}}, {}),
    ("recorded in different ways: ", {"recording": {"replicas": "first"}}, {"both": {"recording": {"replicas": "first"}}}),
    (
        "what they call a step is not the same thing: ",
        {"steps": UPDATED, "observation": {"inside": True}},
        {"steps": UPDATED, "both": {"observation": {"inside": True}}},
    ),
    (
        " was recorded with --inside and ",
        {"steps": UPDATED, "a": {"observation": {"inside": True}}},
        {"steps": UPDATED, "a": {"recording": {"replicas": "first"}}},
    ),
    (
        "; record both with the same --loss",
        {"steps": changed(history(5), 1, "forward:loss"), "observation": {"loss": "mean"}},
        {"steps": changed(history(5), 1, "grads:grads/w"), "observation": {"loss": "mean"}},
    ),
]


@pytest.mark.parametrize(("said", "runs", "twin"), HEARD, ids=[said[:60] for said, *_ in HEARD])
def test_what_is_said_besides_rests_on_what_was_recorded_too(said: str, runs: Entries, twin: Entries, tmp_path: Path) -> None:
    assert said in heard(tmp_path, **runs)
    assert said not in heard(tmp_path, **twin)


# Completeness

COMPLETE = ("cause", "judgement", "evidence", "chance", "undetermined", "coverage")


def texts_in(source: str) -> Iterator[str]:
    """Yield what the code of sentences says: its texts of several words, without those that only describe it."""
    tree = ast.parse(source)
    described = {
        id(body[0].value)
        for node in ast.walk(tree)
        if (body := getattr(node, "body", None)) and isinstance(body, list) and isinstance(body[0], ast.Expr)
    }
    loose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described | loose:
            text = node.value.strip(" ,;:()")
            if len(text.split()) > 1 and text != "torch cuda":
                yield text


@pytest.mark.parametrize("name", COMPLETE)
def test_every_text_of_a_comparison_stands_in_the_table(name: str) -> None:
    said = "\n".join([runs.words() for _, *pair in ROWS for runs in pair])
    said += "\n" + "\n".join([cause.sentence + cause.advice + "; ".join(cause.evidence) for cause in BEHIND])
    said += "\n" + "\n".join(gaps({"A": parsed({"result": covered(calls={"f": {"made": 8, "recorded": 5, "sampled_out": 0}})})}))
    missing = [text for text in texts_in((Path(package.__file__).parent / f"{name}.py").read_text()) if text not in said]
    assert not missing


@pytest.mark.parametrize("name", ["asked", "captured", "recorded", "not_finite", "runs", "verdict"])
def test_every_text_about_whole_runs_stands_in_a_table(name: str, tmp_path: Path) -> None:
    said = "\n".join([runs(tmp_path) for runs, _ in OF_RUNS.values()] + [heard(tmp_path, **runs) for _, runs, _ in HEARD])
    texts = [text for text in texts_in((Path(package.__file__).parent / f"{name}.py").read_text()) if "JOIN" not in text]
    assert not [text for text in texts if text not in said and text not in LOOKED_FOR]


LOOKED_FOR = ("the batch differs", "its batch is not", "what made it is not the same each time", "--leaves-every", "--no-record")
"""What is said of a batch, which is replaced where it is a constant."""
BEHIND = [
    unseen_cause(parsed(MANIFEST), parsed(b), 5, unseen) for b in (MANIFEST, edited("config/lr", 0.1)) for unseen in ([], ["x"])
]


def test_every_kind_of_cause_stands_in_the_table() -> None:
    declared = Cause.__doc__ or ""
    kinds = declared.partition("machines: ")[2].partition(".")[0].replace("\n", " ").split(", ")
    found = {runs.cause().kind for _, *pair in ROWS for runs in pair} | {cause.kind for cause in BEHIND}
    assert found == {kind.strip() for kind in kinds}
