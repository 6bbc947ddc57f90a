"""What a diagnosis changes inside a script's process before its first line: chance that is fixed, and switches of frameworks.

Nothing is imported for it: what concerns a library is done right after the script has imported that.
"""

import functools
import hashlib
import inspect
import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from reprotui.observe.hooks import after_import

SEED = 0
BEGIN_NS = 1_700_000_000 * 10**9
"""The time at which a fixed clock begins; each look at it moves it on by a millisecond."""
TICK_NS = 10**6


def apply(names: Iterable[str]) -> None:
    """Make the changes with these names; one that this version of a library has no place for is told in the log."""
    for name in sorted(names, key=list(ACTIONS).index):
        _safely(name, ACTIONS[name])


def _safely(name: str, action: Callable[..., None], *arguments: Any) -> None:
    try:
        action(*arguments)
    except Exception as error:  # the script runs all the same, and differs as before
        print(f"reprotui: {name} could not be changed: {type(error).__name__}: {error}", file=sys.stderr)


def _after(name: str, module: str, action: Callable[[Any], None]) -> None:
    after_import(module, functools.partial(_safely, name, action))


def _python() -> None:
    random.seed(SEED)


def _numpy() -> None:
    _after("numpy", "numpy.random", lambda module: module.seed(SEED))


def _torch() -> None:
    _after("torch", "torch", lambda module: module.manual_seed(SEED))


def _entropy() -> None:
    """Give generators without a seed, and whoever asks the operating system for chance, the same in each process."""
    numbers = itertools.count()

    def drawn(size: int) -> bytes:
        return hashlib.shake_256(f"{SEED}-{next(numbers)}".encode()).digest(size)

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        real(self, int.from_bytes(drawn(16)) if a is None else a, version)

    real, urandom = random.Random.seed, os.urandom
    vars(os)["urandom"] = vars(random)["_urandom"] = drawn
    setattr(random.Random, "seed", seed)  # noqa: B010 - a class of Python, whose method is replaced
    vars(random)["seed"] = vars(random)["_inst"].seed

    def of_numpy(module: Any) -> None:
        module.seed(int.from_bytes(urandom(4)))  # the global generator, which nobody made without a seed: another change
        module.bit_generator.randbits = lambda bits: int.from_bytes(drawn((bits + 7) // 8)) >> -bits % 8

    def of_torch(module: Any) -> None:
        def torch_seed() -> int:
            number = int.from_bytes(drawn(8)) >> 1
            module.manual_seed(number)
            return number

        module.seed = module.random.seed = torch_seed

    _after("entropy", "numpy.random", of_numpy)
    _after("entropy", "torch", of_torch)


def _clock() -> None:
    """Let the script's time begin at the same moment in each process, and go on with each look at it."""
    ticks, real = itertools.count(), time.time_ns

    def time_ns() -> int:
        if str(sys._getframe(1).f_globals.get("__name__")).startswith("reprotui."):
            return real()  # a trace keeps the true time
        return BEGIN_NS + TICK_NS * next(ticks)

    def seconds() -> float:
        if str(sys._getframe(1).f_globals.get("__name__")).startswith("reprotui."):
            return real() / 1e9
        return (BEGIN_NS + TICK_NS * next(ticks)) / 1e9

    vars(time).update(time_ns=time_ns, time=seconds)


def _deterministic_torch() -> None:
    def switch(torch: Any) -> None:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True

    _after("deterministic-torch", "torch", switch)


def _one_thread_torch() -> None:
    """Keep torch to one thread, also where the script asks for more."""

    def switch(torch: Any) -> None:
        torch.set_num_threads(1)
        torch.set_num_threads = lambda number: None

    _after("one-thread", "torch", switch)


def _no_workers() -> None:
    """Let torch's loaders read in the script's own process."""

    def switch(data: Any) -> None:
        real = data.DataLoader.__init__
        signature = inspect.signature(real)

        @functools.wraps(real)
        def init(*args: Any, **kwargs: Any) -> None:
            given = signature.bind(*args, **kwargs)
            for name in ("prefetch_factor", "persistent_workers", "timeout", "multiprocessing_context"):
                given.arguments.pop(name, None)
            given.arguments["num_workers"] = 0
            real(*given.args, **given.kwargs)

        data.DataLoader.__init__ = init

    _after("no-workers", "torch.utils.data", switch)


def _no_donation() -> None:
    """Let no jitted function overwrite what it is given."""

    def switch(jax: Any) -> None:
        real = jax.jit

        @functools.wraps(real)
        def jit(*args: Any, **kwargs: Any) -> Any:
            return real(*args, **{name: value for name, value in kwargs.items() if not name.startswith("donate_arg")})

        jax.jit = jit

    _after("no-donation", "jax", switch)


ACTIONS: dict[str, Callable[[], None]] = {
    "entropy": _entropy, "python": _python, "numpy": _numpy, "torch": _torch, "clock": _clock,
    "deterministic-torch": _deterministic_torch, "one-thread": _one_thread_torch, "no-workers": _no_workers,
    "no-donation": _no_donation,
}  # fmt: skip
"""What each name of `Options.interventions` does, in the order in which it is done: what gives every generator chance of its own
comes before what seeds one of them. The plan of a diagnosis knows the same names."""
