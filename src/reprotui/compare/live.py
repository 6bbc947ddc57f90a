"""Compare runs while they train: rows are fed as they arrive, in any interleaving."""

from collections.abc import Iterable, Mapping

from reprotui.trace import PHASES, StepRow
from reprotui.trace.phases import ROOT_BYTES


class LiveComparison:
    """Watch run B against the reference A. Holds only rows whose other half has not arrived.

    `first_step` is the first step at which they differ, None while there is none; `first_phase` is the first phase
    that differs there, None where the runs' leaves differ and only `compare_traces` can say. `equal_through` is the
    last step up to which all common records are equal.
    """

    def __init__(self) -> None:
        self._waiting: tuple[dict[int, tuple[StepRow, bytes | None]], ...] = ({}, {})
        self._newest = [-1, -1]
        self.equal_through: int | None = None
        self.first_step: int | None = None
        self.first_phase: str | None = None

    def feed(self, side: int, rows: Iterable[StepRow], tables: Mapping[int, bytes]) -> None:
        """Take new rows of A (side 0) or B (side 1), in order of their steps.

        Args:
            side: whose rows they are.
            rows: the rows.
            tables: digest of each version of that run's leaf table.
        """
        if self.first_step is not None:
            return
        own, other = self._waiting[side], self._waiting[1 - side]
        for row in rows:
            self._newest[side] = row.step
            match = other.pop(row.step, None)
            if match is None:
                own[row.step] = row, tables.get(row.version)
            elif not self._same(row, tables.get(row.version), *match):
                self.first_step = row.step
                own.clear()
                other.clear()
                return
            else:
                self.equal_through = row.step
        # A step that the other run has passed without recording will never be matched.
        for waiting, limit in ((own, self._newest[1 - side]), (other, self._newest[side])):
            for step in [step for step in waiting if step < limit]:
                del waiting[step]

    def _same(self, row: StepRow, table: bytes | None, other: StepRow, other_table: bytes | None) -> bool:
        if row.roots == other.roots and table == other_table and row.loss_bits == other.loss_bits:
            return True
        if table == other_table:
            differing = [
                phase
                for index, phase in enumerate(PHASES)
                if row.roots[index * ROOT_BYTES :][:ROOT_BYTES] != other.roots[index * ROOT_BYTES :][:ROOT_BYTES]
            ]
            self.first_phase = differing[0] if differing else "forward"
        return False
