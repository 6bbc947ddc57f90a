"""Which runs of a comparison agree with which: as groups, and as one line of words and signs."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from reprotui.compare.differences import compare_traces
from reprotui.compare.not_finite import said_of
from reprotui.compare.runs import RunView
from reprotui.compare.verdict import Verdict
from reprotui.errors import ReprotuiError
from reprotui.event_kinds import wrong_in
from reprotui.manifest import RunState
from reprotui.ranks import ranks_of
from reprotui.trace import Trace

Groups = tuple[tuple[str, ...], ...]
"""Labels of runs that agree with each other, the reference's group first."""

_ENDED = {RunState.KILLED: "was killed", RunState.FAILED: "failed", RunState.STOPPED: "was stopped", RunState.GONE: "is gone"}
_BADLY = (RunState.KILLED, RunState.FAILED, RunState.GONE)


class Standing(NamedTuple):
    """Where a run stands: its label and state, and the last step that it recorded, None where there is none."""

    label: str
    state: RunState
    step: int | None

    @property
    def ended_badly(self) -> bool:
        """Say whether it is neither on its way nor where it was meant to end."""
        return self.state in _BADLY

    @property
    def how(self) -> str:
        """Return how it ended before its end; nothing where it goes on or came there."""
        return _ENDED.get(self.state, "")

    @property
    def ending(self) -> str:
        """Return how it ended before its end, and behind which step."""
        how = self.how
        if not how or self.state is RunState.GONE:
            return how
        return f"{how} {'before its first record' if self.step is None else f'after step {self.step}'}"


def agreement(views: Sequence[RunView]) -> list[list[str]]:
    """Return which runs agree with which: groups of labels whose histories are equal as far as two of them go together.

    A run joins the first group with all of whose members it agrees, so that one that ended early hides no difference of the
    others. A run that cannot be read, or has no step in common with the others, is a group of its own.
    """
    groups: list[list[str]] = []
    with ExitStack() as stack:
        traces: dict[str, dict[int, Trace]] = {}
        for view in views:
            try:
                ranks = ranks_of(view.run.path, view.manifest).items()
                opened = {number: stack.enter_context(Trace(run.trace_path)) for number, run in ranks}
                if all(trace.last_step() is not None for trace in opened.values()):
                    traces[view.label] = opened
            except ReprotuiError:
                continue
        for view in views:
            own = traces.get(view.label)
            agreeing = (group for group in groups if own and all(_ranks_agree(own, traces.get(label)) for label in group))
            if found := next(agreeing, None):
                found.append(view.label)
            else:
                groups.append([view.label])
    return groups


def groups_of(views: Sequence[RunView]) -> Groups:
    """Return the groups of `agreement`; none where a page is damaged: the verdict of that run says so."""
    try:
        return tuple(map(tuple, agreement(views)))
    except ReprotuiError:
        return ()


def _ranks_agree(a: Mapping[int, Trace], b: Mapping[int, Trace] | None) -> bool:
    """Say whether the histories of all ranks are equal to those of the same ones of another run."""
    return b is not None and a.keys() == b.keys() and all(_agree(trace, b[number]) for number, trace in a.items())


def _agree(a: Trace, b: Trace) -> bool:
    """Say whether two histories are equal up to the last step that both recorded."""
    last = _last_shared(a, b)
    rows = None if last is None else (a.row(last), b.row(last))
    if rows and rows[0] and rows[1] and rows[0].chain == rows[1].chain:
        return True
    # Another pace, or another table of leaves, makes another chain of what may be equal.
    found = compare_traces(a, b)
    return found.first is None and not found.incomparable and found.common_last is not None


def _last_shared(*traces: Trace) -> int | None:
    step: int | None = min((trace.last_step() or 0 for trace in traces), default=None)
    while step is not None:
        before = [trace.previous_step(step + 1) for trace in traces]
        if None in before:
            return None
        lowest = min(number for number in before if number is not None)
        if lowest == step:
            return step
        step = lowest
    return None


