"""Checksums and statistics of jax arrays that lie on a device: one compiled call for all of them, in the order of its work."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reprotui.checksum import jax_form
from reprotui.checksum.leaves import is_key
from reprotui.checksum.shards import Part

WIDE_VECTORS = {"xla_cpu_prefer_vector_width": 512}
"""Options for compiling checksums: on CPUs with AVX-512, vectors of that width (20 % faster). The arithmetic is on integers,
so no option can change the result."""


@functools.cache
def checksums(runs: tuple[int, ...], scalars: tuple[int, ...], parts: tuple[Part, ...] | None = None) -> Any:
    """Return the call that dispatches the checksums of a sequence of leaves, all of which lie on one device.

    It gives uint32: the lanes of all, the lanes of the roots of so many leaves each, for all whether a number is not finite, and
    the words of those that are scalars.

    Args:
        runs: how many leaves each root is of.
        scalars: which leaves are scalars whose words are wanted.
        parts: where the elements of each leaf lie in the whole that it is a part of; None where all of them are wholes.
    """

    def of_leaves(leaves: Sequence[jax.Array]) -> jax.Array:
        each = zip(leaves, parts or itertools.repeat(None), strict=False)
        found = jnp.stack([jnp.stack(jax_form.lanes_and_not_finite(leaf, part)) for leaf, part in each])
        lanes, not_finite = found[:, :2], found[:, 2]
        ends = itertools.accumulate(runs)
        roots = [jnp.stack(jax_form.root_lanes(lanes[end - size : end])) for size, end in zip(runs, ends, strict=True)]
        # The words of scalars, not the scalars: the next step may be given their buffers. One array: each costs a wait.
        numbers = [jax_form.scalar_words(leaves[place]) for place in scalars]
        return jnp.concatenate([lanes.reshape(-1), *roots, not_finite, *numbers])

    return jax.jit(of_leaves, compiler_options=checksum_compiler_options())


@functools.cache
def statistics() -> Any:
    """Return the call that dispatches L2 norms and maxima of a sequence of leaves; it gives float32[leaves, 2]."""

    def of_leaves(leaves: Sequence[jax.Array]) -> jax.Array:
        return jnp.stack([_statistics(leaf) for leaf in leaves])

    return jax.jit(of_leaves)


@functools.cache
def checksum_compiler_options() -> dict[str, Any] | None:
    """Return the options for compiling checksums; None where this XLA does not know them, or the device is no CPU."""
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x + 1, compiler_options=WIDE_VECTORS).lower(np.int32(0)).compile()
    except Exception:  # jaxlib raises its own runtime error for an unknown option
        return None
    return WIDE_VECTORS


def _statistics(leaf: jax.Array) -> jax.Array:
    """Return the L2 norm and the largest magnitude of an array as float32[2]; zeros for keys."""
    if leaf.size == 0 or is_key(leaf):
        return jnp.zeros(2, jnp.float32)
    magnitude = jnp.abs(leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf.astype(jnp.float32)).astype(jnp.float32)
    norm = jnp.sqrt(jnp.sum(lax.square(magnitude)))
    # XLA's maximum on the CPU passes a NaN over (jaxlib 0.10.2, xla_cpu_enable_fast_min_max); the norm keeps it.
    return jnp.stack([norm, jnp.where(jnp.isnan(norm), norm, jnp.max(magnitude))])
