"""Numbers of runs for other programs: every record as a line of CSV, and a chart of a metric as SVG."""

import csv
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reprotui.compare.curves import View, drawn, over_time
from reprotui.compare.metrics import SECONDS, MetricReader
from reprotui.compare.series import Series, places
from reprotui.compare.timeline import SPAN, TimelineReader
from reprotui.errors import BadInputError
from reprotui.report.chart import layout
from reprotui.report.html import render_svg
from reprotui.report.loss import BUCKETS, reduce
from reprotui.report.model import LossCurve
from reprotui.report.write import refuse_unfit, told

ROWS = 4096
"""Lines of CSV made at once."""


@dataclass(frozen=True)
class Numbers:
    """Runs whose numbers are wanted: label and trace of each, the reference first; of the steps from `first` to `last` alone."""

    labels: tuple[str, ...]
    traces: tuple[Path, ...]
    first: float = -np.inf
    last: float = np.inf


def metric_names(numbers: Numbers) -> tuple[str, ...]:
    """Return which metrics any of the runs has, the loss first.

    Raises:
        ReprotuiError: a trace cannot be read.
    """
    reader = MetricReader(numbers.traces)
    names = reader.names()
    _refuse_problems(reader)
    return names


def check_names(wanted: Sequence[str], there: Sequence[str]) -> None:
    """Raise BadInputError for a metric that no run has."""
    for name in wanted:
        if name not in there:
            raise BadInputError(f"no run has a metric {name!r}: there are {', '.join(there)}")


def csv_lines(numbers: Numbers, metrics: Sequence[str]) -> Iterator[str]:
    """Yield a table of all records: run, step, seconds since its first record, and a column a metric, empty where it has none.

    Numbers are as exact as they were recorded; a loss is what its bits say.
    """
    yield _lines([["run", "step", SECONDS, *metrics]])
    reader = MetricReader(numbers.traces)
    read = {name: reader.read(name) for name in metrics}
    clocks = reader.seconds()
    _refuse_problems(reader)
    for index, label in enumerate(numbers.labels):
        clock = clocks[index]
        low, high = clock.between(numbers.first, numbers.last)
        for start in range(low, high, ROWS):
            steps = np.asarray(clock.x[start : min(high, start + ROWS)])
            columns = [_column(read[name][index], steps) for name in metrics]
            times = [f"{value:.9g}" for value in clock.values[start : start + len(steps)]]
            yield _lines([label, *row] for row in zip(steps.tolist(), times, *columns, strict=True))


def chart_svg(numbers: Numbers, view: View, log: bool) -> str:
    """Return a chart as SVG: what a view shows, between two steps, with a mark at every first difference."""
    reader = MetricReader(numbers.traces)
    by_step = drawn(reader.read(view.metric), view)
    seconds = reader.seconds() if view.clock else ()
    _refuse_problems(reader)
    parts = tuple(_part(run, numbers) for run in by_step)
    shown = over_time(parts, view, seconds) if view.clock else parts
    runs = [(label, LossCurve(len(run.x), tuple(_points(run)))) for label, run in zip(numbers.labels, shown, strict=True)]
    ends = [float(run.x[at]) for run in shown if len(run.x) for at in (0, -1)] or [0.0, 1.0]
    span = (0.0 if min(ends) == 1 else min(ends)), max(ends)
    marks = []
    for label, step in _first_differences(numbers):
        if numbers.first <= step <= numbers.last:
            at = float(np.interp(step, seconds[0].x, seconds[0].values)) if view.clock else float(step)
            marks.append((at, f"≠ step {step}" + (f" ({label})" if len(numbers.labels) > 2 else "")))
    # On a logarithmic axis there is no 0, which is how far runs are apart where they are equal.
    bare = log and view.apart and any(value > 0 for _, curve in runs for _, value in curve.points)
    if bare:
        kept = [(label, tuple(point for point in curve.points if point[1] != 0)) for label, curve in runs]
        runs = [(label, LossCurve(len(points), points)) for label, points in kept]
    title = f"{view.title('Δ')}{' where it is not 0' if bare else ''}"
    picture = layout(runs, marks, title, "seconds" if view.clock else "step", log, span)
    return render_svg(picture, ", ".join(numbers.labels))


def write_parts(target: Path, parts: Iterable[str], force: bool = False) -> Path:
    """Write a file whole or not at all, and return its path; one that exists is replaced with `force` alone.

    Raises:
        BadInputError: it exists, or its place cannot be written.
    """
    refuse_unfit(target, force)
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}.tmp")
    try:
        with told(target):
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(parts)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def free_name(folder: Path, stem: str, suffix: str) -> Path:
    """Return a file's path that is not taken in a folder: the stem made fit for a name, with a number where it must be."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-.")[:100] or "runs"
    names = (f"{plain}{f'-{number}' if number else ''}{suffix}" for number in itertools.count())
    return next(folder / name for name in names if not (folder / name).exists())


def _column(series: Series, steps: Any) -> list[str]:
    at = places(series.x, steps)
    there = at < len(series.x)
    there[there] = np.asarray(series.x)[at[there]] == steps[there]
    values = iter(np.asarray(series.values)[at[there]].tolist())
    return [repr(next(values)) if found else "" for found in there.tolist()]


def _lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _part(run: Series, numbers: Numbers) -> Series:
    start, stop = run.between(numbers.first, numbers.last)
    return Series(run.x[start:stop], run.values[start:stop])


def _points(run: Series) -> Iterator[tuple[Any, float]]:
    for index in reduce(run.values, BUCKETS):
        yield run.x[index], float(run.values[index])


def _first_differences(numbers: Numbers) -> list[tuple[str, int]]:
    reader = TimelineReader(numbers.traces, whole=False)
    while not (timeline := reader.advance(SPAN)).complete:
        pass
    firsts = zip(numbers.labels[1:], timeline.pairs, strict=True)
    return [(label, pair.first) for label, pair in firsts if pair.first is not None]


def _refuse_problems(reader: MetricReader) -> None:
    for problem in reader.problems.values():
        raise problem
