"""Look at runs, whoever started them: states, progress, timeline and verdicts as one immutable value. Never writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprotui.compare import RunView, Verdict
from reprotui.compare.agreement import Groups, groups_of, provisional
from reprotui.compare.around import deviations
from reprotui.compare.explained import race_of
from reprotui.compare.not_finite import of_line
from reprotui.compare.recorded import asked_for
from reprotui.compare.swap import IN_TURN, Swap, is_swap, swap_of
from reprotui.compare.timeline import FIRST_RECORDS, SPAN, RunLine, Timeline, TimelineReader
from reprotui.compare.tolerance import Tolerance
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.race.ranked import First, RankTimelines
from reprotui.race.status import RaceStatus, RunStatus
from reprotui.race.tolerance import compare_within, tolerance_of
from reprotui.race.watched import WatchedRun
from reprotui.run_directory import RunDirectory, members_of, read_json
from reprotui.trace import watch

if TYPE_CHECKING:  # starting runs needs pydantic, which whoever only looks at them does not wait for
    from reprotui.race.start import Processes


def members(paths: Sequence[Path]) -> list[tuple[str, RunDirectory]]:
    """Return the runs that directories mean, a race for its members, with labels that tell them apart.

    Raises:
        BadInputError: a path is neither a run nor a race, or there are more than eight runs.
    """
    found: list[tuple[str, RunDirectory]] = []
    races = [path for path in paths if (path / "race.json").exists()]
    for path in paths:
        if path in races:
            found += [(label.upper(), RunDirectory(member)) for label, member in members_of(path)]
        else:
            found.append(("", RunDirectory(path)))
    for _, run in found:
        if not run.manifest_path.exists():
            raise BadInputError(f"{run.path} is not a run directory: it has no run.json")
    if len(found) > 8:
        raise BadInputError(f"{len(found)} runs cannot be told apart on a screen: open at most 8")
    if len(paths) == 1 and races:
        return found
    return [("ABCDEFGH"[index], run) for index, (_, run) in enumerate(found)]


class Monitor:
    """Watch the runs of a comparison.

    Args:
        runs: (label, directory), the reference first.
        processes: those that this process started, by label, so that one which dies at once is noticed.
        columns: keep every step for a chart. Without, the timeline has the newest loss and the first difference alone, and
            takes no memory however long the runs are.
    """

    def __init__(
        self, runs: Sequence[tuple[str, RunDirectory]], processes: Processes | None = None, columns: bool = True
    ) -> None:
        started = processes or {}
        self._watched = [WatchedRun(label, run, started.get(label)) for label, run in runs]
        self._reader = TimelineReader([run.trace_path for _, run in runs], columns)
        self._ranks = RankTimelines([run for _, run in runs])
        self._verdicts: tuple[Verdict, ...] = ()
        self._groups: Groups = ()
        self._follows: Swap | None = None
        self._judged: tuple[Any, ...] | None = None
        self.directories = tuple(run.path for _, run in runs)

    def look(self, records: int = FIRST_RECORDS) -> RaceStatus:
        """Look at every run once; what a comparison of the traces would add is left to `judge`.

        Args:
            records: how many of each run are read at most; more make a later look complete sooner, and the first one
                later.
        """
        for watched in self._watched:
            # State first: a run that has ended by now has committed everything that the timeline then finds.
            watched.look()
        timeline = self._reader.advance(records, lambda index, trace: self._watched[index].look_at_trace(trace))
        for watched in self._watched:
            watched.refine()
        self._ranks.look([watched.manifest for watched in self._watched])
        runs = tuple(self._run_status(index, line, timeline.complete) for index, line in enumerate(timeline.runs))
        judged = timeline.complete and self._judged == self._question(timeline)
        reference = self._watched[0].manifest
        verdicts = self._verdicts if judged else self._provisional(timeline)
        return RaceStatus(
            self._name(), (reference.experiment.name if reference else None) or "?", self._command, runs, timeline, verdicts,
            judged, self._groups if judged else provisional(verdicts), self._follows if judged else None,
        )  # fmt: skip

    def follow(self, directory: Path) -> Iterator[RaceStatus]:
        """Yield a status whenever something below a directory changed, until all runs ended; the last one has seen everything."""
        status = self.look(SPAN)
        yield status
        changes = watch(directory)
        while status.alive or not status.timeline.complete:
            if status.timeline.complete:
                next(changes)
            status = self.look(SPAN)
            yield status

    @property
    def refused(self) -> bool:
        """Say whether a worker found its config unfit: then there is nothing to wait for."""
        manifests = [watched.manifest for watched in self._watched]
        return any(manifest.result.bad_input for manifest in manifests if manifest and manifest.result)

    def judge(self, status: RaceStatus) -> RaceStatus:
        """Compare the traces, and return the status with verdicts that name leaves and cause. May take a while."""
        question = self._question(status.timeline)
        try:
            manifests = [(item, item.manifest or item.run.manifest()) for item in self._watched]
            views = [RunView(item.label, item.run, manifest, item.run.state(manifest)) for item, manifest in manifests]
        except ReprotuiError:
            return status
        self._verdicts = tuple(compare_within(views[0], view, self._tolerance) for view in views[1:])
        self._groups = groups_of(views) if len(views) > 2 else provisional(self._verdicts)
        self._judged = question
        self._follows = swap_of(views)
        return replace(status, verdicts=self._verdicts, judged=True, groups=self._groups, follows=self._follows)

    def needs_judging(self, status: RaceStatus) -> bool:
        """Say whether `judge` would add something: a divergence that has no cause yet, or an end that has no verdict."""
        if status.judged or len(self._watched) < 2 or not status.timeline.complete:
            return False
        found = any(self._firsts(status.timeline))
        return found or not status.alive

    def _question(self, timeline: Timeline) -> tuple[Any, ...]:
        """Return what a verdict depends on: it holds as long as this is equal."""
        places = self._firsts(timeline)
        ends = tuple(
            (watched.state, len(line.steps)) if place is None else None
            for watched, line, place in zip(self._watched[1:], timeline.runs[1:], places, strict=True)
        )
        alive = any(watched.state.alive for watched in self._watched)
        if self._tolerance is not None and not alive:
            # Later steps cannot change the first difference, but how far the runs are apart.
            return places, len(timeline.steps), alive
        return places, ends if not alive else None, len(timeline.runs[0].steps) if not alive and None in places else 0

    def _provisional(self, timeline: Timeline) -> tuple[Verdict, ...]:
        a = self._watched[0].label
        verdicts = []
        of_a, *others = (of_line(own.label, line) for own, line in zip(self._watched, timeline.runs, strict=True))
        for watched, pair, first, of_b in zip(self._watched[1:], timeline.pairs, self._firsts(timeline), others, strict=True):
            if first is None:
                through = int(pair.steps[-1]) if len(pair.steps) else None
                verdict = Verdict(a, watched.label, "incomplete", through, reason="not judged yet")
            else:
                verdict = Verdict(
                    a, watched.label, "diverged", None, first.step, first.phases[0], first.phases, ranks=first.ranks
                )
            torn = tuple(f"{item.label}: {text}" for item in (self._watched[0], watched) for text in item.torn)
            not_finite = tuple(found for found in (of_a, of_b) if found is not None)
            verdicts.append(replace(verdict, not_finite=not_finite, torn=torn))
        return tuple(verdicts)

    def _firsts(self, timeline: Timeline) -> tuple[First | None, ...]:
        """Return where each run first differs from the reference, over all ranks."""
        return tuple(self._ranks.first(index, pair) for index, pair in enumerate(timeline.pairs))

    def _run_status(self, index: int, line: RunLine, complete: bool) -> RunStatus:
        watched, manifest, reference = self._watched[index], self._watched[index].manifest, self._watched[0].manifest
        step = int(line.steps[-1]) if len(line.steps) else None
        loss = float(line.losses[-1]) if step else None  # record 0 is taken before any loss
        differs = deviations(reference, manifest) if index and reference and manifest else ()
        devices, asked = (manifest.devices, " ".join(asked_for(manifest))) if manifest else ({}, "")
        in_turn = self._in_turns and watched.in_turn
        problem = self._reader.problems.get(index, watched.problem) or ("its turn has not come" if in_turn else "")
        return RunStatus(
            watched.label, watched.run.path, watched.state, step, manifest.planned_steps if manifest else None, loss,
            watched.rate(step if complete else None), str(devices.get("backend", "")), devices.get("cpu_threads"),
            differs, tuple(watched.events), watched.log, problem,
            of_line(watched.label, line), watched.metrics, asked, next(iter(watched.torn), ""), watched.ranks.statuses,
            in_turn,
        )  # fmt: skip

    def _name(self) -> str:
        manifests = [watched.manifest for watched in self._watched]
        races = {manifest.race.name if manifest and manifest.race else None for manifest in manifests}
        if len(races) == 1 and (race := races.pop()) is not None:
            return race
        names = [manifest.name if manifest else None for manifest in manifests]
        return " · ".join(name or path.name for name, path in zip(names, self.directories, strict=True))

    @cached_property
    def _tolerance(self) -> Tolerance | None:
        try:
            return tolerance_of(self.directories)
        except ReprotuiError:  # a race of others may have anything there; `compare` says what is wrong with it
            return None

    @cached_property
    def _race(self) -> dict[str, Any] | None:
        """Return what `race.json` holds, nothing of one that cannot be read; None of runs that are no race."""
        race = race_of([watched.run.path for watched in self._watched])
        if race is None:
            return None
        try:
            return read_json(race / "race.json")
        except ReprotuiError:
            return {}

    @cached_property
    def _in_turns(self) -> bool:
        """Say whether runs of the race begin once others have ended."""
        return bool(self._race and (self._race.get(IN_TURN) or is_swap(self._race)))

    @cached_property
    def _command(self) -> tuple[str, ...]:
        if (race := self._race) is not None:
            return tuple(str(word) for word in race.get("command", []))
        return "reprotui", "open", *(str(watched.run.path) for watched in self._watched)
