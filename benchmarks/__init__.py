"""Benchmarks of this project on this machine: each compares with the alternative that a user has, in the same run."""

import importlib
from typing import Any

BENCHMARKS = {
    "recording": "cost of recording a step: bare, recorded, host SHA-256",
    "racing": "what a race costs PyTorch and JAX scripts, against two bare ones at once",
    "checksum": "checksum throughput against a plain sum and SHA-256",
    "trace": "writing and reading traces",
    "divergence": "first divergence among two traces of a million steps",
    "startup": "worker start-up against a bare script, and the command line's own",
    "ui": "the dashboard in a pseudo-terminal: start, keys, scrolling, memory, idling, and whom it slows down",
    "endings": "races that end at 80x24 while all cores are busy: is what stands on the terminal what is shown",
    "fleet": "hundreds of pairs on one screen: until they stand there, and following those that go on",
    "flips": "random single-bit flips: are step and leaf exact, are controls silent",
    "kills": "workers killed at random moments: is every acknowledged step there",
    "faults": "harmed checkpoints of four formats: is every fault found, is no whole one suspected",
    "trace_faults": "harmed traces: does compare --verify notice, does everything that reads them answer in a sentence",
    "saving": "what a checkpoint costs the training beside it",
    "verifying": "how fast a large checkpoint is verified, against SHA-256 alone",
    "save_kills": "workers killed while they save and prune: is anything VALID that is not, does it go on equal",
    "sharded": "trainings on two devices and in two processes, raced and certified: does any hang, is every bit the same",
    "watching": "bits flipped while a training is watched: found at the sampling's rate, clean checks silent; what it costs",
    "ranks": "trainings of several processes with a fault on one rank: is it named, are torn copies found",
    "growth": "bytes and time a record by leaves, comparing trainings by ranks",
    "explaining": "differences planted in one line of a program: is it named, and no other",
    "diagnose": "scripts with planted causes diagnosed: is what is proved what was planted",
    "replays": "random steps of the built-in experiments replayed: are all equal to the record",
}
WITH_JAX = ("recording", "checksum", "flips", "saving", "verifying")
"""Measured in a process of their own, started like a worker: what XLA reads must be set before jax is imported."""


def run_benchmark(name: str, count: int | None = None, seed: int = 0, **sizes: Any) -> dict[str, Any]:
    """Run one benchmark.

    Args:
        name: one of `BENCHMARKS`.
        count: rounds, repetitions, flips or kills; None for the benchmark's own default.
        seed: what is drawn at random is drawn from it.
        sizes: the keyword arguments of that benchmark's `run`, for measurements smaller than the real ones.

    Returns:
        {"rows": flat dicts with the same keys, the first of them the label, "notes": sentences}. Progress goes to
        stderr. Whether a bar is met is said in the notes; nothing is raised for it.

    Raises:
        WorkerFailedError: the process that measures ended without a result.
    """
    from benchmarks.common import in_child

    options = {"count": count, "seed": seed, **sizes}
    return in_child(name, options) if name in WITH_JAX else run_here(name, options)


def run_here(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Run one benchmark in this process; see `run_benchmark`."""
    return importlib.import_module(f"benchmarks.{name}").run(**options)
