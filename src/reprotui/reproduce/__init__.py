"""The library for scripts: seeds, deterministic mode, verification, environment and project checks.

Importing it imports no framework and no numpy; each name is loaded when it is first used.
"""

import importlib
from typing import Any

_NAMES = {
    "frameworks": ("FrameworkMissingError", "TooLateError"),
    "seeds": ("SeedContext", "SeedInfo", "set_global_seed", "set_seed"),
    "seed_state": ("SeedState", "get_seed_state", "load_seed_state", "restore_seed_state", "save_seed_state"),
    "streams": (
        "create_reproducible_generator",
        "create_reproducible_rng",
        "derive_key",
        "generate_deterministic_seeds",
        "process_key",
        "purpose_key",
        "seed_worker",
        "split_keys",
        "step_key",
    ),
    "determinism": ("DeterministicConfig", "DeterministicContext", "enable_deterministic_mode"),
    "reprotui.environment": ("Difference", "capture_environment", "compare_environments"),
    "checkpoints": ("CheckpointVerifier", "create_integrity_manifest"),
    "hashes": ("CheckpointMetadata", "Verification", "compute_checkpoint_hash", "verify_checkpoint_integrity"),
    "checkpoint_seed": ("add_seed_to_checkpoint", "restore_seed_from_checkpoint", "validate_checkpoint_seed"),
    "status": ("get_deterministic_status",),
    "impact": ("Impact", "benchmark_deterministic_impact"),
    "gate": ("GateDifference", "GateResult", "run_gate"),
    "lint": ("RULES", "Finding", "lint_file", "lint_project"),
    "project": ("validate_template_structure",),
    "template": ("TemplateConfig", "create_reproducible_template"),
    "difference": ("LeafDifference",),
    "verification": ("DeterminismReport", "verify_deterministic_execution", "verify_reproducibility"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    value = getattr(importlib.import_module(home if home.startswith("reprotui.") else f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
