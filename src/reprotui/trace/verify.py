"""Verify a trace against itself: every row hangs in the chain, and every leaf row adds up to its roots."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import host_form
from reprotui.errors import CannotTellError
from reprotui.trace.phases import PHASE_INDEX, ROOT_BYTES
from reprotui.trace.reader import Trace
from reprotui.trace.records import GENESIS, LeafTable, next_chain

LEAF_ROWS = 1024
"""Leaf rows whose roots are computed at once: one by one, the calls of numpy cost more than the arithmetic."""


@dataclass(frozen=True)
class VerifiedTrace:
    """What verification found. `problem` is None where all holds; otherwise it names the first step that does not."""

    path: Path
    records: int
    last_step: int | None
    chain: str
    problem: str | None


def verify_trace(path: Path, seal: dict[str, Any] | None = None) -> VerifiedTrace:
    """Recompute chain and roots of a whole trace, and hold the end against the seal.

    Args:
        path: the trace.
        seal: the manifest's `seal`, None for a run that has none.

    Returns:
        The first problem: an edited, lost, inserted or reordered row, a leaf row that does not give its roots, an
        end that is not the sealed one, lost leaf rows. A lost tail or leaf row cannot be noticed without a seal; times,
        statistics and the readable loss and metrics are for the eye and not protected.
    """
    records, leaf_rows, last, chain = 0, 0, None, GENESIS

    def result(problem: str | None) -> VerifiedTrace:
        return VerifiedTrace(path, records, last, chain.hex(), problem)

    pending: list[tuple[int, bytes]] = []
    table: LeafTable | None = None
    try:
        with Trace(path) as trace:
            for row in trace.rows():
                if len(pending) == LEAF_ROWS or table is not trace.table(row.version):
                    if wrong := _first_wrong_leaf_row(trace, pending, table):
                        return result(wrong)
                    pending.clear()
                table = trace.table(row.version)
                chain = next_chain(chain, row.step, row.loss_bits, row.roots, table.digest)
                if chain != row.chain:
                    wrong = f"the chain breaks at step {row.step}: that row was edited, or rows before it were lost"
                    return result(_first_wrong_leaf_row(trace, pending, table) or wrong)
                pending.append((row.step, row.roots))
                records, last = records + 1, row.step
            if wrong := _first_wrong_leaf_row(trace, pending, table):
                return result(wrong)
            leaf_rows = trace.leaf_rows()
    except CannotTellError as error:
        return result(str(error))
    if seal and (seal["last_step"], seal["chain"]) != (last, chain.hex()):
        return result(f"the seal says step {seal['last_step']} and chain {seal['chain']}, the trace ends otherwise")
    if seal and seal.get("leaf_rows", leaf_rows) != leaf_rows:
        return result(f"the seal counts {seal['leaf_rows']} leaf rows, the trace holds {leaf_rows}: some were deleted")
    return result(None)


def _first_wrong_leaf_row(trace: Trace, rows: list[tuple[int, bytes]], table: LeafTable | None) -> str | None:
    """Hold the leaf checksums of some rows of one leaf table against their roots; say which step's do not fit."""
    if table is None or not rows:
        return None
    found = [(step, roots, leaves) for step, roots in rows if (leaves := trace.leaf_checksums(step)) is not None]
    wrong = [step for step, _, leaves in found if len(leaves) != len(table.specs)]
    whole = [item for item in found if len(item[2]) == len(table.specs)]
    if whole:
        checksums = np.stack([leaves for _, _, leaves in whole])
        computed = _roots(checksums, table)
        stored = np.frombuffer(b"".join(roots for _, roots, _ in whole), "<u8").reshape(computed.shape)
        wrong += [whole[index][0] for index in np.flatnonzero((computed != stored).any(axis=1))]
    return f"the leaf checksums of step {min(wrong)} do not give its roots: that row was edited" if wrong else None


def roots_of(leaf_checksums: bytes, table: LeafTable) -> bytes:
    """Return the roots of a record, 8 bytes a phase, from its leaf checksums in table order; zeros where they do not fit."""
    values = np.frombuffer(leaf_checksums, "<u8")
    fit = len(values) == len(table.specs)
    return _roots(values[None], table).astype("<u8").tobytes() if fit else bytes(ROOT_BYTES * len(PHASE_INDEX))


def _roots(checksums: NDArray[np.uint64], table: LeafTable) -> NDArray[np.uint64]:
    """Return the roots of many records, uint64[rows, phases], from uint64[rows, leaves]."""
    roots = np.zeros((len(checksums), len(PHASE_INDEX)), np.uint64)
    for phase, start, end in table.slices:
        roots[:, PHASE_INDEX[phase]] = host_form.roots(checksums[:, start:end])
    return roots
