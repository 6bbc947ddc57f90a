"""What deterministic mode costs: a function timed with and without it."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from reprotui.errors import BadInputError
from reprotui.reproduce.determinism import DeterministicConfig, DeterministicContext
from reprotui.reproduce.frameworks import loaded
from reprotui.reproduce.fresh import call_fresh, name_of, specification
from reprotui.reproduce.values import Record


@dataclass(frozen=True, eq=False)
class Impact(Record):
    """Times of a function in seconds, in default and in deterministic mode; a mapping too: `impact["slowdown_factor"]`.

    `slowdown_factor` is the ratio of the medians, `absolute_difference` is deterministic minus default, in seconds. `spread` is
    the larger (max - min) / median of the two: a slowdown smaller than it is noise.
    """

    function: str
    runs: int
    default: tuple[float, ...]
    deterministic: tuple[float, ...]
    slowdown_factor: float
    absolute_difference: float
    spread: float

    def __str__(self) -> str:
        return (
            f"{self.function}: {self.slowdown_factor:.2f} × the time in deterministic mode "
            f"({self.absolute_difference * 1e3:+.3g} ms a call, spread {self.spread:.0%}, {self.runs} runs each)"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def benchmark_deterministic_impact(
    function: Callable[..., Any] | str, *args: Any, runs: int = 5, in_processes: bool = False
) -> Impact:
    """Time a function with and without deterministic mode.

    In this process the calls alternate, so that a machine that gets slower slows both; one call in each mode warms up. What
    jax reads when it starts cannot be switched there: pass `in_processes=True` to start a process for each mode.

    Args:
        function: a callable, or for fresh processes `module:name` or `file.py:name`.
        args: its arguments; in fresh processes they must be JSON values.
        runs: timed calls in each mode.
        in_processes: time in two fresh processes, one a mode, in which flags that are read once are in force.

    Raises:
        BadInputError: `runs` is less than 1, or the function cannot be imported by a fresh process.
    """
    if runs < 1:
        raise BadInputError(f"runs is {runs}: at least 1 is timed")
    name = function if isinstance(function, str) else name_of(function)
    if in_processes:
        job = {"function": specification(function), "args": list(args), "seed": None, "frameworks": [], "time": runs}
        default, deterministic = (call_fresh({**job, "deterministic": mode})[0]["seconds"] for mode in (False, True))
    elif isinstance(function, str):
        raise BadInputError(f"{function} is called in fresh processes only: pass in_processes=True, or the function itself")
    else:
        default, deterministic = _alternate(function, args, runs)
    slow, fast = statistics.median(deterministic), statistics.median(default)
    spread = max((max(times) - min(times)) / statistics.median(times) for times in (default, deterministic))
    return Impact(name, runs, tuple(default), tuple(deterministic), slow / fast, slow - fast, spread)


def time_calls(function: Callable[..., Any], args: Sequence[Any], runs: int) -> list[float]:
    """Return the seconds of each call, after one that warms up."""
    return [_time(function, args) for _ in range(runs + 1)][1:]


def _alternate(function: Callable[..., Any], args: Sequence[Any], runs: int) -> tuple[list[float], list[float]]:
    on = DeterministicConfig().without_xla()
    # Not simply what is in force: whoever measures the cost may have switched the mode on already.
    off = replace(on, torch_use_deterministic_algorithms=False, torch_deterministic=False, torch_benchmark=None)
    off = replace(off, cublas_workspace_config=None, threefry_partitionable=None)
    default, deterministic = [], []
    for _ in range(runs + 1):
        for mode, times in ((off, default), (on, deterministic)):
            with DeterministicContext(mode):
                times.append(_time(function, args))
    return default[1:], deterministic[1:]


def _time(function: Callable[..., Any], args: Sequence[Any]) -> float:
    start = time.perf_counter()
    result = function(*args)
    # jax and CUDA return before they are done.
    if (jax := loaded("jax")) is not None:
        jax.block_until_ready(result)
    if (torch := loaded("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start
