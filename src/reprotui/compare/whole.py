"""Compare trainings that are spread over their processes in different ways, by whole arrays.

A: two ranks hold params/w (DDP)            B: four ranks hold params/w[0:2,:] … params/w[6:8,:] (FSDP)

A checksum is a sum over the words of the whole, wherever they lie: the checksums of parts that cover an array add up to that
of the array. What every rank holds alike is whole on each of them. What belongs to a rank (its batch, its loss) is no part of
anything whole, and is not compared.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations, zip_longest
from math import prod
from pathlib import Path
from typing import NamedTuple

from reprotui.checksum import LeafSpec
from reprotui.checksum.definition import MASK, lanes_to_checksum
from reprotui.compare.coverage import gaps
from reprotui.compare.runs import RunView, unfinished
from reprotui.compare.verdict import Cause, Verdict
from reprotui.errors import ReprotuiError
from reprotui.integrity.leaves import LeafDifference
from reprotui.manifest import RunManifest
from reprotui.ranks import ranks_of, world_of
from reprotui.trace import PHASES, LeafTable, Trace, verify_trace

_SLICE = re.compile(r"(.+)\[(\d*:\d*(?:,\d*:\d*)*)\]")
_NAMED = 3
"""Kinds of leaves that are named where they are not compared."""

Box = tuple[tuple[int, int], ...]
Key = tuple[str, str]
"""Phase and path of a whole array."""


class _Held(NamedTuple):
    """A leaf of a rank: where it is in its record, what it is of the whole (None: all), and whether each rank holds it alike."""

    rank: int
    row: int
    box: Box | None
    copy: bool
    spec: LeafSpec


class _Array(NamedTuple):
    """A whole array: its description, and the (rank, row) whose checksums add up to its own."""

    spec: LeafSpec
    rows: tuple[tuple[int, int], ...]


class WholeRun:
    """The whole arrays of a run, from the traces of its ranks."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        self._traces = traces
        self._copies = [trace.copies() for trace in traces]
        self._plans: dict[tuple[int, ...], tuple[dict[Key, _Array], tuple[Key, ...]]] = {}

    @property
    def last(self) -> int | None:
        """Return the last step that every rank has recorded; None where one has none."""
        ends = [trace.last_step() for trace in self._traces]
        known = [end for end in ends if end is not None]
        return min(known) if len(known) == len(ends) else None

    def at(self, step: int) -> tuple[dict[Key, tuple[LeafSpec, int]], tuple[Key, ...]] | None:
        """Return the whole arrays of a step with their checksums, and what is none; None where a rank has no leaves of it.

        Raises:
            ReprotuiError: a trace cannot be read.
        """
        rows = [row for trace in self._traces if (row := trace.row(step)) is not None]
        known = [own for trace in self._traces if (own := trace.leaf_checksums(step)) is not None]
        if len(rows) < len(self._traces) or len(known) < len(self._traces):
            return None
        versions = tuple(row.version for row in rows)
        if versions not in self._plans:
            tables = [trace.table(version) for trace, version in zip(self._traces, versions, strict=True)]
            self._plans[versions] = _plan(tables, self._copies)
        arrays, others = self._plans[versions]
        found = {key: (array.spec, _sum([int(known[rank][row]) for rank, row in array.rows])) for key, array in arrays.items()}
        return found, others


def laid_out_otherwise(a: Path, b: Path) -> bool | None:
    """Say whether the traces of one rank of two runs hold the same arrays in other parts; None where neither can be told yet."""
    try:
        with Trace(a) as trace_a, Trace(b) as trace_b:
            paths = [_paths(trace_a), _paths(trace_b)]
    except ReprotuiError:
        return None
    if not paths[0] or not paths[1]:
        return None
    bases = [{_apart(path)[0] for path in found} for found in paths]
    return paths[0] != paths[1] and bases[0] == bases[1]


def _paths(trace: Trace) -> set[str]:
    """Return the paths of the first record of a step."""
    row = next(iter(trace.rows(0, 1)), None)
    return set() if row is None else {spec.path for spec in trace.table(row.version).specs}


