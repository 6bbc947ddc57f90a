"""What a list says of races and runs, as values."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from reprotui.compare.verdict import most_telling
from reprotui.manifest import RunState

_TOLD_FIRST = (
    RunState.RUNNING, RunState.CREATED, RunState.UNREADABLE, RunState.FAILED, RunState.KILLED, RunState.ELSEWHERE,
    RunState.STOPPED,
)  # fmt: skip
"""Of the states of a race's members the first of these is told."""


class Condition(StrEnum):
    """What a race, or a single run, is like; the worst comes first."""

    TORN = "torn"
    """A run holds values that are not right, whatever another run holds: copies that differ, a step that was corrupt."""
    DIFFERS = "differ"
    NOT_FINITE = "not finite"
    FAILED = "failed"
    UNKNOWN = "cannot tell"
    ALIVE = "going on"
    ALONE = "ended alone"
    """A run without a partner: nothing was compared."""
    EQUAL = "identical"

    @property
    def bad(self) -> bool:
        """Say whether somebody should look for a chip, or a program, that is not right."""
        return self in (Condition.TORN, Condition.DIFFERS)


@dataclass(frozen=True)
class RunEntry:
    """One run: `loss` is its last one, None where it has none, NaN where it is NaN.

    `differs` are its config differences from the reference, as `name=value`; `problem` says why it cannot be read, `why` in one
    line why it ended badly. `rate` is in steps a second over its last records, None where fewer than two have a time. `hosts` are
    those that its processes run on, as far as they said so; `torn` is what it said itself of values that are not right.
    """

    label: str
    path: Path
    created_ns: int = 0
    experiment: str = "?"
    state: RunState = RunState.UNREADABLE
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    differs: tuple[str, ...] = ()
    problem: str = ""
    why: str = ""
    rate: float | None = None
    hosts: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a list says of a comparison with the reference: the verdict's kind, step and line, and what is wrong with a run alone.

    `broken`: a run is not finite. `within`: it differs no further than it may. `torn`: values that are not the same on all
    devices that hold them.
    """

    kind: str
    step: int | None
    headline: str
    broken: bool = False
    torn: tuple[str, ...] = ()
    within: bool = False


@dataclass(frozen=True)
class Entry:
    """A race, or a single run, which then is its only member; `outcomes` are of the members after the reference.

    `note` is what a person wrote about it.
    """

    name: str
    path: Path
    race: bool
    created_ns: int
    members: tuple[RunEntry, ...]
    outcomes: tuple[Outcome | None, ...] = ()
    command: tuple[str, ...] = ()
    problem: str = ""
    note: str = ""

    @property
    def alive(self) -> bool:
        """Say whether any run can go on."""
        return any(member.state.alive for member in self.members)

    @property
    def trouble(self) -> str:
        """Return why the entry, or the first member of it that cannot be read, cannot be read; empty where all can."""
        return self.problem or next((member.problem for member in self.members if member.problem), "")

    @property
    def experiment(self) -> str:
        return self.members[0].experiment if self.members else "?"

    @property
    def state(self) -> str:
        """Return the state that all members share; else that of those which are not finished, with their labels."""
        states = {member.state for member in self.members}
        if len(states) == 1:
            return states.pop()
        for state in _TOLD_FIRST:
            if labels := [member.label.upper() for member in self.members if member.state is state]:
                return f"{' '.join(labels)} {state}"
        return RunState.UNREADABLE

    @property
    def outcome(self) -> Outcome | None:
        """Return the outcome that matters most: the earliest divergence, else the first that is not identical."""
        return most_telling([outcome for outcome in self.outcomes if outcome])

    @cached_property
    def condition(self) -> Condition:
        """Return what is worst about it."""
        states = {member.state for member in self.members}
        if any(member.torn for member in self.members) or any(found and found.torn for found in self.outcomes):
            return Condition.TORN
        if any(found and found.kind == "diverged" and not found.within for found in self.outcomes):
            return Condition.DIFFERS
        losses = [member.loss for member in self.members if member.loss is not None]
        if any(found and found.broken for found in self.outcomes) or not all(map(math.isfinite, losses)):
            return Condition.NOT_FINITE
        if states & {RunState.FAILED, RunState.KILLED}:
            return Condition.FAILED
        if self.trouble:
            return Condition.UNKNOWN
        if self.alive:
            return Condition.ALIVE
        if len(self.members) == 1:
            return Condition.ALONE if states <= {RunState.FINISHED, RunState.STOPPED} else Condition.UNKNOWN
        outcome = self.outcome
        return Condition.EQUAL if outcome is not None and (outcome.kind == "identical" or outcome.within) else Condition.UNKNOWN


ORDERS = ("age", "name", "experiment", "state", "steps", "loss", "verdict")
"""What a list can be sorted by; by age the newest comes first, by verdict what differs, the earliest first."""


def in_order(entries: Sequence[Entry], order: str, backwards: bool = False) -> list[Entry]:
    """Return entries sorted by one of `ORDERS`; those that are alike stay as they are, the newest first."""
    key = _KEYS[order]
    return sorted(entries, key=key, reverse=backwards)


def _by_verdict(entry: Entry) -> tuple[int, int]:
    outcome = entry.outcome
    if entry.trouble or outcome is None:
        return (3, 0) if entry.trouble else (4, 0)
    rank = 0 if outcome.kind == "diverged" else 2 if outcome.kind == "identical" else 1
    return rank, outcome.step or 0


def _by_steps(entry: Entry) -> int:
    return -max((member.step or 0 for member in entry.members), default=0)


def _by_loss(entry: Entry) -> tuple[bool, float]:
    losses = [member.loss for member in entry.members if member.loss is not None and not math.isnan(member.loss)]
    return (not losses, losses[0] if losses else 0.0)


_KEYS: dict[str, Callable[[Entry], Any]] = {
    "age": lambda entry: -(entry.created_ns // 10**9), "name": lambda entry: entry.name.lower(),
    "experiment": lambda entry: entry.experiment, "state": lambda entry: entry.state, "steps": _by_steps, "loss": _by_loss,
    "verdict": _by_verdict,
}  # fmt: skip
