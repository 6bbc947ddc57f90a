"""Collect a report from run directories: open, compare, and read what the tables and the chart need."""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import reprotui
from reprotui.checkpoints.listing import list_checkpoints
from reprotui.checkpoints.signature import Signers
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.compare import RunView, Verdict, compare_runs, open_run
from reprotui.compare.cause import config_differences, environment_differences
from reprotui.compare.differences import LeafDifference, phases_at
from reprotui.compare.runs import agreement, labels_of
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.integrity.status import Status
from reprotui.report.loss import loss_curve
from reprotui.report.model import Comparison, LeafLine, LossCurve, Report, RunReport, StepLine, StepSide, Verification
from reprotui.run_directory import expand_races
from reprotui.trace import PHASES, StepRow, Trace, verify_trace

STEPS_BEFORE, STEPS_AFTER = 3, 5
"""Recorded steps shown before and after the first difference."""
LOG_LINES = 20
NOT_VERIFIED = "not verified"
"""Status of a checkpoint that is whole at a glance and that nobody read."""


def collect_report(
    paths: Sequence[Path],
    verify: bool = False,
    checkpoints: Mapping[Path, Sequence[Mapping[str, Any]]] | None = None,
    signers: Signers | None = None,
) -> Report:
    """Compare runs with the first one and collect what a report says about them.

    Args:
        paths: run directories, or race directories, which stand for their members; finished, running or dead.
        verify: recompute the chain of every trace, so that an edited or lost row is found, and verify files and content
            of every checkpoint.
        checkpoints: what is known of a run's checkpoints, by the path of its directory: objects with `name` and
            `status`. Runs that are not named here list what lies in their `checkpoints/`, verified where `verify` is.
        signers: whose signatures of checkpoints count; None where they are only named.

    Returns:
        The report. A trace that cannot be read makes its verdict incomparable, with the reason.

    Raises:
        BadInputError: fewer than two runs, or a path that is not a run directory.
        CannotTellError: a manifest is newer than this reprotui.
    """
    members = expand_races(paths)
    for path in members:
        if path.is_file():
            raise BadInputError(f"{path} is a file: a report is made from run directories or a race")
    if len(members) < 2:
        named = str(paths[0]) if paths else "nothing"
        raise BadInputError(f"{named} alone cannot be reported on: name two or more runs, or a race")
    views = [open_run(path, label) for path, label in zip(members, labels_of(members), strict=True)]
    verifications = [_verify(view) if verify else None for view in views]
    known = {path.resolve(): tuple(found) for path, found in (checkpoints or {}).items()}
    return Report(
        name=_name(paths, views),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        reprotui=reprotui.__version__,
        runs=tuple(
            _run(view, verification, known.get(view.run.path.resolve()), signers or Signers())
            for view, verification in zip(views, verifications, strict=True)
        ),
        comparisons=tuple(
            _comparison(views[0], view, [verifications[0], verification])
            for view, verification in zip(views[1:], verifications[1:], strict=True)
        ),
        groups=_groups(views) if len(views) > 2 else (),
        commands=tuple(_commands(paths, views, verify, signers or Signers())),
    )


def _name(paths: Sequence[Path], views: list[RunView]) -> str:
    if len(paths) == 1:
        return paths[0].resolve().name
    others = views[1].label if len(views) == 2 else f"{len(views) - 1}-runs"
    return f"{views[0].label}-vs-{others}"


def _groups(views: list[RunView]) -> tuple[tuple[str, ...], ...]:
    try:
        return tuple(map(tuple, agreement(views)))
    except ReprotuiError:
        # A damaged page: the verdict of that run says so, and who agrees with whom cannot be told.
        return ()


