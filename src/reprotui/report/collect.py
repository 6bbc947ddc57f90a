"""Collect a report from run directories: open, compare, and read what the tables and the chart need."""

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reprotui.checkpoints.signature import Signers
from reprotui.compare import RunView, Verdict, compare_runs, open_run
from reprotui.compare.agreement import groups_of, said_of_all, standing_of
from reprotui.compare.around import config_differences, environment_differences
from reprotui.compare.diagnosis import read_diagnosis
from reprotui.compare.differences import phases_at
from reprotui.compare.explained import Explained, race_of, read_explained
from reprotui.compare.rank_status import all_ranks
from reprotui.compare.recorded import asked_for
from reprotui.compare.runs import labels_of
from reprotui.compare.swap import swap_of
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.integrity.leaves import LeafDifference
from reprotui.manifest import RunState
from reprotui.ranks import rank_path
from reprotui.report.loss import loss_curve
from reprotui.report.model import Comparison, LeafLine, LossCurve, Report, RunReport, StepLine, StepSide, Verification
from reprotui.report.verify import Verify, checkpoints_of, verify_run, written
from reprotui.run_directory import RunDirectory, expand_races
from reprotui.trace import PHASES, StepRow, Trace
from reprotui.version import __version__

STEPS_BEFORE, STEPS_AFTER = 3, 5
"""Recorded steps shown before and after the first difference."""
LOG_LINES = 20


