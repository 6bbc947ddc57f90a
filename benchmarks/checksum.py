"""Throughput of the checksum in its forms, against a plain sum, a copy and SHA-256."""

import hashlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import at_least, interleaved, ratio
from reprotui.checksum import host_form, jax_form, numpy_form
from reprotui.record.compiled import checksum_compiler_options

SIDE = 4096
"""Side of the square float32 leaf: 64 MiB, larger than any cache, and of the shape that a large layer's kernel has."""
ROUNDS = 9
CALLS_IN_FLIGHT = 20
"""Calls between two waits on an accelerator: 64 MiB take it less time than a dispatch."""
SUM_BAR, SHA_BAR = 0.4, 8.0
"""Lowest acceptable throughput of the compiled checksum, as a multiple of jnp.sum's and of SHA-256's; the latter of the host
form too."""

JAX, SUM, SHA = "checksum, jax compiled", "jnp.sum, compiled", "SHA-256, hashlib"
HOST = "checksum, the host's memory"


def run(count: int | None = None, seed: int = 0, *, side: int = SIDE) -> dict[str, Any]:
    """Measure all forms on one leaf, in turns.

    Args:
        count: rounds.
        seed: of the leaf's content.
        side: rows and columns of the leaf.

    Returns:
        A row a form: GB/s (10^9 bytes of the leaf a second; medians), and multiples of jnp.sum and of SHA-256.
    """
    host = np.random.default_rng(seed).standard_normal((side, side), np.float32)
    accelerator = jax.default_backend() != "cpu"
    calls = CALLS_IN_FLIGHT if accelerator else 1
    device, target = jnp.asarray(host), np.empty_like(host)
    compiled, both = (
        jax.jit(lambda leaf, form=form: jnp.stack(form(leaf)), compiler_options=checksum_compiler_options())
        for form in (jax_form.lanes, jax_form.lanes_and_not_finite)
    )
    table = host_form.Table([host.dtype], [host.size])
    forms: dict[str, Callable[[], float]] = {
        JAX: lambda: _on_device(compiled, device, calls),
        "checksum and what is not finite, jax": lambda: _on_device(both, device, calls),
        SUM: lambda: _on_device(_sum, device, calls),
        HOST: lambda: _on_host(lambda: host_form.lanes(host)),
        "checksum and what is not finite, the host's": lambda: _on_host(lambda: table.read([host.ctypes.data])),
        "checksum, numpy": lambda: _on_host(lambda: numpy_form.lanes(host)),
        "np.copyto": lambda: _on_host(lambda: np.copyto(target, host)),
        SHA: lambda: _on_host(lambda: hashlib.sha256(host.data).digest()),
    }
    notes = [f"one float32 leaf of {side} × {side}, {host.nbytes / 2**20:.4g} MiB; backend {jax.default_backend()}"]
    if accelerator:
        forms["copy on the device"] = lambda: _on_device(_copy, device, calls)
    else:
        notes.append("GPU: not measured")
    if importlib.util.find_spec("torch"):
        import torch

        from reprotui.checksum import torch_form

        tensor = torch.from_numpy(host)
        forms["checksum, torch on the CPU"] = lambda: _on_host(lambda: torch_form.lanes(tensor))
        if torch.cuda.is_available():
            there = tensor.cuda()
            forms["checksum, torch on the GPU"] = lambda: _on_cuda(lambda: torch_form.sums_of_many([there]), calls)
            forms["torch.sum on the GPU"] = lambda: _on_cuda(there.sum, calls)
    else:
        notes.append("torch: not installed")
    host_form.shortfall()  # so that it is made
    for form in forms.values():
        form()
    seconds = interleaved(forms, count or ROUNDS, "checksum")
    rows = [
        {
            "form": name,
            "GB/s": host.nbytes / statistics.median(times) / 1e9,
            "× jnp.sum": ratio(seconds[SUM], times),
            "× SHA-256": ratio(seconds[SHA], times),
        }
        for name, times in seconds.items()
    ]
    notes.append(at_least("compiled checksum against jnp.sum", ratio(seconds[SUM], seconds[JAX]), SUM_BAR, " ×"))
    notes.append(at_least("compiled checksum against SHA-256", ratio(seconds[SHA], seconds[JAX]), SHA_BAR, " ×"))
    notes.append(at_least("host form against SHA-256, one core each", ratio(seconds[SHA], seconds[HOST]), SHA_BAR, " ×"))
    return {"rows": rows, "notes": notes}


_sum = jax.jit(jnp.sum)
_copy = jax.jit(jnp.copy)


def _on_device(function: Any, leaf: jax.Array, calls: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready([function(leaf) for _ in range(calls)])
    return (time.perf_counter() - start) / calls


def _on_cuda(function: Callable[[], Any], calls: int) -> float:
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def _on_host(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
