"""Verify a trace against itself: every row hangs in the chain, and every leaf row adds up to its roots."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.checksum import numpy_form
from reprotui.errors import CannotTellError
from reprotui.trace.phases import PHASE_INDEX, ROOT_BYTES, ROOTS_BYTES
from reprotui.trace.reader import Trace
from reprotui.trace.records import GENESIS, LeafTable, next_chain


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

    try:
        with Trace(path) as trace:
            for row in trace.rows():
                table = trace.table(row.version)
                chain = next_chain(chain, row.step, row.loss_bits, row.roots, table.digest)
                if chain != row.chain:
                    return result(f"the chain breaks at step {row.step}: that row was edited, or rows before it were lost")
                leaves = trace.leaf_checksums(row.step)
                if leaves is not None and roots_of(leaves.tobytes(), table) != row.roots:
                    return result(f"the leaf checksums of step {row.step} do not give its roots: that row was edited")
                records, leaf_rows, last = records + 1, leaf_rows + (leaves is not None), row.step
    except CannotTellError as error:
        return result(str(error))
    if seal and (seal["last_step"], seal["chain"]) != (last, chain.hex()):
        return result(f"the seal says step {seal['last_step']} and chain {seal['chain']}, the trace ends otherwise")
    if seal and seal.get("leaf_rows", leaf_rows) != leaf_rows:
        return result(f"the seal counts {seal['leaf_rows']} leaf rows, the trace holds {leaf_rows}: some were deleted")
    return result(None)


def roots_of(leaf_checksums: bytes, table: LeafTable) -> bytes:
    """Return the roots of a record, 8 bytes a phase, from its leaf checksums in table order."""
    import numpy as np

    values = np.frombuffer(leaf_checksums, "<u8")
    roots = bytearray(ROOTS_BYTES)
    if len(values) != len(table.specs):
        return bytes(roots)
    for phase, start, end in table.slices:
        at = PHASE_INDEX[phase] * ROOT_BYTES
        roots[at : at + ROOT_BYTES] = numpy_form.root(values[start:end]).to_bytes(ROOT_BYTES, "little")
    return bytes(roots)
