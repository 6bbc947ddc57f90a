"""Name the cause of a first difference, from the causal order of the phases and what differs around the runs.

The phase that differs first had equal inputs, so what enters that phase is what differs: each config field says which
phases it enters, each environment entry belongs to the computation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprotui.compare.differences import FirstDifference
from reprotui.compare.evidence import (
    COMPUTED,
    WITH_EQUAL_INPUTS,
    began_unseen,
    follows_an_update,
    place_of,
    program_of,
    programs,
    some,
    source_differences,
)
from reprotui.compare.undetermined import undetermined
from reprotui.compare.verdict import Cause
from reprotui.environment import Difference, compare_environments
from reprotui.trace.phases import REPLACED

_NUMERIC_VARIABLES = ("XLA_FLAGS", "NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_NEUTRAL = (
    "executable",
    "host",
    "platform",
    "cpu.count",
    "cpu.affinity",
    "packages.reprotui",
    "packages.orbax-checkpoint",
    "packages.torch",
    "os",
    "builds.torch.cuda",
    "builds.torch.hip",
    "builds.torch.git_version",
)
_ECHOES = {
    "threads": ("variables.NPROC", "devices.cpu_threads"),
    "xla_flags": ("variables.XLA_FLAGS",),
    "deterministic": ("variables.XLA_FLAGS",),
}
"""Environment entries that a config field sets: said once, by the field's name."""


_OPTIMIZER = {"optimizer", "lr", "momentum", "weight_decay"}


@dataclass(frozen=True)
class ConfigDifference:
    """A config field with different values, and the phases that it can change."""

    name: str
    a: Any
    b: Any
    phases: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {_text(self.a)} → {_text(self.b)}"


def config_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[ConfigDifference]:
    """Return the differing config fields of two manifests; one that a manifest says nothing about may change any phase."""
    values_a, values_b = a.get("config", {}), b.get("config", {})
    phases = {**b.get("config_phases", {}), **a.get("config_phases", {})}
    return [
        ConfigDifference(name, values_a.get(name), values_b.get(name), tuple(phases.get(name, WITH_EQUAL_INPUTS)))
        for name in dict.fromkeys([*values_a, *values_b])
        if values_a.get(name) != values_b.get(name)
    ]


