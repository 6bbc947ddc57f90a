"""Roots as they stand in traces of observed scripts and Recorders that were written before `ROOTS` was noted in traces.

Their sum over lane 0 did not wrap: its carry was put over lane 1 by OR. Such a root still follows from the leaf checksums alone,
and a carry is known from them, so these traces verify as what they are. Lane 0, the lower half, is right in them.
"""

import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import numpy_form
from reprotui.trace.phases import PHASE_INDEX
from reprotui.trace.records import LeafTable

ROOTS = "2"
"""What a trace's meta says of its roots when they are those of the definition, whoever recorded; former traces say nothing."""
LANE_0 = np.uint64(0xFFFFFFFF)
"""The half of a root that is the same in former traces: what can be compared where only one of two traces is one."""


def former_roots(checksums: NDArray[np.uint64], table: LeafTable) -> NDArray[np.uint64]:
    """Return the roots of records as former traces have them, uint64[rows, phases], from uint64[rows, leaves]."""
    roots = np.zeros((len(checksums), len(PHASE_INDEX)), np.uint64)
    for phase, start, end in table.slices:
        own = checksums[:, start:end]
        roots[:, PHASE_INDEX[phase]] = numpy_form.roots(own) | (numpy_form.root_sums(own)[0] & ~LANE_0)
    return roots


def may_be_equal(a: bytes, b: bytes) -> bool:
    """Say whether two roots, one of them in a former trace, can stem from the same leaves."""
    return a[:4] == b[:4]
