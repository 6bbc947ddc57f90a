"""Prove that a function is deterministic: run it again, in this process or in fresh ones, and compare all bits."""

import contextlib
import copy
import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from reprotui.errors import BadInputError
from reprotui.integrity import digest_state
from reprotui.integrity.leaves import LeafDifference
from reprotui.reproduce.frameworks import choose, require
from reprotui.reproduce.fresh import Call, run_fresh
from reprotui.reproduce.leaves import Leaf, differing_leaves, leaves_of
from reprotui.reproduce.seed_state import SeedState, get_seed_state, restore_seed_state
from reprotui.reproduce.seeds import SeedContext, check_seed, create_reproducible_rng


@dataclass(frozen=True)
class RunDifference:
    """A leaf whose bits were others in run number `run`, counted from 0, than in run 0, which is A of `leaf`."""

    run: int
    leaf: LeafDifference

    def __str__(self) -> str:
        return f"{self.leaf.text('run 0', f'run {self.run}')} (run {self.run} against run 0)"

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"run": self.run, **self.leaf.exact_json()}


@dataclass(frozen=True)
class DeterminismReport:
    """What repeating a function showed. True in a condition only where all runs gave the same leaves with the same bits.

    `digest` is the content digest of the first run's result: equal on another machine, it is the same state. `seed` was set
    before each run; where none was, each run found the generators of `seeded` as they were, because they had been seeded.
    """

    function: str
    runs: int
    processes: bool
    leaves: int
    digest: str
    differences: tuple[RunDifference, ...]
    seed: int | None = None
    seeded: tuple[str, ...] = ()

    @property
    def deterministic(self) -> bool:
        """Whether no leaf differed in any run."""
        return not self.differences

    @property
    def identical(self) -> int:
        """How many runs gave the bits of the first, itself among them."""
        return self.runs - len({difference.run for difference in self.differences})

    def __bool__(self) -> bool:
        return self.deterministic

    def __str__(self) -> str:
        where = "fresh processes" if self.processes else "this process"
        if self.deterministic:
            start = f", each from the seeded state of {', '.join(self.seeded)}" if self.seeded else ""
            content = f"{self.leaves} leaves, content {self.digest[:16]}"
            return f"{self.function}: identical in {self.runs} runs in {where}{start}, {content}"
        lines = [f"{self.function}: differs in {where}: {self.identical} of {self.runs} runs gave the bits of the first"]
        return "\n  ".join([*lines, *map(str, self.differences)])

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "function": self.function,
            "deterministic": self.deterministic,
            "runs": self.runs,
            "identical": self.identical,
            "processes": self.processes,
            "seed": self.seed,
            "seeded": list(self.seeded),
            "leaves": self.leaves,
            "digest": self.digest,
            "differences": [item.to_json() for item in self.differences],
        }


def verify_deterministic_execution(
    function: Callable[..., Any] | str, *args: Any, runs: int = 2, in_processes: int | None = None, **kwargs: Any
) -> DeterminismReport:
    """Call a function again with equal arguments, and compare the results bit for bit.

    Nothing is seeded: a function that draws from a global generator which nobody seeded differs, as it should. Generators that
    `set_global_seed` has seeded in this process are put back before each call, and after the last. Each call gets its own deep
    copy of the arguments, so one that changes them in place is judged by its result.

    Args:
        function: a callable, or for fresh processes `module:name` or `file.py:name`.
        args: its arguments; in fresh processes they must be JSON values.
        runs: how often it is called, at least 2.
        in_processes: call it once in each of so many fresh processes instead, with this environment; nothing is seeded there.
        kwargs: its keyword arguments.

    Returns:
        A report, true in a condition where all results were identical.

    Raises:
        BadInputError: fewer than two runs, a result whose bits cannot be compared, or a function that cannot be imported.
        WorkerFailedError: the function raised in a fresh process.
    """
    return _verify(Call(function, args, kwargs), runs if in_processes is None else in_processes, in_processes is not None)


def verify_reproducibility(
    function: Callable[..., Any] | str | int | None = None,
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
        function: a callable, or for fresh processes `module:name` or `file.py:name`; a number is `num_iterations`.
        args: its arguments; in fresh processes they must be JSON values.
        seed: set before each call, as `set_global_seed` does, deterministic mode apart.
        num_iterations: how often it is called, at least 2.
        in_processes: call it once in each of so many fresh processes instead.
        frameworks: the libraries to seed, and to draw from where no function is given; all that are installed by default.

    Returns:
        A report, true in a condition where all results were identical.

    Raises:
        BadInputError: as `verify_deterministic_execution`, and a seed out of range.
        FrameworkMissingError: a named framework is not installed.
        WorkerFailedError: the function raised in a fresh process.
    """
    names, seed = choose(frameworks, "verify_reproducibility"), check_seed(seed)
    if isinstance(function, int):
        function, num_iterations = None, function
    call = Call(draw_everything, (seed, list(names)), {}) if function is None else Call(function, args, {})
    count = num_iterations if in_processes is None else in_processes
    return _verify(call, count, in_processes is not None, seed, names)


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
        from reprotui.reproduce.streams import split_keys

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


def _verify(call: Call, count: int, processes: bool, seed: int | None = None, names: Sequence[str] = ()) -> DeterminismReport:
    if count < 2:
        raise BadInputError(f"{count} run shows nothing: at least 2 are compared")
    start = SeedState() if processes or seed is not None else get_seed_state().of_seeded()
    if processes:
        results = run_fresh(call, count, seed=seed, frameworks=names)
    elif isinstance(call.function, str):
        raise BadInputError(f"{call.name} is called in fresh processes only: pass in_processes={count}, or the function itself")
    else:
        context = functools.partial(SeedContext, seed, frameworks=names) if seed is not None else functools.partial(_from, start)
        results = _run_here(call.function, call, count, context)
    reference = next(results)
    found = [
        RunDifference(run, leaf) for run, result in enumerate(results, start=1) for leaf in differing_leaves(reference, result)
    ]
    digest = digest_state(reference.values()).root
    return DeterminismReport(call.name, count, processes, len(reference), digest, tuple(found), seed, start.seeded)


def _run_here(
    function: Callable[..., Any], call: Call, count: int, context: Callable[[], AbstractContextManager[object]]
) -> Iterator[Mapping[str, Leaf]]:
    for _ in range(count):
        args = tuple(_copied(argument) for argument in call.args)
        kwargs = {name: _copied(argument) for name, argument in call.kwargs.items()}
        with context():
            result = leaves_of(function(*args, **kwargs))
        yield result


@contextlib.contextmanager
def _from(state: SeedState) -> Generator[None]:
    """Begin with the generators in a state, and leave them in it."""
    restore_seed_state(state)
    try:
        yield
    finally:
        restore_seed_state(state)


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except (TypeError, RuntimeError, NotImplementedError):
        # A lock, a file, a tensor within a graph: what cannot be copied is passed as it is.
        return value
