"""`reprotui export`: the numbers of runs as CSV, or a chart of them as SVG."""

import argparse
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import BadInputError

FORMATS = ("csv", "svg")


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "export",
        "export the numbers of runs as CSV, or a chart of a metric as SVG",
        """reprotui export runs/x --list                       (which metrics there are)
        reprotui export runs/x > x.csv                      (run, step, seconds, and every metric)
        reprotui export runs/x --metric loss,grad-norm --out x.csv
        reprotui export runs/x --out loss.svg
        reprotui export runs/x --metric accuracy --mean 100 --steps 500:2000 --out accuracy.svg
        reprotui export runs/x --apart --over-time --out apart.svg""",
        "Export what the chart of the dashboard shows: every record as a line of CSV, exact to the last bit, or a chart as SVG.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="run directory, race directory, or name in the runs directory")
    parser.add_argument(
        "--metric", metavar="LIST", help="with commas: loss, a recorded metric, grad-norm, param-norm, steps-per-second, "
        "leaves-not-finite, memory-mb, gpu-memory-mb (default: all for CSV, the loss for SVG)",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="say which metrics there are, and nothing else")
    parser.add_argument("--out", metavar="FILE", help="file.csv or file.svg; - for stdout (default)")
    parser.add_argument("--format", choices=FORMATS, help="csv or svg (default: as the file's name says, else csv)")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    parser.add_argument("--steps", metavar="FIRST:LAST", help="these steps alone; either may be left away")
    chart = parser.add_argument_group("chart (SVG)")
    chart.add_argument("--apart", action="store_true", help="how far each run is from the first: |Δ|")
    chart.add_argument("--mean", type=common.positive, metavar="N", help="each value is the mean of N records")
    chart.add_argument("--over-time", action="store_true", help="seconds below, since the first record of each run")
    chart.add_argument(
        "--linear", action="store_true", help="a linear axis; without, it is logarithmic where all values are positive"
    )
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Find the runs, and print or write what is wanted."""
    from reprotui.compare.curves import View
    from reprotui.compare.metrics import LOSS
    from reprotui.race.monitor import members
    from reprotui.report import data

    form = _format(parsed)
    runs = members([common.find_run(name, common.runs_directory(parsed)) for name in parsed.run])
    first, last = _steps(parsed.steps)
    numbers = data.Numbers(tuple(label for label, _ in runs), tuple(run.trace_path for _, run in runs), first, last)
    names = data.metric_names(numbers)
    if parsed.list:
        common.print_json({"metrics": names}) if parsed.json else common.say(*names)
        return 0
    wanted = [name.strip() for name in parsed.metric.split(",") if name.strip()] if parsed.metric else []
    data.check_names(wanted, names)
    if form == "csv":
        parts = data.csv_lines(numbers, wanted or names)
    else:
        if len(wanted) > 1:
            raise BadInputError(f"a chart shows one metric, --metric names {len(wanted)}: one at a time")
        view = View(wanted[0] if wanted else LOSS, parsed.apart, parsed.mean or 0, parsed.over_time)
        if view.apart and len(runs) < 2:
            raise BadInputError("--apart holds runs against the first one: name two, or a race")
        parts = [data.chart_svg(numbers, view, not parsed.linear)]
    if parsed.out in (None, "-"):
        _print(parts)
        return 0
    written = data.write_parts(Path(parsed.out).expanduser(), parts, parsed.force)
    common.print_json({"file": str(written), "format": form}) if parsed.json else common.say(common.short(written))
    return 0


def _print(parts: Iterable[str]) -> None:
    # UTF-8 whatever the locale says: it goes into a file or a pipe.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    for part in parts:
        sys.stdout.write(part)


def _format(parsed: argparse.Namespace) -> str:
    suffix = Path(parsed.out).suffix.lower().removeprefix(".") if parsed.out and parsed.out != "-" else ""
    form = parsed.format or (suffix if suffix in FORMATS else "")
    if not form and suffix:
        raise BadInputError(f"{parsed.out}: the suffix .{suffix} is neither .csv nor .svg; say which with --format")
    form = form or "csv"
    for option in ("apart", "mean", "over_time", "linear"):
        if form == "csv" and getattr(parsed, option) and not parsed.list:
            flag = option.replace("_", "-")
            raise BadInputError(f"--{flag} is for a chart: CSV has every record as it is; add --format svg, or --out FILE.svg")
    if parsed.json and parsed.out in (None, "-") and not parsed.list:
        raise BadInputError("--json says which file was written: name one with --out")
    return form


def _steps(text: str | None) -> tuple[float, float]:
    if text is None:
        return float("-inf"), float("inf")
    first, mark, last = text.partition(":")
    try:
        if not mark:
            raise ValueError
        found = (int(first) if first else float("-inf")), (int(last) if last else float("inf"))
    except ValueError:
        raise BadInputError(f"--steps {text}: expected two steps, as 100:200, 100: or :200") from None
    if found[0] > found[1]:
        raise BadInputError(f"--steps {text}: the first step is behind the last")
    return found
