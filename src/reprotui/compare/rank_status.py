"""Where each rank of a run stands, and in which rows that is told: the same in the dashboard, the command line and reports."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reprotui.compare.torn import TornRanks, torn_of
from reprotui.errors import ReprotuiError
from reprotui.manifest import RunManifest, RunState
from reprotui.numbers import short
from reprotui.ranks import ranks_of, world_of
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

_Read = Callable[[RunDirectory], RunManifest]
HEADINGS = ("rank", "host", "state", "step", "loss", "")


@dataclass(frozen=True)
class RankStatus:
    """One rank at one moment; `step` and `loss` are its last ones, None where it has none; `problem` says what is wrong with it.

    `torn`: it holds a copy of something that is not equal to those of the others.
    """

    number: int
    host: str
    path: Path
    state: RunState
    step: int | None
    loss: float | None
    problem: str = ""
    torn: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """Return it as a row under `HEADINGS`."""
        step = "–" if self.step is None else str(self.step)
        loss = "–" if self.loss is None else short(self.loss, 6)
        return str(self.number), self.host or "?", self.state, step, loss, self.problem or ("TORN" if self.torn else "")


def statuses(run: RunDirectory, manifest: RunManifest, read: _Read = RunDirectory.manifest) -> tuple[RankStatus, ...]:
    """Return how all ranks of a run stand; empty for a run of one process. `read` gives their manifests, or raises."""
    if (size := world_of(manifest)) == 1:
        return ()
    there = ranks_of(run.path, manifest)
    return tuple(_status(number, run, there.get(number), read) for number in range(size))


def with_torn(found: Sequence[RankStatus], torn: TornRanks | None) -> tuple[RankStatus, ...]:
    """Return the ranks with a mark at those whose copies differ."""
    odd: Collection[int] = torn.ranks if torn else ()
    return tuple(replace(status, torn=status.number in odd) for status in found)


def ranks_to_json(found: Sequence[RankStatus]) -> list[dict[str, Any]]:
    """Return the ranks as JSON; a loss that is not finite is the text of it."""

    def loss(value: float | None) -> float | str | None:
        return value if value is None or math.isfinite(value) else str(value)

    return [{**asdict(status), "path": str(status.path), "loss": loss(status.loss)} for status in found]


def all_ranks(run: RunDirectory, manifest: RunManifest) -> tuple[RankStatus, ...]:
    """Return how all ranks of a run stand, and which of them hold copies that differ; empty for a run of one process."""
    found = statuses(run, manifest)
    if not found:
        return ()
    return with_torn(found, torn_of({number: rank.trace_path for number, rank in ranks_of(run.path, manifest).items()}))


def _status(number: int, whole: RunDirectory, run: RunDirectory | None, read: _Read) -> RankStatus:
    if run is None:
        return RankStatus(number, "", whole.path, RunState.CREATED, None, None, "has left no records")
    try:
        manifest = read(run)
        state = run.state(manifest)
        step = loss = None
        if run.trace_path.is_file():
            with Trace(run.trace_path) as trace:
                step = trace.last_step()
                row = None if step is None else trace.row(step)
                loss = row.loss if row else None
        return RankStatus(number, manifest.host or "", run.path, state, step, loss, run.why(state, manifest))
    except (ReprotuiError, OSError) as error:
        return RankStatus(number, "", run.path, RunState.UNREADABLE, None, None, str(error))
