"""Compare runs, of one process or of several: each rank with the same rank of the other run, and one verdict over all.

The first difference is the first in causal order over all ranks: step, then phase. What one rank does differently reaches the
others through the next reduction, so of the ranks that differ at the same step those of the earliest phase are where it began.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from reprotui.compare.distance import Distance
from reprotui.compare.not_finite import NotFinite
from reprotui.compare.runs import Allowed, RunView, compare_process, open_run, other_processes
from reprotui.compare.torn import torn_of
from reprotui.compare.verdict import AtRanks, Verdict
from reprotui.compare.whole import compare_whole, laid_out_otherwise
from reprotui.errors import ReprotuiError
from reprotui.manifest import RunManifest
from reprotui.ranks import named, ranks_of, world_of
from reprotui.trace import PHASES

_DISTANCES = ("exceeded", "cannot tell", "within")
"""Kinds of `Distance`, the one that decides first."""


def compare_runs(a: RunView, b: RunView, verify: bool = False, allowed: Allowed | None = None) -> Verdict:
    """Compare run B with the reference A; see `compare_process` for the arguments.

    Returns:
        The verdict. What cannot be opened or read makes it incomparable, with the reason.
    """
    sizes = world_of(a.manifest), world_of(b.manifest)
    torn = tuple(f"{view.label}: {text}" for view in (a, b) for text in between_ranks(view.run.path, view.manifest))
    if max(sizes) == 1:
        return compare_process(a, b, verify, allowed)
    if sizes[0] != sizes[1] or laid_out_otherwise(a.run.trace_path, b.run.trace_path):
        return replace(compare_whole(a, b, verify), torn=torn)
    if other := other_processes(a, b):
        return Verdict(a.label, b.label, "incomparable", reason=other, torn=torn)
    found: dict[int, Verdict] = {0: compare_process(a, b, verify, allowed)}
    hosts: dict[int, str] = {0: b.manifest.host or ""}
    directories = [ranks_of(view.run.path, view.manifest) for view in (a, b)]
    for number in range(1, sizes[0]):
        missing = [view.label for view, there in zip((a, b), directories, strict=True) if number not in there]
        if missing:
            reason = f"{' and '.join(missing)} left no records"
            found[number] = Verdict(a.label, b.label, "incomplete", reason=reason)
            continue
        try:
            of_a, of_b = (open_run(there[number].path, view.label) for view, there in zip((a, b), directories, strict=True))
        except ReprotuiError as error:
            found[number] = Verdict(a.label, b.label, "incomparable", reason=str(error))
            continue
        hosts[number] = of_b.manifest.host or ""
        found[number] = _compare_rank(number, of_a, of_b, verify, allowed)
    return _together(found, hosts, torn)


def between_ranks(run: Path, manifest: RunManifest) -> tuple[str, ...]:
    """Return what is to be said of copies that differ between the ranks of a run; empty where there is nothing."""
    ranks = ranks_of(run, manifest)
    if len(ranks) < 2:
        return ()
    found = torn_of({number: directory.trace_path for number, directory in ranks.items()})
    return (found.said(hosts_of(run, manifest)),) if found else ()


def hosts_of(run: Path, manifest: RunManifest) -> dict[int, str]:
    """Return on which host each rank of a run is, as far as they say."""
    hosts = {0: manifest.host or ""}
    for number, directory in ranks_of(run, manifest).items():
        try:
            hosts[number] = directory.manifest().host or ""
        except ReprotuiError:
            continue
    return hosts


def _compare_rank(number: int, a: RunView, b: RunView, verify: bool, allowed: Allowed | None) -> Verdict:
    wrong = [view.label for view in (a, b) if view.manifest.rank != number]
    if wrong:
        return Verdict(a.label, b.label, "incomparable", reason=f"what {' and '.join(wrong)} has there is of another rank")
    return compare_process(a, b, verify, Allowed(allowed.tolerance) if allowed else None)


def _together(found: Mapping[int, Verdict], hosts: Mapping[int, str], torn: tuple[str, ...]) -> Verdict:
    """Return the verdict over all ranks: the first difference, else the first that is not identical."""
    first = min(found, key=lambda number: _order(found[number]))
    verdict = found[first]
    same = [number for number, other in found.items() if _order(other) == _order(verdict)]
    ranks = AtRanks(tuple(same), len(found), tuple(hosts.get(number, "") for number in same))
    torn = (*(text for other in found.values() for text in other.torn), *torn)
    notes = [*verdict.notes]
    reason, through = verdict.reason, [other.equal_through for other in found.values()]
    if verdict.kind in ("incomplete", "incomparable") and len(same) < len(found):
        reason = f"{named(same, len(found))}: {reason}"
    if verdict.kind == "diverged" and len(same) < len(found):
        later = {number: other for number, other in found.items() if number not in same}
        unread = [number for number, other in later.items() if other.kind == "incomparable"]
        notes += [f"rank {number} cannot be compared: {later[number].reason}" for number in unread]
        equal = [number for number, other in later.items() if other.kind == "identical"]
        notes += [f"{named(equal, len(found))}: identical to the end"] if equal else []
    if verdict.kind == "identical":
        notes.append(f"all {len(found)} ranks, each compared with the same one of the other run")
    return replace(
        verdict, ranks=ranks, torn=tuple(dict.fromkeys(torn)), reason=reason, notes=tuple(dict.fromkeys(notes)),
        equal_through=None if None in through else min(step for step in through if step is not None),
        not_finite=_not_finite(found.values()), distance=_furthest(found),
        ends_equal=all(other.ends_equal for other in found.values()),
    )  # fmt: skip


def _order(verdict: Verdict) -> tuple[int, float, int]:
    """Return where a verdict of one rank stands among those of the others: divergences first, as they follow one another."""
    through = -1 if verdict.equal_through is None else verdict.equal_through
    if verdict.kind == "diverged":
        step = math.inf if verdict.step is None else verdict.step
        return 0, step, PHASES.index(verdict.phase) if verdict.phase else 0
    return {"incomparable": 1, "incomplete": 2}.get(verdict.kind, 3), through if verdict.kind == "incomplete" else 0, 0


def _not_finite(found: Iterable[Verdict]) -> tuple[NotFinite, ...]:
    """Return of each run since when one of its ranks is not finite."""
    first: dict[str, NotFinite] = {}
    for item in sorted((item for verdict in found for item in verdict.not_finite), key=lambda item: item.step):
        first.setdefault(item.run, item)
    return tuple(first[label] for label in sorted(first))


def _furthest(found: Mapping[int, Verdict]) -> Distance | None:
    """Return what decides of how far the ranks are apart; None where no tolerance was given."""
    known = [verdict.distance for verdict in found.values() if verdict.distance is not None]
    if not known:
        return None
    decides = min(known, key=lambda distance: _DISTANCES.index(distance.kind))
    untold = [number for number, verdict in found.items() if verdict.kind in ("incomplete", "incomparable")]
    if decides.kind == "within" and untold:
        reason = f"{named(untold, len(found))}: {found[untold[0]].reason}"
        return replace(decides, kind="cannot tell", reason=reason)
    return decides
