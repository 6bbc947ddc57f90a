"""Know that deterministic mode is on: what is in force in this process, and what is missing."""

import os
import sys
from typing import Any

from reprotui.reproduce.determinism import CUBLAS_DETERMINISTIC, CUBLAS_VARIABLE, THREAD_VARIABLES, XLA_GPU_FLAG
from reprotui.reproduce.frameworks import cuda_is_initialised, jax_has_gpu, jax_is_initialised, loaded


def get_deterministic_status() -> dict[str, Any]:
    """Describe what is in force in this process, without importing anything.

    Returns:
        `deterministic`, and `problems`, a line for each setting that is missing, with what to do; then `python`, `torch`
        and `jax` (None where the library is not loaded) and `variables`.
    """
    variables = {
        name: os.environ.get(name) for name in ("PYTHONHASHSEED", CUBLAS_VARIABLE, "XLA_FLAGS", "NPROC", *THREAD_VARIABLES)
    }
    torch, torch_problems = _torch(variables)
    jax, jax_problems = _jax(variables)
    python = {"hash_randomization": bool(sys.flags.hash_randomization)}
    problems = [*torch_problems, *jax_problems]
    return {
        "deterministic": not problems,
        "problems": problems,
        "python": python,
        "torch": torch,
        "jax": jax,
        "variables": variables,
    }


def _torch(variables: dict[str, str | None]) -> tuple[dict[str, Any] | None, list[str]]:
    torch = loaded("torch")
    if torch is None:
        return None, []
    found = {
        "version": torch.__version__,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "threads": torch.get_num_threads(),
        "cuda_started": cuda_is_initialised(),
    }
    problems = []
    if not found["deterministic_algorithms"]:
        problems.append("torch may use operations that are not deterministic: torch.use_deterministic_algorithms(True)")
    elif found["warn_only"]:
        problems.append("torch only warns about operations that are not deterministic: torch_warn_only=False")
    if found["cudnn_benchmark"]:
        problems.append("cuDNN chooses kernels by timing: torch.backends.cudnn.benchmark = False")
    if torch.cuda.is_available() and variables[CUBLAS_VARIABLE] not in CUBLAS_DETERMINISTIC:
        problems.append(f"cuBLAS may differ between runs: set {CUBLAS_VARIABLE}=:4096:8 before CUDA starts")
    return found, problems


def _jax(variables: dict[str, str | None]) -> tuple[dict[str, Any] | None, list[str]]:
    jax = loaded("jax")
    if jax is None:
        return None, []
    started = jax_is_initialised()
    flags = (variables["XLA_FLAGS"] or "").split()
    found = {
        "version": jax.__version__,
        "started": started,
        "backend": jax.default_backend() if started else None,
        "gpu_deterministic_ops": XLA_GPU_FLAG in flags or XLA_GPU_FLAG.split("=")[0] in flags,
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "threefry_partitionable": jax.config.jax_threefry_partitionable,
    }
    problems = []
    if jax_has_gpu() and not found["gpu_deterministic_ops"]:
        problems.append(
            f"XLA may use operations on the GPU that are not deterministic: XLA_FLAGS={XLA_GPU_FLAG} before jax starts"
        )
    return found, problems
