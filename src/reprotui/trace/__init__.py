"""The record of a run: schema, writer, reader, live follower and seal. One SQLite file a run."""

from reprotui.trace.courier import Local
from reprotui.trace.follower import Follower, watch
from reprotui.trace.joined import joined
from reprotui.trace.phases import PHASES
from reprotui.trace.reader import Trace
from reprotui.trace.records import LeafTable, Record
from reprotui.trace.rows import Event, Span, StepRow
from reprotui.trace.verify import VerifiedTrace, verify_trace
from reprotui.trace.writer import TraceWriter

__all__ = [
    "PHASES",
    "Event",
    "Follower",
    "LeafTable",
    "Local",
    "Record",
    "Span",
    "StepRow",
    "Trace",
    "TraceWriter",
    "VerifiedTrace",
    "joined",
    "verify_trace",
    "watch",
]
