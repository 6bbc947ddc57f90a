"""The sections on what differs: the steps around the first difference, its leaves, configs and environments."""

from collections.abc import Mapping, Sequence
from typing import Any

from reprotui.checksum import LeafSpec
from reprotui.report.document import Cell, Section, Table
from reprotui.report.model import Comparison, Exact, LeafLine, Report, StepLine, StepSide
from reprotui.report.text import number
from reprotui.trace import PHASES

LEAVES_SHOWN = 60
"""Leaves in the readable forms: a page of them; the JSON form has all."""
ROOT_DIGITS = 8
"""Digits of a root in the step table: enough to see, all 16 are in the JSON form."""


def first_difference_sections(report: Report) -> list[Section]:
    """Return the steps and leaves of every run that diverged; nothing where none did."""
    found = []
    labels = [run.label for run in report.runs]
    for comparison in report.comparisons:
        verdict = comparison.verdict
        if verdict.step is None:
            continue
        column = labels.index(verdict.b)
        content: list[Table | str] = [_steps_table(comparison, column)] if comparison.steps else []
        if comparison.problem:
            content.append(f"Not all of it can be read: {comparison.problem}")
        if comparison.leaves:
            content += [f"Leaves of {verdict.phase} that differ at step {verdict.step}:", _leaves_table(comparison, column)]
            if len(comparison.leaves) > LEAVES_SHOWN:
                content.append(f"{len(comparison.leaves) - LEAVES_SHOWN} more leaves are in the JSON form.")
            if all(line.norm_a is None and line.norm_b is None for line in comparison.leaves):
                content.append("Norms and maxima were not taken at this step.")
        else:
            content.append("Leaf rows were not stored at this step.")
        if comparison.exact is not None:
            content += _exact(comparison.exact, verdict.a, verdict.b)
        against = f" of {verdict.b}" if len(report.comparisons) > 1 else ""
        found.append(Section(f"First difference{against}", tuple(content)))
    return found


def config_section(report: Report) -> Section:
    """Return the config fields that differ, then the reference's whole config."""
    labels = [run.label for run in report.runs]
    names = dict.fromkeys(item.name for comparison in report.comparisons for item in comparison.configs)
    phases = {item.name: item.phases for comparison in report.comparisons for item in comparison.configs}
    rows = []
    for name in names:
        values = [run.entry("config", name) for run in report.runs]
        marks = ["", *("=" if value == values[0] else "≠" for value in values[1:])]
        cells = [Cell(_value(value), True, mark) for value, mark in zip(values, marks, strict=True)]
        rows.append((Cell(name, True), *cells, Cell(", ".join(phases[name]) or "none")))
    columns = {index + 1: index for index in range(len(labels))}
    table = Table(("field", *labels, "can change"), tuple(rows), columns)
    config = report.runs[0].entry("config")
    whole = _pairs(config) if isinstance(config, Mapping) else ()
    return Section("Config", (table if rows else _nothing(report, "config", "The configs are equal."), *_whole(labels[0], whole)))


def _nothing(report: Report, entry: str, equal: str) -> str:
    """Return that there is no difference, as far as all runs recorded what could differ."""
    without = [
        run.label
        for run in report.runs
        if not isinstance(run.entry(entry), Mapping) or (entry == "environment" and not run.entry(entry))
    ]
    return f"Of {', '.join(without)} it was not recorded." if without else equal


def _equal_environments(report: Report) -> str:
    """Return that environments are equal, and of which runs the devices are not known."""
    without = [run.label for run in report.runs if not run.entry("devices")]
    return "The environments are equal" + (f"; of {', '.join(without)} the devices were not recorded." if without else ".")


def environment_section(report: Report) -> Section:
    """Return the environment entries that differ, then the reference's whole environment."""
    labels = [run.label for run in report.runs]
    differing: dict[str, dict[str, tuple[str, str]]] = {}
    for comparison in report.comparisons:
        for item in comparison.environments:
            differing.setdefault(item.name, {})[comparison.verdict.b] = (item.a, item.b)
    rows = []
    for name, sides in differing.items():
        of_a = next(iter(sides.values()))[0]
        others = [Cell(*((sides[label][1], True, "≠") if label in sides else (of_a, True, "="))) for label in labels[1:]]
        rows.append((Cell(name, True), Cell(of_a, True), *others))
    table = Table(("entry", *labels), tuple(rows), {index + 1: index for index in range(len(labels))})
    reference = report.runs[0]
    whole = [*_pairs(reference.entry("environment") or {}), *_pairs(reference.entry("devices") or {}, "devices.")]
    return Section(
        "Environment",
        (table if rows else _nothing(report, "environment", _equal_environments(report)), *_whole(labels[0], whole)),
    )


def _whole(label: str, pairs: Sequence[tuple[str, str]]) -> list[Table | str]:
    if not pairs:
        return [f"{label} recorded none."]
    rows = tuple((Cell(name, True), Cell(value, True)) for name, value in pairs)
    return [f"All of {label}:", Table(("name", "value"), rows, {})]


