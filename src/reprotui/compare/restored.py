"""Where a run that goes on from a checkpoint was restored to: the step whose state it began with, and what of that is missing.

A checkpoint may be older than the end of the run that saved it, and a resumed process counts its steps from 1 again. So the
step is found from the state itself: the first record of the resumed run against the state after every step of the one before.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reprotui.checksum import LeafSpec
from reprotui.errors import CannotTellError
from reprotui.trace import Trace
from reprotui.trace.phases import CAPTURED, REPLACED

_NUMBERED = re.compile(r"params/(.*/)?group_\d+/\d+")
STATE = ("params", "opt_state", "extra")
"""Trees of state: the first part of a path, or all of it."""
_OF_THE_NEXT_STEP = re.compile(r"(^|/)group_\d+/lr$")
"""A learning rate of a torch optimizer: what stands in the first record is that of the step to come."""


@dataclass(frozen=True)
class Restored:
    """What a resumed run began with.

    Attributes:
        step: it goes on after this step of the run before; 0 where it began anew.
        equal, other, missing: paths of its first state that are as they were after that step, are not, are not there.
        number: what that step is in its own numbers: 0 where these begin anew.
    """

    step: int
    equal: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    number: int = 0

    @property
    def offset(self) -> int:
        """Return what is added to its own numbers of steps."""
        return self.step - self.number


def find_restored(before: Trace, part: Trace, step: int | None = None, reference: Trace | None = None) -> Restored:
    """Return where a resumed run goes on.

    Args:
        before: the run that was interrupted.
        part: the run that goes on.
        step: after which step, where that is known; it is found from the state otherwise.
        reference: the uninterrupted run: where no state was restored, the first batch may be that of one of its steps.

    Raises:
        CannotTellError: the resumed run recorded nothing, or its first state is that of no step of the run before.
    """
    first = next(part.rows(limit=1), None)
    if first is None:
        raise CannotTellError("the resumed run took no step: nothing was left to train, or it did not get so far")
    own = state_at(part, first.step)
    if first.step > 0 and step is None:
        # A Recorder that was not shown the initial state; its numbers go on where they are not those of a first step.
        step = first.step - 1 if first.step > 1 else None
    if first.step > 0:
        if step is None:
            raise CannotTellError(
                "the resumed run did not record the state that it began with, so where it goes on cannot be found: give --offset"
            )
        return Restored(step, number=first.step - 1)
    if step is None:
        step = _step_of(before, own)
        if step == 0 and reference is not None:
            step = max(0, (step_of_batch(reference, part, 1) or 1) - 1)
    there = state_at(before, step) if before.row(step) is not None else {}
    own = {path: bits for path, bits in own.items() if not _OF_THE_NEXT_STEP.search(path)}
    there = {path: bits for path, bits in there.items() if not _OF_THE_NEXT_STEP.search(path)}
    known = [path for path in own if path in there]
    second = next(part.rows(first.step, limit=1), None)
    # A Recorder's numbers go on where the script's do; those of an observer begin with 1.
    number = step if second is not None and second.step > step else 0
    return Restored(
        step,
        tuple(path for path in known if own[path] == there[path]),
        tuple(path for path in known if own[path] != there[path]),
        tuple(path for path in there if path.split("/")[0] == "opt_state" and path not in own),
        number,
    )


def state_at(trace: Trace, step: int) -> dict[str, int]:
    """Return the checksums of all state that the record of a step holds, by path; empty where leaf rows were not stored."""
    sums = trace.leaf_checksums(step)
    if sums is None:
        return {}
    specs = trace.table(trace.recorded(step).version).specs
    names = _names(trace, specs) if step == 0 else {}
    found = {spec.path: int(bits) for spec, bits in zip(specs, sums, strict=True) if spec.path.split("/")[0] in STATE}
    return {_named(path, names): bits for path, bits in found.items()}


def _names(trace: Trace, specs: Sequence[LeafSpec]) -> dict[str, str]:
    """Return what parameters of a first record are called later, where only their place in the optimizer was known then.

    Lightning calls the model within the step, so the state before the first one has no names yet.
    """
    row = next(trace.rows(0, limit=1), None)
    numbered = [spec for spec in specs if spec.path.startswith("params/")]
    if row is None or not all(_NUMBERED.fullmatch(spec.path) for spec in numbered):
        return {}
    named = [spec for spec in trace.table(row.version).specs if spec.path.startswith("params/")]
    if [spec.shape for spec in named] != [spec.shape for spec in numbered]:
        return {}
    parts = (
        (one.path.removeprefix("params/"), other.path.removeprefix("params/")) for one, other in zip(numbered, named, strict=True)
    )
    return dict(parts)


def _named(path: str, names: Mapping[str, str]) -> str:
    tree, _, name = path.partition("/")
    owner, key = (name, "") if tree == "params" else name.rsplit("/", 1) if "/" in name else (name, "")
    return "/".join(filter(None, (tree, names.get(owner, owner), key)))


def batch_at(trace: Trace, step: int) -> dict[str, int]:
    """Return the checksums of what a step was given, by path, without what stands there for other reasons."""
    row, sums = trace.row(step), trace.leaf_checksums(step)
    if row is None or sums is None:
        return {}
    table = trace.table(row.version)
    return {
        spec.path: int(bits)
        for phase, spec, bits in zip(table.phases, table.specs, sums, strict=True)
        if phase == "batch" and not spec.path.startswith((CAPTURED, REPLACED))
    }


def rest_of_step(reference: Trace, step: int, part: Trace, own: int) -> str:
    """Return how much of a step was left where a run went on within it (`1 of 2` inputs); empty where it began with the step.

    Args:
        reference, step: the uninterrupted run, and its number of the step.
        part, own: the run that goes on, and its number of the same step.
    """
    of_step, left = (list(batch_at(trace, number).values()) for trace, number in ((reference, step), (part, own)))
    return f"{len(left)} of {len(of_step)}" if 0 < len(left) < len(of_step) and of_step[-len(left) :] == left else ""


def step_of_batch(reference: Trace, part: Trace, step: int) -> int | None:
    """Return the step of one run that was given what a step of another one was; None where no step was."""
    wanted = batch_at(part, step)
    sizes = {} if not wanted else {spec.path: math.prod(spec.shape) for spec in part.table(part.recorded(step).version).specs}
    path = max(wanted, key=lambda path: sizes[path], default="")
    if not path or sizes[path] < 2:  # a scalar such as a learning rate tells no batch
        return None
    return steps_with(reference, "batch", path, wanted[path])


def steps_with(trace: Trace, phase: str, path: str, bits: int) -> int | None:
    """Return the first step in whose record a leaf has a checksum; None where there is none."""
    at: dict[int, int | None] = {}
    for step, sums in trace.leaf_rows():
        version = trace.recorded(step).version
        if version not in at:
            table = trace.table(version)
            found = [
                n
                for n, (own, spec) in enumerate(zip(table.phases, table.specs, strict=True))
                if own == phase and spec.path == path
            ]
            at[version] = found[0] if found else None
        place = at[version]
        if place is not None and int(sums[place]) == bits:
            return step
    return None


def _step_of(before: Trace, own: Mapping[str, int]) -> int:
    """Return the step whose state a run began with: the last one that most leaves agree with, of those that tell steps apart."""
    first = next(before.rows(limit=1), None)
    if first is None:
        raise CannotTellError("the run before recorded nothing, so nothing can have been restored from it")
    start = state_at(before, first.step)
    telling = {path: bits for path, bits in own.items() if start.get(path) != bits and not _OF_THE_NEXT_STEP.search(path)}
    if own and start and not telling:
        return first.step
    wanted, at = np.array(list(telling.values()), np.uint64), {}
    best, found = 0, first.step
    for step, sums in before.leaf_rows():
        version = before.recorded(step).version
        if version not in at:
            places = {spec.path: index for index, spec in enumerate(before.table(version).specs)}
            here = [(number, places[path]) for number, path in enumerate(telling) if path in places]
            at[version] = tuple(np.array(here, np.intp).reshape(-1, 2).T)
        numbers, places = at[version]
        count = int(np.count_nonzero(sums[places] == wanted[numbers]))
        if count and count >= best:
            best, found = count, step
    if not best:
        raise CannotTellError(
            "the state that the resumed run began with is that of no recorded step of the run before: if it is meant to be (its "
            "parameters rounded or averaged when they were saved), say after which step it goes on, with --offset"
        )
    return found
