"""The loss chart: where its lines, gaps, ticks and marks lie, as numbers for the SVG; and a row of blocks for Markdown."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reprotui.numbers import short
from reprotui.report.model import LossCurve, Report

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 744, 24, 262
"""The frame of the plot; the rest is for the ticks and the marks' names."""
LANE = 9
"""Height of the lane that shows where a run's loss is not finite."""
COLUMNS = 72
"""Width of the Markdown chart."""
BARS = "▁▂▃▄▅▆▇█"
DECADES = 1.0, 3.0
"""Powers of ten: below the first a logarithmic axis has evenly spaced ticks, above the second only powers of ten."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A tick: its place in the picture and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A run's loss: pieces between the gaps, places that stand alone, and where the gaps are (x, width)."""

    label: str
    pieces: tuple[str, ...]
    dots: tuple[Point, ...]
    gaps: tuple[Point, ...]
    lane: float
    number: int


@dataclass(frozen=True)
class Mark:
    """A first difference; its text stands to the right of the line, or to the left where there is no room."""

    x: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Picture:
    """All of a chart, in pixels."""

    lines: tuple[Line, ...]
    marks: tuple[Mark, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    logarithmic: bool
    name: str = "loss"
    below: str = "step"


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        part = ((math.log(value) if self.logarithmic else value) - low) / ((high - low) or 1.0)
        return round(self.start + part * (self.end - self.start), 1)


def picture(report: Report) -> Picture:
    """Lay out the losses of all runs over their steps; the scale is logarithmic where all are positive."""
    return layout([(run.label, run.loss) for run in report.runs], _first_differences(report))


def layout(
    runs: Sequence[tuple[str, LossCurve]], differences: Sequence[tuple[float, str]], name: str = "loss", below: str = "step",
    logarithmic: bool = True, span: tuple[float, float] | None = None,
) -> Picture:  # fmt: skip
    """Lay out curves.

    Args:
        runs: label and points of each.
        differences: places of marks, and their texts.
        name: of what is drawn.
        below: what the points stand over: `step`, or `seconds`.
        logarithmic: where all values are positive.
        span: first and last place of the frame; None for those of the points.
    """
    curves = [curve for _, curve in runs]
    x, y = _scales(curves, logarithmic)
    x = x if span is None else _Scale(*span, LEFT, RIGHT)
    lines = []
    for index, (label, curve) in enumerate(runs):
        lane = BOTTOM - 4 - LANE * (len(runs) - 1 - index)
        lines.append(Line(label, *_pieces(curve, x, y), lane, index))
    marks = [Mark(x(at), text, "end" if x(at) > (LEFT + RIGHT) / 2 else "start") for at, text in differences]
    steps = below == "step"
    places = [(x(at), f"{at:,.0f}" if steps else short(at)) for at in _nice(x.low, x.high, 8, whole=steps)]
    return Picture(
        tuple(lines), tuple(marks), tuple(Tick(*place) for place in places),
        tuple(Tick(y(value), short(value)) for value in _y_values(y)), y.logarithmic, name, below,
    )  # fmt: skip


def sparklines(report: Report) -> list[str]:
    """Return a row of blocks a run: the largest loss of each piece of the run, `×` where it is not finite."""
    x, y = _scales([run.loss for run in report.runs])
    width = max(len(run.label) for run in report.runs)
    rows = []
    for run in report.runs:
        columns: list[float | None] = [None] * COLUMNS
        for step, loss in run.loss.points:
            column = _column(step, x)
            before = columns[column]
            if before is None or not math.isfinite(loss) or (math.isfinite(before) and loss > before):
                columns[column] = loss
        rows.append(f"{run.label:<{width}}  " + "".join(_bar(loss, y) for loss in columns).rstrip())
    for step, text in _first_differences(report):
        rows.append(" " * (width + 2 + _column(step, x)) + f"↑ {text}")
    scale = "logarithmic" if y.logarithmic else "linear"
    rows.append(f"{'':<{width}}  steps {x.low:g} to {x.high:g}, loss {short(y.low)} to {short(y.high)} ({scale})")
    return rows


def _column(step: float, x: _Scale) -> int:
    return min(COLUMNS - 1, int((step - x.low) / ((x.high - x.low) or 1) * COLUMNS))


def _bar(loss: float | None, y: _Scale) -> str:
    if loss is None:
        return " "
    if not math.isfinite(loss):
        return "×"
    part = (y.start - y(loss)) / (y.start - y.end)
    return BARS[min(len(BARS) - 1, max(0, int(part * len(BARS))))]


def _scales(curves: Sequence[LossCurve], log: bool = True) -> tuple[_Scale, _Scale]:
    steps = [step for curve in curves for step, _ in curve.points]
    finite = [loss for curve in curves for _, loss in curve.points if math.isfinite(loss)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    logarithmic = log and bool(finite) and low > 0
    if low == high:
        low, high = (low / 2, high * 2) if logarithmic else (low - 0.5, high + 0.5)
    first = min(steps, default=0)
    # A first difference at step 0 lies before the first loss, which belongs to step 1.
    x = _Scale(0 if first == 1 else first, max(steps, default=1), LEFT, RIGHT)
    lanes = 0 if len(finite) == len(steps) else LANE * len(curves)
    return x, _Scale(low, high, BOTTOM - 8 - lanes, TOP + 8, logarithmic)


def _first_differences(report: Report) -> list[tuple[int, str]]:
    """Return the steps of the first differences and how they are called; runs that diverge at one step share it."""
    at: dict[int, list[str]] = {}
    for comparison in report.comparisons:
        if comparison.verdict.step is not None:
            at.setdefault(comparison.verdict.step, []).append(comparison.verdict.b)
    several = len(report.comparisons) > 1
    return [(step, f"≠ step {step}" + (f" ({', '.join(labels)})" if several else "")) for step, labels in sorted(at.items())]


def _pieces(curve: LossCurve, x: _Scale, y: _Scale) -> tuple[tuple[str, ...], tuple[Point, ...], tuple[Point, ...]]:
    pieces: list[list[Point]] = [[]]
    gaps: list[list[float]] = []
    for step, loss in curve.points:
        if math.isfinite(loss):
            pieces[-1].append((x(step), y(loss)))
            continue
        if pieces[-1] or not gaps:
            pieces.append([])
            gaps.append([])
        gaps[-1].append(x(step))
    lines = tuple(" ".join(f"{at},{height}" for at, height in piece) for piece in pieces if len(piece) > 1)
    dots = tuple(piece[0] for piece in pieces if len(piece) == 1)
    # A single step of a long run would be thinner than a pixel.
    return lines, dots, tuple((gap[0], round(max(3.0, gap[-1] - gap[0]), 1)) for gap in gaps)


def _y_values(y: _Scale) -> Iterable[float]:
    decades = math.log10(y.high / y.low) if y.logarithmic else 0.0
    if decades < DECADES[0]:
        return _nice(y.low, y.high, 6)
    first, last = math.floor(math.log10(y.low)), math.ceil(math.log10(y.high))
    every = max(1, (last - first) // 6)
    factors = (1, 2, 5) if decades < DECADES[1] else (1,)
    values = [factor * 10.0**power for power in range(first, last + 1, every) for factor in factors]
    return [value for value in values if y.low <= value <= y.high]


def _nice(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten between two values, some `about` of them."""
    rough = (high - low) / about or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    if whole:
        step = max(1.0, step)
    first = math.ceil(low / step)
    count = int((high - low) / step) + 1
    return [value for value in ((first + index) * step for index in range(count)) if value <= high]
