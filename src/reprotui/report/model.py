"""What a report says, as values: collected once from run directories, rendered as Markdown, JSON and HTML."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.chance import Chance
from reprotui.compare import Verdict, worst
from reprotui.compare.around import ConfigDifference
from reprotui.compare.diagnosis import Diagnosis
from reprotui.compare.explained import Explained
from reprotui.compare.rank_status import RankStatus
from reprotui.environment import Difference
from reprotui.errors import DIFFERS
from reprotui.event_kinds import WRONG
from reprotui.integrity.leaves import LeafDifference
from reprotui.trace import Event

SCHEMA_VERSION = 2
"""Version of the JSON form: raised when a field goes away or changes its meaning, not when one is added."""


@dataclass(frozen=True)
class LossCurve:
    """The loss over steps, reduced for a chart.

    `points` are (step, loss) in order; NaN and the infinities stand as such. Every spike is kept: of each bucket of
    steps the smallest and the largest loss and one that is not finite. `records` counts the steps they were taken from.
    Losses are float32, for the eye; equality rests on the bits in the step table.
    """

    records: int = 0
    points: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class StepSide:
    """One run's record of a step: the loss (None where there is none), its bits, and the root of each phase that it has."""

    loss: float | None
    loss_bits: int | None
    roots: Mapping[str, int]


@dataclass(frozen=True)
class StepLine:
    """A step in both runs. A None side did not record it; `differs` are the phases that differ, in causal order."""

    step: int
    a: StepSide | None
    b: StepSide | None
    differs: tuple[str, ...]


@dataclass(frozen=True)
class LeafLine:
    """A leaf that differs first, with L2 norm and max |x| of each side; None where statistics were not taken."""

    difference: LeafDifference
    norm_a: float | None
    norm_b: float | None
    max_a: float | None
    max_b: float | None


@dataclass(frozen=True)
class Exact:
    """What replaying both runs to their first difference found, element by element.

    `leaves` are those that differ, in causal order, `equal` counts the others; `problem` says why nothing exact can be said.
    """

    step: int
    equal: int = 0
    leaves: tuple[LeafDifference, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Comparison:
    """A run against the reference. `steps` (around the first difference) and `leaves` are empty unless they diverged.

    `problem` says why steps or statistics could not be read, although the verdict could be found. `exact` is None where it was
    not asked for, or nothing diverged.
    """

    verdict: Verdict
    configs: tuple[ConfigDifference, ...]
    environments: tuple[Difference, ...]
    steps: tuple[StepLine, ...] = ()
    leaves: tuple[LeafLine, ...] = ()
    problem: str = ""
    exact: Exact | None = None


@dataclass(frozen=True)
class Verification:
    """What recomputing the chain of a trace found; `problem` is empty where every row holds."""

    records: int
    problem: str


@dataclass(frozen=True)
class RunReport:
    """What a report says about one run.

    `manifest` is its `run.json`, whole. `chance` is where chance and data entered, of an observed script. `verification` is
    None unless it was asked for, `problem` says why the trace could not be read, `log` is the end of the worker's log where
    the run did not end well, `checkpoints` are objects with at least `name` and `status`, `asked` is what of its recording
    is not the usual, as the command line takes it, `ranks` are its processes where it has several.
    """

    label: str
    path: Path
    state: str
    manifest: Mapping[str, Any]
    last_step: int | None = None
    loss: LossCurve = LossCurve()
    events: tuple[Event, ...] = ()
    problem: str = ""
    chance: tuple[Chance, ...] = ()
    verification: Verification | None = None
    log: tuple[str, ...] = ()
    checkpoints: tuple[Mapping[str, Any], ...] = ()
    asked: tuple[str, ...] = ()
    ranks: tuple[RankStatus, ...] = ()

    def entry(self, *keys: str) -> Any:
        """Return an entry of the manifest by its path, None where there is none."""
        value: Any = self.manifest
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


@dataclass(frozen=True)
class Report:
    """A whole report. The first run is the reference; `comparisons` are the others against it, in order.

    `groups` says which runs agree with which, `agreement` the same in one line; both are empty for two runs.
    `commands` are (what it does, command line). `diagnosis` is the search for the cause that a race keeps, None where there is
    none; `explained` are the steps of its runs that were explained.
    """

    name: str
    created: str
    reprotui: str
    runs: tuple[RunReport, ...]
    comparisons: tuple[Comparison, ...]
    groups: tuple[tuple[str, ...], ...]
    commands: tuple[tuple[str, str], ...]
    agreement: str = ""
    diagnosis: Diagnosis | None = None
    explained: tuple[Explained, ...] = ()

    @property
    def exit_code(self) -> int:
        """Return 0 where all runs are identical, 1 where one differs or is torn, 3 where one cannot be told."""
        torn = any(event.kind in WRONG for run in self.runs for event in run.events)
        torn = torn or any(rank.torn for run in self.runs for rank in run.ranks)
        return worst([*(comparison.verdict.exit_code for comparison in self.comparisons), *([DIFFERS] if torn else [])])
