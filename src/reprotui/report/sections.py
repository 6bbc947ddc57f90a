"""Turn a report into a document: once, so that Markdown and HTML say the same."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from reprotui.compare import Verdict
from reprotui.compare.diagnosis import Diagnosis
from reprotui.compare.explained import SOURCE, Explained
from reprotui.compare.ledger import side_by_side
from reprotui.compare.rank_status import HEADINGS
from reprotui.compare.watched import Watched
from reprotui.event_kinds import CORRUPT, TORN, word_of
from reprotui.report.differences import config_section, environment_section, first_difference_sections
from reprotui.report.document import Block, Card, Cell, Chart, Section, Table, mark_of
from reprotui.report.model import Report, RunReport
from reprotui.report.text import number, timestamp
from reprotui.schedule import Replicas

SYMBOLS = {"identical": "=", "diverged": "≠", "incomplete": "?", "incomparable": "?"}
CHANCE_SHOWN = 100
"""Places where chance entered, in the readable forms."""
EVENTS_SHOWN = 40
"""Events of a run in the readable forms; the JSON form has all."""


def cards(report: Report) -> list[Card]:
    """Return the verdicts."""
    found = []
    for comparison in report.comparisons:
        verdict, cause = comparison.verdict, comparison.verdict.cause
        rows = [(word_of(text).lower(), text) for text in verdict.torn]
        if cause:
            rows += [("evidence" if index == 0 else "", line) for index, line in enumerate(cause.evidence)]
            if cause.unrelated:
                rows.append(("differs too", "; ".join(cause.unrelated) + " (does not explain it)"))
            if cause.advice:
                rows.append(("try", cause.advice))
        rows += verdict.distance.lines if verdict.distance else []
        rows += [("note", note) for note in verdict.notes]
        title, symbol = f"{verdict.b} against {verdict.a}", _symbol(verdict)
        sentence = cause.sentence if cause else _proof(report, verdict) if verdict.kind == "identical" else ""
        found.append(Card(title, verdict.tone, symbol, verdict.headline, sentence, tuple(rows)))
    return found


def _symbol(verdict: Verdict) -> str:
    if verdict.broken and verdict.kind != "diverged":
        return "!"
    return "≈" if verdict.tone == "identical" and verdict.kind == "diverged" else SYMBOLS[verdict.kind]


def sections(report: Report) -> list[Section]:
    """Return the sections that have something to say, in reading order."""
    return [
        *([Section("Agreement", (report.agreement,))] if report.agreement else []),
        Section("Runs", (_runs_table(report.runs),)),
        *_ranks(report.runs),
        *([Section("Loss", (Chart(),))] if any(run.loss.points for run in report.runs) else []),
        *first_difference_sections(report),
        *_explained(report.explained),
        *_diagnosis(report.diagnosis),
        config_section(report),
        environment_section(report),
        *_chance(report.runs),
        *_programs(report.runs),
        *_checkpoints(report.runs),
        *_events(report.runs),
        *_logs(report.runs),
        Section("Reproduce", (Block(tuple(line for item in report.commands for line in (f"# {item[0]}", item[1]))),)),
    ]


def _proof(report: Report, verdict: Verdict) -> str:
    """Say what `identical` rests on: runs that record at another spacing share some of their steps only."""
    a, b = (next(run for run in report.runs if run.label == label) for label in (verdict.a, verdict.b))
    in_both = verdict.records is None or verdict.records + 1 >= a.loss.records
    count = f"all {a.loss.records:,}" if a.loss.records == b.loss.records and in_both else "all common"
    records = f"{count} records agree to the bit"
    return f"{records}, and the final states have the same content digest" if verdict.ends_equal else records


def _watched(run: RunReport) -> str:
    kept = run.entry("result", "watched")
    found = Watched.of(kept if isinstance(kept, Mapping) else None)
    return "" if found is None else "; ".join([found.sentence, *found.lines])


def _runs_table(runs: Sequence[RunReport]) -> Table:
    rows: list[tuple[Cell, ...]] = []

    def add(name: str, values: Sequence[Any], code: bool = False, compared: bool = False) -> None:
        if all(value in (None, "") for value in values):
            return
        marks = ["", *(mark_of(values[0], value) if compared else "" for value in values[1:])]
        cells = [Cell(number(value, 9), code, mark) for value, mark in zip(values, marks, strict=True)]
        rows.append((Cell(name), *cells))

    def entries(*keys: str) -> list[Any]:
        return [run.entry(*keys) for run in runs]

    add("state", [run.state for run in runs])
    add("error", entries("result", "error"))
    for word, kind in (("torn", TORN), ("corrupt", CORRUPT)):
        add(word, [next((event.text for event in run.events if event.kind == kind), "") for run in runs])
    add("torn ranks", [", ".join(str(rank.number) for rank in run.ranks if rank.torn) for run in runs])
    add("ranks", [len(run.ranks) or "" for run in runs], compared=True)
    add("watched", [_watched(run) for run in runs])
    add("experiment", entries("experiment", "name"), compared=True)
    add("source digest", [_short(value) for value in entries("experiment", "source_digest")], code=True, compared=True)
    add("steps recorded", [_steps_recorded(run) for run in runs])
    add("calls recorded", [_calls_recorded(run.entry("result", "coverage", "calls")) for run in runs])
    add("trace", [run.problem for run in runs])
    add("final loss", entries("result", "final", "loss"), compared=True)
    add("loss in its iterations", [_iterations(run.entry("result", "final", "iteration_losses")) for run in runs])
    for group in ("metrics", "evaluation"):
        found = entries("result", "final", group)
        names = dict.fromkeys(name for values in found if isinstance(values, Mapping) for name in values)
        for name in names:
            add(name, [values.get(name) if isinstance(values, Mapping) else None for values in found], compared=True)
    add("digest of params", entries("result", "digests", "params"), code=True, compared=True)
    add("digest of state", entries("result", "digests", "state"), code=True, compared=True)
    add("data digest", [_short(value) for value in entries("data_digest")], code=True, compared=True)
    add("seal", [_seal(run) for run in runs])
    add("chain", entries("seal", "chain"), code=True, compared=True)
    if any(run.verification for run in runs):
        rows.append((Cell("verification"), *map(_verification, runs)))
    add("recording", [_recording(run.entry("recording")) for run in runs])
    add(
        "recorded with",
        [" ".join(run.asked) or "as usual" if any(each.asked for each in runs) else "" for run in runs],
        code=True,
    )
    add("git", [_git(run.entry("environment", "git")) for run in runs], code=True)
    add("started", [timestamp(value) for value in entries("created_ns")])
    add("ended", [timestamp(value) for value in entries("result", "ended_ns")])
    add("path", [str(run.path) for run in runs], code=True)
    return Table(("", *(run.label for run in runs)), tuple(rows), {index + 1: index for index in range(len(runs))})


def _ranks(runs: Sequence[RunReport]) -> list[Section]:
    tables = [
        Table(("run", *HEADINGS), tuple(tuple(Cell(text) for text in (run.label, *rank.cells)) for rank in run.ranks), {})
        for run in runs
        if run.ranks
    ]
    return [Section("Ranks", tuple(tables))] if tables else []


def _steps_recorded(run: RunReport) -> str:
    if run.last_step is None:
        return "none"
    planned = run.entry("config", "steps")
    return f"{run.loss.records:,} records, through step {run.last_step}" + (f" of {planned}" if planned is not None else "")


def _calls_recorded(calls: Any) -> str:
    """Say how many calls of each function that trains lie in records; nothing where no observer counted them."""
    found = calls.items() if isinstance(calls, Mapping) else ()
    return ", ".join(f"{name}: {count['recorded']:,} of {count['made']:,}" for name, count in found)


def _iterations(losses: Any) -> str:
    """Say how the loss went in the iterations of the last call, where that has a loop inside."""
    if not isinstance(losses, list) or not losses:
        return ""
    return f"{len(losses):,} in the last call: from {number(losses[0])} to {number(losses[-1])}"


def _seal(run: RunReport) -> str:
    return "none" if run.entry("seal") is None else f"at step {run.entry('seal', 'last_step')}"


def _verification(run: RunReport) -> Cell:
    if run.verification is None:
        return Cell("–")
    if run.verification.problem:
        return Cell(run.verification.problem, mark="≠")
    return Cell(f"{run.verification.records:,} records verified", mark="=")


def _recording(recording: Any) -> str | None:
    if not isinstance(recording, Mapping):
        return None
    if not recording.get("enabled", True):
        return "off"
    steps, leaves, norms = (recording.get(name) for name in ("every", "leaves_every", "statistics_every"))
    copies = "; first copies only" if recording.get("replicas") == Replicas.FIRST else ""
    return f"{_every(steps, 'step')}; leaves {_every(leaves, 'record')}, norms {_every(norms, 'record')}{copies}"


def _every(count: Any, what: str) -> str:
    return f"every {what}" if count == 1 else f"every {number(count)} {what}s"


def _git(git: Any) -> str | None:
    if not isinstance(git, Mapping):
        return None
    changed = f", changed ({_short(git.get('diff_digest'))})" if git.get("dirty") else ""
    return f"{_short(git.get('commit'))}{changed}"


def _short(digest: Any) -> str | None:
    return None if digest is None else str(digest)[:16]


def _explained(found: Sequence[Explained]) -> list[Section]:
    """Return what began to differ in a step, and its line: a section a pair of runs."""
    sections = []
    for one in found:
        content: list[Table | Block | str] = [one.headline]
        for source, lines in groupby(one.lines, key=lambda line: line.about == SOURCE):
            texts = [(line.about, line.text) for line in lines]
            if source:
                content.append(Block(tuple(text for _, text in texts)))
            else:
                content.append(Table(("about", "what was found"), tuple((Cell(about), Cell(text)) for about, text in texts), {}))
        sections.append(Section(f"Step {one.step} of {one.a} and {one.b}, explained", tuple(content)))
    return sections


def _diagnosis(found: Diagnosis | None) -> list[Section]:
    """Return what was changed to find the cause, and what came of it."""
    if found is None:
        return []
    marks = {True: "=", False: "≠", None: ""}
    rows = [(Cell(row.text, mark=marks[row.equal]), Cell(row.pairs), Cell(row.outcome)) for row in found.rows()]
    table = Table(("changed in both runs", "pairs", "what came of it"), tuple(rows), {})
    return [Section("Diagnosis", (found.headline, *found.lines(), table))]


def _chance(runs: Sequence[RunReport]) -> list[Section]:
    """Return where chance and data entered the scripts; where there are many places, those that may differ."""
    lines = side_by_side([run.chance for run in runs])
    if len(lines) > CHANCE_SHOWN:
        shown = sorted(lines, key=lambda line: all(differs is False for differs in line.differs))[:CHANCE_SHOWN]
    else:
        shown = lines
    rows = []
    for line in shown:
        signs = ["", *("?" if differs is None else "≠" if differs else "=" for differs in line.differs[1:])]
        cells = [Cell(value or "–", True, sign) for value, sign in zip(line.values, signs, strict=True)]
        rows.append((Cell(line.place, True), Cell(line.source, True), *cells))
    columns = {index + 2: index for index in range(len(runs))}
    table = Table(("line", "what entered", *(run.label for run in runs)), tuple(rows), columns)
    more = [f"{len(lines) - len(rows)} more places are in the JSON form."] if len(lines) > len(rows) else []
    return [Section("Chance", (table, *more))] if rows else []


def _programs(runs: Sequence[RunReport]) -> list[Section]:
    rows = []
    for part in ("init", "step"):
        for name in ("jaxpr", "stablehlo", "optimized_hlo"):
            values = [run.entry("program", part, name) for run in runs]
            if any(values):
                marks = ["", *(mark_of(values[0], value) for value in values[1:])]
                cells = [Cell(_short(value) or "–", True, mark) for value, mark in zip(values, marks, strict=True)]
                rows.append((Cell(f"{part}, {name}"), *cells))
    columns = {index + 1: index for index in range(len(runs))}
    table = Table(("program", *(run.label for run in runs)), tuple(rows), columns)
    return [Section("Compiled programs", (table,))] if rows else []


def _checkpoints(runs: Sequence[RunReport]) -> list[Section]:
    rows = tuple(
        (Cell(run.label), Cell(str(item.get("name")), True), Cell(str(item.get("status"))), Cell(_rest(item)))
        for run in runs
        for item in run.checkpoints
    )
    return [Section("Checkpoints", (Table(("run", "checkpoint", "status", "more"), rows, {}),))] if rows else []


def _rest(item: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in item.items() if name not in ("name", "status"))


def _events(runs: Sequence[RunReport]) -> list[Section]:
    content: list[Table | str] = []
    rows = []
    for run in runs:
        left_out = len(run.events) - EVENTS_SHOWN
        if left_out > 0:
            content.append(f"{run.label}: {left_out} earlier events are in the JSON form.")
        for event in run.events[-EVENTS_SHOWN:]:
            rows.append((Cell(run.label), Cell(timestamp(event.time_ns) or "–"), Cell(event.kind), Cell(event.text)))
    table = Table(("run", "time", "event", ""), tuple(rows), {})
    return [Section("Events", (table, *content))] if rows else []


def _logs(runs: Sequence[RunReport]) -> list[Section]:
    return [Section(f"End of the log of {run.label}", (Block(run.log),)) for run in runs if run.log]
