"""What of two runs stands around their first difference: where it is, what entered it as far as recorded, which programs."""

from collections.abc import Sequence

from reprotui.compare.differences import FirstDifference
from reprotui.manifest import Kind, RunManifest
from reprotui.trace.phases import GENERATORS, PHASE_INDEX, REPLACED

COMPUTED = ("init", "forward", "grads", "optimizer", "params")
"""Phases whose content a compiled program computes; batch and keys are made from config and data alone."""
UPDATED = ("optimizer", "params")
"""Phases that an update makes."""

_ENTERS = {"batch": "batch", "rng": "key", "forward": "loss", "grads": "gradients", "optimizer": "new optimizer state"}
"""What the record of a phase is called where it enters a later one."""
_DIFFERS = {
    "batch": "its batch is not",
    "rng": "the step's key is not",
    "forward": "what the forward pass gives is not",
    "grads": "the gradients are not",
    "optimizer": "what the optimizer makes of them is not",
    "params": "the updated state is not",
}
_DIFFERING_TREES = {
    ("optimizer", "opt_state"): "the optimizer's new state is not",
    ("params", "params"): "the updated parameters are not",
}
"""What is said where the first differing leaf is what a phase is named after."""
_PLACES = {"batch": "batch", "forward": "forward", "grads": "gradients", "optimizer": "optimizer", "params": "update"}
_MAY_BE_ABSENT = ("rng", "optimizer")
"""A step without a key is common, and so is an optimizer without a state."""


def place_of(first: FirstDifference) -> list[str]:
    """Return where the runs first differ, what is equal there, and which leaves are not."""
    unseen = f"the first recorded difference is in {first.phase}; the state that the step started from is not recorded"
    if any(leaf.path.startswith(REPLACED) for leaf in first.leaves):
        lines = [f"step {first.step}: what the step before gave is equal, what this one works on is not"]
        if not (first.exact and first.state_seen):
            lines = [f"step {first.step}: what it works on is not equal; what the step before gave is not recorded"]
    elif follows_an_update(first):
        lines = [f"step {first.step}: {equal_so_far(first)}, what follows it is not"]
    else:
        lines = [f"step {first.step}: {unseen if began_unseen(first) else equal_before(first)}"]
    if first.leaves:
        lines.append(f"differing leaves of {first.phase}: {some([leaf.path for leaf in first.leaves])}")
    elif not first.leaves_known:
        lines.append("leaf rows are not stored at this step")
    return lines


def equal_before(first: FirstDifference) -> str:
    """Return what was seen to be equal where a phase differs first, and what could not be seen: nothing is said of that."""
    if first.phase == "init":
        return "the first thing that is recorded differs"
    earlier = [phase for phase in _ENTERS if PHASE_INDEX[phase] < PHASE_INDEX[first.phase]]
    state = ["state"] if first.exact and first.state_seen else []
    seen = [*state, *(_ENTERS[phase] for phase in earlier if phase in first.recorded)]
    if seen == ["state"]:
        equal = "the state before the step is equal"
    elif seen:
        equal = f"{listed(seen, 'and')} {'is' if len(seen) == 1 and seen != ['gradients'] else 'are'} equal"
    else:
        equal = "nothing that enters was seen"
    hidden, generators = unseen_inputs(first), streams(first)
    differs = f"the state of {listed(generators, 'and')} is not" if generators else _differs(first)
    if not hidden:
        return f"{equal}, {differs}"
    names = listed([_ENTERS[phase] for phase in hidden], "and")
    began = listed([_PLACES[phase] for phase in (*hidden, first.phase)], "or") if first.phase in _PLACES else ""
    were = "was" if len(hidden) == 1 and hidden != ["grads"] else "were"
    return f"{equal}, {differs}; {names} {were} not seen{f': it began in {began}' if began else ''}"


def unseen_inputs(first: FirstDifference) -> list[str]:
    """Return the phases before the first differing one that were not recorded, of those that every step has."""
    earlier = [phase for phase in _ENTERS if PHASE_INDEX[phase] < PHASE_INDEX[first.phase]]
    return [phase for phase in earlier if phase not in first.recorded and phase not in _MAY_BE_ABSENT]


def _differs(first: FirstDifference) -> str:
    tree = first.leaves[0].path.split("/")[0] if first.leaves else ""
    return _DIFFERING_TREES.get((first.phase, tree), _DIFFERS[first.phase])