def compare_whole(a: RunView, b: RunView, verify: bool = False) -> Verdict:
    """Compare run B with the reference A by whole arrays.

    Args:
        a, b: the runs, of any number of processes each.
        verify: first recompute the chains of all traces.

    Returns:
        The verdict; incomparable where no parameters are whole in both, or a trace cannot be read.
    """
    verdict = Verdict(a.label, b.label, "incomparable")
    try:
        with ExitStack() as stack:
            wholes = []
            for view in (a, b):
                there, size = ranks_of(view.run.path, view.manifest), world_of(view.manifest)
                if missing := [number for number in range(size) if number not in there]:
                    return replace(verdict, kind="incomplete", reason=f"rank {missing[0]} of {view.label} left no records")
                for run in there.values() if verify else ():
                    if problem := verify_trace(run.trace_path, run.manifest().seal).problem:
                        return replace(verdict, reason=f"the trace {run.trace_path} does not verify: {problem}")
                wholes.append(WholeRun([stack.enter_context(Trace(run.trace_path)) for run in there.values()]))
            return _judge(a, b, wholes[0], wholes[1], verdict)
    except ReprotuiError as error:
        return replace(verdict, reason=str(error))


def _judge(a: RunView, b: RunView, of_a: WholeRun, of_b: WholeRun, verdict: Verdict) -> Verdict:
    end_a, end_b = of_a.last, of_b.last
    if end_a is None or end_b is None:
        return replace(verdict, kind="incomplete", reason=unfinished(a, b) or "a rank has no records")
    through, compared, records, others, left = None, dict[Key, None](), 0, dict[Key, None](), dict[Key, None]()
    for step in range(min(end_a, end_b) + 1):
        at_a, at_b = of_a.at(step), of_b.at(step)
        if at_a is None or at_b is None:
            continue
        (arrays_a, others_a), (arrays_b, others_b) = at_a, at_b
        common = sorted(arrays_a.keys() & arrays_b.keys(), key=lambda key: PHASES.index(key[0]))
        others |= dict.fromkeys((*others_a, *others_b))
        compared |= dict.fromkeys(common)
        everything = {*arrays_a, *arrays_b, *others_a, *others_b}
        left |= dict.fromkeys(sorted(key for key in everything - set(common) if key[0] == "params"))
        differ = [key for key in common if arrays_a[key] != arrays_b[key]]
        if differ:
            phases = tuple(dict.fromkeys(phase for phase, _ in differ))
            leaves = tuple(
                LeafDifference(*key, arrays_a[key][0], arrays_b[key][0], arrays_a[key][1], arrays_b[key][1])
                for key in differ if key[0] == phases[0]
            )  # fmt: skip
            return replace(
                verdict, kind="diverged", equal_through=through, step=step, phase=phases[0], phases=phases, leaves=leaves,
                cause=_cause(a, b, phases[0], step, compared), notes=_notes(a, b, compared, others),
            )  # fmt: skip
        through, records = step, records + 1
    notes = _notes(a, b, compared, others)
    if not any(phase == "params" for phase, _ in compared):
        why = "each process holds other data, and no parameters are whole in both"
        return replace(verdict, reason=f"{_spread(a)}, {_spread(b)}: {why}")
    whole = records == min(end_a, end_b) + (1 if of_a.at(0) else 0)
    verdict = replace(verdict, kind="incomplete", equal_through=through, notes=notes)
    if reason := unfinished(a, b):
        return replace(verdict, reason=reason)
    if end_a != end_b:
        return replace(verdict, reason=f"{a.label} ends at step {end_a} and {b.label} at step {end_b}")
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        return replace(verdict, reason=f"not all parameters are whole in both: {next(iter(left))[1]}{more}")
    if unseen := gaps(_manifests(a) | _manifests(b)):
        return replace(verdict, reason=f"the records do not tell all. {'; '.join(unseen)}")
    return replace(verdict, kind="identical", records=None if whole else records)


def _manifests(view: RunView) -> dict[str, RunManifest]:
    """Return the manifests of all ranks of a run, by what they are called."""
    ranks = ranks_of(view.run.path, view.manifest).items()
    return {f"rank {number} of {view.label}" if number else view.label: run.manifest() for number, run in ranks}


def _cause(a: RunView, b: RunView, phase: str, step: int, compared: Mapping[Key, None]) -> Cause:
    before = f"step {step}: all that comes before {phase} in causal order, and is whole in both runs, is equal"
    if phase == "init":
        return Cause("initialisation", "the state before the first step differs", evidence=(before,))
    if phase == "batch":
        return Cause("data", "the data of all processes together differ", evidence=(before,))
    order = "sums over processes are taken in another order"
    batches = any(key[0] == "batch" for key in compared)
    evidence = (before,) if batches else (before, "batches belong to one process each, and were not compared")
    if world_of(a.manifest) == world_of(b.manifest):
        sentence = f"likely because arrays are spread in other ways: {order}"
    else:
        sentence = f"likely because {_spread(a)} and {_spread(b)}: {order}{'' if batches else ', or they hold other data'}"
    advice = "to tell rounding from a fault, race each of the two against itself"
    return Cause("computation", sentence, evidence=evidence, advice=advice)


