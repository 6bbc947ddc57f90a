"""Verify a trace against itself: every row hangs in the chain, and every leaf row adds up to its roots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reprotui.errors import CannotTellError
from reprotui.trace.former import FORMER_PHASES, former_roots, roots_of_rows
from reprotui.trace.metrics import other_metric
from reprotui.trace.phases import PHASES, ROOT_BYTES
from reprotui.trace.reader import Trace
from reprotui.trace.records import GENESIS, LeafTable, next_chain
from reprotui.trace.rows import SCALARS, StepRow, loss_of_bits

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


def verify_trace(
    path: Path, seal: Mapping[str, Any] | None = None, progress: Callable[[int], object] | None = None
) -> VerifiedTrace:
    """Recompute chain and roots of a whole trace, and hold the end against the seal.

    Args:
        path: the trace.
        seal: the manifest's `seal`, None for a run that has none.
        progress: called with the records that were found to fit, now and then; what it raises ends the verification.

    Returns:
        The first problem: an edited, lost, inserted or reordered row, a leaf row that does not give its roots, an
        end that is not the sealed one, lost leaf rows, a page that SQLite cannot read or that is out of its place, bytes
        behind the last page. The roots of a former trace (`Trace.former`) may be those that reprotui computed then. A lost
        tail or leaf row cannot be noticed without a seal; times and statistics are for the eye and not protected; the
        readable loss must be what its bits say, and a readable metric what its leaf's checksum says.
    """
    found = Fitting()

    def result(problem: str | None) -> VerifiedTrace:
        return VerifiedTrace(path, found.records, found.last_step, found.chain.hex(), problem)

    try:
        with Trace(path) as trace:
            fit(trace, found, progress=progress)
            if seal and (seal["last_step"], seal["chain"]) != (found.last_step, found.chain.hex()):
                return result(f"the seal says step {seal['last_step']} and chain {seal['chain']}, the trace ends otherwise")
            if seal and (counted := seal.get("leaf_rows", found.leaf_rows)) != found.leaf_rows:
                return result(f"the seal counts {counted} leaf rows, the trace holds {found.leaf_rows}: some were deleted")
            if seal and found.stray:
                return result(f"{found.stray} leaf rows stand behind the last record: they were added")
            for version in trace.tables():
                trace.table(version)
            trace.check_structure(sealed=bool(seal))
    except CannotTellError as error:
        return result(str(error))
    return result(None)


@dataclass
class Fitting:
    """How far a trace was read and found to fit, and the leaf tables in use there by version."""

    records: int = 0
    leaf_rows: int = 0
    stray: int = 0
    """Leaf rows behind the last record."""
    last_step: int | None = None
    chain: bytes = GENESIS
    tables: dict[int, LeafTable] = field(default_factory=dict)


def fit(trace: Trace, found: Fitting, through: int | None = None, progress: Callable[[int], object] | None = None) -> None:
    """Read every record and every leaf row, one after the other as they lie there, and count those that fit.

    Args:
        trace: the trace.
        found: filled on the way.
        through: the last step of interest; None reads all.
        progress: called with the records that fit, whenever some were counted.

    Raises:
        CannotTellError: with the first record or leaf row that does not fit, or cannot be read.
    """
    leaf_rows = trace.leaf_rows()
    ahead = next(leaf_rows, None)
    chain, pending = found.chain, _Pending(found, trace.former, FORMER_PHASES if trace.one_update else PHASES)
    for row in trace.stored_rows():
        if through is not None and row.step > through:
            break
        table = found.tables.get(row.version) or trace.written_table(row.version)
        chain = next_chain(chain, row.step, row.loss_bits, row.roots, table.digest)
        if chain != row.chain:
            pending.settle()
            raise CannotTellError(f"the chain breaks at step {row.step}: that row was edited, or rows before it were lost")
        found.tables[row.version] = table
        if ahead is not None and ahead[0] < row.step:
            pending.settle()
            raise CannotTellError(f"there are leaf checksums of step {ahead[0]}, which was not recorded: that row was added")
        leaves = None
        if ahead is not None and ahead[0] == row.step:
            leaves, ahead = ahead[1], next(leaf_rows, None)
        before = found.records
        pending.add(row, table, leaves)
        if progress is not None and found.records != before:
            progress(found.records)
    pending.settle()
    while ahead is not None and (through is None or ahead[0] <= through):
        found.stray, ahead = found.stray + 1, next(leaf_rows, None)


class _Pending:
    """Records of one leaf table whose leaf rows are held against their roots together."""

    def __init__(self, found: Fitting, former: bool, phases: Sequence[str]) -> None:
        self._found, self._former, self._phases = found, former, phases
        self._table: LeafTable | None = None
        self._rows: list[tuple[StepRow, NDArray[np.uint64] | None]] = []

    def add(self, row: StepRow, table: LeafTable, leaves: NDArray[np.uint64] | None) -> None:
        if len(self._rows) == LEAF_ROWS or table is not self._table:
            self.settle()
        self._table = table
        self._rows.append((row, leaves))

    def settle(self) -> None:
        """Count those that fit; raises CannotTellError for the first that does not."""
        if self._table is None or not self._rows:
            return
        rows = [(row.step, row.roots, leaves) for row, leaves in self._rows if leaves is not None]
        if wrong := _first_wrong_leaf_row(rows, self._table, self._former, self._phases):
            raise CannotTellError(wrong)
        last, _ = self._rows[-1]
        for row, _ in self._rows:
            if wrong := _other_loss(row, self._table):
                raise CannotTellError(wrong)
        if wrong := other_metric([(row, leaves) for row, leaves in self._rows if leaves is not None], self._table):
            raise CannotTellError(wrong)
        self._found.records += len(self._rows)
        self._found.leaf_rows += len(rows)
        self._found.last_step, self._found.chain = last.step, last.chain
        self._rows.clear()


def _other_loss(row: StepRow, table: LeafTable) -> str:
    """Say that a record's readable loss is not what its bits say; nothing where it is, or is no float."""
    dtype = next((spec.dtype for spec in table.specs if spec.path == "loss" and not spec.shape), "")
    if row.loss_bits is None or dtype not in SCALARS or loss_of_bits(row.loss_bits, dtype) == row.loss:
        return ""
    return f"the loss of step {row.step} is {row.loss}, and its bits say otherwise: that row was edited"


