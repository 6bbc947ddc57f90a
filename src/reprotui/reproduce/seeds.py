"""Seed everything: `random`, NumPy, torch on the CPU and all CUDA devices, and a JAX root key as a value."""

import operator
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from types import TracebackType
from typing import Any

from reprotui.errors import BadInputError
from reprotui.reproduce.determinism import DeterministicConfig
from reprotui.reproduce.frameworks import choose, installed, jax_has_gpu, jax_is_initialised, loaded, require
from reprotui.reproduce.seed_state import SeedState, get_seed_state, mark_seeded, restore_seed_state
from reprotui.reproduce.values import Record

MAX_SEED = 2**32 - 1
"""The largest seed that every library takes as it is: NumPy's global state has 32 bits, and so has a JAX seed without x64."""

PRNG = "threefry2x32"
"""The implementation of root keys, named so that no configuration of jax changes the numbers."""


@dataclass(frozen=True, eq=False)
class SeedInfo(Record):
    """What a seed was given to, and the settings that were then in force; a mapping too: `info["seed"]`, `dict(info)`.

    `seeded` are the libraries whose global state was set; `notes` says what the seed does not reach. `cuda_device_count` GPUs
    of torch were seeded. `cudnn_deterministic`, `cudnn_benchmark` and `use_deterministic_algorithms` are torch's settings, None
    where it was not seeded. `jax_key` and `generator` are values and no entries of the mapping: JAX and NumPy's modern
    interface have no global state to set.
    """

    seed: int
    deterministic: bool
    benchmark: bool
    seeded: tuple[str, ...]
    notes: tuple[str, ...] = ()
    cuda_available: bool = False
    cuda_device_count: int = 0
    cudnn_deterministic: bool | None = None
    cudnn_benchmark: bool | None = None
    use_deterministic_algorithms: bool | None = None

    @cached_property
    def jax_key(self) -> Any:
        """The typed JAX root key of the seed, threefry; imports jax when it is first asked for."""
        return create_reproducible_rng(self.seed)

    @cached_property
    def generator(self) -> Any:
        """A `numpy.random.Generator` of the seed: one a SeedInfo, so that it goes on where it was."""
        return require("numpy", "SeedInfo.generator").random.default_rng(self.seed)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object, for a run's config or a checkpoint."""
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**own, "seeded": list(self.seeded), "notes": list(self.notes)}


def set_global_seed(
    seed: int = 42, deterministic: bool = True, benchmark: bool = False, *, frameworks: Sequence[str] | str | None = None
) -> SeedInfo:
    """Seed everything that has a global state, and by default switch deterministic mode on.

    Args:
        seed: 0 to 2**32 - 1, which every library takes as it is.
        deterministic: also apply `DeterministicConfig()` to these libraries.
        benchmark: let cuDNN choose kernels by timing; not together with `deterministic`, which it would undo.
        frameworks: `python`, `numpy`, `torch`, `jax`; by default all that are installed. torch is imported for it; jax is
            not, before `jax_key` is asked for.

    Returns:
        What was seeded, with the JAX root key and a NumPy Generator.

    Raises:
        BadInputError: the seed is no whole number or out of range, or a framework is unknown or not installed.
        TooLateError: deterministic mode needs a setting that jax or CUDA has read already.
    """
    seed = check_seed(seed)
    names = choose(frameworks, "set_global_seed")
    if deterministic and benchmark:
        raise BadInputError(
            "benchmark=True lets cuDNN choose kernels by timing, which deterministic=True forbids: pass deterministic=False"
        )
    notes = _notes(names, deterministic)
    if deterministic:
        late_but_harmless = "jax" in names and jax_is_initialised() and not jax_has_gpu()
        config = DeterministicConfig(frameworks=names)
        if late_but_harmless:
            config = config.without_xla()
        config.apply()
    _seed_libraries(seed, names)
    if not deterministic and "torch" in names:
        cudnn = require("torch", "set_global_seed").backends.cudnn
        cudnn.benchmark, cudnn.deterministic = benchmark, False
    return SeedInfo(seed, deterministic, benchmark, names, notes, **_torch_settings(names))