def _written(path: Path) -> bool:
    """Say whether a trace is there; one may vanish at any moment, with its directory."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _verify(view: RunView) -> Verification | None:
    """Verify a trace that is there; a run that has recorded nothing yet has nothing to verify."""
    path = view.run.trace_path
    if not _written(path):
        return None
    try:
        found = verify_trace(path, view.manifest.get("seal"))
    except ReprotuiError as error:
        return Verification(0, str(error))
    return Verification(found.records, found.problem or "")


def _run(
    view: RunView, verification: Verification | None, checkpoints: tuple[Mapping[str, Any], ...] | None, signers: Signers
) -> RunReport:
    last, loss, events, problem = None, LossCurve(), (), ""
    path = view.run.trace_path
    if _written(path):
        try:
            with Trace(path) as trace:
                events = tuple(trace.events())
                last = trace.last_step()
                loss = loss_curve(trace)
        except ReprotuiError as error:
            problem = str(error)
    ended_well = view.state in ("finished", "stopped", "running")
    return RunReport(
        view.label, view.run.path, view.state, view.manifest, last, loss, events, problem, verification,
        log=() if ended_well else tuple(view.run.log_tail(LOG_LINES)),
        checkpoints=_checkpoints(view.run.path, verification is not None, signers) if checkpoints is None else checkpoints,
    )  # fmt: skip


def _checkpoints(run: Path, verify: bool, signers: Signers) -> tuple[Mapping[str, Any], ...]:
    """List the checkpoints of a run with their statuses: what is wrong at a glance, or everything with `verify`."""
    found = []
    try:
        listed = list_checkpoints(run, signers)
    except (ReprotuiError, OSError) as error:
        return ({"name": "checkpoints", "status": Status.UNREADABLE.value, "message": str(error)},)
    for entry in listed:
        status, message, signature = entry.problem.value if entry.problem else NOT_VERIFIED, entry.message, entry.signature
        if verify and entry.problem is None:
            try:
                result = verify_checkpoint(entry.path, signers=signers)
                status, message, signature = result.status.value, "; ".join(map(str, result.findings[:3])), result.signature
            except ReprotuiError as error:
                status, message = Status.UNREADABLE.value, str(error)
        item = {
            "name": entry.path.name, "status": status, "content": entry.content, "message": message,
            "signature": "" if signature is None else str(signature),
            "not signed": "" if signature is None else "; ".join(signature.not_signed),
        }  # fmt: skip
        found.append({key: value for key, value in item.items() if value})
    return tuple(found)


def _comparison(a: RunView, b: RunView, verifications: Sequence[Verification | None]) -> Comparison:
    verdict = _verdict(a, b, verifications)
    comparison = Comparison(
        verdict, tuple(config_differences(a.manifest, b.manifest)), tuple(environment_differences(a.manifest, b.manifest))
    )
    if verdict.step is None:
        return comparison
    try:
        with Trace(a.run.trace_path) as trace_a, Trace(b.run.trace_path) as trace_b:
            leaves = tuple(_leaf_lines(trace_a, trace_b, verdict.step, verdict.leaves))
            return replace(comparison, leaves=leaves, steps=tuple(_steps_around(trace_a, trace_b, verdict.step)))
    except ReprotuiError as error:
        # The verdict stands: damage behind the first difference, or in the statistics, takes nothing from it.
        leaves = tuple(LeafLine(leaf, None, None, None, None) for leaf in verdict.leaves)
        return replace(comparison, leaves=leaves, problem=str(error))


def _verdict(a: RunView, b: RunView, verifications: Sequence[Verification | None]) -> Verdict:
    """Compare, with what verification found: once a run, where `compare_runs` would verify A again for every pair."""
    for view, verification in zip((a, b), verifications, strict=True):
        if verification and verification.problem:
            reason = f"the trace of {view.label} does not verify: {verification.problem}"
            return Verdict(a.label, b.label, "incomparable", reason=reason)
    return compare_runs(a, b)


def _steps_around(a: Trace, b: Trace, step: int) -> Iterable[StepLine]:
    """Yield the steps around the first difference that either run recorded."""
    numbers = {row.step for trace in (a, b) for row in trace.rows(step, STEPS_AFTER)}
    after = sorted(numbers)[:STEPS_AFTER]
    before = sorted({number for trace in (a, b) for number in _before(trace, step)})[-STEPS_BEFORE:]
    for number in [*before, step, *after]:
        row_a, row_b = a.row(number), b.row(number)
        differs = phases_at(a, b, number) if row_a and row_b else ()
        yield StepLine(number, _side(row_a), _side(row_b), differs)


def _before(trace: Trace, step: int) -> Iterable[int]:
    previous: int | None = step
    for _ in range(STEPS_BEFORE):
        previous = trace.previous_step(previous)
        if previous is None:
            return
        yield previous


def _side(row: StepRow | None) -> StepSide | None:
    if row is None:
        return None
    loss = math.nan if row.loss is None and row.loss_bits is not None else row.loss
    return StepSide(loss, row.loss_bits, {phase: row.root(phase) for phase in PHASES if row.root(phase)})


def _leaf_lines(a: Trace, b: Trace, step: int, leaves: Iterable[LeafDifference]) -> Iterable[LeafLine]:
    of_a, of_b = _statistics(a, step), _statistics(b, step)
    for leaf in leaves:
        norm_a, max_a = of_a.get((leaf.phase, leaf.path), (None, None))
        norm_b, max_b = of_b.get((leaf.phase, leaf.path), (None, None))
        yield LeafLine(leaf, norm_a, norm_b, max_a, max_b)


def _statistics(trace: Trace, step: int) -> dict[tuple[str, str], tuple[float, float]]:
    row, values = trace.row(step), trace.leaf_stats(step)
    if row is None or values is None:
        return {}
    table = trace.table(row.version)
    names = zip(table.phases, (spec.path for spec in table.specs), strict=True)
    return {name: (float(norm), float(largest)) for name, (norm, largest) in zip(names, values.tolist(), strict=False)}


def _commands(paths: Sequence[Path], views: Sequence[RunView], verify: bool, signers: Signers) -> Iterable[tuple[str, str]]:
    """Yield what repeats the training (each command once), the comparison and this report."""
    started = [view.manifest.get("command") for view in views]
    for command in dict.fromkeys(shlex.join(map(str, command)) for command in started if isinstance(command, list)):
        yield "train again", command
    named = [*map(str, paths), *(["--verify"] if verify else [])]
    yield "compare again", shlex.join(["reprotui", "compare", *named])
    yield "report again", shlex.join(["reprotui", "report", *named, *signers.flags])
