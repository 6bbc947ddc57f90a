"""PRNG keys by purpose: one root a run, folded explicitly by purpose, step and process; no global state."""

from typing import Any

import jax

PURPOSES = ("init", "data", "shuffle", "shuffle_from", "step")
"""What keys are for. The position is folded into the root, so a new purpose goes to the end."""


def root_key(seed: int, prng: str) -> jax.Array:
    """Return the typed root key of a run."""
    return jax.random.key(seed, impl=prng)


def purpose_key(root: jax.Array, purpose: str) -> jax.Array:
    """Return the key of a purpose."""
    return jax.random.fold_in(root, PURPOSES.index(purpose))


def step_key(root: jax.Array, step: Any) -> jax.Array:
    """Return the key that a training step is given: by purpose, step and process index. Traceable in `step`."""
    key = jax.random.fold_in(purpose_key(root, "step"), step)
    return jax.random.fold_in(key, jax.process_index())