def collect_report(
    paths: Sequence[Path],
    verify: bool | Verify = False,
    checkpoints: Mapping[Path, Sequence[Mapping[str, Any]]] | None = None,
    signers: Signers | None = None,
    judge: Callable[[RunView, RunView], Verdict] = compare_runs,
) -> Report:
    """Compare runs with the first one and collect what a report says about them.

    Args:
        paths: run directories, or race directories, which stand for their members; finished, running or dead.
        verify: what is verified; True for all traces, so that an edited or lost row is found, and for files and content of
            all checkpoints.
        checkpoints: what is known of a run's checkpoints, by the path of its directory: objects with `name` and
            `status`. Runs that are not named here list what lies in their `checkpoints/`, verified where `verify` is.
        signers: whose signatures of checkpoints count; None where they are only named.
        judge: what compares two runs: one that knows a tolerance, where there is one.

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
    wanted = verify if isinstance(verify, Verify) else Verify(traces=verify, checkpoints=verify)
    verifications = [verify_run(view, wanted) for view in views]
    known = {path.resolve(): tuple(found) for path, found in (checkpoints or {}).items()}
    comparisons = tuple(
        _comparison(views[0], view, [verifications[0], verification], judge, wanted)
        for view, verification in zip(views[1:], verifications[1:], strict=True)
    )
    groups, swapped = groups_of(views) if len(views) > 2 else (), swap_of(views)
    standing = [standing_of(view) for view in views]
    together = said_of_all([item.verdict for item in comparisons], groups, standing) if len(views) > 2 else ""
    return Report(
        name=_name(paths, views),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        reprotui=__version__,
        runs=tuple(
            _run(view, verification, known.get(view.run.path.resolve()), wanted, signers or Signers())
            for view, verification in zip(views, verifications, strict=True)
        ),
        comparisons=comparisons,
        groups=groups,
        agreement=f"{together} · {swapped.said}" if swapped else together,
        diagnosis=read_diagnosis(paths[0]) if len(paths) == 1 else None,
        explained=_explained(members),
        commands=tuple(_commands(paths, views, [*_tolerance(comparisons)], wanted, signers or Signers())),
    )


def _explained(members: Sequence[Path]) -> tuple[Explained, ...]:
    """Return the explanations that the race of these runs keeps of them."""
    race, names = race_of(members), {path.name for path in members}
    return tuple(one for one in read_explained(race) if {one.a, one.b} <= names) if race else ()


def _name(paths: Sequence[Path], views: list[RunView]) -> str:
    if len(paths) == 1:
        return paths[0].resolve().name
    others = views[1].label if len(views) == 2 else f"{len(views) - 1}-runs"
    return f"{views[0].label}-vs-{others}"


def _run(
    view: RunView, verification: Verification | None, checkpoints: tuple[Mapping[str, Any], ...] | None, wanted: Verify,
    signers: Signers,
) -> RunReport:  # fmt: skip
    last, loss, events, chance, problem = None, LossCurve(), (), (), ""
    path = view.run.trace_path
    if written(path):
        try:
            with Trace(path) as trace:
                events, chance = tuple(trace.events()), tuple(trace.chance())
                last = trace.last_step()
                loss = loss_curve(trace)
        except ReprotuiError as error:
            problem = str(error)
    ended_well = view.state.alive or view.state in (RunState.FINISHED, RunState.STOPPED)
    return RunReport(
        view.label, view.run.path, view.state, view.manifest.document, last, loss, events, problem, chance, verification,
        log=() if ended_well else tuple(view.run.log_tail(LOG_LINES)),
        checkpoints=checkpoints_of(view, wanted, signers) if checkpoints is None else checkpoints,
        asked=tuple(asked_for(view.manifest)), ranks=all_ranks(view.run, view.manifest),
    )  # fmt: skip


def _comparison(
    a: RunView, b: RunView, verifications: Sequence[Verification | None], judge: Callable[[RunView, RunView], Verdict],
    wanted: Verify,
) -> Comparison:  # fmt: skip
    problem = _not_verified(a, b, verifications)
    wanted.say(f"comparing {b.label} with {a.label}")
    verdict = Verdict(a.label, b.label, "incomparable", reason=problem) if problem else judge(a, b)
    comparison = Comparison(
        verdict, tuple(config_differences(a.manifest, b.manifest)), tuple(environment_differences(a.manifest, b.manifest))
    )
    if verdict.step is None:
        return comparison
    if wanted.exact is not None:
        comparison = replace(comparison, exact=wanted.exact(a, b, verdict.step, wanted.say))
    try:
        rank = verdict.ranks.numbers[0] if verdict.ranks else 0
        paths = [RunDirectory(rank_path(view.run.path, rank)).trace_path for view in (a, b)]
        with Trace(paths[0]) as trace_a, Trace(paths[1]) as trace_b:
            leaves = tuple(_leaf_lines(trace_a, trace_b, verdict.step, verdict.leaves))
            return replace(comparison, leaves=leaves, steps=tuple(_steps_around(trace_a, trace_b, verdict.step)))
    except ReprotuiError as error:
        # The verdict stands: damage behind the first difference, or in the statistics, takes nothing from it.
        leaves = tuple(LeafLine(leaf, None, None, None, None) for leaf in verdict.leaves)
        return replace(comparison, leaves=leaves, problem=str(error))


def _not_verified(a: RunView, b: RunView, verifications: Sequence[Verification | None]) -> str:
    """Return what verification found wrong: done once a run, where `compare_runs` would verify A again for every pair."""
    for view, verification in zip((a, b), verifications, strict=True):
        if verification and verification.problem:
            return f"the trace of {view.label} does not verify: {verification.problem}"
    return ""


def _tolerance(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the options that give the tolerance which the runs were compared with."""
    texts = next((item.verdict.distance.tolerance for item in comparisons if item.verdict.distance), "").split()
    return [word for text in texts for word in ("--tolerance", text)]


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


def _commands(
    paths: Sequence[Path], views: Sequence[RunView], flags: Sequence[str], wanted: Verify, signers: Signers
) -> Iterable[tuple[str, str]]:
    """Yield what repeats the training (each command once), the comparison and this report."""
    for command in dict.fromkeys(shlex.join(view.manifest.command) for view in views if view.manifest.command):
        yield "train again", command
    named = [*map(str, paths), *flags]
    yield "compare again", shlex.join(["reprotui", "compare", *named, *(["--verify"] if wanted.traces else [])])
    yield "report again", shlex.join(["reprotui", "report", *named, *wanted.flags, *signers.flags])