def _pairs(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in values.items() if isinstance(values, Mapping) else ():
        if isinstance(value, Mapping):
            found += _pairs(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", _value(value)))
    return found


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _steps_table(comparison: Comparison, column: int) -> Table:
    verdict, lines = comparison.verdict, comparison.steps
    present = [phase for phase in PHASES if any(side and phase in side.roots for line in lines for side in (line.a, line.b))]
    rows = tuple(_step_row(line, present) for line in lines)
    strong = next(index for index, line in enumerate(lines) if line.step == verdict.step)
    return Table(("step", f"loss {verdict.a}", f"loss {verdict.b}", *present), rows, {1: 0, 2: column}, strong)


def _step_row(line: StepLine, phases: Sequence[str]) -> tuple[Cell, ...]:
    losses = [Cell(_loss(side), True) for side in (line.a, line.b)]
    return (Cell(str(line.step)), *losses, *(_root_cell(line, phase) for phase in phases))


def _loss(side: StepSide | None) -> str:
    return "not recorded" if side is None else number(side.loss, 9)


def _root_cell(line: StepLine, phase: str) -> Cell:
    if line.a is None or line.b is None:
        return Cell("", mark="?")
    whole = [f"{side.roots[phase]:016x}" if phase in side.roots else "–" for side in (line.a, line.b)]
    roots = [root[:ROOT_DIGITS] for root in whole]
    if phase in line.differs:
        return Cell(" / ".join(roots if roots[0] != roots[1] else whole), True, "≠")
    # Roots can differ where a leaf is recorded in one run only; the comparison then says so in a note.
    return Cell(roots[0], True, "=") if whole[0] == whole[1] else Cell(" / ".join(roots), True)


def _exact(exact: Exact, a: str, b: str) -> list[Table | str]:
    """Return what replaying both runs found, leaf by leaf."""
    if exact.problem:
        return [f"No exact difference: {exact.problem}"]
    count, rows = len(exact.leaves), []
    for leaf in exact.leaves[:LEAVES_SHOWN]:
        found = leaf.elements
        specs = [_spec(spec) for spec in (leaf.a, leaf.b) if spec is not None]
        cells = [Cell(leaf.phase), Cell(leaf.path, True), Cell(" / ".join(dict.fromkeys(specs)), True)]
        if found is None:
            cells += [
                Cell(leaf.kind, mark="≠"),
                *(Cell("") for _ in range(4)),
                *(Cell(value, True) for value in leaf.values or ("", "")),
            ]
        else:
            cells.append(Cell(f"{found.different:,} of {found.elements:,}", mark="≠"))
            cells += [Cell(number(value, 4), True) for value in (found.max_abs, found.max_relative)]
            cells += [
                Cell("–" if found.max_ulp is None else f"{found.max_ulp:,}", True),
                Cell(str(list(found.first_index or ())), True),
            ]
            cells += [Cell(value, True) for value in found.first_values or ("", "")]
        rows.append(tuple(cells))
    said = f"Both runs replayed to step {exact.step}, element by element: {count} of {count + exact.equal} leaves differ."
    head = (
        "phase",
        "leaf",
        "dtype and shape",
        "elements",
        "max |Δ|",
        "max relative",
        "max ulp",
        "first at",
        f"{a} there",
        f"{b} there",
    )
    more = [f"{count - LEAVES_SHOWN} more leaves are in the JSON form."] if count > LEAVES_SHOWN else []
    return [said, *([Table(head, tuple(rows), {})] if rows else []), *more]


def _leaves_table(comparison: Comparison, column: int) -> Table:
    verdict = comparison.verdict
    a, b = verdict.a, verdict.b
    statistics = any(line.norm_a is not None or line.norm_b is not None for line in comparison.leaves)
    head = ["leaf", "dtype and shape", "differs in", f"checksum {a}", f"checksum {b}"]
    columns = {3: 0, 4: column}
    if statistics:
        head += [f"L2 norm {a}", f"L2 norm {b}", f"max |x| {a}", f"max |x| {b}"]
        columns |= {5: 0, 6: column, 7: 0, 8: column}
    rows = tuple(_leaf_row(line, statistics) for line in comparison.leaves[:LEAVES_SHOWN])
    return Table(tuple(head), rows, columns)


def _leaf_row(line: LeafLine, statistics: bool) -> tuple[Cell, ...]:
    leaf = line.difference
    specs = [_spec(spec) for spec in (leaf.a, leaf.b) if spec is not None]
    checksums = ["–" if value is None else f"{value:016x}" for value in (leaf.checksum_a, leaf.checksum_b)]
    cells = [Cell(leaf.path, True), Cell(" / ".join(dict.fromkeys(specs)), True), Cell(leaf.kind, mark="≠")]
    cells += [Cell(text, True) for text in checksums]
    if statistics:
        cells += [Cell(number(value, 9), True) for value in (line.norm_a, line.norm_b, line.max_a, line.max_b)]
    return tuple(cells)


def _spec(spec: LeafSpec) -> str:
    return f"{spec.dtype}[{','.join(map(str, spec.shape))}]"