def standing_of(view: RunView) -> Standing:
    """Return where a run stands that was opened for comparison."""
    step = None
    with suppress(ReprotuiError), Trace(view.run.trace_path) as trace:
        step = trace.last_step()
    return Standing(view.label, view.state, step)


def provisional(verdicts: Sequence[Verdict]) -> Groups:
    """Return the groups as far as comparisons with the reference alone tell: what differs from it stands alone."""
    if not verdicts:
        return ()
    equal = [verdict.b for verdict in verdicts if verdict.kind in ("identical", "incomplete") and _has_steps(verdict)]
    return ((verdicts[0].a, *equal), *((verdict.b,) for verdict in verdicts if verdict.b not in equal))


def _has_steps(verdict: Verdict) -> bool:
    return verdict.kind == "identical" or verdict.equal_through is not None


def said_of_all(verdicts: Sequence[Verdict], groups: Groups, runs: Sequence[Standing]) -> str:
    """Return in one line which runs agree, and from where on the others differ: `A = C = D · B differs from step 37`.

    Args:
        verdicts: of every run against the reference, in order.
        groups: from `agreement`, or `provisional`.
        runs: the reference, then the run of each verdict.
    """
    reference, stands = runs[0], {run.label: run for run in runs}
    going = {verdict.b for verdict in verdicts if verdict.kind == "incomplete" and stands[verdict.b].state.alive}
    going |= {verdict.b for verdict in verdicts if verdict.kind == "incomplete" and reference.state.alive} - {
        run.label for run in runs if run.ending
    }
    equal = [item for item in verdicts if item.kind == "identical" or (item.b in going and item.equal_through is not None)]
    so_far = any(item.kind == "incomplete" for item in equal)
    differ = [item for item in verdicts if item.kind == "diverged"]
    parts = []
    if len(equal) == len(verdicts):
        through = min(item.equal_through or 0 for item in equal)
        parts.append(f"IDENTICAL through step {through}" + (" · so far" if so_far else ""))
        so_far = False
    if equal:
        parts.append(" = ".join([reference.label, *(item.b for item in equal)]) + (" so far" if so_far else ""))
    within = [item for item in differ if item.distance is not None and item.distance.kind == "within"]
    parts += [
        _from_where([item for item in differ if item not in within], groups),
        _from_where(within, groups, " within tolerance"),
    ]
    said = set()
    for item in verdicts:
        if item in equal or item in differ:
            continue
        if item.kind == "incomparable":
            parts.append(f"{item.b} cannot be compared")
        elif item.equal_through is None:
            parts.append(f"{item.b} has no step yet" if item.b in going else f"{item.b} has no step in common with {item.a}")
        else:
            ending = stands[item.b].ending
            said |= {item.b} if ending else set()
            parts.append(f"{item.b} equal through step {item.equal_through}" + (f", {ending}" if ending else ""))
    parts += [f"{run.label} {run.ending}" for run in runs if run.ended_badly and run.label not in said]
    broken = dict.fromkeys(found for item in verdicts for found in item.not_finite)
    parts.append(said_of(broken, runs=len(runs)))
    parts.append(wrong_in(tuple(text for item in verdicts for text in item.torn)))
    return " · ".join(part for part in parts if part)


def _from_where(verdicts: Sequence[Verdict], groups: Groups, how: str = "") -> str:
    """Return who differs from which step on, the earliest first; runs that agree with each other are joined by `=`."""
    place = {label: number for number, group in enumerate(groups) for label in group}
    in_order = sorted(verdicts, key=lambda item: math.inf if item.step is None else item.step)
    told = []
    for step, found in itertools.groupby(in_order, key=lambda item: item.step):
        labels = [item.b for item in found]
        together: dict[int, list[str]] = {}
        for label in labels:
            together.setdefault(place.get(label, -1 - labels.index(label)), []).append(label)
        who = _listed(" = ".join(group) for group in together.values())
        verb = "" if told else f" {'differs' if len(labels) == 1 else 'differ'}{how}"
        told.append(f"{who}{verb} " + ("behind the last record" if step is None else f"from {'' if told else 'step '}{step}"))
    return ", ".join(told)


def _listed(words: Iterable[str]) -> str:
    found = list(words)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
