"""Which leaves of a run's records hold NaN or infinity, and which of these mean that the training is broken.

A row of the trace holds from its step on until the next one: what broke stays so, and a million such records are one row.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reprotui.trace.records import LeafTable

_GIVEN = ("batch", "rng")
"""Phases that a program is given: a mask of minus infinity in its data is meant, and what it breaks shows in the loss."""
_MAY_BEGIN_SO = ("opt_state/", "extra/")
"""Trees whose leaves may hold infinity from the start: the best loss so far, a mask among the buffers. So may single numbers
wherever they lie: solvers hand on the last error beside what they solve for."""


@dataclass(frozen=True, slots=True)
class NotFiniteRow:
    """The leaves, by their place in the leaf table, that hold what is not finite from this record on; none: all are finite."""

    step: int
    table: LeafTable
    leaves: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spell:
    """From this record on until the next one: leaves that are broken, and those that are meant to hold what is not finite.

    `broken` are places (`forward/loss`) in causal order, `phases` theirs; `meant` are paths.
    """

    step: int
    phases: tuple[str, ...]
    broken: tuple[str, ...]
    meant: tuple[str, ...]


def packed(not_finite: np.ndarray) -> bytes:
    """Return bool[leaves] as the trace keeps it: the places of those that are set, as little-endian uint32."""
    return np.flatnonzero(not_finite).astype("<u4").tobytes()


def unpacked(leaves: bytes) -> tuple[int, ...]:
    """Return the places that `packed` wrote; raises ValueError where it wrote no such bytes."""
    return tuple(np.frombuffer(leaves, "<u4").tolist())


class Judge:
    """Tell leaves that are broken from those that are meant so; is shown the rows of one run in their order."""

    def __init__(self) -> None:
        self._from_the_start: frozenset[str] = frozenset()

    def spell(self, row: NotFiniteRow) -> Spell:
        """Return what holds from a row on."""
        found = [(row.table.phases[at], row.table.specs[at].path) for at in row.leaves]
        paths = {path for _, path in found}
        if row.step == 0:
            single = {row.table.specs[at].path for at in row.leaves if not row.table.specs[at].shape}
            self._from_the_start = frozenset(path for path in paths if path in single or path.startswith(_MAY_BEGIN_SO))
        # What was finite in between is no start value any longer.
        self._from_the_start &= paths
        broken = [place for place in found if place[0] not in _GIVEN and place[1] not in self._from_the_start]
        meant = dict.fromkeys(path for phase, path in found if (phase, path) not in broken)
        phases = dict.fromkeys(phase for phase, _ in broken)
        return Spell(row.step, tuple(phases), tuple(named(*place) for place in broken), tuple(meant))


def spells(rows: Iterable[NotFiniteRow]) -> Iterator[Spell]:
    """Judge all rows of a run."""
    return map(Judge().spell, rows)


def named(phase: str, path: str) -> str:
    """Return what a leaf is called where its phase matters: `forward/loss`, `grads/w`, `update/params/w`."""
    return path if path.startswith(f"{phase}/") else f"{phase}/{path}"


def first_and_then(places: Sequence[str]) -> str:
    """Return the first places of a step in causal order: what broke first, and what it went on into."""
    more = f" and {len(places) - 2} more" if len(places) > 2 else ""
    return f"first {places[0]}" + (f", then {places[1]}{more}" if len(places) > 1 else "")