def _first_wrong_leaf_row(
    found: list[tuple[int, bytes, NDArray[np.uint64]]], table: LeafTable, former: bool, phases: Sequence[str]
) -> str | None:
    """Hold the leaf checksums of some rows of one leaf table against their roots; say which step's do not fit."""
    wrong = [step for step, _, leaves in found if len(leaves) != len(table.specs)]
    whole = [item for item in found if len(item[2]) == len(table.specs)]
    if whole:
        checksums = np.stack([leaves for _, _, leaves in whole])
        computed = roots_of_rows(checksums, table, phases)
        stored = np.frombuffer(b"".join(roots for _, roots, _ in whole), "<u8").reshape(computed.shape)
        unlike = (computed != stored).any(axis=1)
        if former and unlike.any():
            unlike &= (former_roots(checksums, table, phases) != stored).any(axis=1)
        wrong += [whole[index][0] for index in np.flatnonzero(unlike)]
    return f"the leaf checksums of step {min(wrong)} do not give its roots: that row was edited" if wrong else None


def roots_of(leaf_checksums: bytes, table: LeafTable, phases: Sequence[str] = PHASES) -> bytes:
    """Return the roots of a record, 8 bytes a phase, from its leaf checksums in table order; zeros where they do not fit."""
    values = np.frombuffer(leaf_checksums, "<u8")
    fit = len(values) == len(table.specs)
    return roots_of_rows(values[None], table, phases).astype("<u8").tobytes() if fit else bytes(ROOT_BYTES * len(phases))
