"""Prove that a function is deterministic: run it again, in this process or in fresh ones, and compare all bits."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprotui.errors import BadInputError
from reprotui.integrity import content_digest
from reprotui.reproduce.difference import LeafDifference, differences
from reprotui.reproduce.frameworks import choose, require
from reprotui.reproduce.fresh import run_fresh, specification
from reprotui.reproduce.leaves import Leaf, leaves_of
from reprotui.reproduce.seeds import SeedContext, check_seed


@dataclass(frozen=True)
class DeterminismReport:
    """What repeating a function showed.

    `deterministic` says whether all runs gave the same leaves with the same bits. `digest` is the content digest of the
    first run's result: equal on another machine, it is the same state.
    """

    function: str
    runs: int
    processes: bool
    leaves: int
    digest: str
    differences: tuple[LeafDifference, ...]
    seed: int | None = None

    @property
    def deterministic(self) -> bool:
        """Whether no leaf differed in any run."""
        return not self.differences

    def __str__(self) -> str:
        where = "fresh processes" if self.processes else "this process"
        if self.deterministic:
            return f"{self.function}: identical in {self.runs} runs in {where}, {self.leaves} leaves, content {self.digest[:16]}"
        lines = [f"{self.function}: differs in {self.runs} runs in {where}"]
        return "\n  ".join([*lines, *map(str, self.differences)])

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "function": self.function,
            "deterministic": self.deterministic,
            "runs": self.runs,
            "processes": self.processes,
            "seed": self.seed,
            "leaves": self.leaves,
            "digest": self.digest,
            "differences": [item.to_json() for item in self.differences],
        }


def verify_deterministic_execution(
    function: Callable[..., Any] | str, *args: Any, runs: int = 2, in_processes: int | None = None
) -> DeterminismReport:
    """Call a function again with equal arguments, and compare the results bit for bit.

    Nothing is seeded: a function that draws from a global generator differs, as it should. Each call gets its own deep copy
    of the arguments, so one that changes them in place is judged by its result.

    Args:
        function: a callable, or for fresh processes `module:name` or `file.py:name`.
        args: its arguments; in fresh processes they must be JSON values.
        runs: how often it is called, at least 2.
        in_processes: call it once in each of so many fresh processes instead, with this environment.

    Raises:
        BadInputError: fewer than two runs, a result whose bits cannot be compared, or a function that cannot be imported.
        WorkerFailedError: the function raised in a fresh process.
    """
    return _verify(function, args, _at_least_two(in_processes or runs), in_processes is not None, None, ())


def verify_reproducibility(
    function: Callable[..., Any] | str | None = None,
    *args: Any,
    seed: int = 42,
    num_iterations: int = 10,
    in_processes: int | None = None,
    frameworks: Sequence[str] | str | None = None,
) -> DeterminismReport:
    """Seed everything before each call of a function, and compare the results bit for bit.

    Without a function: draw from every library that is installed, and do a little arithmetic in it. Afterwards the states
    of all generators are what they were.

    Args:
        function: a callable, or for fresh processes `module:name` or `file.py:name`.
        args: its arguments; in fresh processes they must be JSON values.
        seed: set before each call, as `set_global_seed` does, deterministic mode apart.
        num_iterations: how often it is called, at least 2.
        in_processes: call it once in each of so many fresh processes instead.
        frameworks: the libraries to seed, and to draw from where no function is given; all that are installed by default.

    Raises:
        BadInputError: as `verify_deterministic_execution`, and a seed out of range.
        FrameworkMissingError: a named framework is not installed.
        WorkerFailedError: the function raised in a fresh process.
    """
    names = choose(frameworks, "verify_reproducibility")
    if function is None:
        function, args = draw_everything, (check_seed(seed), list(names))
    count = _at_least_two(in_processes or num_iterations)
    return _verify(function, args, count, in_processes is not None, check_seed(seed), names)


def draw_everything(seed: int, frameworks: Sequence[str]) -> dict[str, Any]:
    """Draw from each library, and multiply matrices in it: what `reprotui seed-check` repeats."""
    import random

    drawn: dict[str, Any] = {}
    if "python" in frameworks:
        drawn["python"] = [random.random() for _ in range(64)]
    if "numpy" in frameworks:
        numpy = require("numpy", "seed-check")
        generator = numpy.random.default_rng(seed)
        x = generator.standard_normal((64, 64), dtype=numpy.float32)
        drawn["numpy"] = {"global": numpy.random.standard_normal(64), "generator": generator.random(64), "matmul": x @ x}
    if "torch" in frameworks:
        torch = require("torch", "seed-check")
        x = torch.randn(64, 64)
        drawn["torch"] = {"cpu": torch.rand(64), "permutation": torch.randperm(64), "matmul": x @ x}
        for device in range(torch.cuda.device_count()):
            drawn["torch"][f"cuda_{device}"] = torch.rand(64, device=f"cuda:{device}")
    if "jax" in frameworks:
        from reprotui.reproduce.streams import create_reproducible_rng, split_keys

        jax = require("jax", "seed-check")
        keys = split_keys(create_reproducible_rng(seed), "normal", "permutation")
        x = jax.random.normal(keys["normal"], (64, 64))
        drawn["jax"] = {
            "normal": x,
            "permutation": jax.random.permutation(keys["permutation"], 64),
            "matmul": jax.jit(_square)(x),
        }
    return drawn


def _square(x: Any) -> Any:
    return x @ x


def _verify(
    function: Callable[..., Any] | str, args: tuple[Any, ...], count: int, processes: bool, seed: int | None, names: Sequence[str]
) -> DeterminismReport:
    name = function if isinstance(function, str) else getattr(function, "__qualname__", type(function).__name__)
    if processes:
        results = run_fresh(specification(function), args, count, seed=seed, frameworks=names)
    elif isinstance(function, str):
        raise BadInputError(f"{function} is called in fresh processes only: pass in_processes={count}, or the function itself")
    else:
        results = _run_here(function, args, count, seed, names)
    reference = next(results)
    found = [item for run, result in enumerate(results, start=1) for item in differences(reference, result, run)]
    digest = content_digest((leaf.spec, leaf.data) for leaf in reference.values())
    return DeterminismReport(name, count, processes, len(reference), digest, tuple(found), seed)


def _run_here(
    function: Callable[..., Any], args: tuple[Any, ...], count: int, seed: int | None, names: Sequence[str]
) -> Iterator[Mapping[str, Leaf]]:
    for _ in range(count):
        own = tuple(_copied(argument) for argument in args)
        if seed is None:
            yield leaves_of(function(*own))
        else:
            with SeedContext(seed, frameworks=names):
                result = leaves_of(function(*own))
            yield result


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except (TypeError, RuntimeError, NotImplementedError):
        # A lock, a file, a tensor within a graph: what cannot be copied is passed as it is.
        return value


def _at_least_two(count: int) -> int:
    if count < 2:
        raise BadInputError(f"{count} run shows nothing: at least 2 are compared")
    return count
