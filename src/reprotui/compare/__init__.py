"""Compare runs: the first difference in execution order, its cause, and the verdict; whole, and for N runs."""

from reprotui.compare.differences import FirstDifference, compare_traces
from reprotui.compare.ranks import compare_runs
from reprotui.compare.runs import RunView, open_run
from reprotui.compare.verdict import Cause, Verdict, worst

__all__ = [
    "Cause",
    "FirstDifference",
    "RunView",
    "Verdict",
    "compare_runs",
    "compare_traces",
    "open_run",
    "worst",
]
