"""How far two runs may be apart that are meant to differ a little: what `--tolerance` says, and which leaf it is about.

A limit is `ulp=4`, `abs=1e-6`, `rel=1e-5` or several with commas, for all that is computed, or behind a phase or the beginning of
a path for that alone: `params:rel=1e-3`. As everywhere, A is the reference: |a - b| <= abs + rel * |a|, or at most so many ulp.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reprotui.errors import BadInputError
from reprotui.trace import PHASES

TREES = ("params", "opt_state", "extra", "grads", "loss", "metrics", "batch", "rng")
"""Beginnings of paths that a limit can be given for; what goes deeper contains a slash."""
EXACT = "exact"
"""Takes back the tolerance that a race was started with."""
_GIVEN = ("batch", "rng")
"""What a step is given is not computed: a limit for all is none for that."""


@dataclass(frozen=True)
class Limit:
    """How far a number may be from the reference's; `place` is the phase or the beginning of a path it holds for, or empty."""

    text: str
    place: str = ""
    absolute: float = 0.0
    relative: float = 0.0
    ulp: int = 0

    def rank(self, phase: str, path: str) -> int:
        """Return how closely this limit is meant for a leaf: 0 not at all, more the longer what it names."""
        if not self.place:
            return 0 if phase in _GIVEN else 1
        if path == self.place or path.startswith(f"{self.place}/"):
            return 3 + len(self.place)
        return 2 if phase == self.place else 0


@dataclass(frozen=True)
class Tolerance:
    """Limits; of several that fit a leaf the closest one holds."""

    limits: tuple[Limit, ...]

    @property
    def text(self) -> str:
        """Return it as it was written."""
        return " ".join(limit.text for limit in self.limits)

    def limit(self, phase: str, path: str) -> Limit | None:
        """Return the limit of a leaf, None where it may be anything."""
        found = max(self.limits, key=lambda limit: limit.rank(phase, path))
        return found if found.rank(phase, path) else None


def parse_tolerance(texts: Sequence[str] | None) -> Tolerance | None:
    """Read what was given with `--tolerance`, once or several times; None where that is nothing, or `exact`.

    Raises:
        BadInputError: it is no tolerance, with what one looks like.
    """
    if not texts or list(texts) == [EXACT]:
        return None
    limits = tuple(map(_limit, texts))
    places = [limit.place for limit in limits]
    if twice := next((limit for limit in limits if places.count(limit.place) > 1), None):
        raise BadInputError(f"--tolerance {twice.text}: there are two of them for {twice.place or 'all'}; write one, with commas")
    return Tolerance(limits)


def _limit(text: str) -> Limit:
    place, colon, rest = text.rpartition(":")
    if colon and not ("/" in place or place in (*PHASES, *TREES)):
        raise _bad(text, f"{place!r} is no phase ({', '.join(PHASES)}) and no beginning of a path ({', '.join(TREES)}, params/…)")
    values: dict[str, float] = {}
    for item in rest.split(","):
        name, equals, number = item.partition("=")
        if name not in ("ulp", "abs", "rel") or not equals or name in values:
            raise _bad(text, f"{item!r} is not one of ulp=, abs=, rel=, each at most once")
        values[name] = _number(text, name, number)
    return Limit(text, place, values.get("abs", 0.0), values.get("rel", 0.0), int(values.get("ulp", 0)))


def _number(text: str, name: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        raise _bad(text, f"{number!r} is no number") from None
    if not math.isfinite(value) or value < 0 or (name == "ulp" and value != int(value)):
        raise _bad(text, f"{name}={number} is not {'a whole number' if name == 'ulp' else 'a finite number'} from 0 on")
    return value


def _bad(text: str, why: str) -> BadInputError:
    return BadInputError(f"--tolerance {text}: {why}; write ulp=4, or abs=1e-6,rel=1e-5, or params:rel=1e-3")