def _notes(a: RunView, b: RunView, compared: Mapping[Key, None], others: Mapping[Key, None]) -> tuple[str, ...]:
    phases = [phase for phase in PHASES if any(key[0] == phase for key in compared)]
    counts = ", ".join(f"{phase} ({sum(key[0] == phase for key in compared)})" for phase in phases)
    left = list(dict.fromkeys(key[1].partition("/")[0] for key in others if key not in compared))
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    not_compared = f"; not compared, because it belongs to one process: {', '.join(left[:_NAMED])}{more}" if left else ""
    return (f"{_spread(a)}, {_spread(b)}: compared by whole arrays: {counts or 'none'}{not_compared}",)


def _spread(view: RunView) -> str:
    size = world_of(view.manifest)
    return f"{view.label} has {size} {'process' if size == 1 else 'processes'}"


def _plan(tables: Sequence[LeafTable], copies: Sequence[Sequence[str]]) -> tuple[dict[Key, _Array], tuple[Key, ...]]:
    """Return the whole arrays of records with these tables, and what belongs to a rank."""
    held: dict[Key, list[_Held]] = {}
    for rank, (table, told) in enumerate(zip(tables, copies, strict=True)):
        exact, below = set(told), tuple(path for path in told if path.endswith(("/", "[")))
        for row, (phase, spec) in enumerate(zip(table.phases, table.specs, strict=True)):
            path, box = _apart(spec.path, spec.shape)
            copy = spec.path in exact or spec.path.startswith(below)
            held.setdefault((phase, path), []).append(_Held(rank, row, box, copy, spec))
    arrays = {key: array for key, parts in held.items() if (array := _whole(key[1], parts, len(tables))) is not None}
    return arrays, tuple(key for key in held if key not in arrays)


def _whole(path: str, held: Sequence[_Held], ranks: int) -> _Array | None:
    """Return the array that leaves of ranks make up, None where they make up none, or that cannot be told."""
    whole = [leaf for leaf in held if leaf.box is None]
    parts = {leaf.box: leaf for leaf in held if leaf.box is not None and prod(leaf.spec.shape)}
    if whole:
        alike = ranks == 1 or len(whole) == 1 or all(leaf.copy for leaf in whole)
        alone = len(whole) == ranks or len(held) == ranks
        if (
            parts
            or not alike
            or not alone
            or len({leaf.spec for leaf in whole}) > 1
            or (len(whole) == 1 < ranks and len(held) < 2)
        ):
            return None
        return _Array(whole[0].spec._replace(path=path), ((whole[0].rank, whole[0].row),))
    boxes = [box for box in parts if box is not None]
    if not boxes or len({(leaf.spec.dtype, len(leaf.spec.shape)) for leaf in parts.values()}) > 1:
        return None
    shape = tuple(max(end for _, end in sides) for sides in zip(*boxes, strict=True))
    if sum(map(_volume, boxes)) != prod(shape) or any(_overlap(one, other) for one, other in combinations(boxes, 2)):
        return None
    first = next(iter(parts.values()))
    return _Array(LeafSpec(path, first.spec.dtype, shape), tuple((leaf.rank, leaf.row) for leaf in parts.values()))


def _apart(path: str, shape: Sequence[int] = ()) -> tuple[str, Box | None]:
    """Return a leaf's path without the slice at its end, and the slice; `:` is all of that dimension."""
    found = _SLICE.fullmatch(path)
    if found is None:
        return path, None
    box = []
    for text, size in zip_longest(found[2].split(","), shape, fillvalue=""):
        first, _, end = str(text).partition(":")
        start = int(first or 0)
        box.append((start, int(end) if end else start + int(size or 0)))
    return found[1], tuple(box)


def _volume(box: Box) -> int:
    return prod(end - start for start, end in box)


def _overlap(one: Box, other: Box) -> bool:
    return all(
        start < end_of_other and start_of_other < end
        for (start, end), (start_of_other, end_of_other) in zip(one, other, strict=True)
    )


def _sum(checksums: Sequence[int]) -> int:
    """Return the checksum of an array from those of its parts."""
    return lanes_to_checksum(sum(value & MASK for value in checksums), sum(value >> 32 for value in checksums))
