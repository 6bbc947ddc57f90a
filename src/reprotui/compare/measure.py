"""Measure how far two runs are apart, step by step, against a tolerance: losses, norms, and states that were replayed.

Checksums tell equal from different and nothing else. The loss is recorded as a number at every step; norms and maxima where
statistics were taken, and they are a lower bound: leaves whose norms are too far apart are, leaves whose norms agree may be too.
All elements are known where a state was replayed in both runs.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import LeafSpec
from reprotui.compare.distance import Apart, Distance, Exceeded
from reprotui.compare.evidence import listed
from reprotui.compare.tolerance import Limit, Tolerance
from reprotui.errors import CannotTellError
from reprotui.integrity.elements import is_float, ulp_distance
from reprotui.trace import Trace, joined
from reprotui.trace.not_finite import named

NORM_NOISE = 1e-5
"""Norms are float32 sums, each with rounding of its own: a relative distance below this says nothing."""
POINTS = 8
"""Steps at which the growth of the distance is told: the first that differs, the last, and between them ever further apart."""


class ExactLeaf(NamedTuple):
    """A leaf whose elements are known in both runs."""

    step: int
    phase: str
    path: str
    a: NDArray[Any]
    b: NDArray[Any]


class _Measured(NamedTuple):
    """One place at some steps: distances, and which of them are beyond the limit."""

    place: str
    what: str
    limit: Limit
    steps: NDArray[np.int64]
    absolute: NDArray[np.float64]
    relative: NDArray[np.float64]
    ulp: NDArray[np.float64] | None
    beyond: NDArray[np.bool_]

    @property
    def first(self) -> Exceeded | None:
        if not self.beyond.any():
            return None
        at = int(np.argmax(self.beyond))
        units = None if self.ulp is None or not np.isfinite(self.ulp[at]) else int(self.ulp[at])
        apart = float(self.absolute[at]), float(self.relative[at])
        return Exceeded(int(self.steps[at]), self.place, self.what, *apart, units, self.limit.text)


def measure(a: Trace, b: Trace, tolerance: Tolerance, exact: Iterable[ExactLeaf] = (), unfinished: str = "") -> Distance:
    """Measure how far two runs are apart.

    Args:
        a, b: their traces.
        tolerance: what is allowed.
        exact: leaves whose elements are known, in the order of their steps.
        unfinished: why the runs have no common end, in words: then nothing is within for good.
    """
    measured = list(_numbers(a, b, tolerance))
    norms = list(_norms(a, b, tolerance))
    elements = [_elements(leaf, limit) for leaf in exact if (limit := tolerance.limit(leaf.phase, leaf.path)) is not None]
    every = [*measured, *norms, *elements]
    found = [item.first for item in every]
    exceeded = min((item for item in found if item is not None), key=lambda item: item.step, default=None)
    untold = [limit for limit in tolerance.limits if not any(item.limit is limit for item in every)]
    reason = unfinished
    if untold:
        what = listed([limit.place or "them" for limit in untold], "and")
        reason = (
            f"nothing was recorded that tells how far {what} are apart: record the loss, norms with --stats-every 1, or replay a "
            "step of both"
        )
    kind: Literal["within", "exceeded", "cannot tell"] = "exceeded" if exceeded else "cannot tell" if reason else "within"
    through = max((int(item.steps[-1]) for item in every if len(item.steps)), default=None)
    reason = "" if exceeded else reason
    return Distance(
        tolerance.text, kind, exceeded, through, _rests_on(measured, norms, elements), _growth(measured, norms), reason
    )


def _rests_on(numbers: Sequence[_Measured], norms: Sequence[_Measured], elements: Sequence[_Measured]) -> tuple[str, ...]:
    told = [f"{item.place} at {len(item.steps):,} steps" for item in numbers]
    if norms:
        steps = np.unique(np.concatenate([item.steps for item in norms]))
        leaves = len({item.place for item in norms})
        where = f"at {len(steps):,} steps, through step {steps[-1]:,}"
        told.append(f"norms and maxima of {leaves:,} leaves {where}: single elements may be further apart")
    if elements:
        steps = sorted({int(item.steps[0]) for item in elements})
        told.append(f"all elements at step {', '.join(map(str, steps))}, replayed")
    return tuple(told)


def _growth(numbers: Sequence[_Measured], norms: Sequence[_Measured]) -> tuple[Apart, ...]:
    """Return how the distance of the loss grows, and of the leaf whose norm or maximum was furthest apart."""
    chosen = list(numbers[:1])
    if norms:
        chosen.append(max(norms, key=lambda item: float(item.relative.max())))
    points = []
    for item in chosen:
        differing = np.flatnonzero(item.relative > 0)
        if len(differing):
            # It goes up and down with each step; what grows is the largest so far.
            at = np.unique(np.geomspace(differing[0] + 1, len(item.steps), POINTS).round().astype(int) - 1)
            largest = np.maximum.accumulate(item.relative)
            at = [place for number, place in enumerate(at) if not number or largest[place] > largest[at[number - 1]]]
            points += [Apart(int(item.steps[i]), item.place, item.what, float(largest[i])) for i in at]
    return tuple(points)


def _numbers(a: Trace, b: Trace, tolerance: Tolerance) -> Iterator[_Measured]:
    """Measure the loss, which is a number at every step."""
    limit = tolerance.limit("forward", "loss")
    if limit is None:
        return
    query = (
        "SELECT a.step, a.loss, b.loss, a.version, b.version FROM main.steps AS a JOIN other.steps AS b USING (step) "
        "WHERE a.loss_bits IS NOT NULL AND b.loss_bits IS NOT NULL ORDER BY a.step"
    )
    with joined(a, b) as connection:
        found = connection.execute(query).fetchall()
    if found:
        specs = [_spec(trace, found[0][3 + number], "loss") for number, trace in enumerate((a, b))]
        # SQLite keeps a NaN as NULL.
        values = [
            np.array([np.nan if row[1 + number] is None else row[1 + number] for row in found]).astype(
                _numpy(specs[number].dtype)
            )
            for number in (0, 1)
        ]
        yield _compared("forward/loss", "value", limit, np.array([row[0] for row in found], np.int64), *values)


def _norms(a: Trace, b: Trace, tolerance: Tolerance) -> Iterator[_Measured]:
    """Measure norms and maxima of the leaves that both runs have in one shape, where both took them."""
    query = (
        "SELECT x.step, s.version, t.version, x.blob, y.blob FROM main.leaf_stats AS x JOIN other.leaf_stats AS y USING (step) "
        "JOIN main.steps AS s USING (step) JOIN other.steps AS t USING (step) ORDER BY x.step"
    )
    with joined(a, b) as connection:
        found = connection.execute(query).fetchall()
    for (version_a, version_b), rows in itertools.groupby(found, lambda row: row[1:3]):
        steps, *blobs = zip(*((row[0], row[3], row[4]) for row in rows), strict=True)
        tables = a.table(version_a), b.table(version_b)
        values = []
        for table, parts in zip(tables, blobs, strict=True):
            if {len(part) for part in parts} != {8 * len(table.specs)}:
                raise CannotTellError(f"{a.path} or {b.path} is damaged: norms and maxima lost their form")
            values.append(np.frombuffer(b"".join(parts), "<f4").reshape(len(steps), -1, 2).astype(np.float64))
        of_b = {(phase, spec.path): at for at, (phase, spec) in enumerate(zip(tables[1].phases, tables[1].specs, strict=True))}
        for at, (phase, spec) in enumerate(zip(tables[0].phases, tables[0].specs, strict=True)):
            limit, other = tolerance.limit(phase, spec.path), of_b.get((phase, spec.path))
            if spec.path == "loss":
                continue  # a number of its own, at every step
            if limit is not None and other is not None and tables[1].specs[other].shape == spec.shape:
                pair = values[0][:, at], values[1][:, other]
                yield from _of_leaf(
                    named(phase, spec.path), limit, np.array(steps, np.int64), (spec, tables[1].specs[other]), pair
                )


def _of_leaf(
    place: str, limit: Limit, steps: NDArray[np.int64], specs: tuple[LeafSpec, LeafSpec], pair: tuple[NDArray[Any], NDArray[Any]]
) -> Iterator[_Measured]:
    """Measure norm and maximum of one leaf: what no elements within the limit could give is beyond it."""
    absolute, relative = _allowed(limit, *(spec.dtype for spec in specs))
    size = math.prod(specs[0].shape)
    for what, column, room, noise in (
        ("norm", 0, absolute * math.sqrt(size), NORM_NOISE),
        ("largest number", 1, absolute, 0.0),
    ):
        a, b = (values[:, column] for values in pair)
        apart, of_size, both = _apart(a, b)
        scale = np.where(both, np.fmax(a, b), 0)
        yield _Measured(place, what, limit, steps, apart, of_size, None, apart > room + (relative + noise) * scale)


def _elements(leaf: ExactLeaf, limit: Limit) -> _Measured:
    """Measure all elements of a leaf: the one that is furthest beyond the limit, or furthest apart."""
    a, b = (array.view(array.real.dtype) if array.dtype.kind == "c" else array for array in (leaf.a, leaf.b))
    whole = _compared(named(leaf.phase, leaf.path), "element", limit, np.full(a.size, leaf.step), a, b)
    if not a.size:
        return whole
    at = int(np.lexsort((whole.relative, whole.beyond))[-1])
    ulp = None if whole.ulp is None else whole.ulp[at : at + 1]
    return whole._replace(
        steps=whole.steps[:1], absolute=whole.absolute[at : at + 1], relative=whole.relative[at : at + 1], ulp=ulp,
        beyond=whole.beyond[at : at + 1],
    )  # fmt: skip


def _compared(place: str, what: str, limit: Limit, steps: NDArray[Any], a: NDArray[Any], b: NDArray[Any]) -> _Measured:
    """Compare numbers with their references."""
    coarser = max((a, b), key=lambda array: _epsilon(array.dtype)).dtype
    a, b = a.reshape(-1), b.reshape(-1)
    absolute, relative, both = _apart(a.astype(np.float64), b.astype(np.float64))
    ulp = None
    if is_float(coarser):
        with np.errstate(over="ignore"):
            ulp = np.where(both, ulp_distance(a.astype(coarser), b.astype(coarser)).astype(np.float64), absolute)
    with np.errstate(invalid="ignore"):
        beyond = ~(absolute <= limit.absolute + limit.relative * np.abs(np.where(both, a.astype(np.float64), 0)))
    if ulp is not None:
        beyond &= ulp > limit.ulp
    return _Measured(place, what, limit, steps, absolute, relative, ulp, beyond)


def _apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return distances, the same relative to the reference's size, and where both are finite; NaN is as far from a number as it
    can be, and not from NaN: that both are broken is said elsewhere. From a reference of 0, every distance is the whole size."""
    both = np.isfinite(a) & np.isfinite(b)
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        absolute = np.where(alike, 0.0, np.where(both, np.abs(a - b), np.inf))
        scale = np.where(a == 0, np.abs(b), np.abs(a))
        relative = np.where(alike, 0.0, np.where(both, absolute / scale, np.inf))
    return absolute, relative, both


def _allowed(limit: Limit, dtype_a: str, dtype_b: str) -> tuple[float, float]:
    """Return how far an element may be, absolutely and relative to its size, in the coarser of two types."""
    import ml_dtypes  # 4 MB, and only for a tolerance

    types = [_numpy(dtype_a), _numpy(dtype_b)]
    coarser = max(types, key=_epsilon)
    smallest = float(ml_dtypes.finfo(coarser).smallest_subnormal) if _epsilon(coarser) else 0.0
    return max(limit.absolute, limit.ulp * smallest), max(limit.relative, limit.ulp * _epsilon(coarser))


def _epsilon(dtype: np.dtype) -> float:
    """Return the distance of 1 and the next number of a type; 0 for whole numbers."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps) if is_float(dtype) or dtype.kind == "c" else 0.0


def _numpy(name: str) -> np.dtype:
    """Return the type of a name in a leaf table; keys are whole numbers."""
    import ml_dtypes

    return np.dtype("uint32" if name.startswith("key<") else getattr(ml_dtypes, name, name))


def _spec(trace: Trace, version: int, path: str) -> LeafSpec:
    return next((spec for spec in trace.table(version).specs if spec.path == path), LeafSpec(path, "float64", ()))
