"""The ranks of runs as they are watched: where each stands, what all must hold alike, where runs differ first. Never writes."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reprotui.compare.rank_status import RankStatus, statuses, with_torn
from reprotui.compare.timeline import SPAN, PairLine, TimelineReader, phases_of
from reprotui.compare.torn import TornSearch
from reprotui.compare.verdict import AtRanks
from reprotui.compare.whole import laid_out_otherwise
from reprotui.errors import ReprotuiError
from reprotui.manifest import RunManifest
from reprotui.ranks import ranks_of, world_of
from reprotui.run_directory import RunDirectory
from reprotui.trace import PHASES


class WatchedRanks:
    """The ranks of a run that is looked at again and again.

    Attributes:
        statuses: all ranks, as they stood at the last look; none of a run of one process.
        torn: what is to be said of copies that differ; empty while they do not.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._manifests: dict[Path, tuple[tuple[int, int], RunManifest]] = {}
        self._searched: tuple[int, ...] = ()
        self._search = TornSearch({})
        self.statuses: tuple[RankStatus, ...] = ()
        self.torn = ""

    @property
    def alive(self) -> bool:
        """Say whether a rank besides the first goes on."""
        return any(status.state.alive for status in self.statuses[1:] if status.step is not None)

    def look(self, manifest: RunManifest) -> None:
        """Look at every rank, and at the records that all of them have since the last look."""
        # States first: a rank that has ended by now has committed everything that is then found.
        found = statuses(self._run, manifest, self._manifest)
        if not found:
            return
        there = ranks_of(self._run.path, manifest).items()
        traces = {number: run.trace_path for number, run in there if run.trace_path.is_file()}
        if self._searched != tuple(traces):
            self._searched, self._search = tuple(traces), TornSearch(traces)
        with contextlib.suppress(ReprotuiError):  # of what cannot be read, the status of its rank tells
            self._search.look()
        torn = self._search.found
        self.torn = torn.said({status.number: status.host for status in found}) if torn else ""
        self.statuses = with_torn(found, torn)

    def _manifest(self, run: RunDirectory) -> RunManifest:
        status = run.manifest_path.stat()
        stamp = status.st_mtime_ns, status.st_size
        if run.path not in self._manifests or self._manifests[run.path][0] != stamp:
            self._manifests[run.path] = stamp, run.manifest()
        return self._manifests[run.path][1]


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
        self._apart: dict[int, bool] = {}

    def look(self, manifests: Sequence[RunManifest | None]) -> None:
        """Read what all ranks recorded since the last look."""
        self._tell_apart(manifests)
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

    def _tell_apart(self, manifests: Sequence[RunManifest | None]) -> None:
        """Note which runs are spread over their processes in another way than the reference; looked at until it is known."""
        reference, *others = [None if manifest is None else world_of(manifest) for manifest in manifests]
        for index, size in enumerate(others):
            if self._apart.get(index) is not None or reference is None or size is None or max(reference, size) == 1:
                continue
            if reference != size:
                self._apart[index] = True
            else:
                found = laid_out_otherwise(self._runs[0].trace_path, self._runs[index + 1].trace_path)
                self._apart |= {} if found is None else {index: found}

    def first(self, index: int, of_first_rank: PairLine) -> First | None:
        """Return where pair `index` first differs, rank by rank; None where it does not until now.

        Runs that are spread over their processes in other ways have no ranks in common: they are judged at their end.
        """
        if self._apart.get(index):
            return None
        places: dict[int, tuple[int, tuple[str, ...]]] = {}
        for number, pair in {0: of_first_rank, **{number: pairs[index] for number, pairs in self._pairs.items()}}.items():
            if pair.first is not None:
                places[number] = pair.first, phases_of(pair.first_mask)
        if not places:
            return None
        step, phases = min(places.values(), key=lambda place: (place[0], PHASES.index(place[1][0])))
        numbers = tuple(number for number, place in places.items() if (place[0], place[1][0]) == (step, phases[0]))
        return First(step, phases, AtRanks(numbers, self._size) if self._size > 1 else None)
