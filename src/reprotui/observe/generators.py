"""The states of the global generators of Python, NumPy and torch, as leaves of a step's record: they tell when streams part.

A state is recorded from the moment on that something seeded its generator: it is meant to be the same then. One that nothing
seeded is another in every process from the start, whether or not anything draws from it, and says nothing. torch's own is an
input of what a torch script computes (dropout), and is recorded from its first number on.

The states are read where they lie: asking Python for its state makes 625 objects, 10 us, and NumPy 30 us.
"""

import ctypes
import hashlib
import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from reprotui.chance import TORCH
from reprotui.observe.ledger import Ledger

if TYPE_CHECKING:
    import numpy as np

    from reprotui.record.assembly import Assembly, Part

WORDS = 625
"""A Mersenne Twister: 624 words and its position."""
Named = list[tuple[tuple[str, str], Any]]


class Generators:
    """The global generators of this process that something seeded."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._python: Callable[[], Any] | None = None
        self._numpy: Callable[[], Any] | None = None
        self._numpy_of: Any = None
        self._torch_moved = False
        self.problem = ""

    def leaves(self, torch_computes: bool = False) -> Named:
        """Return ((phase, path), state) of each; `torch_computes` where torch's is an input of the step."""
        if self.problem:
            return []
        found: Named = []
        try:
            if "python" in self._ledger.seeded:
                self._python = self._python or _python()
                found.append((("rng", "rng/python"), self._python()))
            if "numpy" in self._ledger.seeded:
                found.append((("rng", "rng/numpy"), self._of_numpy()))
            if "torch" in self._ledger.seeded or (torch_computes and self._moved()):
                torch = sys.modules["torch"]
                found.append((("rng", "rng/torch"), torch.get_rng_state()))
                if torch_computes and torch.cuda.is_available() and torch.cuda.is_initialized():
                    found.append((("rng", "rng/cuda"), torch.cuda.get_rng_state()))
        except Exception as error:  # the script must not hear of it, and its steps are recorded all the same
            self.problem = f"{type(error).__name__}: {error}"
            self._ledger.problem = self._ledger.problem or f"states of generators: {self.problem}"
        return found

    def part(self, assembly: "Assembly") -> "Part | None":
        """Take the states now, as a part of a record; None where nothing seeded a generator."""
        found = self.leaves()
        return assembly.part(tuple(name for name, _ in found), [state for _, state in found]) if found else None

    def _of_numpy(self) -> Any:
        generator = sys.modules["numpy.random"].mtrand._rand._bit_generator
        if generator is not self._numpy_of:
            self._numpy_of, self._numpy = generator, _numpy(generator)
        assert self._numpy is not None
        return self._numpy()

    def _moved(self) -> bool:
        """Say whether something drew from torch's generator since torch was imported; note the first line that shows it."""
        if not self._torch_moved:
            torch, first = sys.modules["torch"], self._ledger.torch_at_first
            self._torch_moved = first is None or not torch.equal(torch.get_rng_state(), first)
            if self._torch_moved:
                self._ledger.note(_outside(sys._getframe()), "draw", TORCH)
        return self._torch_moved


def _outside(frame: FrameType | None) -> FrameType | None:
    """Return the first frame that is none of reprotui's."""
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("reprotui."):
        frame = frame.f_back
    return frame


def _python() -> Callable[[], Any]:
    """Return what gives the state of Python's generator: read in its memory, where that is what it is in CPython."""
    import numpy as np

    generator = getattr(random, "_inst")  # noqa: B009 - no public name
    words = _words(id(generator) + object.__basicsize__)

    def asked() -> "np.ndarray":
        *state, position = random.getstate()[1]
        return np.array([position, *state], np.uint32)

    return (lambda: words) if np.array_equal(words, asked()) else asked


def _numpy(generator: Any) -> Callable[[], Any]:
    """Return what gives the state of NumPy's bit generator; of another than the usual one a digest."""
    import numpy as np

    if type(generator).__name__ == "MT19937":
        words, state = _words(generator.ctypes.state_address), generator.state["state"]
        if np.array_equal(words, [*state["key"], state["pos"]]):
            return lambda: words
    return lambda: np.frombuffer(hashlib.sha256(repr(generator.state).encode()).digest(), np.uint32)


def _words(address: int) -> "np.ndarray":
    import numpy as np

    return np.ctypeslib.as_array((ctypes.c_uint32 * WORDS).from_address(address))
