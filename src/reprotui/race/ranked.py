"""The ranks of runs as they are watched: where each stands, what all must hold alike, where runs differ first. Never writes."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from reprotui.compare.timeline import SPAN, PairLine, TimelineReader, phases_of
from reprotui.compare.torn import TornSearch
from reprotui.compare.verdict import AtRanks
from reprotui.errors import ReprotuiError
from reprotui.manifest import RunManifest, RunState
from reprotui.ranks import ranks_of, world_of
from reprotui.run_directory import RunDirectory
from reprotui.trace import PHASES, Trace


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


class WatchedRanks:
    """The ranks of a run that is looked at again and again.

    Attributes:
        statuses: all ranks, as they stood at the last look; none of a run of one process.
        torn: what is to be said of copies that differ; empty while they do not.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._manifests: dict[int, tuple[tuple[int, int], RunManifest]] = {}
        self._searched: tuple[int, ...] = ()
        self._search = TornSearch({})
        self.statuses: tuple[RankStatus, ...] = ()
        self.torn = ""

    @property
    def alive(self) -> bool:
        """Say whether a rank besides the first goes on."""
        return any(status.state.alive and status.problem == "" for status in self.statuses[1:])

    def look(self, manifest: RunManifest) -> None:
        """Look at every rank, and at the records that all of them have since the last look."""
        size = world_of(manifest)
        if size == 1:
            return
        there = ranks_of(self._run.path, manifest)
        # States first: a rank that has ended by now has committed everything that is then found.
        statuses = [self._status(number, there.get(number)) for number in range(size)]
        traces = {number: run.trace_path for number, run in there.items() if run.trace_path.is_file()}
        if self._searched != tuple(traces):
            self._searched, self._search = tuple(traces), TornSearch(traces)
        with contextlib.suppress(ReprotuiError):  # of what cannot be read, the status of its rank tells
            self._search.look()
        found = self._search.found
        self.torn = found.said({status.number: status.host for status in statuses}) if found else ""
        odd = found.ranks if found else ()
        self.statuses = tuple(replace(status, torn=status.number in odd) for status in statuses)

    def _status(self, number: int, run: RunDirectory | None) -> RankStatus:
        if run is None:
            return RankStatus(number, "", self._run.path, RunState.CREATED, None, None, "has left no records")
        try:
            manifest = self._manifest(number, run)
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

    def _manifest(self, number: int, run: RunDirectory) -> RunManifest:
        status = run.manifest_path.stat()
        stamp = status.st_mtime_ns, status.st_size
        if number not in self._manifests or self._manifests[number][0] != stamp:
            self._manifests[number] = stamp, run.manifest()
        return self._manifests[number][1]


class First(NamedTuple):
    """Where a run first differs from the reference, over all ranks."""

    step: int
    phases: tuple[str, ...]
    ranks: AtRanks | None = None


class RankTimelines:
    """Where runs of several processes first differ on the ranks besides the first, whose timeline is shown."""

    def __init__(self, runs: Sequence[RunDirectory]) -> None:
        self._runs = list(runs)
        self._readers: dict[int, TimelineReader] = {}
        self._pairs: dict[int, tuple[PairLine, ...]] = {}
        self._size = 1

    def look(self, manifests: Sequence[RunManifest | None]) -> None:
        """Read what all ranks recorded since the last look."""
        sizes = {1 if manifest is None else world_of(manifest) for manifest in manifests}
        self._size = sizes.pop() if len(sizes) == 1 else 1
        if self._size == 1 or len(self._runs) < 2:
            return
        there = [ranks_of(run.path, manifest) for run, manifest in zip(self._runs, manifests, strict=True) if manifest]
        for number in range(1, self._size):
            if number not in self._readers and all(number in found for found in there):
                self._readers[number] = TimelineReader([found[number].trace_path for found in there], whole=False)
        for number, reader in self._readers.items():
            self._pairs[number] = reader.advance(SPAN).pairs

    def first(self, index: int, of_first_rank: PairLine) -> First | None:
        """Return where pair `index` first differs; None where it does not until now."""
        places: dict[int, tuple[int, tuple[str, ...]]] = {}
        for number, pair in {0: of_first_rank, **{number: pairs[index] for number, pairs in self._pairs.items()}}.items():
            if pair.first is not None:
                places[number] = pair.first, phases_of(pair.first_mask)
        if not places:
            return None
        step, phases = min(places.values(), key=lambda place: (place[0], PHASES.index(place[1][0])))
        numbers = tuple(number for number, place in places.items() if (place[0], place[1][0]) == (step, phases[0]))
        return First(step, phases, AtRanks(numbers, self._size) if self._size > 1 else None)
