"""Lead runs that train side by side: to one step, on together, and up to their first difference."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from reprotui.errors import ReprotuiError
from reprotui.manifest import RunState
from reprotui.race.status import RaceStatus, RunStatus
from reprotui.run_directory import LEAD, RunDirectory

AHEAD_SECONDS = 1.0
"""How much training a run may be ahead of the slowest one while they are led to their first difference: enough that none waits
for the next look, and all that they overshoot by."""
SETTLE_SECONDS = 0.25
"""How old a command must be before what is seen of a run counts as its answer."""


class Goal(Enum):
    """What the runs are led to."""

    ONE_STEP = "one step"
    DIFFERENCE = "their first difference"


class Leader:
    """Bring runs to one step, and hold them at their first difference; whoever looks at them calls `look` each time.

    Commands go the way of all others, so workers, observed scripts and Recorders obey alike. Any thread may call.

    Args:
        runs: (label, directory), the reference first.
        say: called with what was reached, and with what could not be asked of a run.
        to_difference: hold them at whatever difference is seen first.
    """

    def __init__(self, runs: Sequence[tuple[str, RunDirectory]], say: Callable[[str], None], to_difference: bool = False) -> None:
        self._runs, self._say = list(runs), say
        self._lock = threading.Lock()
        self._goal = Goal.DIFFERENCE if to_difference else None
        self._sent = 0.0
        self._to: int | None = None
        self._differing: set[int] = set()
        self._of = set(range(len(self._runs)))

    @property
    def to_difference(self) -> bool:
        """Say whether the runs are led to their first difference."""
        return self._goal is Goal.DIFFERENCE

    @property
    def leads(self) -> bool:
        """Say whether the runs have not come yet to what they are led to."""
        return self._goal is not None

    def ask(self, command: str, indices: Iterable[int], to: int | None = None) -> None:
        """Ask something of runs, without leading them."""
        for label, run in (self._runs[index] for index in indices):
            try:
                run.send(command, to)
            except (OSError, ReprotuiError) as error:
                self._say(f"{label}: {run.commands_path} cannot be written: {error}")
        self._sent = time.monotonic()

    def pause(self, status: RaceStatus) -> None:
        """Pause all runs that go on; those behind are then brought to the step of the one that is furthest."""
        with self._lock:
            self._pause(status)

    def _pause(self, status: RaceStatus) -> None:
        self._of = {index for index, run in enumerate(status.runs) if run.listens}
        self.ask("pause", sorted(self._of))
        self._goal, self._to = (Goal.ONE_STEP if len(self._of) > 1 else None), None

    def advance(self, status: RaceStatus, to: int | None = None) -> int | None:
        """Let the paused runs go on to one step and wait there: to that after the slowest, or to `to`; return which.

        Runs that are further stay where they are.
        """
        with self._lock:
            paused = [index for index, run in enumerate(status.runs) if run.state is RunState.PAUSED]
            at = {index: position(status.runs[index]) for index in paused}
            if not at:
                return None
            if to is None:
                slowest = min(at.values())
                # A key that is pressed again before the step before is seen means the next one.
                to = slowest + 1 if self._to is None or self._to < slowest else self._to + 1
            self._goal, self._to = None, to
            self.ask("advance", [index for index in paused if at[index] < to], to)
            return to

    def lead(self, status: RaceStatus) -> None:
        """Let all runs go on side by side, and hold them when one differs that has not differed by now."""
        with self._lock:
            self._differing = {index for index, pair in enumerate(status.timeline.pairs) if pair.first is not None}
            self._goal, self._to = Goal.DIFFERENCE, None

    def let_go(self, status: RaceStatus | None = None) -> None:
        """Lead them no more; with a status, runs that wait for the next word go on by themselves."""
        with self._lock:
            if status is not None and self._goal is Goal.DIFFERENCE:
                self.ask("resume", [index for index, run in enumerate(status.runs) if run.listens])
            self._goal = self._to = None

    def look(self, status: RaceStatus) -> None:
        """Take in what the runs have come to, and lead them on."""
        with self._lock:
            if self._goal is Goal.DIFFERENCE:
                self._to_difference(status)
            elif self._goal is Goal.ONE_STEP:
                self._to_one_step(status)

    def _to_one_step(self, status: RaceStatus) -> None:
        alive = [index for index, run in enumerate(status.runs) if run.listens and index in self._of]
        if len(alive) < 2:
            self._goal = None
            return
        if time.monotonic() - self._sent < SETTLE_SECONDS or any(status.runs[at].state is not RunState.PAUSED for at in alive):
            return
        at = {index: position(status.runs[index]) for index in alive}
        furthest = max(at.values())
        behind = [index for index in alive if at[index] < furthest]
        if behind:
            self.ask("advance", behind, furthest)
            return
        self._goal = None
        self._say(f"all {len(alive)} runs are paused after step {furthest}")

    def _to_difference(self, status: RaceStatus) -> None:
        alive = [index for index, run in enumerate(status.runs) if run.listens]
        if not alive:  # the next one may not have begun
            self._goal = self._goal if any(run.alive for run in status.runs) else None
            return
        pairs = enumerate(status.timeline.pairs)
        if any(pair.first is not None and index not in self._differing for index, pair in pairs):
            self._pause(status)
            self._say("first difference: pause was asked of all runs")
            return
        runs = [status.runs[index] for index in alive]
        slowest = min(runs, key=position)
        to = position(slowest) + max(1, int(AHEAD_SECONDS * (slowest.rate or 0)))
        if self._to is None or to > self._to:
            self._to = to
            self.ask(LEAD, alive, to)


def position(run: RunStatus) -> int:
    """Return the last step that a run took: a paused one says so, otherwise the last record tells."""
    if run.state is RunState.PAUSED:
        text = next((event.text for event in reversed(run.events) if event.kind == "paused"), "")
        number = text.removeprefix("after step ")
        if number.isascii() and number.isdigit():
            return max(int(number), run.step or 0)
    return run.step or 0
