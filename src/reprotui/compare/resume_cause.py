"""Why a resumed run is not the uninterrupted one: what was forgotten, named by the input that is not the same, and its remedy."""

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from reprotui.compare.around import config_differences
from reprotui.compare.differences import FirstDifference
from reprotui.compare.evidence import place_of, some
from reprotui.compare.remedies import libraries_of, remedy
from reprotui.compare.resuming import LR, Restoration, kind_of, restorations, said, where_batch
from reprotui.compare.verdict import Cause, Verdict
from reprotui.errors import ReprotuiError
from reprotui.manifest import Part, RunManifest
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace
from reprotui.trace.phases import GENERATORS

_WORDS = {
    "batch": "data-order",
    "epoch": "data-order",
    "schedule": "optimizer",
    "key": "keys",
    **dict.fromkeys(GENERATORS, "keys"),
}
"""`Cause.kind` by what was forgotten; state otherwise."""


MEANT_TO_END = "it was meant to end there: what went on from it is compared as a run of its own"
"""What is said of a first part that is equal as far as it goes."""


class _Forgotten(NamedTuple):
    """What was forgotten: kinds as `reprotui.compare.remedies.remedy` takes them, and the sentence."""

    kinds: tuple[str, ...]
    sentence: str


def before_it_was_interrupted(manifest: RunManifest, first: FirstDifference) -> bool:
    """Say whether runs differ where nothing had been resumed yet."""
    return len(manifest.parts) < 2 or first.step <= manifest.parts[1].begins_after


def first_part(path: Path, manifest: RunManifest) -> RunManifest:
    """Return the manifest of the run that was interrupted first; that of the whole where it is gone."""
    try:
        return RunDirectory(path.parent / manifest.parts[0].run).manifest()
    except ReprotuiError:
        return manifest


def began_anew(manifest: RunManifest) -> str:
    """Return why a run is none that was resumed: its second part began as the first one did; empty where it did not."""
    if len(manifest.parts) < 2 or manifest.parts[1].begins_after:
        return ""
    return f"{_name(manifest.parts[1])} began anew: nothing that it began with is of a later step, so nothing was resumed"


def find_resume_cause(a: RunManifest, b: RunManifest, trace_a: Trace, trace_b: Trace, first: FirstDifference) -> Cause:
    """Return why a resumed run differs from the uninterrupted one.

    Args:
        a: the uninterrupted run.
        b: the run that is put together from its parts.
        trace_a, trace_b: their traces.
        first: where they first differ: in a part that went on from a checkpoint.
    """
    part = [part for part in b.parts if part.begins_after < first.step][-1]
    found = restorations(trace_a, trace_b, part)
    forgotten = _forgotten(trace_a, trace_b, part, first, found)
    settings = [str(item) for item in config_differences(a, b)]
    evidence = [_goes_on(part, found), *place_of(first)]
    evidence += [f"{_name(part)} was started with other settings: {some(settings)}"] if settings else []
    return Cause(
        _WORDS.get(forgotten.kinds[0], "state"),
        forgotten.sentence,
        (),
        tuple(evidence),
        (),
        remedy(forgotten.kinds, libraries_of(a)),
    )


def with_restored(verdict: Verdict, a: Trace, b: Trace, manifest: RunManifest) -> Verdict:
    """Return a verdict that says after which step each part goes on, and what it got back; a cause says it of its own part."""
    notes = [_goes_on(part, restorations(a, b, part)) for part in manifest.parts[1:] if part.begins_after]
    told = verdict.cause.evidence if verdict.cause is not None else ()
    return replace(verdict, notes=(*(note for note in notes if note not in told), *verdict.notes))


def _goes_on(part: Part, found: list[Restoration]) -> str:
    return f"{_name(part)} goes on after step {part.begins_after}: {said(found)}"


def _name(part: Part) -> str:
    return Path(part.run).name


def _forgotten(a: Trace, b: Trace, part: Part, first: FirstDifference, found: list[Restoration]) -> _Forgotten:
    """Return what was forgotten: what the part's first step shows, else what the first differing phase tells."""
    step = part.begins_after + 1
    if part.rest and first.step <= step + 1:
        return _Forgotten(
            ("accumulated gradients",),
            f"not restored: accumulated gradients: step {step} was made from {part.rest} inputs, the last ones, when it went "
            "on; the gradients of those before were lost",
        )
    lost = [item for item in found if not item.restored]
    # What an order is drawn from comes before the order.
    lost.sort(key=lambda item: item.kind not in GENERATORS)
    if lost:
        return _Forgotten(tuple(_remedied(item) for item in lost), f"not restored: {', '.join(map(str, lost))}")
    here = f"all that is seen of what step {step} began with was restored; " if first.step == step else ""
    match first.phase:
        case "batch":
            order = (
                f"the order of the data is another one from step {first.step} on, whose batch is {where_batch(a, b, first.step)}"
            )
            return _Forgotten(("epoch",), f"{order}: not restored: what orders the epochs that follow")
        case "rng":
            kinds = tuple(leaf.path if leaf.path in GENERATORS else "key" for leaf in first.leaves) or ("key",)
            names = some([GENERATORS.get(kind, "the key") for kind in kinds])
            return _Forgotten(
                kinds, f"from step {first.step} on the state of {names} is another one: it was drawn from otherwise"
            )
        case "forward":
            if factor := _power_of_two(a, b, first.step):
                scale = f"the loss of step {first.step} is {factor} times the uninterrupted run's"
                return _Forgotten(("loss scale",), f"{here}not restored: loss scale: {scale}")
            what = "something that is not recorded (train or eval mode, a buffer that is not saved, a number that Python holds)"
            return _Forgotten(
                ("unrecorded",),
                f"{here}the forward pass of step {first.step} is not the same: not restored: {what}",
            )
        case "grads":
            return _Forgotten(
                ("accumulated gradients",),
                f"{here}the gradients of step {first.step} differ with equal loss: not restored: accumulated gradients",
            )
    return _in_update(first, here)


def _in_update(first: FirstDifference, here: str) -> _Forgotten:
    paths = [leaf.path for leaf in first.leaves]
    if paths and all(path.split("/")[0] == "extra" for path in paths):
        kind = "average of the parameters" if all(kind_of(path) != "other state" for path in paths) else "other state"
        names = some([path.partition("/")[2] for path in paths])
        return _Forgotten((kind,), f"{here}parameters and optimizer are equal, not {names}: not restored: {kind}")
    if any(LR.search(path) for path in paths):
        return _Forgotten(("schedule",), f"{here}the learning rate of step {first.step} is another one: not restored: schedule")
    if not any(path.split("/")[0] == "opt_state" for path in paths):
        return _Forgotten(
            ("schedule",),
            f"{here}step {first.step} makes another update of equal gradients: not restored: schedule (the size of a step)",
        )
    return _Forgotten(
        ("optimizer",),
        f"{here}the optimizer makes something else of equal gradients at step {first.step}: not restored: optimizer",
    )


def _remedied(item: Restoration) -> str:
    return "epoch" if item.kind == "batch" and item.detail.startswith("of epoch") else item.kind


def _power_of_two(a: Trace, b: Trace, step: int) -> str:
    """Return by which power of two a loss is another one, as text; empty where it is not."""
    one, other = (None if (row := trace.row(step)) is None else row.loss for trace in (a, b))
    if not one or not other:
        return ""
    factor = other / one
    return f"{factor:g}" if factor != 1 and math.isfinite(factor) and math.frexp(abs(factor))[0] == 0.5 else ""
