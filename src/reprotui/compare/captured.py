"""What is said of arrays that functions captured: they are constants of their programs, and enter all that those compute."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reprotui.compare.differences import FirstDifference
from reprotui.compare.evidence import some
from reprotui.compare.verdict import Cause
from reprotui.manifest import RunManifest
from reprotui.trace.phases import CAPTURED

_OF_BATCH = ("the batch differs", "its batch is not", "what made it is not the same each time")
"""What is said of a batch, and not of what a function captured."""


def of_captured(cause: Cause, first: FirstDifference, manifest: RunManifest) -> Cause:
    """Return the cause of a first difference; where what functions captured is the first to differ, that is what it speaks of.

    Args:
        cause: what was found for the phase `batch`, in which it stands.
        first: where the runs first differ.
        manifest: of one of the runs: it says which function captured what.
    """
    names = [leaf.path.removeprefix(CAPTURED) for leaf in first.leaves if leaf.path.startswith(CAPTURED)]
    if first.phase != "batch" or not names or not first.leaves[0].path.startswith(CAPTURED):
        return cause
    captured = captured_by_function(manifest) or {}
    owners = [name for name in captured if any(path.startswith(f"{name}/") for path in names)]
    owners = owners or (list(captured) if len(captured) == 1 else [])
    constants = "constants" if len(names) > 1 else "a constant"
    of = f"{constants} of {', '.join(owners)}" if owners else f"{constants} of the step's program"
    when = "from the start" if first.step <= 1 else f"from step {first.step} on"
    differs = f"what the step captured differs {when} ({some(names)}: {of})"
    sentence = cause.sentence.replace(_OF_BATCH[0], differs, 1).removesuffix(f": {_OF_BATCH[2]}")
    evidence = tuple(line.replace(_OF_BATCH[1], "what the step captured is not") for line in cause.evidence)
    unexplained = _OF_BATCH[2] in cause.sentence
    advice = "seed what these arrays are made with, and read them from the same file" if unexplained else cause.advice
    return replace(cause, kind="data", sentence=sentence, evidence=evidence, advice=advice)


def captured_by_function(manifest: RunManifest) -> Mapping[str, Sequence[Any]] | None:
    """Return what the functions of a run were seen to capture, by function; None where that was not recorded."""
    found = manifest.result.coverage.get("captured") if manifest.result is not None else None
    return found if isinstance(found, Mapping) else None
