"""The places where chance and data come from, asked through a `Ledger`: Python's, NumPy's, jax's and torch's.

Everything passes on what it is given and returns what it gets. What a script imports before its first draw is what it keeps:
`from random import shuffle` is seen like `random.shuffle`.
"""

import builtins
import functools
import os
import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from reprotui.observe.called import seed_given
from reprotui.observe.files_read import Files
from reprotui.observe.hooks import after_import
from reprotui.observe.ledger import PLACES, Ledger, seed_text

_PYTHON_DRAWS = (
    "betavariate", "choice", "choices", "expovariate", "gammavariate", "gauss", "getrandbits", "lognormvariate",
    "normalvariate", "paretovariate", "randbytes", "randint", "random", "randrange", "sample", "shuffle", "triangular",
    "uniform", "vonmisesvariate", "weibullvariate", "binomialvariate",
)  # fmt: skip
_NUMPY_DRAWS = (
    "beta", "binomial", "bytes", "chisquare", "choice", "dirichlet", "exponential", "f", "gamma", "geometric", "gumbel",
    "hypergeometric", "laplace", "logistic", "lognormal", "logseries", "multinomial", "multivariate_normal",
    "negative_binomial", "noncentral_chisquare", "noncentral_f", "normal", "pareto", "permutation", "poisson", "power",
    "rand", "randint", "randn", "random", "random_integers", "random_sample", "ranf", "rayleigh", "sample", "shuffle",
    "standard_cauchy", "standard_exponential", "standard_gamma", "standard_normal", "standard_t", "triangular", "uniform",
    "vonmises", "wald", "weibull", "zipf",
)  # fmt: skip


def install(ledger: Ledger) -> None:
    """Note what is asked for in this process from now on."""
    _python(ledger)
    of_modules = {"numpy": _numpy, "jax": _jax, "torch": _torch, "torch.utils.data": _torch_data}
    for name, notice in of_modules.items():
        after_import(name, functools.partial(_safely, ledger, notice))
    for name in ("gymnasium", "gym"):
        after_import(f"{name}.utils.seeding", functools.partial(_safely, ledger, functools.partial(_environments, package=name)))
    if "PYTHONHASHSEED" not in os.environ and sys.flags.hash_randomization:
        _hashes(ledger)
    Files(ledger).watch()


def _safely(ledger: Ledger, notice: Callable[[Ledger, Any], None], module: Any) -> None:
    """Begin to note what a module is asked for; in another version of it, something may be missing: the import goes on."""
    try:
        notice(ledger, module)
    except Exception as error:
        ledger.problem = ledger.problem or f"{module.__name__}: {type(error).__name__}: {error}"