def environment_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Return the differing environment and device entries of two manifests."""
    differences = compare_environments(a.get("environment") or {}, b.get("environment") or {})
    return differences + compare_environments({"devices": a.get("devices") or {}}, {"devices": b.get("devices") or {}})


def find_cause(a: Mapping[str, Any], b: Mapping[str, Any], first: FirstDifference, batch_found_at: int | None = None) -> Cause:
    """Return the cause of a first difference.

    Args:
        a, b: the manifests of the runs.
        first: where they first differ.
        batch_found_at: a step of A whose batch equals B's at the first differing step, where there is one.
    """
    phase = first.phase
    configs = config_differences(a, b)
    echoes = {name for item in configs for name in _ECHOES.get(item.name, ())}
    environments = [item for item in environment_differences(a, b) if item.name not in echoes]
    sources = source_differences(a, b)
    explaining = [item for item in configs if _explains(item, first)]
    around = [*_numeric(environments), *sources] if phase in COMPUTED else [*_hash_seed(environments), *sources]
    explained_by = tuple(map(str, [*explaining, *around]))
    unrelated = tuple(map(str, [*configs, *environments]))
    unrelated = tuple(item for item in unrelated if item not in explained_by)
    evidence = [*place_of(first), *programs(a, b, phase)]
    kind, sentence, advice = _judge(a, b, first, explaining, around, batch_found_at)
    if batch_found_at is not None:
        evidence.append(f"B's batch of step {first.step} is A's batch of step {batch_found_at}")
    if not first.exact:
        evidence.append(_unrecorded(first))
    return Cause(kind, sentence, explained_by, tuple(evidence), unrelated, advice)


def unseen_cause(a: Mapping[str, Any], b: Mapping[str, Any], last: int, unseen: Sequence[str]) -> Cause:
    """Return the cause of a difference that shows in the final states alone, behind the last record that both runs have."""
    explaining = [item for item in config_differences(a, b) if any(phase != "init" for phase in item.phases)]
    explained_by = tuple(map(str, [*explaining, *_numeric(environment_differences(a, b)), *source_differences(a, b)]))
    because = f", likely because of {', '.join(explained_by)}" if explained_by else ""
    return Cause(
        "unknown",
        f"all records agree, the final states do not: it began after step {last}, in calls that lie in no record{because}",
        explained_by,
        ("; ".join(unseen) if unseen else "the last steps were not recorded",),
        advice="record every step (--every 1), and name the function that takes the steps with --step-function",
    )


def _judge(
    a: Mapping[str, Any], b: Mapping[str, Any], first: FirstDifference, explaining: list[ConfigDifference],
    around: list[Any], batch_found_at: int | None,
) -> tuple[str, str, str]:  # fmt: skip
    phase, names = first.phase, {item.name for item in explaining}
    if "perturb" in names:
        return "corruption", "a bit was flipped on purpose (perturb): a simulated silent data corruption", ""
    listed = ", ".join(map(str, [*explaining, *around]))
    replaced = [leaf for leaf in first.leaves if leaf.path.startswith(REPLACED)]
    if replaced:
        names = some([leaf.path.removeprefix(REPLACED) for leaf in replaced])
        both = all(leaf.kind == "bits" for leaf in replaced)
        what = f"{'both scripts' if both else 'one script'} put something else in the place of {names}"
        what += ", and not the same" if both else ", the other did not"
        return "state", f"{what}, because of {listed}" if listed else what, ""
    structural = {leaf.kind for leaf in first.leaves} - {"bits"}
    if structural and phase != "batch":
        why = f"because of {listed}" if listed else "and no recorded difference of config or code explains it"
        return "config", f"the trees differ ({', '.join(sorted(structural))}), {why}", ""
    if began_unseen(first) and listed:
        kind = "optimizer" if _OPTIMIZER & names else "computation"
        when = f"before step {first.step}" if first.previous is None else f"after step {first.previous}"
        what = f"the runs came to differ {when}, because of {listed}"
        return kind, what, "to see where it began, race again with --every 1"
    match phase:
        case "init":
            return _because("initialisation", "the initial state differs", listed, a, b, first)
        case "batch":
            data = a.get("data_digest") != b.get("data_digest")
            content = "the data themselves differ" if data else "the data are the same, their order or selection is not"
            if listed:
                return ("data" if data else "data-order"), f"the batch differs, because of {listed}", ""
            if data:
                return "data", f"the batch differs: {content}", ""
            kind = "data-order" if batch_found_at is not None else "data"
            return (
                kind,
                "the batch differs, and nothing recorded explains it: the data loader is not a pure function of the step",
                ("seed the loader, or look for iteration over sets, racing threads and unseeded NumPy"),
            )
        case "rng":
            return _because("keys", "the step's key is derived differently", listed, a, b, first)
        case "update" if follows_an_update(first):
            return _because("computation", "the step's first update is equal, what follows it is not", listed, a, b, first)
        case "update" if _OPTIMIZER & names:
            return "optimizer", f"the optimizer differs: {listed}", ""
        case "update":
            if listed:
                return (
                    "optimizer" if explaining else "computation",
                    f"the update differs with equal gradients, because of {listed}",
                    "",
                )
            return _corruption_or_nondeterminism(a, b, first)
        case _:
            if not listed and _only_state(first):
                return _corruption_or_nondeterminism(a, b, first)
            return _because("computation", "equal inputs give different results", listed, a, b, first)


def _unrecorded(first: FirstDifference) -> str:
    if first.previous is None:
        return f"nothing before step {first.step} was recorded, not even the state after init: it began before it or here"
    return f"steps between {first.previous} and {first.step} were not recorded: it began in one of them or here"


def _because(
    kind: str, what: str, listed: str, a: Mapping[str, Any], b: Mapping[str, Any], first: FirstDifference
) -> tuple[str, str, str]:
    if listed:
        return kind, f"{what}, because of {listed}", ""
    if not first.exact:
        return "unknown", f"{what}, but the steps before it were not recorded", "race again with --every 1"
    if program_of(a, first.phase) != program_of(b, first.phase):
        return (
            kind,
            f"{what}: the programs differ, though config and environment do not",
            "compare the sources of the two runs",
        )
    found = undetermined(a) or undetermined(b) if first.phase in COMPUTED else None
    why = f": {found.why}" if found else ""
    return (
        "nondeterminism",
        f"{what}, and neither config, environment nor program explains it: the computation is not deterministic{why}",
        found.advice if found else _looking_further(a),
    )


def _looking_further(manifest: Mapping[str, Any]) -> str:
    if "threads" in (manifest.get("config") or {}):
        return "race it against itself (--repeat 3), and with threads=1"
    # A script of one's own: jax reads NumPy arrays where they lie, on the CPU while the script goes on.
    return "race it against itself (--repeat 3); a batch overwritten while it is still read does this: hand over copies"


def _corruption_or_nondeterminism(a: Mapping[str, Any], b: Mapping[str, Any], first: FirstDifference) -> tuple[str, str, str]:
    if not first.exact:
        return "unknown", "the state differs, but the steps before it were not recorded", "race again with --every 1"
    where = first.leaves[0].path if len(first.leaves) == 1 else f"{len(first.leaves)} leaves"
    found = undetermined(a) or undetermined(b)
    if found is not None and len(first.leaves) != 1:  # a bit that flips, flips in one leaf
        changed = f"the state changed in {where} while all inputs of the step are equal"
        return "nondeterminism", f"{changed}: the computation is not deterministic: {found.why}", found.advice
    return (
        "corruption",
        f"the state changed in {where} while all inputs of the step are equal: silent data corruption, or an update that "
        "is not deterministic",
        "race it against itself (--repeat 3): a chip that fails does so rarely, a program that is not deterministic often",
    )


def _only_state(first: FirstDifference) -> bool:
    """Say whether `extra` leaves alone differ in the forward pass, with loss and gradients equal: they did not come from it."""
    return first.phases == ("forward",) and bool(first.leaves) and all(leaf.path.startswith("extra/") for leaf in first.leaves)


def _explains(item: ConfigDifference, first: FirstDifference) -> bool:
    """Say whether a field can be behind a first difference: it enters that phase, or any phase of a step not recorded."""
    if not _active(item, first.step):
        return False
    return first.phase in item.phases or (began_unseen(first) and any(phase != "init" for phase in item.phases))


def _active(item: ConfigDifference, step: int) -> bool:
    """Say whether a field that takes effect at a step of its own had taken effect by then."""
    if item.name == "shuffle_from":
        return min(value for value in (item.a, item.b) if value is not None) <= step
    if item.name == "perturb":
        return any(value is not None and int(value.split(":", 1)[0]) <= step for value in (item.a, item.b))
    return True


def _numeric(differences: list[Difference]) -> list[Difference]:
    """Keep the environment entries that can change what a program computes."""
    return [
        item
        for item in differences
        if item.name not in _NEUTRAL
        and (not item.name.startswith("variables.") or item.name.removeprefix("variables.") in _NUMERIC_VARIABLES)
        and not item.name.startswith("git.")
    ]


def _hash_seed(differences: list[Difference]) -> list[Difference]:
    return [item for item in differences if item.name == "variables.PYTHONHASHSEED"]


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
