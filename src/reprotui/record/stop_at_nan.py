"""A run that ends itself where its training breaks: once a record holds NaN or infinity, it is stopped like by a command."""

from collections.abc import Callable

from reprotui.schedule import Recording
from reprotui.trace.not_finite import Judge, NotFiniteRow, first_and_then, unpacked
from reprotui.trace.records import Record
from reprotui.trace.writer import TraceWriter


def watch(writer: TraceWriter, recording: Recording, request_stop: Callable[[str], None]) -> None:
    """Ask for a stop at the first record that is broken, where that is wanted; within a tenth of a second of the step."""
    if not recording.stop_at_nan:
        return
    judge = Judge()

    def look(record: Record) -> None:
        # All records, not changes alone: what is finite in between is no start value any longer.
        spell = judge.spell(NotFiniteRow(record.step, record.table, unpacked(record.not_finite)))
        if spell.broken:
            request_stop(f"not finite at step {record.step}: {first_and_then(spell.broken)}")
            writer.listeners.remove(look)

    writer.listeners.append(look)