class _Generator:
    """A global generator: until something seeds it, each place that draws from it is noted."""

    def __init__(self, ledger: Ledger, module: Any, name: str, whose: str) -> None:
        self._ledger, self._module, self._name, self._whose = ledger, module, name, whose
        self._fixed = False

    def draws(self, names: tuple[str, ...]) -> None:
        for name in names:
            real = getattr(self._module, name, None)
            if real is not None:
                setattr(self._module, name, self._drawing(f"{self._name}.{name}", real))

    def seeds(self, name: str) -> None:
        setattr(self._module, name, self._seeding(f"{self._name}.{name}", getattr(self._module, name)))

    def states(self, name: str) -> None:
        """Note that a state is put back: it may be one that was saved; libraries put back an unseeded one too."""
        real = getattr(self._module, name)

        def put_back(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            self._fixed = True
            return result

        setattr(self._module, name, _like(put_back, real, self._module))

    def _drawing(self, source: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def draw(*args: Any, **kwargs: Any) -> Any:
            if not self._fixed:
                self._ledger.note(sys._getframe(1), "draw", source)
            return real(*args, **kwargs)

        return _like(draw, real, self._module)

    def _seeding(self, source: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def seed(*args: Any, **kwargs: Any) -> Any:
            given = next(iter(args), next(iter(kwargs.values()), None))
            self._ledger.note(sys._getframe(1), "seed", source, lambda: seed_text(given))
            result = real(*args, **kwargs)
            self._fixed = given is not None
            (self._ledger.seeded.add if self._fixed else self._ledger.seeded.discard)(self._whose)
            return result

        return _like(seed, real, self._module)


def _like(wrapper: Any, real: Callable[..., Any], module: Any) -> Callable[..., Any]:
    """Make a function look like the one that it passes on to; pickled, it is found by its name in the module."""
    functools.update_wrapper(wrapper, real)
    wrapper.__module__, wrapper.__qualname__ = module.__name__, wrapper.__name__
    return wrapper


def _noting(
    ledger: Ledger, module: Any, name: str, kind: str, source: str, argument: str | None = None,
    text: Callable[[Any], str | None] = seed_text,
) -> None:  # fmt: skip
    """Let a function of a module note its callers; the seed is its first argument, or the one of that name."""
    real = getattr(module, name, None)
    if real is None:
        return

    def noted(*args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get(argument or "")
        ledger.note(sys._getframe(1), kind, source, None if kind == "entropy" else lambda: text(given))
        return real(*args, **kwargs)

    setattr(module, name, _like(noted, real, module))


def _python(ledger: Ledger) -> None:
    generator = _Generator(ledger, random, "random", "python")
    generator.draws(_PYTHON_DRAWS)
    generator.seeds("seed")
    generator.states("setstate")
    seed = random.Random.seed

    @functools.wraps(seed)
    def seeded(self: random.Random, a: Any = None, version: int = 2) -> None:
        if not isinstance(self, random.SystemRandom):
            ledger.note(sys._getframe(1), "seed", "random.Random", lambda: seed_text(a), libraries=False)
        seed(self, a, version)

    setattr(random.Random, "seed", seeded)  # noqa: B010 - its signature is wider
    urandom = os.urandom

    @functools.wraps(urandom)
    def asked(size: int, /) -> bytes:
        ledger.note(sys._getframe(1), "entropy", "os.urandom", libraries=False)
        return urandom(size)

    vars(os)["urandom"] = vars(random)["_urandom"] = asked


def _numpy(ledger: Ledger, numpy: Any) -> None:
    generator = _Generator(ledger, numpy.random, "numpy.random", "numpy")
    generator.draws(_NUMPY_DRAWS)
    generator.seeds("seed")
    generator.states("set_state")
    drawn: dict[int, None] = {}

    def text(given: Any) -> str | None:
        sequence = getattr(given, "seed_seq", given)  # of a bit generator
        entropy = getattr(sequence, "entropy", None)
        return None if isinstance(entropy, int) and entropy in drawn else seed_text(given)

    _noting(ledger, numpy.random, "default_rng", "seed", "numpy.random.default_rng", "seed", text)
    # Every generator that is made without a seed asks for it here: SeedSequence(), PCG64(). RandomState(5) asks too, and is
    # given its seed afterwards, so what it was called with is looked up.
    bits = getattr(numpy.random.bit_generator, "randbits", None)
    if bits is None:
        return

    def asked(count: int) -> int:
        frame = sys._getframe(1)
        ledger.note(frame, "seed", "a generator of numpy.random", lambda: seed_text(seed_given(frame)))
        found = bits(count)
        if len(drawn) < PLACES:
            drawn[found] = None  # a sequence that has it was given no seed, and hands none on
        return found

    numpy.random.bit_generator.randbits = asked


def _jax(ledger: Ledger, jax: Any) -> None:
    for name in ("key", "PRNGKey"):
        _noting(ledger, jax.random, name, "seed", f"jax.random.{name}", "seed")


def _torch(ledger: Ledger, torch: Any) -> None:
    """Note the seeds of torch's generator, which has a state from the start, another one in each process."""
    ledger.torch_at_first = torch.get_rng_state()
    generator = _Generator(ledger, torch, "torch", "torch")
    for name in ("manual_seed", "seed"):  # of torch.seed() that is none
        same = getattr(torch.random, name, None) is getattr(torch, name)
        generator.seeds(name)
        if same:
            setattr(torch.random, name, getattr(torch, name))


def _torch_data(ledger: Ledger, data: Any) -> None:
    """Note the seed of the `torch.Generator` that a split or a sampler draws from; `torch.Generator` is a class of C."""
    data.random_split = _drawing_from(ledger, data.random_split, "torch.utils.data.random_split")
    for name in ("RandomSampler", "SubsetRandomSampler", "WeightedRandomSampler"):
        sampler = getattr(data, name)
        sampler.__init__ = _drawing_from(ledger, sampler.__init__, f"torch.utils.data.{name}")


def _drawing_from(ledger: Ledger, real: Callable[..., Any], source: str) -> Callable[..., Any]:
    @functools.wraps(real)
    def noted(*args: Any, **kwargs: Any) -> Any:
        generator = next((given for given in (*args, *kwargs.values()) if type(given).__name__ == "Generator"), None)
        if generator is not None:
            ledger.note(sys._getframe(1), "seed", source, lambda: str(generator.initial_seed()))
        return real(*args, **kwargs)

    return noted


def _environments(ledger: Ledger, seeding: Any, package: str) -> None:
    """Note the seeds of environments and spaces: `env.reset()` without one takes the operating system's chance."""
    real = getattr(seeding, "np_random", None)
    if real is None:
        return

    @functools.wraps(real)
    def np_random(seed: int | None = None) -> Any:
        asking = "a generator"
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            asking = {"reset": "env.reset()", "sample": "space.sample()"}.get(frame.f_code.co_name, asking)
            frame = frame.f_back
        ledger.note(
            sys._getframe(1), "seed", f"{package}'s {asking}" if asking == "a generator" else asking, lambda: seed_text(seed)
        )
        busy, ledger.busy = ledger.busy, True  # what it asks NumPy for is the same seed
        try:
            return real(seed)
        finally:
            ledger.busy = busy

    seeding.np_random = np_random


def _hashes(ledger: Ledger) -> None:
    real = builtins.hash

    @functools.wraps(real)
    def hashed(value: Any, /) -> int:
        kind = type(value)
        if kind is str or kind is bytes:
            ledger.note(sys._getframe(1), "hash", f"hash({kind.__name__})", libraries=False)
        return real(value)

    vars(builtins)["hash"] = hashed
