"""Compare run directories: N runs with the reference, and which of them agree with which."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reprotui.compare.cause import find_cause, unseen_cause
from reprotui.compare.coverage import gaps, notes
from reprotui.compare.differences import FirstDifference, compare_traces
from reprotui.compare.verdict import Verdict
from reprotui.errors import CannotTellError, ReprotuiError
from reprotui.run_directory import RunDirectory
from reprotui.trace import PHASES, Trace, joined, verify_trace
from reprotui.trace.phases import ROOT_BYTES

_UNFINISHED = {
    "created": "has not started",
    "running": "is still running",
    "killed": "was killed and left no seal",
    "elsewhere": "has no seal, its process is on another host",
    "failed": "failed",
    "stopped": "was stopped",
    "finished": "stops there",
}


@dataclass(frozen=True)
class RunView:
    """A run opened for comparison: what it is called here, its directory, manifest and state."""

    label: str
    run: RunDirectory
    manifest: dict[str, Any]
    state: str


def open_run(path: Path, label: str) -> RunView:
    """Open a run directory.

    Raises:
        ReprotuiError: it is not a run directory, or newer than this reprotui.
    """
    run = RunDirectory(path)
    manifest = run.manifest()
    return RunView(label, run, manifest, run.state(manifest))


def compare_runs(a: RunView, b: RunView, verify: bool = False) -> Verdict:
    """Compare run B with the reference A.

    Args:
        a, b: the runs; finished, running or dead.
        verify: first recompute the chain of both traces, so that an edited or lost row is found.

    Returns:
        The verdict. What cannot be opened or read makes it incomparable, with the reason.
    """
    verdict = Verdict(a.label, b.label, "incomparable")
    try:
        if verify:
            for view in (a, b):
                problem = verify_trace(view.run.trace_path, view.manifest.get("seal")).problem
                if problem:
                    return replace(verdict, reason=f"the trace of {view.label} does not verify: {problem}")
        without = [view for view in (a, b) if view.state in ("created", "running", "killed") and not _has_trace(view)]
        if without:
            return replace(verdict, kind="incomplete", reason=_why(without) + " before its first record")
        with Trace(a.run.trace_path) as trace_a, Trace(b.run.trace_path) as trace_b:
            return _compare(a, b, trace_a, trace_b, verdict)
    except ReprotuiError as error:
        return replace(verdict, reason=str(error))


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Return short labels of run directories: the last part of the path, more of it where that is not unique."""
    for parts in range(1, 6):
        labels = ["/".join(path.resolve().parts[-parts:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return [str(path) for path in paths]


def agreement(views: list[RunView]) -> list[list[str]]:
    """Return which runs agree with which: groups of labels with equal histories up to the last step that all recorded.

    A run that cannot be read, or has no step in common with the others, is a group of its own.
    """
    groups: dict[bytes, list[str]] = {}
    with ExitStack() as stack:
        traces: dict[str, Trace] = {}
        for view in views:
            try:
                trace = stack.enter_context(Trace(view.run.trace_path))
                if trace.last_step() is not None:
                    traces[view.label] = trace
            except ReprotuiError:
                continue
        last = _last_shared(list(traces.values()))
        for view in views:
            row = None if last is None or view.label not in traces else traces[view.label].row(last)
            groups.setdefault(row.chain if row else view.label.encode(), []).append(view.label)
    return list(groups.values())


def _last_shared(traces: list[Trace]) -> int | None:
    step: int | None = min((trace.last_step() or 0 for trace in traces), default=None)
    while step is not None:
        before = [trace.previous_step(step + 1) for trace in traces]
        if None in before:
            return None
        lowest = min(number for number in before if number is not None)
        if lowest == step:
            return step
        step = lowest
    return None


def _compare(a: RunView, b: RunView, trace_a: Trace, trace_b: Trace, verdict: Verdict) -> Verdict:
    found = compare_traces(trace_a, trace_b)
    if found.incomparable:
        return replace(verdict, reason=found.incomparable, notes=found.notes)
    first = found.first
    if first is not None:
        cause = find_cause(a.manifest, b.manifest, first, _same_batch_in_a(trace_a, trace_b, first))
        return replace(
            verdict, kind="diverged", equal_through=first.previous, step=first.step, phase=first.phase, phases=first.phases,
            leaves=first.leaves, cause=cause, notes=found.notes,
        )  # fmt: skip
    ends = [(view, trace.last_step()) for view, trace in ((a, trace_a), (b, trace_b))]
    unfinished = [view for view, _ in ends if view.state != "finished"]
    manifests = {view.label: view.manifest for view in (a, b)}
    unseen = gaps(manifests)
    if found.common_last is None:
        if unfinished:
            return replace(verdict, kind="incomplete", reason=_why(unfinished))
        return replace(verdict, reason="they recorded no step in common")
    verdict = replace(verdict, kind="incomplete", equal_through=found.common_last, notes=found.notes)
    if unfinished:
        return replace(verdict, reason=_why(unfinished))
    if ends[0][1] != ends[1][1]:
        shorter, longer = sorted(ends, key=lambda item: item[1] or 0)
        return replace(verdict, reason=f"{shorter[0].label} stops there, {longer[0].label} goes on to step {longer[1]}")
    digests = [(view.manifest["result"].get("digests") or {}).get("state") for view in (a, b)]
    if digests[0] != digests[1] and None not in digests and (unseen or _goes_on(a, b, found.common_last)):
        return replace(verdict, kind="diverged", cause=unseen_cause(a.manifest, b.manifest, found.common_last, unseen))
    if unseen:
        return replace(verdict, reason=f"the records do not tell all. {'; '.join(unseen)}")
    if digests[0] != digests[1]:
        raise CannotTellError(
            f"all checksums agree, but the content digests of the final states do not ({digests[0]}, {digests[1]}): a trace or "
            "a manifest was changed, or the state changed after the last record"
        )
    records = _sampled(a, b, trace_a, trace_b, found.common_last)
    return replace(verdict, kind="identical", records=records, notes=(*found.notes, *notes(manifests)))


def _goes_on(a: RunView, b: RunView, last: int) -> bool:
    """Say whether the runs took steps after the last record that both have."""
    return any((view.manifest["result"].get("last_step") or 0) > last for view in (a, b))


def _sampled(a: RunView, b: RunView, trace_a: Trace, trace_b: Trace, last: int) -> int | None:
    """Return how many records both runs have, None where that is one for every step."""
    if all((view.manifest.get("seal") or {}).get("records") == last + 1 for view in (a, b)):
        return None
    with joined(trace_a, trace_b) as connection:
        count = connection.execute("SELECT count(*) FROM main.steps JOIN other.steps USING (step)").fetchone()[0]
    return None if count >= last else count  # a Recorder that was not shown the initial state begins at step 1


def _has_trace(view: RunView) -> bool:
    return view.run.trace_path.exists() and view.run.trace_path.stat().st_size > 0


def _why(unfinished: list[RunView]) -> str:
    whys = [(view, view.run.why(view.state, view.manifest)) for view in unfinished]
    return " and ".join(
        f"{view.label} {_UNFINISHED.get(view.state, view.state)}" + (f" ({why})" if why else "") for view, why in whys
    )


def _same_batch_in_a(trace_a: Trace, trace_b: Trace, first: FirstDifference) -> int | None:
    """Return a step of A whose batch is B's at the first differing step: the order changed, not the content."""
    row = trace_b.row(first.step)
    if first.phase != "batch" or row is None:
        return None
    start = PHASES.index("batch") * ROOT_BYTES
    return trace_a.find_root(start, row.roots[start : start + ROOT_BYTES])
