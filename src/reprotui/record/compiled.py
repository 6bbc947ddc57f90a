"""Checksums and statistics of jax arrays that lie on a device: one compiled call for all of them, in the order of its work."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from reprotui.checksum import jax_form
from reprotui.record.kernels import checksum_compiler_options, device_statistics


def lanes(leaves: list[jax.Array], scalars: Sequence[int]) -> jax.Array:
    """Dispatch the checksums of leaves; return uint32: the lanes of all, then the words of those that are scalars."""
    return _calls()[0](leaves, scalars)


def statistics(leaves: list[jax.Array]) -> jax.Array:
    """Dispatch L2 norms and maxima of leaves; return float32[leaves, 2]."""
    return _calls()[1](leaves)


@functools.cache
def _calls() -> tuple[Any, Any]:
    def of_leaves(leaves: list[jax.Array], scalars: tuple[int, ...]) -> jax.Array:
        # The words of scalars, not the scalars: the next step may be given their buffers. One array: each costs a wait.
        numbers = [jax_form.scalar_words(leaves[place]) for place in scalars]
        return jnp.concatenate([*(jnp.stack(jax_form.lanes(leaf)) for leaf in leaves), *numbers])

    def of_each(leaves: list[jax.Array]) -> jax.Array:
        return jnp.stack([device_statistics(leaf) for leaf in leaves])

    return jax.jit(of_leaves, static_argnums=1, compiler_options=checksum_compiler_options()), jax.jit(of_each)
