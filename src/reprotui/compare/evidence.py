"""What of two runs stands around their first difference: where it is, which programs and sources are equal."""

from collections.abc import Mapping
from typing import Any

from reprotui.compare.differences import FirstDifference
from reprotui.trace.phases import REPLACED

COMPUTED = ("init", "forward", "grads", "update")
"""Phases whose content a compiled program computes; batch and keys are made from config and data alone."""

WITH_EQUAL_INPUTS = {
    "init": "the first thing that is recorded differs",
    "batch": "the state before the step is equal, its batch is not",
    "rng": "state and batch are equal, the step's key is not",
    "forward": "state, batch and key are equal, what the forward pass gives is not",
    "grads": "state, batch, key and loss are equal, the gradients are not",
    "update": "state, batch, key, loss and gradients are equal, the updated state is not",
}
"""What is equal where a phase differs first."""


def place_of(first: FirstDifference) -> list[str]:
    """Return where the runs first differ, what is equal there, and which leaves are not."""
    unseen = f"the first recorded difference is in {first.phase}; the state that the step started from is not recorded"
    if any(leaf.path.startswith(REPLACED) for leaf in first.leaves):
        lines = [f"step {first.step}: what the step before gave is equal, what this one works on is not"]
    elif follows_an_update(first):
        lines = [f"step {first.step}: all is equal up to the step's first update, what follows it is not"]
    else:
        lines = [f"step {first.step}: {unseen if began_unseen(first) else WITH_EQUAL_INPUTS[first.phase]}"]
    if first.leaves:
        lines.append(f"differing leaves of {first.phase}: {some([leaf.path for leaf in first.leaves])}")
    elif not first.leaves_known:
        lines.append("leaf rows are not stored at this step")
    return lines


def programs(a: Mapping[str, Any], b: Mapping[str, Any], phase: str) -> list[str]:
    """Return which forms of the programs that compute a phase are equal, where both manifests hold them."""
    if phase not in COMPUTED:
        return []
    of_a, of_b = program_of(a, phase), program_of(b, phase)
    if not of_a or not of_b:
        return []
    labels = {
        "jaxpr": "traced program (jaxpr)",
        "stablehlo": "lowered program (StableHLO)",
        "optimized_hlo": "compiled program (optimized HLO)",
    }
    return [f"{label}: {'equal' if of_a.get(key) == of_b.get(key) else 'different'}" for key, label in labels.items()]


def program_of(manifest: Mapping[str, Any], phase: str) -> dict[str, str]:
    """Return the digests of the program that computes a phase."""
    return (manifest.get("program") or {}).get("init" if phase == "init" else "step") or {}


def source_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return a line that names the source files that differ, or nothing."""
    of_a, of_b = a.get("experiment") or {}, b.get("experiment") or {}
    if of_a.get("source_digest") == of_b.get("source_digest"):
        return []
    line = f"experiment source: {str(of_a.get('source_digest'))[:12]} → {str(of_b.get('source_digest'))[:12]}"
    files_a, files_b = of_a.get("sources") or {}, of_b.get("sources") or {}
    if files_a and files_b:
        changed = [name for name in dict.fromkeys([*files_a, *files_b]) if files_a.get(name) != files_b.get(name)]
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        line += f" ({', '.join(changed[:3])}{more})" if changed else ""
    return [line]


def began_unseen(first: FirstDifference) -> bool:
    """Say whether the state that the first differing step started from may differ already; batch and keys need no state."""
    return not first.exact and first.phase in ("forward", "grads", "update")


def follows_an_update(first: FirstDifference) -> bool:
    """Say whether a loss or gradients differ first that were computed after an update of the same step, with several of them."""
    return first.phase == "update" and bool(first.leaves) and first.leaves[0].path.split("/")[0] in ("loss", "metrics", "grads")


def some(names: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
