"""Independent streams of randomness: seeds for workers, torch's loaders, and JAX keys by purpose, step and process."""

import hashlib
import random
from typing import Any

from reprotui.errors import BadInputError
from reprotui.reproduce.frameworks import require
from reprotui.reproduce.seeds import check_seed
from reprotui.reproduce.values import NOT_GIVEN, one_of


def generate_deterministic_seeds(base_seed: int, count: int = NOT_GIVEN, *, num_workers: int = NOT_GIVEN) -> list[int]:
    """Return `count` (or `num_workers`, which is the same) distinct 32-bit seeds of independent streams, one a worker.

    Seed i comes from `numpy.random.SeedSequence(base_seed, spawn_key=(i,))`, so it does not depend on `count`: the first
    seeds of a longer list are the shorter list. Unlike `base_seed + i`, streams of neighbouring base seeds do not overlap.

    Raises:
        BadInputError: the base seed is out of range, or `count` is negative, not given, or given twice with two values.
    """
    base_seed = check_seed(base_seed)
    count = one_of("count", count, "num_workers", num_workers)
    if count < 0:
        raise BadInputError(f"count is {count}: it must be at least 0")
    numpy = require("numpy", "generate_deterministic_seeds")
    seeds: dict[int, None] = {}
    for worker in range(count):
        words = 1
        while True:
            # 32 bits collide: two of 10,000 workers with probability 1 %. The stream's next word is taken then.
            sequence = numpy.random.SeedSequence(base_seed, spawn_key=(worker,))
            seed = int(sequence.generate_state(words)[-1])
            if seed not in seeds:
                break
            words += 1
        seeds[seed] = None
    return list(seeds)


def seed_worker(worker_id: int) -> None:
    """Seed `random` and NumPy in a worker of torch's DataLoader from torch's own seed there: `worker_init_fn=seed_worker`.

    torch gives each worker the loader's base seed plus the worker's number. With `generator=create_reproducible_generator(
    seed)` that base seed is drawn from the generator, and another one every epoch.
    """
    torch = require("torch", "seed_worker")
    info = torch.utils.data.get_worker_info()
    base = torch.initial_seed() - (0 if info is None else info.id)
    # SeedSequence, because neighbouring seeds of MT19937 give related streams; the generators of both libraries differ.
    numpy = require("numpy", "seed_worker")
    words = numpy.random.SeedSequence(base, spawn_key=(worker_id,)).generate_state(2)
    random.seed(int(words[0]))
    numpy.random.seed(int(words[1]))


def create_reproducible_generator(seed: int, device: str = "cpu") -> Any:
    """Return a `torch.Generator` with a seed, for DataLoader's and `random_split`'s `generator=`.

    Raises:
        FrameworkMissingError: torch is not installed.
        BadInputError: the seed is out of range.
    """
    seed = check_seed(seed)
    torch = require("torch", "create_reproducible_generator")
    return torch.Generator(device=device).manual_seed(seed)


def purpose_key(key: Any, purpose: str) -> Any:
    """Return the key of a purpose, such as `init`, `data` or `dropout`: the purpose's SHA-256 folded in, 64 bits of it."""
    jax = require("jax", "purpose_key")
    if not purpose:
        raise BadInputError("a purpose is a name, such as 'dropout'; this one is empty")
    digest = hashlib.sha256(purpose.encode()).digest()
    for word in (digest[:4], digest[4:8]):
        key = jax.random.fold_in(key, int.from_bytes(word, "little"))
    return key


def step_key(key: Any, step: Any) -> Any:
    """Return the key of a step: the step folded in. `step` may be traced; a run resumed at a step gets that step's key."""
    return require("jax", "step_key").random.fold_in(key, step)


def process_key(key: Any, process: int | None = None) -> Any:
    """Return the key of a process, for what must differ between hosts; by default of this one (`jax.process_index()`)."""
    jax = require("jax", "process_key")
    # A purpose of its own, or process 3 would be given the key of step 3.
    return jax.random.fold_in(purpose_key(key, "process"), jax.process_index() if process is None else process)


def derive_key(key: Any, purpose: str, step: Any = None, process: int | None = None) -> Any:
    """Return the key for a purpose, and where they are given, of a step and a process; folded in that order.

    Equal arguments give equal keys in every process; leave `process` out for what all hosts must draw alike.
    """
    key = purpose_key(key, purpose)
    if step is not None:
        key = step_key(key, step)
    return key if process is None else process_key(key, process)


def split_keys(key: Any, *names: str) -> dict[str, Any]:
    """Return one key for each name, as flax's `rngs=` takes them: by name, so that adding one changes no other."""
    if len(set(names)) != len(names):
        raise BadInputError(f"a name occurs twice: {', '.join(names)}")
    return {name: purpose_key(key, name) for name in names}
