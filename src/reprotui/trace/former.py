"""What stands in traces of former versions otherwise than now, and how it is read as what is written today.

Version 1 had one phase `update`, with one root, for what are `optimizer` and `params` now. Its leaves are those of today in the
same order, so both roots follow from the leaf checksums; where these were not stored, both are the one of the whole phase.

In traces of observed scripts and Recorders that were written before `ROOTS` was noted, the sum over lane 0 did not wrap: its
carry was put over lane 1 by OR. Such a root still follows from the leaf checksums alone, and a carry is known from them, so these
traces verify as what they are. Lane 0, the lower half, is right in them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import host_form, numpy_form
from reprotui.trace.phases import PHASES, ROOT_BYTES, UPDATE
from reprotui.trace.records import LeafTable, Record

ROOTS = "2"
"""What a trace's meta says of its roots when they are those of the definition, whoever recorded; former traces say nothing."""
LANE_0 = np.uint64(0xFFFFFFFF)
"""The half of a root that is the same in former traces: what can be compared where only one of two traces is one."""
SPLIT = ("optimizer", "params")
"""What phase `update` of version 1 is now."""
FORMER_PHASES = (*PHASES[:-2], UPDATE)
"""The phases of version 1, in the order of their roots."""
FORMER_ROOTS_BYTES = ROOT_BYTES * len(FORMER_PHASES)


def roots_of_rows(checksums: NDArray[np.uint64], table: LeafTable, phases: Sequence[str] = PHASES) -> NDArray[np.uint64]:
    """Return the roots of many records, uint64[rows, phases], from uint64[rows, leaves] of one leaf table."""
    roots = np.zeros((len(checksums), len(phases)), np.uint64)
    for phase, start, end in table.slices:
        roots[:, phases.index(phase)] = host_form.roots(checksums[:, start:end])
    return roots


def former_roots(checksums: NDArray[np.uint64], table: LeafTable, phases: Sequence[str] = FORMER_PHASES) -> NDArray[np.uint64]:
    """Return the roots of records with the carry over lane 1, uint64[rows, phases], from uint64[rows, leaves]."""
    roots = np.zeros((len(checksums), len(phases)), np.uint64)
    for phase, start, end in table.slices:
        own = checksums[:, start:end]
        roots[:, phases.index(phase)] = numpy_form.roots(own) | (numpy_form.root_sums(own)[0] & ~LANE_0)
    return roots


def may_be_equal(a: int, b: int) -> bool:
    """Say whether two roots, one of them in a trace with carries, can stem from the same leaves."""
    return (a ^ b) & int(LANE_0) == 0


def phases_now(phases: Sequence[str], paths: Sequence[str]) -> tuple[str, ...]:
    """Return the phases of the leaves of a table of version 1 as they are called now; the order of the leaves stays.

    What stands in `update` before the first parameter, or other state that was moved with it, is the optimizer's.
    """
    moved = False
    found = []
    for phase, path in zip(phases, paths, strict=True):
        moved = moved or (phase == UPDATE and path.startswith(("params/", "extra/")))
        found.append(SPLIT[moved] if phase == UPDATE else phase)
    return tuple(found)


def table_now(table: LeafTable) -> LeafTable:
    """Return a leaf table of version 1 with the phases of today."""
    return LeafTable(phases_now(table.phases, [spec.path for spec in table.specs]), table.specs)


def phases_as_in(table: LeafTable, other: LeafTable) -> tuple[str, ...]:
    """Return the phases of a table's leaves, those of an update where another table has the same paths: where one of two traces
    is of version 1, the other one knows better what was computed when."""
    known = {spec.path: phase for phase, spec in zip(other.phases, other.specs, strict=True)}
    return tuple(
        known.get(spec.path, phase) if phase in SPLIT else phase for phase, spec in zip(table.phases, table.specs, strict=True)
    )


def roots_now(roots: NDArray[np.uint64], table: LeafTable, checksums: NDArray[np.uint64] | None) -> NDArray[np.uint64]:
    """Return roots of version 1 as roots of today's phases, uint64[rows, phases].

    Args:
        roots: as they are stored, uint64[rows, 6].
        table: the leaf table of all these records, with the phases of today.
        checksums: uint64[rows, leaves], None where they were not stored: then both phases of an update have its one root.

    Raises:
        ValueError: leaf checksums do not give the root of the update.
    """
    found = np.zeros((len(roots), len(PHASES)), np.uint64)
    known = len(FORMER_PHASES) - 1
    found[:, :known] = roots[:, :known]
    bounds = {phase: (start, end) for phase, start, end in table.slices if phase in SPLIT}
    for phase, (start, end) in bounds.items():
        alone = len(bounds) == 1
        found[:, PHASES.index(phase)] = (
            roots[:, known] if alone or checksums is None else host_form.roots(checksums[:, start:end])
        )
    if checksums is not None and len(bounds) == 2:
        whole = checksums[:, bounds["optimizer"][0] : bounds["params"][1]]
        if ((host_form.roots(whole) ^ roots[:, known]) & LANE_0).any():
            raise ValueError("leaf checksums do not give the root of their update: one of them was edited")
    return found


def without_leaves(record: Record) -> bytes:
    """Return the roots that a record of today would have in a trace of version 1 that has no leaf checksums of it."""
    assert record.leaf_checksums is not None
    checksums = np.frombuffer(record.leaf_checksums, "<u8")[None]
    former = replace(record.table, phases=tuple(UPDATE if phase in SPLIT else phase for phase in record.table.phases))
    roots = roots_of_rows(checksums, former, FORMER_PHASES)
    return roots_now(roots, record.table, None).astype("<u8").tobytes()
