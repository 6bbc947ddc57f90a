"""Benchmarks of this project on this machine: each compares with the alternative that a user has, in the same run."""

import importlib
from typing import Any

FAMILIES = (
    "recording",
    "racing",
    "checksum",
    "trace",
    "divergence",
    "startup",
    "ui",
    "flips",
    "kills",
    "faults",
    "trace_faults",
    "saving",
    "verifying",
    "save_kills",
    "replays",
)
WITH_JAX = ("recording", "checksum", "flips", "saving", "verifying")
"""Measured in a process of their own, started like a worker: what XLA reads must be set before jax is imported."""


def run_benchmark(name: str, count: int | None = None, seed: int = 0, **sizes: Any) -> dict[str, Any]:
    """Run one benchmark.

    Args:
        name: one of `FAMILIES`.
        count: rounds, repetitions, flips or kills; None for the benchmark's own default.
        seed: what is drawn at random is drawn from it.
        sizes: the keyword arguments of that benchmark's `run`, for measurements smaller than the real ones.

    Returns:
        {"rows": flat dicts with the same keys, the first of them the label, "notes": sentences}. Progress goes to
        stderr. Whether a bar is met is said in the notes; nothing is raised for it.

    Raises:
        WorkerFailedError: the process that measures ended without a result.
    """
    from reprotui.bench.common import in_child

    options = {"count": count, "seed": seed, **sizes}
    return in_child(name, options) if name in WITH_JAX else run_here(name, options)


def run_here(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Run one benchmark in this process; see `run_benchmark`."""
    return importlib.import_module(f"reprotui.bench.{name}").run(**options)
