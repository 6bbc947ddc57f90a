"""The library for scripts: seeds, deterministic mode, verification, environment and project checks.

Importing it imports no framework and no numpy; each name is loaded when it is first used.
"""

# ruff: noqa: F401  (the names are handed on)

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the names of `_NAMES` once more, for those who read types
    from reprotui.environment import Difference, capture_environment, compare_environments
    from reprotui.integrity.leaves import LeafDifference
    from reprotui.reproduce.checkpoint_metadata import CheckpointMetadata, Verification
    from reprotui.reproduce.checkpoint_seed import add_seed_to_checkpoint, restore_seed_from_checkpoint, validate_checkpoint_seed
    from reprotui.reproduce.checkpoints import CheckpointVerifier, create_integrity_manifest
    from reprotui.reproduce.config import load_experiment_config, save_experiment_config
    from reprotui.reproduce.determinism import DeterministicConfig, DeterministicContext, enable_deterministic_mode
    from reprotui.reproduce.frameworks import FrameworkMissingError, TooLateError
    from reprotui.reproduce.gate import GateDifference, GateResult, run_gate
    from reprotui.reproduce.hashes import compute_checkpoint_hash, verify_checkpoint_integrity
    from reprotui.reproduce.impact import Impact, benchmark_deterministic_impact
    from reprotui.reproduce.lint import RULES, Finding, lint_file, lint_project
    from reprotui.reproduce.phases import PhaseDifferences, diverging_phase
    from reprotui.reproduce.project import validate_template_structure
    from reprotui.reproduce.resume import ResumeReport, verify_resume
    from reprotui.reproduce.seed_state import SeedState, get_seed_state, load_seed_state, restore_seed_state, save_seed_state
    from reprotui.reproduce.seeds import (
        SeedContext,
        SeedInfo,
        create_reproducible_rng,
        set_global_seed,
        set_global_seeds,
        set_seed,
    )
    from reprotui.reproduce.status import get_deterministic_status
    from reprotui.reproduce.streams import (
        create_reproducible_generator,
        derive_key,
        generate_deterministic_seeds,
        process_key,
        purpose_key,
        seed_worker,
        split_keys,
        step_key,
    )
    from reprotui.reproduce.template import TemplateConfig, create_reproducible_template
    from reprotui.reproduce.verification import (
        DeterminismReport,
        RunDifference,
        verify_deterministic_execution,
        verify_reproducibility,
    )

_NAMES = {
    "frameworks": ("FrameworkMissingError", "TooLateError"),
    "resume": ("ResumeReport", "verify_resume"),
    "seeds": ("SeedContext", "SeedInfo", "create_reproducible_rng", "set_global_seed", "set_global_seeds", "set_seed"),
    "seed_state": ("SeedState", "get_seed_state", "load_seed_state", "restore_seed_state", "save_seed_state"),
    "streams": (
        "create_reproducible_generator",
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
    "checkpoint_metadata": ("CheckpointMetadata", "Verification"),
    "hashes": ("compute_checkpoint_hash", "verify_checkpoint_integrity"),
    "checkpoint_seed": ("add_seed_to_checkpoint", "restore_seed_from_checkpoint", "validate_checkpoint_seed"),
    "config": ("load_experiment_config", "save_experiment_config"),
    "phases": ("PhaseDifferences", "diverging_phase"),
    "status": ("get_deterministic_status",),
    "impact": ("Impact", "benchmark_deterministic_impact"),
    "gate": ("GateDifference", "GateResult", "run_gate"),
    "lint": ("RULES", "Finding", "lint_file", "lint_project"),
    "project": ("validate_template_structure",),
    "template": ("TemplateConfig", "create_reproducible_template"),
    "reprotui.integrity.leaves": ("LeafDifference",),
    "verification": ("DeterminismReport", "RunDifference", "verify_deterministic_execution", "verify_reproducibility"),
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
