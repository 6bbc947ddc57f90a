"""Hold the leaves of a checkpoint against the checksums that its run recorded at that step."""

from collections.abc import Mapping, Sequence

import numpy as np

from reprotui.checksum import LeafSpec
from reprotui.errors import ReprotuiError
from reprotui.integrity.content import describe
from reprotui.integrity.status import Finding, Status
from reprotui.run_directory import RunDirectory
from reprotui.trace import PHASES, LeafTable, Trace
from reprotui.trace.former import FORMER_PHASES
from reprotui.trace.phases import ROOT_BYTES, UPDATE
from reprotui.trace.phases import STATE as PHASES_OF_STATE
from reprotui.trace.verify import roots_of

STATE = ("params", "opt_state", "extra")
"""The trees of a training state, as records name them."""
_PHASES = ("forward", *PHASES_OF_STATE, UPDATE)
"""The phases in which they are recorded: record 0 holds them all in `init`."""
_FILE = "trace.db"


def check_trace(
    run: RunDirectory | None, step: int | None, checksums: Mapping[str, int], specs: Mapping[str, LeafSpec]
) -> tuple[list[Finding], list[str]]:
    """Compare checksums of stored leaves with those of the trace.

    Args:
        run: the run that owns the checkpoint.
        step: the checkpoint's step.
        checksums: `rfp1-64` by path, of the leaves that could be read.
        specs: what the checkpoint holds, by path; leaves that no record has (the step, the data position) are noted.

    Returns:
        Findings: CORRUPT for a leaf that differs, MISSING for one that is not stored, UNCHECKED where the trace has
        nothing to compare with; and notes.
    """

    def cannot(message: str) -> tuple[list[Finding], list[str]]:
        return [Finding(Status.UNCHECKED, _FILE, message)], []

    if run is None or step is None:
        return cannot("the checkpoint lies in no run, so there is no trace to hold it against")
    if not run.trace_path.is_file():
        return cannot("the run has no trace: it was not recorded")
    try:
        with Trace(run.trace_path) as trace:
            row = trace.row(step)
            if row is None:
                return cannot(f"step {step} was not recorded (the last one is {trace.last_step()})")
            table, recorded, phases, roots = trace.table(row.version), trace.leaf_checksums(step), PHASES, row.roots
            if recorded is None and trace.one_update:
                table, phases, roots = trace.written_table(row.version), FORMER_PHASES, trace.stored_roots(step)
    except ReprotuiError as error:
        return [Finding(Status.UNREADABLE, _FILE, str(error))], []
    if recorded is not None and roots_of(recorded.tobytes(), table) != roots:
        return [Finding(Status.UNREADABLE, _FILE, f"the record of step {step} contradicts itself: verify the trace")], []
    findings = _leaves(table, None if recorded is None else recorded, checksums, specs, step)
    notes = [f"leaves that the trace does not record: {', '.join(other[:8])}"] if (other := _unrecorded(table, specs)) else []
    if recorded is None and not findings:
        compared, findings = _roots(table, phases, roots, checksums, step)
        if not compared:
            return cannot(f"the record of step {step} has no leaf checksums, and no phase of state alone")
        notes.append(f"leaf checksums were not recorded at step {step}; compared were the roots of {', '.join(compared)}")
    return findings, notes


def _state(table: LeafTable) -> list[tuple[int, LeafSpec]]:
    """Return the leaves of the training state in a record, with their index."""
    return [
        (index, spec)
        for index, (phase, spec) in enumerate(zip(table.phases, table.specs, strict=True))
        if phase in _PHASES and spec.path.split("/")[0] in STATE
    ]


def _leaves(
    table: LeafTable, recorded: np.ndarray | None, checksums: Mapping[str, int], specs: Mapping[str, LeafSpec], step: int
) -> list[Finding]:
    findings = []
    for index, spec in _state(table):
        if spec.path not in specs and 0 not in spec.shape:  # Orbax cannot store a leaf without elements
            findings.append(Finding(Status.MISSING, _FILE, f"recorded at step {step} and not stored", spec.path))
        elif spec.path in specs and specs[spec.path] != spec:
            message = f"stored as {describe(specs[spec.path])}, recorded as {describe(spec)}"
            findings.append(Finding(Status.CORRUPT, _FILE, message, spec.path))
        elif recorded is not None and spec.path in checksums and checksums[spec.path] != int(recorded[index]):
            message = f"checksum {checksums[spec.path]:016x}, recorded at step {step} was {int(recorded[index]):016x}"
            findings.append(Finding(Status.CORRUPT, _FILE, message, spec.path))
    return findings


def _unrecorded(table: LeafTable, specs: Mapping[str, LeafSpec]) -> list[str]:
    recorded = {spec.path for _, spec in _state(table)}
    return sorted(path for path in specs if path not in recorded)


def _roots(
    table: LeafTable, phases: Sequence[str], roots: bytes, checksums: Mapping[str, int], step: int
) -> tuple[list[str], list[Finding]]:
    """Compare the roots of those phases that consist of state alone."""
    state = {index for index, _ in _state(table)}
    compared, findings = [], []
    for phase, start, end in table.slices:
        paths = [spec.path for spec in table.specs[start:end]]
        if not set(range(start, end)) <= state or not all(path in checksums for path in paths):
            continue
        compared.append(phase)
        values = np.zeros(len(table.specs), np.uint64)
        values[start:end] = [checksums[path] for path in paths]
        at = slice(ROOT_BYTES * phases.index(phase), ROOT_BYTES * (phases.index(phase) + 1))
        if roots_of(values.astype("<u8").tobytes(), table, phases)[at] != roots[at]:
            message = f"the state is not the one recorded at step {step}: the root of {phase} differs"
            findings.append(Finding(Status.CORRUPT, _FILE, message))
    return compared, findings
