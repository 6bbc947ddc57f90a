"""Compare two run directories of one process each: a run of several processes is compared rank by rank, see `ranks`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from reprotui.compare.asked import first_other_question
from reprotui.compare.captured import of_captured
from reprotui.compare.cause import find_cause, unseen_cause
from reprotui.compare.chance import entries
from reprotui.compare.coverage import gaps, notes, of_each
from reprotui.compare.differences import FirstDifference, compare_traces
from reprotui.compare.measure import ExactLeaf, measure
from reprotui.compare.not_finite import NotFinite, of_trace
from reprotui.compare.recorded import asked_otherwise, other_steps
from reprotui.compare.resume_cause import (
    MEANT_TO_END,
    before_it_was_interrupted,
    began_anew,
    find_resume_cause,
    first_part,
    with_restored,
)
from reprotui.compare.tolerance import Tolerance
from reprotui.compare.verdict import Verdict
from reprotui.errors import CannotTellError, ReprotuiError
from reprotui.manifest import RunManifest, RunState
from reprotui.run_directory import RunDirectory
from reprotui.trace import PHASES, Trace, joined, verify_trace
from reprotui.trace.phases import ROOT_BYTES

_UNFINISHED = {
    RunState.CREATED: "has not started",
    RunState.RUNNING: "is still running",
    RunState.KILLED: "was killed and left no seal",
    RunState.ELSEWHERE: "has no seal, its process is on another host",
    RunState.FAILED: "failed",
    RunState.STOPPED: "was stopped",
    RunState.FINISHED: "stops there",
}


@dataclass(frozen=True)
class RunView:
    """A run opened for comparison: what it is called here, its directory, manifest and state."""

    label: str
    run: RunDirectory
    manifest: RunManifest
    state: RunState

    @property
    def why(self) -> str:
        """Return in one line why the run ended badly, as far as anybody knows."""
        return self.run.why(self.state, self.manifest)


def open_run(path: Path, label: str) -> RunView:
    """Open a run directory.

    Raises:
        ReprotuiError: it is not a run directory, or newer than this reprotui.
    """
    run = RunDirectory(path)
    manifest = run.manifest()
    return RunView(label, run, manifest, run.state(manifest))


class Allowed(NamedTuple):
    """How far runs may be apart, and the leaves whose elements are known in both."""

    tolerance: Tolerance
    exact: Iterable[ExactLeaf] = ()


def compare_process(a: RunView, b: RunView, verify: bool = False, allowed: Allowed | None = None) -> Verdict:
    """Compare run B with the reference A, process 0 of each where they have several.

    Args:
        a, b: the runs; finished, running or dead.
        verify: first recompute the chain of both traces, so that an edited or lost row is found.
        allowed: where the runs may differ: the verdict says too how far they are apart, and whether that is allowed.

    Returns:
        The verdict. What cannot be opened or read makes it incomparable, with the reason.
    """
    verdict = Verdict(a.label, b.label, "incomparable")
    try:
        if verify:
            for view in (a, b):
                problem = verify_trace(view.run.trace_path, view.manifest.seal).problem
                if problem:
                    return replace(verdict, reason=f"the trace of {view.label} does not verify: {problem}")
        without = [view for view in (a, b) if not _has_trace(view) and _left_none(view)]
        if without:
            return replace(verdict, kind="incomplete", reason=_why(without) + " before its first record")
        with Trace(a.run.trace_path) as trace_a, Trace(b.run.trace_path) as trace_b:
            torn = tuple(f"{view.label}: {text}" for view, trace in ((a, trace_a), (b, trace_b)) for text in trace.torn())
            found = _compare(a, b, trace_a, trace_b, replace(verdict, torn=torn))
            broken = [of_trace(view.label, trace) for view, trace in ((a, trace_a), (b, trace_b))]
            told = of_each({view.label: meant for view, (_, meant) in zip((a, b), broken, strict=True)})
            not_finite = tuple(item for item, _ in broken if item is not None)
            if allowed is not None and found.kind == "diverged":
                found = replace(found, distance=measure(trace_a, trace_b, *allowed, _no_end_in_common(a, b, trace_a, trace_b)))
            return replace(found, not_finite=not_finite, notes=(*found.notes, *told))
    except ReprotuiError as error:
        return replace(verdict, reason=str(error))


def not_finite_of(view: RunView) -> NotFinite | None:
    """Return since when a run holds NaN or infinity; None where it does not, or nothing can be read of it."""
    try:
        with Trace(view.run.trace_path) as trace:
            return of_trace(view.label, trace)[0]
    except ReprotuiError:
        return None


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Return short labels of run directories: the last part of the path, more of it where that is not unique."""
    for parts in range(1, 6):
        labels = ["/".join(path.resolve().parts[-parts:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return [str(path) for path in paths]


def _compare(a: RunView, b: RunView, trace_a: Trace, trace_b: Trace, verdict: Verdict) -> Verdict:
    if not b.manifest.parts:
        return _judge(a, b, trace_a, trace_b, verdict)
    return with_restored(_judge(a, b, trace_a, trace_b, verdict), trace_a, trace_b, b.manifest)


def _judge(a: RunView, b: RunView, trace_a: Trace, trace_b: Trace, verdict: Verdict) -> Verdict:
    found = compare_traces(trace_a, trace_b)
    if found.incomparable:
        return replace(verdict, reason=found.incomparable, notes=found.notes)
    first = found.first
    if first is not None and (other := other_processes(a, b)):
        return replace(
            verdict, reason=f"{other}; the first difference is in {first.phase} at step {first.step}", notes=found.notes
        )
    labels, leaf = (a.label, b.label), first.leaves[0].path if first is not None and len(first.leaves) == 1 else None
    if first is not None and (other := other_steps(a.manifest, b.manifest, labels, first.step, leaf)):
        return replace(verdict, reason=other, notes=found.notes)
    otherwise = asked_otherwise(a.manifest, b.manifest, labels)
    if first is not None and b.manifest.parts and not before_it_was_interrupted(b.manifest, first):
        cause = find_resume_cause(a.manifest, b.manifest, trace_a, trace_b, first)
        return replace(
            verdict, kind="diverged", equal_through=first.previous, step=first.step, phase=first.phase, phases=first.phases,
            leaves=first.leaves, cause=cause, notes=found.notes,
        )  # fmt: skip
    if first is not None:
        if b.manifest.parts:
            b = replace(b, manifest=first_part(b.run.path, b.manifest))
        chance = entries(trace_a.chance(), trace_b.chance(), first.step)
        asked = first_other_question(trace_a, trace_b, first.step)
        cause = find_cause(a.manifest, b.manifest, first, _same_batch_in_a(trace_a, trace_b, first), chance, asked)
        cause = of_captured(cause, first, a.manifest)
        return replace(
            verdict, kind="diverged", equal_through=first.previous, step=first.step, phase=first.phase, phases=first.phases,
            leaves=first.leaves, cause=cause, notes=(*found.notes, *otherwise),
        )  # fmt: skip
    manifests = {view.label: view.manifest for view in (a, b)}
    unseen = gaps(manifests)
    if found.common_last is None:
        if reason := unfinished(a, b):
            return replace(verdict, kind="incomplete", reason=reason)
        why = f". {'; '.join(unseen)}" if unseen else ""
        return replace(verdict, reason=f"they recorded no step in common{why}")
    verdict = replace(verdict, kind="incomplete", equal_through=found.common_last, notes=found.notes)
    if b.manifest.interrupted and not b.state.alive and found.common_last == trace_b.last_step():
        return replace(verdict, kind="identical", notes=(*found.notes, MEANT_TO_END))
    if anew := began_anew(b.manifest):
        return replace(verdict, reason=anew)
    if reason := unfinished(a, b) or _other_ends(a, b, trace_a, trace_b):
        return replace(verdict, reason=reason)
    digests = [_digest_of_state(view) for view in (a, b)]
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
    ends_equal = None not in digests
    said = [*found.notes, *otherwise, *notes(manifests)]
    if (asked := first_other_question(trace_a, trace_b, found.common_last + 1)) is not None:
        said.append(f"{asked}: an evaluation, or acting, that no training came of")
    return replace(verdict, kind="identical", records=records, notes=tuple(said), ends_equal=ends_equal)


def _no_end_in_common(a: RunView, b: RunView, trace_a: Trace, trace_b: Trace) -> str:
    """Return why records that are near each other do not make whole runs so; nothing where they do."""
    unseen = "; ".join(gaps({view.label: view.manifest for view in (a, b)}))
    return unfinished(a, b) or _other_ends(a, b, trace_a, trace_b) or unseen


def _other_ends(a: RunView, b: RunView, trace_a: Trace, trace_b: Trace) -> str:
    """Return which of two runs stops before the other one; nothing where they end at one step."""
    ends = [(view, trace.last_step() or 0) for view, trace in ((a, trace_a), (b, trace_b))]
    (shorter, last), (longer, further) = sorted(ends, key=lambda item: item[1])
    return "" if last == further else f"{shorter.label} stops there, {longer.label} goes on to step {further}"


def other_processes(a: RunView, b: RunView) -> str:
    """Say which processes of a training the runs are, where they are not the same one; empty where they are."""
    numbers = [view.manifest.devices.get("process", 0) for view in (a, b)]
    if numbers[0] == numbers[1]:
        return ""
    return f"{a.label} is process {numbers[0]} of its training and {b.label} process {numbers[1]}: each holds other data"


def _goes_on(a: RunView, b: RunView, last: int) -> bool:
    """Say whether the runs took steps after the last record that both have."""
    return any(view.manifest.result is not None and (view.manifest.result.last_step or 0) > last for view in (a, b))


def _digest_of_state(view: RunView) -> str | None:
    """Return the content digest of the state that a run ended with; None where it took none."""
    return view.manifest.result.digests.get("state") if view.manifest.result is not None else None


def _sampled(a: RunView, b: RunView, trace_a: Trace, trace_b: Trace, last: int) -> int | None:
    """Return how many records both runs have, None where that is one for every step."""
    if all((view.manifest.seal or {}).get("records") == last + 1 for view in (a, b)):
        return None
    with joined(trace_a, trace_b) as connection:
        count = connection.execute("SELECT count(*) FROM main.steps JOIN other.steps USING (step)").fetchone()[0]
    return None if count >= last else count  # a Recorder that was not shown the initial state begins at step 1


def _left_none(view: RunView) -> bool:
    """Say whether a run has no trace because it did not come to one: of one that ended well, it was lost."""
    return view.manifest.result is None or view.manifest.result.state is RunState.FAILED


def _has_trace(view: RunView) -> bool:
    return view.run.trace_path.exists() and view.run.trace_path.stat().st_size > 0


def unfinished(a: RunView, b: RunView) -> str:
    """Return why runs have not come to their end; nothing where both have."""
    return _why([view for view in (a, b) if view.state is not RunState.FINISHED])


def _why(unfinished: list[RunView]) -> str:
    return " and ".join(
        f"{view.label} {_UNFINISHED.get(view.state, view.state)}" + (f" ({view.why})" if view.why else "") for view in unfinished
    )


def _same_batch_in_a(trace_a: Trace, trace_b: Trace, first: FirstDifference) -> int | None:
    """Return a step of A whose batch is B's at the first differing step: the order changed, not the content."""
    row = trace_b.row(first.step)
    if first.phase != "batch" or row is None:
        return None
    start = PHASES.index("batch") * ROOT_BYTES
    return trace_a.find_root(start, row.roots[start : start + ROOT_BYTES])
