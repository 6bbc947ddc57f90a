"""Where two traces first differ: step, phase and leaves, in execution order."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from reprotui.checksum import LeafSpec
from reprotui.errors import CannotTellError
from reprotui.trace import PHASES, LeafTable, StepRow, Trace, joined
from reprotui.trace.former import may_be_equal
from reprotui.trace.phases import ROOT_BYTES

OPTIONAL_PREFIX = "metrics/"
"""Leaves that one run may have and the other not without being a different computation."""


@dataclass(frozen=True)
class LeafDifference:
    """One leaf that differs at the first differing step. A None side means that this run has no such leaf."""

    phase: str
    path: str
    a: LeafSpec | None
    b: LeafSpec | None
    checksum_a: int | None
    checksum_b: int | None

    @property
    def kind(self) -> str:
        """Return how it differs: `bits`, `dtype`, `shape`, `only in A` or `only in B`."""
        if self.a is None or self.b is None:
            return "only in B" if self.a is None else "only in A"
        if self.a.shape != self.b.shape:
            return "shape"
        return "dtype" if self.a.dtype != self.b.dtype else "bits"

    def to_json(self) -> dict[str, Any]:
        """Return the leaf as a JSON object; checksums in hexadecimal, because JSON numbers lose 64 bits."""

        def side(spec: LeafSpec | None, checksum: int | None) -> dict[str, Any] | None:
            if spec is None or checksum is None:
                return None
            return {"dtype": spec.dtype, "shape": list(spec.shape), "checksum": f"{checksum:016x}"}

        return {
            "phase": self.phase, "path": self.path, "kind": self.kind,
            "a": side(self.a, self.checksum_a), "b": side(self.b, self.checksum_b),
        }  # fmt: skip


@dataclass(frozen=True)
class FirstDifference:
    """The first step at which two traces differ; `phases` are all that differ there, `leaves` those of the first phase."""

    step: int
    previous: int | None
    phases: tuple[str, ...]
    leaves: tuple[LeafDifference, ...]
    leaves_known: bool

    @property
    def phase(self) -> str:
        return self.phases[0]

    @property
    def exact(self) -> bool:
        """Say whether the step before it is recorded too, so that it did begin here."""
        return self.step == 0 or self.previous == self.step - 1


@dataclass(frozen=True)
class TraceComparison:
    """`common_last`: last step that both recorded, None where there is none. `notes` say what was left out."""

    common_last: int | None
    first: FirstDifference | None
    notes: tuple[str, ...] = ()
    incomparable: str = ""


def compare_traces(a: Trace, b: Trace) -> TraceComparison:
    """Find the first difference of two traces.

    Rows are aligned by step, leaves by path. Where the leaf tables are the same, the database joins the roots (1 M
    steps in a tenth of a second); where they are not, leaves are compared one by one.
    """
    tables = a.tables()
    same_tables = tables == b.tables()
    with joined(a, b) as connection:
        common_last = _last_common(a, b, connection)
        if common_last is None:
            return TraceComparison(None, None)
        if same_tables:
            first, notes = _compare_by_root(a, b, connection, one_table=len(tables) == 1)
            if first is None:
                _check_found(a, b, common_last, connection)
            return TraceComparison(common_last, first, notes)
    return _compare_by_leaf(a, b, common_last)


def phases_at(a: Trace, b: Trace, step: int) -> tuple[str, ...]:
    """Return the phases that differ at a step that both recorded, in causal order."""
    first, _ = _difference_at(a, b, step)
    return first.phases if first else ()


def _compare_by_root(
    a: Trace, b: Trace, connection: sqlite3.Connection, one_table: bool
) -> tuple[FirstDifference | None, tuple[str, ...]]:
    # The loss is a leaf of `forward`: its bits are in the roots. Every column left out is a fifth of the time.
    differ = "a.roots <> b.roots" if one_table else "a.roots <> b.roots OR a.version <> b.version"
    query = f"SELECT a.step FROM main.steps AS a JOIN other.steps AS b USING (step) WHERE {differ} ORDER BY a.step"
    notes: dict[str, None] = {}
    # An open cursor keeps the other trace from being detached.
    with closing(connection.execute(query)) as steps:
        for (step,) in steps:
            first, new_notes = _difference_at(a, b, step)
            notes.update(dict.fromkeys(new_notes))
            if first is not None:
                return first, tuple(notes)
    return None, tuple(notes)


def _check_found(a: Trace, b: Trace, last: int, connection: sqlite3.Connection) -> None:
    """Make sure that no record was passed over where none differs: the join finds by step, and a page may be out of place.

    Equal chains prove all records up to there. They are unequal where the runs recorded other steps; then the pages are
    looked at.
    """
    if a.recorded(last).chain == b.recorded(last).chain:
        return
    a.check_structure("steps")
    b.check_structure("steps")
    joined_steps = "main.steps JOIN other.steps USING (step)"
    counts = {
        connection.execute(f"SELECT count(*) FROM {steps} WHERE step <= ?", (last,)).fetchone()
        for steps in ("main.steps", "other.steps", joined_steps)
    }
    # Roots of a former trace are others than those of a newer one, and so are its chains.
    if len(counts) == 1 and a.former == b.former:
        raise CannotTellError(
            "no roots differ, but the chains of the records do: one of the traces was edited; see which with --verify"
        )


def _last_common(a: Trace, b: Trace, connection: sqlite3.Connection) -> int | None:
    ends = a.last_step(), b.last_step()
    if ends[0] is None or ends[1] is None:
        return None
    last = min(ends[0], ends[1])
    if a.row(last) is not None and b.row(last) is not None:
        return last
    query = "SELECT max(step) FROM main.steps JOIN other.steps USING (step)"
    return connection.execute(query).fetchone()[0]


def _compare_by_leaf(a: Trace, b: Trace, common_last: int) -> TraceComparison:
    notes: dict[str, None] = {}
    for row_a, row_b in _common_rows(a, b):
        params = [
            {spec.path for spec in trace.table(row.version).specs if spec.path.startswith("params/")}
            for trace, row in ((a, row_a), (b, row_b))
        ]
        if all(params) and not params[0] & params[1]:
            return TraceComparison(
                common_last, None, incomparable="they have no parameter leaf in common: these are different models"
            )
        first, new_notes = _difference_at(a, b, row_a.step)
        notes.update(dict.fromkeys(new_notes))
        if first is not None:
            return TraceComparison(common_last, first, tuple(notes))
    return TraceComparison(common_last, None, tuple(notes))


def _common_rows(a: Trace, b: Trace) -> Iterator[tuple[StepRow, StepRow]]:
    rows_a, rows_b = a.rows(), b.rows()
    row_a, row_b = next(rows_a, None), next(rows_b, None)
    while row_a is not None and row_b is not None:
        if row_a.step == row_b.step:
            yield row_a, row_b
            row_a, row_b = next(rows_a, None), next(rows_b, None)
        elif row_a.step < row_b.step:
            row_a = next(rows_a, None)
        else:
            row_b = next(rows_b, None)


def _difference_at(a: Trace, b: Trace, step: int) -> tuple[FirstDifference | None, list[str]]:
    row_a, row_b = a.recorded(step), b.recorded(step)
    table_a, table_b = a.table(row_a.version), b.table(row_b.version)
    bounds_a = {phase: (start, end) for phase, start, end in table_a.slices}
    bounds_b = {phase: (start, end) for phase, start, end in table_b.slices}
    sums_a, sums_b = a.leaf_checksums(step), b.leaf_checksums(step)
    known = sums_a is not None and sums_b is not None
    one_former = a.former != b.former
    notes = [f"phase {phase} is recorded in one run only" for phase in PHASES if (phase in bounds_a) != (phase in bounds_b)]
    phases, leaves = [], []
    for index, phase in enumerate(PHASES):
        if phase not in bounds_a or phase not in bounds_b:
            continue
        same_specs = _specs(table_a, *bounds_a[phase]) == _specs(table_b, *bounds_b[phase])
        part = slice(index * ROOT_BYTES, (index + 1) * ROOT_BYTES)
        if same_specs and row_a.roots[part] == row_b.roots[part]:
            continue
        found = list(_leaf_differences(phase, table_a, table_b, sums_a, sums_b))
        if same_specs and not found and one_former and may_be_equal(row_a.roots[part], row_b.roots[part]):
            if known:
                continue
            raise CannotTellError(
                f"one of the traces is of a former reprotui, which computed roots otherwise, and leaf checksums of step {step} "
                "are not stored: whether the runs are equal there cannot be told"
            )
        if known and same_specs and not found:
            raise CannotTellError(
                f"the roots of {phase} differ at step {step}, but no leaf checksum does: one of the traces was edited; "
                "see which with --verify"
            )
        optional = [leaf for leaf in found if leaf.path.startswith(OPTIONAL_PREFIX) and leaf.kind.startswith("only")]
        notes += [f"{leaf.path} is {leaf.kind}" for leaf in optional]
        found = [leaf for leaf in found if leaf not in optional]
        if not found and (known or not same_specs):
            continue
        phases.append(phase)
        leaves += found if len(phases) == 1 else []
    if not phases:
        return None, notes
    return FirstDifference(step, _previous_common(a, b, step), tuple(phases), tuple(leaves), known or bool(leaves)), notes


def _previous_common(a: Trace, b: Trace, step: int) -> int | None:
    before_a, before_b = a.previous_step(step), b.previous_step(step)
    while before_a is not None and before_b is not None and before_a != before_b:
        if before_a > before_b:
            before_a = a.previous_step(before_a)
        else:
            before_b = b.previous_step(before_b)
    return before_a if before_b is not None else None


def _specs(table: LeafTable, start: int, end: int) -> tuple[LeafSpec, ...]:
    return table.specs[start:end]


def _leaf_differences(phase: str, table_a: LeafTable, table_b: LeafTable, sums_a: Any, sums_b: Any) -> Iterator[LeafDifference]:
    """Yield the differing leaves of a phase in the order of A's table, those that only B has at the end."""
    leaves_a, leaves_b = _by_path(phase, table_a, sums_a), _by_path(phase, table_b, sums_b)
    for path in dict.fromkeys([*leaves_a, *leaves_b]):
        spec_a, sum_a = leaves_a.get(path, (None, None))
        spec_b, sum_b = leaves_b.get(path, (None, None))
        if spec_a != spec_b or sum_a != sum_b:
            yield LeafDifference(phase, path, spec_a, spec_b, sum_a, sum_b)


def _by_path(phase: str, table: LeafTable, sums: Any) -> dict[str, tuple[LeafSpec, int | None]]:
    return {
        spec.path: (spec, None if sums is None else int(sums[index]))
        for index, (own, spec) in enumerate(zip(table.phases, table.specs, strict=True))
        if own == phase
    }