def streams(first: FirstDifference) -> list[str]:
    """Return whose generators are in another state, where nothing but that differs first."""
    found = [GENERATORS[leaf.path] for leaf in first.leaves if leaf.path in GENERATORS]
    return found if len(found) == len(first.leaves) else []


def unrecorded(a: RunManifest, b: RunManifest, first: FirstDifference) -> list[str]:
    """Return what enters a computation and was not recorded: only where that is nothing, equal inputs are known to be equal."""
    found = [_ENTERS[phase] for phase in unseen_inputs(first)]
    if first.phase != "init" and not (first.exact and first.state_seen):
        found.append("the state before the step")
    if Kind.SCRIPT in (a.kind, b.kind):
        found.append(_beside_records(a, b))
    elif not both_programs(a, b, first.phase):
        found.append("the program")
    if not (a.environment and b.environment and a.devices and b.devices):
        found.append("the environment")
    return found


def _beside_records(a: RunManifest, b: RunManifest) -> str:
    """Return what of a script enters its computations besides what its records hold; nobody records their programs."""
    if any(str(run.devices.get("backend", "")).startswith(("torch", "numpy")) for run in (a, b)):
        return "what else the script uses"
    known = all(run.result is not None and "captured" in run.result.coverage for run in (a, b))
    return "the program" if known else "what the script's functions captured"


def not_explaining(a: RunManifest, b: RunManifest, phase: str) -> str:
    """Say which things around the runs are recorded, and explain nothing."""
    known = ["config"] if all(run.config or run.launch or run.command for run in (a, b)) else []
    known += ["environment"] if a.environment and b.environment else []
    known += ["program"] if phase in COMPUTED and both_programs(a, b, phase) else []
    if not known:
        return "nothing is recorded of what stands around the runs"
    return f"neither {listed(known, 'nor')} explains it" if len(known) > 1 else f"{known[0]} does not explain it"


def listed(names: Sequence[str], last: str) -> str:
    """Return names in a row, the last one behind a word: `a, b and c`."""
    return f" {last} ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])


def programs(a: RunManifest, b: RunManifest, phase: str) -> list[str]:
    """Return which forms of the programs that compute a phase are equal, where both manifests hold them."""
    if phase not in COMPUTED:
        return []
    of_a, of_b = program_of(a, phase), program_of(b, phase)
    labels = {
        "jaxpr": "traced program (jaxpr)",
        "stablehlo": "lowered program (StableHLO)",
        "optimized_hlo": "compiled program (optimized HLO)",
    }
    in_both = [(label, of_a[key], of_b[key]) for key, label in labels.items() if of_a.get(key) and of_b.get(key)]
    return [f"{label}: {'equal' if one == other else 'different'}" for label, one, other in in_both]


def both_programs(a: RunManifest, b: RunManifest, phase: str) -> bool:
    """Say whether both runs recorded the program that computes a phase."""
    return bool(program_of(a, phase)) and bool(program_of(b, phase))


def program_of(manifest: RunManifest, phase: str) -> dict[str, str]:
    """Return the digests of the program that computes a phase."""
    return manifest.program.get("init" if phase == "init" else "step") or {}


def source_differences(a: RunManifest, b: RunManifest) -> list[str]:
    """Return a line that names the source files that differ, or nothing; nothing too where one run's are not recorded."""
    of_a, of_b = a.experiment, b.experiment
    if of_a.source_digest == of_b.source_digest or None in (of_a.source_digest, of_b.source_digest):
        return []
    line = f"experiment source: {str(of_a.source_digest)[:12]} → {str(of_b.source_digest)[:12]}"
    files_a, files_b = of_a.sources, of_b.sources
    if files_a and files_b:
        changed = [name for name in dict.fromkeys([*files_a, *files_b]) if files_a.get(name) != files_b.get(name)]
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        line += f" ({', '.join(changed[:3])}{more})" if changed else ""
    return [line]


def began_unseen(first: FirstDifference) -> bool:
    """Say whether the state that the first differing step started from may differ already; batch and keys need no state."""
    return not first.exact and first.phase in ("forward", "grads", *UPDATED)


def follows_an_update(first: FirstDifference) -> bool:
    """Say whether a loss or gradients differ first that were computed after the first ones of the same step, with several."""
    return first.phase in UPDATED and bool(first.leaves) and first.leaves[0].path.split("/")[0] in ("loss", "metrics", "grads")


def equal_so_far(first: FirstDifference) -> str:
    """Say what is equal of a step where a later part of it differs first."""
    return "the step's first update is equal" if first.updated else "what was recorded of the step before it is equal"


def some(names: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
