"""Where two traces first differ: step, phase and leaves, in execution order."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from reprotui.checksum import LeafSpec
from reprotui.errors import CannotTellError
from reprotui.integrity.leaves import LeafDifference
from reprotui.trace import PHASES, LeafTable, StepRow, Trace, joined
from reprotui.trace.former import SPLIT, may_be_equal, phases_as_in
from reprotui.trace.phases import CAPTURED, GENERATORS, STATE, differing_phases

OPTIONAL = ("metrics/", CAPTURED, *GENERATORS)
"""What paths begin with of leaves that one run may have and the other not without being a different computation."""


@dataclass(frozen=True)
class FirstDifference:
    """The first step at which two traces differ; `phases` are all that differ there, `leaves` those of the first phase.

    `recorded` are the phases of which both runs recorded leaves there: of others nothing can be said. `state_seen`: the record
    before holds the state that the step starts from. `updated`: new state stands in the record before the first leaf that
    differs there, so the step had made an equal update.
    """

    step: int
    previous: int | None
    phases: tuple[str, ...]
    leaves: tuple[LeafDifference, ...]
    leaves_known: bool
    recorded: tuple[str, ...] = PHASES
    state_seen: bool = True
    updated: bool = True

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
    if len(counts) == 1 and (a.former, a.one_update) == (b.former, b.one_update):
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
    table_a, table_b, moved = _tables(a, b, row_a, row_b)
    sums_a, sums_b = a.leaf_checksums(step), b.leaf_checksums(step)
    known = sums_a is not None and sums_b is not None
    notes = [f"phase {phase} is recorded in one run only" for phase in PHASES if (phase in table_a) != (phase in table_b)]
    phases, leaves = [], []
    other_roots = differing_phases(row_a.roots, row_b.roots)
    for phase in PHASES:
        if phase not in table_a or phase not in table_b:
            continue
        same_specs = [spec for _, spec in table_a[phase]] == [spec for _, spec in table_b[phase]]
        if same_specs and phase not in other_roots:
            continue
        found = list(_leaf_differences(phase, table_a, table_b, sums_a, sums_b))
        otherwise = a.one_update != b.one_update and (phase in SPLIT or phase in moved)
        otherwise = otherwise or (a.former != b.former and may_be_equal(row_a.root(phase), row_b.root(phase)))
        if same_specs and not found and otherwise:
            if known or phases:
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
        optional = [leaf for leaf in found if leaf.path.startswith(OPTIONAL) and leaf.kind.startswith("only")]
        notes += [f"{leaf.path} is {leaf.kind}" for leaf in optional]
        found = [leaf for leaf in found if leaf not in optional]
        if not found and (known or not same_specs):
            continue
        phases.append(phase)
        leaves += found if len(phases) == 1 else []
    if not phases:
        return None, notes
    recorded = tuple(phase for phase in PHASES if _holds(table_a, phase) and _holds(table_b, phase))
    previous, leaves_known = _previous_common(a, b, step), known or bool(leaves)
    state_seen = previous is not None and all(_holds_state(trace, previous) for trace in (a, b))
    updated = bool(leaves) and _state_before(table_a, leaves[0])
    return FirstDifference(step, previous, tuple(phases), tuple(leaves), leaves_known, recorded, state_seen, updated), notes


_Phases = dict[str, list[tuple[int, LeafSpec]]]
"""The leaves of a record by phase, each with its place in the record."""


def _tables(a: Trace, b: Trace, row_a: StepRow, row_b: StepRow) -> tuple[_Phases, _Phases, set[str]]:
    """Return the leaves of two records; where one of them is of a former version, in the phases of the newer one, and which
    phases got leaves by that."""
    tables = a.table(row_a.version), b.table(row_b.version)
    phases = [table.phases for table in tables]
    moved: set[str] = set()
    if a.one_update != b.one_update:
        at = 0 if a.one_update else 1
        now = phases_as_in(tables[at], tables[1 - at])
        moved = {phase for phase, before in zip(now, phases[at], strict=True) if phase != before}
        phases[at] = now
    return _by_phase(phases[0], tables[0]), _by_phase(phases[1], tables[1]), moved


def _by_phase(phases: tuple[str, ...], table: LeafTable) -> _Phases:
    found: _Phases = {}
    for index, (phase, spec) in enumerate(zip(phases, table.specs, strict=True)):
        found.setdefault(phase, []).append((index, spec))
    return found


def _holds(table: _Phases, phase: str) -> bool:
    """Say whether a record holds what a phase is about: the states of global generators are no key of the step."""
    return any(spec.path not in GENERATORS for _, spec in table.get(phase, ()))


def _holds_state(trace: Trace, step: int) -> bool:
    """Say whether the record of a step holds the state that it ended with."""
    return bool(set(STATE).intersection(trace.table(trace.recorded(step).version).phases))


def _state_before(table: _Phases, leaf: LeafDifference) -> bool:
    """Say whether new state stands before a leaf in the record of a step."""
    place = next((index for index, spec in table.get(leaf.phase, ()) if spec.path == leaf.path), None)
    return any(
        spec.path.startswith(("params/", "opt_state/")) and (place is None or index < place)
        for phase in SPLIT
        for index, spec in table.get(phase, ())
    )


def _previous_common(a: Trace, b: Trace, step: int) -> int | None:
    before_a, before_b = a.previous_step(step), b.previous_step(step)
    while before_a is not None and before_b is not None and before_a != before_b:
        if before_a > before_b:
            before_a = a.previous_step(before_a)
        else:
            before_b = b.previous_step(before_b)
    return before_a if before_b is not None else None


def _leaf_differences(phase: str, table_a: _Phases, table_b: _Phases, sums_a: Any, sums_b: Any) -> Iterator[LeafDifference]:
    """Yield the differing leaves of a phase in the order of A's table, those that only B has at the end."""
    leaves_a, leaves_b = _by_path(table_a[phase], sums_a), _by_path(table_b[phase], sums_b)
    for path in dict.fromkeys([*leaves_a, *leaves_b]):
        spec_a, sum_a = leaves_a.get(path, (None, None))
        spec_b, sum_b = leaves_b.get(path, (None, None))
        if spec_a != spec_b or sum_a != sum_b:
            yield LeafDifference(phase, path, spec_a, spec_b, sum_a, sum_b)


def _by_path(leaves: list[tuple[int, LeafSpec]], sums: Any) -> dict[str, tuple[LeafSpec, int | None]]:
    return {spec.path: (spec, None if sums is None else int(sums[index])) for index, spec in leaves}
