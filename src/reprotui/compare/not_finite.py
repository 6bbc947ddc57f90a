"""A run whose loss, gradients or state hold NaN or infinity: from when on, and where first.

Two runs that agree in that are identical to the bit, and neither is healthy: the verdict says both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reprotui.compare.evidence import some
from reprotui.compare.timeline import RunLine
from reprotui.trace import Trace
from reprotui.trace.not_finite import Spell, first_and_then, spells


@dataclass(frozen=True)
class NotFinite:
    """When a run holds NaN or infinity, and where.

    Attributes:
        run: its label.
        step: the first record that does.
        until: the record from which on all is finite again; None where the last one is not.
        steady: all records in between do too.
        places: where in that first record, in causal order: `forward/loss`, `grads/w`.
    """

    run: str
    step: int
    until: int | None
    steady: bool
    places: tuple[str, ...]

    @property
    def when(self) -> str:
        """Return at which steps, as it goes on behind `not finite`."""
        times = "" if self.steady else "at times "
        again = "" if self.until is None else f", finite again from step {self.until} on"
        return f"not finite {times}from step {self.step} on{again}"

    @property
    def sentence(self) -> str:
        """Return when, and where first."""
        return f"{self.when}: {first_and_then(self.places)}"


def of_spells(run: str, found: Sequence[Spell]) -> NotFinite | None:
    """Return when a run is broken, from all that its trace says of numbers that are not finite."""
    first = next((at for at, spell in enumerate(found) if spell.broken), None)
    if first is None:
        return None
    last = max(at for at, spell in enumerate(found) if spell.broken)
    until = found[last + 1].step if last + 1 < len(found) else None
    steady = all(spell.broken for spell in found[first : last + 1])
    return NotFinite(run, found[first].step, until, steady, found[first].broken)


def of_line(run: str, line: RunLine) -> NotFinite | None:
    """Return when a run is broken, from what a timeline holds of it; its losses tell where the trace says nothing more."""
    since = None if line.spells else line.nan_since
    return of_spells(run, line.spells) if since is None else NotFinite(run, since, None, True, ("forward/loss",))


def of_trace(run: str, trace: Trace) -> tuple[NotFinite | None, list[str]]:
    """Return when a run is broken, and notes on leaves that are meant to hold what is not finite.

    Of a trace that was written before this was recorded, the losses tell.
    """
    rows = trace.not_finite()
    if rows is None:
        return _by_loss(run, trace), []
    found = list(spells(rows))
    meant = dict.fromkeys(place for spell in found for place in spell.meant)
    first = next((spell.step for spell in found if spell.meant), None)
    said = f"{some(list(meant))} held NaN or infinity from step {first} on, as given: that alone does not count as broken"
    return of_spells(run, found), [said] if meant else []


def said_of(found: Iterable[NotFinite], runs: int) -> str:
    """Return in one line what is broken of so many runs; nothing where nothing is."""
    broken = list(found)
    if len(broken) == runs and len({replace(item, run="") for item in broken}) == 1:
        return broken[0].sentence
    return "; ".join(f"{item.run} {item.sentence}" for item in broken)


def _by_loss(run: str, trace: Trace) -> NotFinite | None:
    changes = trace.losses_not_finite()
    return of_spells(run, [Spell(step, ("forward",), ("forward/loss",) if broken else (), ()) for step, broken in changes])
