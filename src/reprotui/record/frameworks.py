"""What a training process computes with: a description of its devices."""

import os
import sys
from typing import Any

from reprotui.environment import cores


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
