"""What a list says of races and runs, as values."""

import math
from dataclasses import dataclass
from pathlib import Path

ALIVE = ("created", "running")
"""States in which a run goes on."""


@dataclass(frozen=True)
class RunEntry:
    """One run: `loss` is its last one, None where it has none, NaN where it is NaN.

    `differs` are its config differences from the reference, as `name=value`; `problem` says why it cannot be read, `why` in one
    line why it ended badly.
    """

    label: str
    path: Path
    created_ns: int = 0
    experiment: str = "?"
    state: str = "unreadable"
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    differs: tuple[str, ...] = ()
    problem: str = ""
    why: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a list says of a comparison with the reference: the verdict's kind, step and line."""

    kind: str
    step: int | None
    headline: str


@dataclass(frozen=True)
class Entry:
    """A race, or a single run, which then is its only member; `outcomes` are of the members after the reference."""

    name: str
    path: Path
    race: bool
    created_ns: int
    members: tuple[RunEntry, ...]
    outcomes: tuple[Outcome | None, ...] = ()
    command: tuple[str, ...] = ()
    problem: str = ""

    @property
    def alive(self) -> bool:
        """Say whether any run can go on."""
        return any(member.state in ALIVE for member in self.members)

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
        for state in ("running", "created", "unreadable", "failed", "killed", "elsewhere", "stopped"):
            if labels := [member.label.upper() for member in self.members if member.state == state]:
                return f"{' '.join(labels)} {state}"
        return "unreadable"

    @property
    def outcome(self) -> Outcome | None:
        """Return the outcome that matters most: the earliest divergence, else the first that is not identical."""
        found = [outcome for outcome in self.outcomes if outcome]
        diverged = [outcome for outcome in found if outcome.kind == "diverged"]
        if diverged:
            return min(diverged, key=lambda outcome: math.inf if outcome.step is None else outcome.step)
        return next((outcome for outcome in found if outcome.kind != "identical"), next(iter(found), None))
