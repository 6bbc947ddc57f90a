"""What a training process computes with: a description of its devices."""

import os
import sys
from typing import Any

from reprotui.environment import cores
from reprotui.ranks import Rank

_LAUNCHERS = (
    ("LOCAL_RANK", "RANK", "WORLD_SIZE"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_SIZE", "PMI_RANK", "PMI_SIZE"),
)
"""Variables of torchrun, `srun`, Open MPI and MPICH: what only their processes have, then rank and number of ranks."""


def describe() -> dict[str, Any]:
    """Return what this process trains with: jax, torch where that is imported and no library of jax is, or numpy alone."""
    libraries = ("flax", "optax", "equinox", "haiku")
    if "torch" in sys.modules and not any(name in sys.modules for name in libraries):
        return describe_torch()
    if "jax" in sys.modules:
        return describe_jax()
    return {"backend": "numpy", "kinds": ["cpu"], "count": 1, "cpu_threads": cores() or 1}


def describe_torch() -> dict[str, Any]:
    """Return torch's devices, number of threads, and the switches that decide whether it is deterministic."""
    import torch

    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "backend": "torch cuda" if cuda else "torch cpu",
        "kinds": sorted({torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}) if cuda else ["cpu"],
        "count": torch.cuda.device_count() if cuda else 1,
        "cpu_threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn": {"benchmark": torch.backends.cudnn.benchmark, "deterministic": torch.backends.cudnn.deterministic},
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def this_rank() -> Rank:
    """Return which rank of its training this process is: what jax or torch know, else what the launcher says.

    Asking starts nothing. A process that no library knows to be one of several, and no launcher started, trains alone.
    """
    number, size = jax_process()
    if size == 1:
        number, size = _torch_process()
    if size == 1:
        number, size = _launched()
    return Rank(number, size, job_of_this_process()) if size > 1 else Rank()


def _torch_process() -> tuple[int, int]:
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _launched() -> tuple[int, int]:
    for marker, rank, size in _LAUNCHERS:
        try:
            found = int(os.environ[rank]), int(os.environ[size])
        except (KeyError, ValueError):
            continue
        if marker in os.environ and 0 <= found[0] < found[1]:
            return found
    return 0, 1


def job_of_this_process() -> str | None:
    """Return what all processes of this training know it by."""
    given = os.environ.get
    if job := given("SLURM_JOB_ID"):
        return ".".join(part for part in (job, given("SLURM_STEP_ID")) if part)
    if (job := given("TORCHELASTIC_RUN_ID")) and job != "none":
        return job
    return None


def jax_process() -> tuple[int, int]:
    """Return which of how many processes this is, where jax knows by now; asking it may not start its devices."""
    jax = sys.modules.get("jax")
    distributed = getattr(jax, "distributed", None)
    if jax is None or not getattr(distributed, "is_initialized", lambda: False)():
        return 0, 1
    return jax.process_index(), jax.process_count()


def describe_jax() -> dict[str, Any]:
    """Return backend, kinds and number of jax's devices, and the size of the CPU backend's thread pool."""
    import jax

    devices = jax.devices()
    threads = os.environ.get("NPROC") or cores() or 1
    return {
        "backend": jax.default_backend(),
        "kinds": sorted({device.device_kind for device in devices}),
        "count": len(devices),
        "processes": jax.process_count(),
        **({"process": jax.process_index()} if jax.process_count() > 1 else {}),
        "cpu_threads": int(threads),
    }
