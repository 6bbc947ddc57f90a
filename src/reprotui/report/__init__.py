"""One report model of compared runs, and its three forms: Markdown, JSON (schema/report-v2.json) and one HTML file."""

from reprotui.report.collect import collect_report
from reprotui.report.model import SCHEMA_VERSION, Report
from reprotui.report.verify import Verify
from reprotui.report.write import FORMATS, formats_of, refuse_unfit_place, render, write_report

__all__ = [
    "FORMATS",
    "SCHEMA_VERSION",
    "Report",
    "Verify",
    "collect_report",
    "formats_of",
    "refuse_unfit_place",
    "render",
    "write_report",
]
