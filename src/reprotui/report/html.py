"""The report as one HTML file: no script, nothing loaded from elsewhere, fit for print and for dark screens."""

import functools
from typing import Any

from reprotui.foreign import plain, visible
from reprotui.report.chart import BOTTOM, HEIGHT, LANE, LEFT, RIGHT, TOP, WIDTH, Picture, picture
from reprotui.report.document import Block, Chart, Table
from reprotui.report.model import Report
from reprotui.report.sections import cards, sections

FRAME = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM, "lane": LANE}


def render_html(report: Report) -> str:
    """Return the report as a self-contained HTML page; every text from the runs is escaped by the template."""
    chart = picture(report)
    return (
        _environment()
        .get_template("report.html")
        .render(report=report, cards=cards(report), sections=sections(report), chart=chart, frame=FRAME, kind_of=_kind_of)
    )


def render_svg(chart: Picture, names: str) -> str:
    """Return a chart as an SVG that stands alone; `names` says of which runs it is."""
    return _environment().get_template("standalone.svg").render(chart=chart, frame=FRAME, names=names)


def _kind_of(item: Table | Block | Chart | str) -> str:
    return type(item).__name__


@functools.cache
def _environment() -> Any:
    # Loaded here: the other forms do without a template engine, which takes 40 ms to import.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("reprotui.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(value: Any) -> Any:
    """Take from every text what a page must not hold; markup that the template made is left alone."""
    from markupsafe import Markup

    return visible(plain(value)) if isinstance(value, str) and not isinstance(value, Markup) else value
