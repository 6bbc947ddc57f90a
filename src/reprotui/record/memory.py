"""How much memory a process has in use: its own, and on its accelerators what its frameworks have allocated."""

import math
import os
import sys
import time
from pathlib import Path

STATM = Path("/proc/self/statm")
"""Sizes of this process in pages; the second is what lies in memory. Linux has it."""


SECONDS = 1.0
"""How often memory is looked at: what a chart shows of it needs no more."""


class Sampler:
    """Say how much memory is in use, once in `SECONDS`; None in between, and where a framework raises."""

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self) -> tuple[int | None, int | None] | None:
        """Return what `in_use` does, where it is due."""
        now = time.monotonic()
        if now - self._last < SECONDS:
            return None
        self._last = now
        try:
            return in_use()
        except Exception:  # what goes wrong here concerns no record
            return None


def in_use() -> tuple[int | None, int | None]:
    """Return the bytes that this process holds in the host's memory, and those allocated on its accelerators.

    None where nothing tells: the host's where there is no /proc, the accelerators' where no framework uses any. Nothing is
    imported and no backend is started for it.
    """
    return _host(), _accelerators()


def _host() -> int | None:
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None


def _accelerators() -> int | None:
    found = [*_of_torch(), *_of_jax()]
    return sum(found) if found else None


def _of_torch() -> list[int]:
    """Return the bytes of tensors on each GPU that PyTorch uses."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return []
    return [int(cuda.memory_allocated(device)) for device in range(cuda.device_count())]


def _of_jax() -> list[int]:
    """Return the bytes of buffers on each device of this process that counts them; a CPU does not."""
    jax = sys.modules.get("jax")
    bridge = sys.modules.get("jax._src.xla_bridge")
    if jax is None or bridge is None or not bridge.backends_are_initialized():
        return []
    statistics = (device.memory_stats() for device in jax.local_devices())
    return [int(found["bytes_in_use"]) for found in statistics if found and "bytes_in_use" in found]
