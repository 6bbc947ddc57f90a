"""What a run on a GPU left to chance: kernels that are chosen by timing, sums whose order nothing keeps."""

from collections.abc import Mapping
from typing import NamedTuple

from reprotui.manifest import Kind, RunManifest

_DETERMINISTIC = ("--xla_gpu_deterministic_ops", "--xla_gpu_exclude_nondeterministic_ops")
_OFF = ("=false", "=0")


class Undetermined(NamedTuple):
    """Why equal inputs may give different results on a device, and what forbids it."""

    why: str
    advice: str


def undetermined(manifest: RunManifest) -> Undetermined | None:
    """Return what a run's device was free to compute differently; None where its flags forbid it or were not recorded,
    and on CPUs.

    On an H200 with jax 0.11, four processes of one script of matrix products gave three different results after six steps;
    with either of XLA's flags all four were equal.
    """
    backend = manifest.devices.get("backend")
    variables = manifest.environment.get("variables")
    if backend in ("gpu", "cuda", "rocm") and isinstance(variables, Mapping):
        flags = str(variables.get("XLA_FLAGS", "")).split()
        if any(flag.startswith(_DETERMINISTIC) and not flag.endswith(_OFF) for flag in flags):
            return None
        return Undetermined(
            "each process chooses its GPU kernels anew, by timing them, and some add up in no fixed order",
            "race it with deterministic=true"
            if manifest.kind is Kind.EXPERIMENT
            else "race it with XLA_FLAGS=--xla_gpu_deterministic_ops=true",
        )
    if backend == "torch cuda" and manifest.devices.get("deterministic_algorithms") is False:
        return Undetermined(
            "some of PyTorch's GPU kernels add up in no fixed order",
            "call torch.use_deterministic_algorithms(True), set CUBLAS_WORKSPACE_CONFIG=:4096:8, and race it again",
        )
    return None
