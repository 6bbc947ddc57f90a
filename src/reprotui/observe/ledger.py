"""Where chance and outside data enter a script: which line of it asks, for what, and with which seed.

Said once for each place, the first time that it is reached: `train.py:10` `random.shuffle(data)` draws from a generator that
nothing seeded. What is asked goes on to whom it was asked of; nothing is drawn, and a seed is only looked at.
"""

import os
import sys
import sysconfig
from collections.abc import Callable, Collection
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from reprotui.chance import Chance
from reprotui.observe.called import UntoldError

PLACES = 500
"""Places that are told of in one run: a script has dozens."""
_OWN = str(Path(__file__).resolve().parent.parent) + os.sep
_OBSERVERS = str(Path(__file__).resolve().parent) + os.sep
_STANDARD = tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_PASSING = ("random", "secrets", "uuid")
"""Modules of Python that hand chance on to whom they are asked by; others need it for themselves, as for a temporary name."""


class Ledger:
    """The chance and the data of one process, place by place.

    `step` is asked how many steps were taken when a place is reached.
    """

    def __init__(self, step: Callable[[], int]) -> None:
        self._step = step
        self._process = os.getpid()
        self._known: dict[tuple[str, int, int], CodeType] = {}
        self._kinds: dict[str, str] = {}
        self.fresh: list[Chance] = []
        """What nobody has written down yet."""
        self.problem = ""
        """Why nothing is noted any more."""
        self.seeded: set[str] = set()
        """The global generators that were given a seed: `python`, `numpy`, `torch`."""
        self.torch_at_first: Any = None
        """The state of torch's generator when torch was imported."""
        self._told = 0
        self.busy = False
        """Whether something is being noted: what that opens or asks for is no business of the script."""

    def note(
        self, frame: FrameType | None, kind: str, source: str, value: Callable[[], str | None] | None = None,
        *, libraries: bool = True, through: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Note that something is asked for, where this place is reached for the first time.

        Args:
            frame: of who asks.
            kind: as in `Chance`.
            source: what was called.
            value: gives the seed, or what else is to be kept; called at the first time only.
            libraries: whether what a library asks for is told as the line of the script that called the library.
            through: modules of Python that ask for whoever calls them.
        """
        while frame is not None and frame.f_globals.get("__name__") in _PASSING:
            frame = frame.f_back
        if frame is None:
            return
        key = source, id(frame.f_code), frame.f_lasti
        if key in self._known or self.busy or self._told >= PLACES or os.getpid() != self._process:
            return
        self._known[key] = frame.f_code  # held, so that no other code gets its identity
        self.busy = True
        try:
            found = self._asking(frame, libraries, through)
            if found is not None:
                path, line = found.f_code.co_filename, found.f_lineno
                given = value() if value is not None else None
                texts = map(_writable, (source, _shown(path)))
                chance = Chance(self._step(), kind, *texts, line, _writable(_text(path, line)), given and _writable(given))
                self.fresh.append(chance)
                self._told += 1
        except UntoldError:
            pass  # what cannot be looked up is not told
        except Exception as error:  # the script that asks must not hear of it
            self.problem, self._told = f"{type(error).__name__}: {error}", PLACES
        finally:
            self.busy = False

    def _asking(self, frame: FrameType | None, libraries: bool, through: Collection[str]) -> FrameType | None:
        """Return the frame of the script that asks; None where Python or a library asks for itself."""
        asked_by_library = False
        while frame is not None:
            kind = self._kind(frame.f_code.co_filename)
            if kind == "script":
                return frame if libraries or not asked_by_library else None
            if kind == "own" or (kind == "python" and frame.f_globals.get("__name__") not in through):
                return None
            asked_by_library |= kind == "library"
            frame = frame.f_back
        return None

    def _kind(self, path: str) -> str:
        known = self._kinds.get(path)
        if known is None:
            known = self._kinds[path] = _kind(path)
        return known


def _kind(path: str) -> str:
    if path.startswith("<frozen"):
        return "python"
    real = os.path.realpath(path)
    if real == _main() and not real.startswith(_OBSERVERS):
        return "script"  # wherever it is installed
    if real.startswith(_OWN):
        return "own"
    if any(folder in real for folder in _INSTALLED):  # they may lie within the standard library's folder
        return "library"
    return "python" if real.startswith(_STANDARD) else "script"


def _main() -> str | None:
    """Return the file of the script that runs, None where it is none."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.realpath(file) if isinstance(file, str) else None


def _shown(path: str) -> str:
    """Return a path as it is told: relative to the working directory where it lies below it."""
    return os.path.relpath(path) if os.path.realpath(path).startswith(os.path.realpath(".") + os.sep) else path


def _writable(text: str) -> str:
    """Return a text as UTF-8 can hold it: names of files may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _text(path: str, line: int) -> str:
    import linecache

    return linecache.getline(path, line).strip()[:200]


def seed_text(value: Any) -> str | None:
    """Return a seed as text; of what is no plain value its type, because reading it could wait for a device."""
    if value is None:
        return None
    sequence = getattr(value, "seed_seq", value)  # of NumPy's bit generators
    if type(sequence).__name__ == "SeedSequence":
        return f"SeedSequence({getattr(sequence, 'entropy', '')})"
    if isinstance(value, str | bytes | int | float):
        return repr(value)[:100]
    if type(value).__module__ == "numpy" and getattr(value, "size", 0) <= 16:
        return str(value.tolist())
    return repr(value)[:100] if isinstance(value, tuple | list) else f"a {type(value).__name__}"
