"""What is known of a race and of its runs at one moment: values for the command line and the dashboard alike."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reprotui.compare import Verdict
from reprotui.compare.agreement import Groups, Standing, said_of_all
from reprotui.compare.not_finite import NotFinite
from reprotui.compare.rank_status import RankStatus
from reprotui.compare.swap import Swap
from reprotui.compare.timeline import Timeline
from reprotui.compare.verdict import most_telling
from reprotui.compare.watched import marks_of, said_of_events
from reprotui.manifest import RunState
from reprotui.trace import Event


@dataclass(frozen=True)
class RunStatus:
    """One run at one moment. `loss` is its last one, None where it has none, NaN where it is NaN; `rate` in steps a second.

    `differs` are its config differences from the reference, as `name=value`; `problem` says what cannot be read or why
    it failed; `not_finite` since when it holds NaN or infinity; `metrics` are name and value of those of
    its last record; `asked` what of its recording is not the usual; `torn` where first a value was not right: not the
    same on all devices or ranks that hold it, or corrupt; `ranks` are its processes where it has several;
    `in_turn` says that it begins once others have ended.
    """

    label: str
    path: Path
    state: RunState
    step: int | None
    steps: int | None
    loss: float | None
    rate: float | None
    backend: str
    threads: int | None
    differs: tuple[str, ...]
    events: tuple[Event, ...]
    log: tuple[str, ...]
    problem: str
    not_finite: NotFinite | None = None
    metrics: tuple[tuple[str, float], ...] = ()
    asked: str = ""
    torn: str = ""
    ranks: tuple[RankStatus, ...] = ()
    in_turn: bool = False

    @cached_property
    def checked(self) -> str:
        """Say in few words what was checked until now of a run that recomputes steps; empty for others."""
        return said_of_events(self.events)

    @cached_property
    def marks(self) -> dict[int, str]:
        """Return what its checks found at steps: `corrupt`, `spike`, `recomputed`."""
        return marks_of(self.events)

    @property
    def alive(self) -> bool:
        """Say whether the run can go on."""
        return self.state.alive

    @property
    def listens(self) -> bool:
        """Say whether it hears what is asked of it: it goes on, and its turn has come."""
        return self.alive and not self.in_turn

    @property
    def standing(self) -> Standing:
        """Return where it stands, for a line about all runs."""
        return Standing(self.label, self.state, self.step)

    @property
    def seconds_left(self) -> float | None:
        """Return how long the rest takes at this rate, None where that is not known."""
        if self.step is None or not self.steps or not self.rate or self.state is not RunState.RUNNING:
            return None
        return max(0, self.steps - self.step) / self.rate


@dataclass(frozen=True)
class RaceStatus:
    """A comparison at one moment; the first run is the reference. `verdicts` are of the others, in order.

    `judged` says that the verdicts rest on a comparison of the traces and name the cause; until then they are those of
    the timeline, which knows step and phase. `groups` are the runs that agree with each other; before that, those that agree
    with the reference. `follows` says of a race with exchanged hosts, once it has ended, what a difference follows.
    """

    name: str
    experiment: str
    command: tuple[str, ...]
    runs: tuple[RunStatus, ...]
    timeline: Timeline
    verdicts: tuple[Verdict, ...]
    judged: bool
    groups: Groups = ()
    follows: Swap | None = None

    @property
    def alive(self) -> bool:
        """Say whether any run can go on."""
        return any(run.alive for run in self.runs)

    @property
    def verdict(self) -> Verdict | None:
        """Return the verdict that matters most: the earliest divergence, else the first that is not identical."""
        return most_telling(self.verdicts)

    @property
    def headline(self) -> str:
        """Return the verdict in one line, of more than two runs who agrees with whom; of runs that go on, what holds so far."""
        verdict = self.verdict
        if len(self.verdicts) > 1:
            together = said_of_all(self.verdicts, self.groups, [run.standing for run in self.runs])
            return f"{together} · {self.follows.said}" if self.follows else together
        if verdict is None:
            run = self.runs[0]
            step = "no step yet" if run.step is None else f"step {run.step}"
            broken = run.not_finite.sentence if run.not_finite else ""
            return run.torn or " · ".join(filter(None, (run.state.upper(), step, run.checked, broken)))
        headline = verdict.headline_while(self.alive)
        ended = [run.standing for run in self.runs if run.standing.ended_badly]
        return " · ".join([headline, *(f"{run.label} {run.ending}" for run in ended if f"{run.label} {run.how}" not in headline)])
