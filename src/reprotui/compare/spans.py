"""Which phases of two traces differ at many steps at once: by root, and by leaf where they recorded other leaves."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprotui.compare.differences import OPTIONAL
from reprotui.compare.steps import Steps
from reprotui.trace import PHASES, LeafTable, Trace
from reprotui.trace.former import LANE_0, phases_as_in


def compare_span(
    a: Trace, b: Trace, tables: tuple[dict[int, bytes], dict[int, bytes]], first: int, last: int
) -> tuple[Steps, NDArray[np.uint8]]:
    """Return the steps from `first` to `last` that two traces recorded, and the bits of the phases that differ there.

    `tables` are the digests of the leaf tables of both.
    """
    (steps_a, roots_a), (steps_b, roots_b) = a.roots_between(first, last), b.roots_between(first, last)
    if a.former != b.former:
        roots_a, roots_b = roots_a & LANE_0, roots_b & LANE_0
    steps: Steps = steps_a
    at_a: Any = slice(None)
    at_b: Any = slice(None)
    # A range against an array would be compared element by element.
    if not (isinstance(steps_a, range) and isinstance(steps_b, range) and steps_a == steps_b):
        steps, at_a, at_b = np.intersect1d(steps_a, steps_b, assume_unique=True, return_indices=True)
    mask = np.zeros(len(steps), np.uint8)
    for index in range(len(PHASES)):
        mask |= (roots_a[at_a, index] != roots_b[at_b, index]).astype(np.uint8) << np.uint8(index)
    if tables[0] != tables[1] or len(tables[0]) > 1:
        versions = [trace.versions_between(first, last)[at] for trace, at in ((a, at_a), (b, at_b))]
        for version_a, version_b in np.unique(np.stack(versions, axis=1), axis=0).tolist():
            if tables[0][version_a] != tables[1][version_b]:
                here = (versions[0] == version_a) & (versions[1] == version_b)
                at = np.asarray(steps, np.int64)[here]
                mask[here] = _compare_by_leaf((a, b), (a.table(version_a), b.table(version_b)), at, mask[here])
    return steps, mask


def _compare_by_leaf(
    traces: tuple[Trace, Trace], tables: tuple[LeafTable, LeafTable], steps: NDArray[np.int64], mask: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the bits of steps at which two runs have other leaves, as `compare_traces` tells them; `mask` is by root."""
    one_update = [trace.one_update for trace in traces]
    mixed = one_update[0] != one_update[1]
    of_a, of_b = (phases_as_in(tables[at], tables[1 - at]) if mixed and one_update[at] else tables[at].phases for at in (0, 1))
    for index, phase in enumerate(PHASES):
        leaves_a, leaves_b = (
            {spec.path: (at, spec) for at, (own, spec) in enumerate(zip(phases, table.specs, strict=True)) if own == phase}
            for phases, table in zip((of_a, of_b), tables, strict=True)
        )
        bit = np.uint8(1 << index)
        looked_at = range(len(steps))
        if [spec for _, spec in leaves_a.values()] == [spec for _, spec in leaves_b.values()]:
            if not mixed:
                continue
            # Equal roots have equal leaves; others may be the one root of a whole update, where no leaves are stored.
            looked_at = np.flatnonzero(mask & bit).tolist()
        mask = mask & ~bit
        if not leaves_a or not leaves_b:
            continue  # a phase that one run alone records
        both = [path for path in leaves_a if path in leaves_b]
        alone = [path for path in {*leaves_a, *leaves_b}.difference(both) if not path.startswith(OPTIONAL)]
        if alone or any(leaves_a[path][1] != leaves_b[path][1] for path in both):
            mask = mask | bit
            continue
        at_a, at_b = ([leaves[path][0] for path in both] for leaves in (leaves_a, leaves_b))
        for number in looked_at:
            sums = [trace.leaf_checksums(int(steps[number])) for trace in traces]
            if sums[0] is not None and sums[1] is not None and (sums[0][at_a] != sums[1][at_b]).any():
                mask[number] |= bit
    return mask