set_seed = set_global_seeds = set_global_seed
"""Other names of `set_global_seed`."""


def check_seed(seed: Any) -> int:
    """Return a seed as an int.

    Raises:
        BadInputError: it is no whole number between 0 and 2**32 - 1.
    """
    try:
        value = operator.index(seed)
    except TypeError as error:
        raise BadInputError(f"a seed is a whole number, not {seed!r}") from error
    if isinstance(seed, bool) or not 0 <= value <= MAX_SEED:
        raise BadInputError(f"a seed is a whole number between 0 and {MAX_SEED} (what every library takes), not {seed!r}")
    return value


def create_reproducible_rng(seed: int = 42, implementation: str = PRNG) -> Any:
    """Return the typed JAX root key of a seed.

    Args:
        seed: 0 to 2**32 - 1.
        implementation: `threefry2x32`, `rbg` or `unsafe_rbg`; named in the key, whatever jax's configuration says.

    Raises:
        FrameworkMissingError: jax is not installed.
        BadInputError: the seed is out of range.
    """
    seed = check_seed(seed)
    return require("jax", "create_reproducible_rng").random.key(seed, impl=implementation)


def _seed_libraries(seed: int, names: Sequence[str]) -> None:
    """Set the global states of the named libraries."""
    if "python" in names:
        random.seed(seed)
    if "numpy" in names:
        require("numpy", "seeding").random.seed(seed)
    if "torch" in names:
        torch = require("torch", "seeding")
        torch.manual_seed(seed)
        if torch.cuda.is_available():
            # Where CUDA has not started, torch queues this; it must not start because somebody seeds.
            torch.cuda.manual_seed_all(seed)
    mark_seeded(names)


def _torch_settings(names: Sequence[str]) -> dict[str, Any]:
    """Return the entries of a SeedInfo that torch knows; none where it is not seeded."""
    if "torch" not in names:
        return {}
    torch = require("torch", "seeding")
    available = torch.cuda.is_available()
    return {
        "cuda_available": available,
        "cuda_device_count": torch.cuda.device_count() if available else 0,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


class SeedContext:
    """Seed everything inside a `with` block, and put back exactly what was there before it.

    `with SeedContext(42) as info:` gives the block's `SeedInfo`. Restored, also after an exception: the states of
    `random`, NumPy and torch (CPU and CUDA). Deterministic mode is not touched: use `DeterministicContext`. The same
    context can be entered again, also inside itself.
    """

    def __init__(self, seed: int, *, frameworks: Sequence[str] | str | None = None) -> None:
        self.seed = check_seed(seed)
        self._frameworks = choose(frameworks, "SeedContext")
        self._before: list[SeedState] = []

    def __enter__(self) -> SeedInfo:
        for name in self._frameworks:
            if name in ("numpy", "torch"):
                require(name, "SeedContext")  # first, so that its state before the seed can be taken
        self._before.append(get_seed_state())
        _seed_libraries(self.seed, self._frameworks)
        notes, settings = _notes(self._frameworks, True), _torch_settings(self._frameworks)
        return SeedInfo(self.seed, False, False, self._frameworks, notes, **settings)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        restore_seed_state(self._before.pop())


def _notes(names: Sequence[str], deterministic: bool) -> tuple[str, ...]:
    notes = []
    if sys.flags.hash_randomization:
        notes.append(
            "hash() of str and bytes, and with it the order of sets, differs from process to process: "
            "start Python with PYTHONHASHSEED=0 to fix it"
        )
    if deterministic and "jax" in names and jax_is_initialised() and not jax_has_gpu():
        notes.append("jax had started without a GPU, so XLA's flags for GPUs were not set: they would have no effect here")
    if "jax" not in names and installed("jax") and loaded("jax") is not None:
        notes.append("jax is loaded and was left out: its keys come from elsewhere")
    return tuple(notes)
