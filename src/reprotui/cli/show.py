"""Print verdicts for people, and turn a race into JSON."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprotui.chance import Chance
from reprotui.cli import common
from reprotui.compare import RunView, Verdict
from reprotui.compare.agreement import Groups
from reprotui.compare.ledger import chance_of, no_places, side_by_side
from reprotui.compare.rank_status import all_ranks, ranks_to_json
from reprotui.compare.recorded import asked_for
from reprotui.errors import ReprotuiError
from reprotui.event_kinds import word_of
from reprotui.foreign import visible_log
from reprotui.integrity.leaves import LeafDifference
from reprotui.manifest import RunState
from reprotui.numbers import short
from reprotui.ranks import world_of
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

STYLES = {
    "identical": "bold #009e73",
    "diverged": "bold #d55e00",
    "incomplete": "bold #e69f00",
    "incomparable": "bold #e69f00",
}
"""Okabe-Ito: told apart by people who do not see red and green, and the words carry the meaning anyway."""
LEAVES_SHOWN = 8
LOG_LINES = 12


def print_verdicts(verdicts: list[Verdict], together: str, runs: Sequence[RunView], path: Path, follows: str = "") -> None:
    """Print who agrees with whom (of more than two runs), the verdict of every run against the reference, and a line a run.

    `follows` says what a difference follows, where the hosts were exchanged.
    """
    console = common.console()
    if len(verdicts) > 1:
        console.print(together, style="bold", soft_wrap=True)
    if follows:
        console.print(follows, style="bold", soft_wrap=True)
    for verdict in verdicts:
        against = f"{verdict.b} against {verdict.a}: " if len(verdicts) > 1 else ""
        print_verdict(console, verdict, against)
    for view in runs:
        console.print(f"  {view.label:<3} {run_line(view)}")
    print_recording(console, runs)
    console.print(f"  in  {common.short(path)}", style="dim")
    console.print(f"  see it: reprotui open {shlex.quote(str(common.short(path)))}", style="dim", soft_wrap=True)
    for view in runs:
        print_failure(console, view)


def print_recording(console: Any, runs: Sequence[RunView]) -> None:
    """Print how the runs were recorded, where that is not the usual; once where it is the same for all."""
    asked = {view.label: " ".join(asked_for(view.manifest)) for view in runs}
    told = set(asked.values())
    lines = list(told) if len(told) == 1 else [f"{label} {text or 'as usual'}" for label, text in asked.items()]
    if any(told):
        console.print(f"  recorded with {', '.join(lines)}", style="dim", soft_wrap=True)


def print_verdict(console: Any, verdict: Verdict, before: str = "") -> None:
    """Print headline, cause, evidence and leaves of a verdict."""
    console.print(before + verdict.headline, style=STYLES[verdict.tone], soft_wrap=True)
    rows = [(word_of(text).lower(), text) for text in verdict.torn]
    if verdict.cause:
        rows.append(("cause", verdict.cause.sentence))
        rows += [("evidence" if index == 0 else "", line) for index, line in enumerate(verdict.cause.evidence)]
        if verdict.cause.unrelated:
            rows.append(("differs too", "; ".join(verdict.cause.unrelated) + " (does not explain it)"))
        if verdict.cause.advice:
            rows.append(("try", verdict.cause.advice))
    rows += verdict.distance.lines if verdict.distance else []
    rows += [("leaves" if index == 0 else "", _leaf(leaf)) for index, leaf in enumerate(verdict.leaves[:LEAVES_SHOWN])]
    if len(verdict.leaves) > LEAVES_SHOWN:
        rows.append(("", f"and {len(verdict.leaves) - LEAVES_SHOWN} more"))
    rows += [("note", note) for note in verdict.notes]
    for name, text in rows:
        console.print(f"  {name:<12}{text}", soft_wrap=True)


def print_chance(console: Any, labels: Sequence[str], ledgers: Sequence[Sequence[Chance] | None]) -> None:
    """Print where chance and data entered, line by line of the scripts, with what each run was given there."""
    lines = side_by_side(ledgers)
    console.print("chance: seeds, draws from generators that nothing seeded, files and folders", style="bold")
    if not lines:
        console.print(f"  {no_places(ledgers)}", soft_wrap=True)
    for line in lines:
        sign = common.symbol("≠", "!=") if True in line.differs else "?" if None in line.differs else "="
        alike = len(set(line.values)) == 1
        values = (
            [line.values[0] or "–"]
            if alike
            else [f"{label} {value or '–'}" for label, value in zip(labels, line.values, strict=True)]
        )
        console.print(f"  {sign:<2} {line.place:<20} {line.source:<32} {'  '.join(values)}", soft_wrap=True)


def _leaf(leaf: LeafDifference) -> str:
    spec = leaf.a or leaf.b
    assert spec is not None
    if leaf.kind == "bits" and leaf.checksum_a is not None and leaf.checksum_b is not None:
        detail = f"A {leaf.checksum_a:016x}  B {leaf.checksum_b:016x}"
    elif leaf.a and leaf.b:
        detail = f"A {leaf.a.dtype}{list(leaf.a.shape)}  B {leaf.b.dtype}{list(leaf.b.shape)}"
    else:
        detail = leaf.kind
    shape = ",".join(map(str, spec.shape))
    return f"{leaf.path}  {spec.dtype}[{shape}]  {detail}"


def run_line(view: RunView) -> str:
    """Return one line about an ended run: state, steps, loss, evaluation, digest of the parameters."""
    result = view.manifest.result
    if result is None:
        return view.state
    final, parts = result.final if isinstance(result.final, dict) else {}, [str(view.state)]
    if result.last_step is not None:
        parts.append(f"step {result.last_step}")
    if final.get("loss") is not None:
        parts.append(f"loss {_short_number(final['loss'])}")
    # Short enough for 80 columns; `--json` and run.json hold every digit.
    evaluation = final.get("evaluation") or {}
    parts += [f"{name.removesuffix('_accuracy')} {_short_number(value, 3)}" for name, value in evaluation.items()]
    digest = result.digests.get("params")
    if digest:
        parts.append(f"params {digest[:12]}")
    parts += result.torn[:1]
    if (size := world_of(view.manifest)) > 1:
        parts.append(f"{size} ranks")
    return "  ".join(parts)


def print_failure(console: Any, view: RunView) -> None:
    """Print why a run failed, with the end of its log; nothing where it did not fail."""
    result = view.manifest.result
    if view.state not in (RunState.FAILED, RunState.KILLED, RunState.CREATED):
        return
    # Called when every process has ended: what is only created died before it could write its own name.
    error = (result.error if result else "") or view.run.why(RunState.KILLED, view.manifest)
    refused = result is not None and result.bad_input
    if error and not refused and (last := _last_record(view.run)) is not None:
        error = f"{error}; its trace goes to step {last}"
    console.print(f"{view.label} {view.state}" + (f": {error}" if error else ""), style="bold #d55e00", soft_wrap=True)
    if refused:
        return
    for line in view.run.log_tail(LOG_LINES):
        console.print(f"  | {visible_log(line)}", soft_wrap=True)


def _last_record(run: RunDirectory) -> int | None:
    try:
        with Trace(run.trace_path) as trace:
            return trace.last_step()
    except ReprotuiError:
        return None


def race_to_json(
    path: Path, runs: Sequence[RunView], verdicts: list[Verdict], agreement: tuple[str, Groups], code: int
) -> dict[str, Any]:
    """Return a race's outcome as a JSON object; `agreement` says who agrees with whom in one line, and as groups."""
    return {
        "race": str(path),
        "exit_code": code,
        "verdicts": [verdict.to_json() for verdict in verdicts],
        "agreement": agreement[0],
        "groups": agreement[1],
        "chance": [line.to_json() for line in side_by_side([chance_of(view.run.trace_path) for view in runs])],
        "runs": {
            view.run.path.name: {
                "path": str(view.run.path),
                "state": view.state,
                "why": view.why,
                "config": view.manifest.config,
                "recorded_with": asked_for(view.manifest),
                "result": view.manifest.document.get("result"),
                "ranks": ranks_to_json(all_ranks(view.run, view.manifest)),
            }
            for view in runs
        },
    }


def _short_number(value: Any, digits: int = 6) -> str:
    return short(value, digits) if isinstance(value, float) else str(value)
