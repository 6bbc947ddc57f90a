"""A loop in jax that reads what it has donated: where that was overwritten, it computes with something else."""

import os
import sys
from functools import partial

import jax
import jax.numpy as jnp

CAUSES = set(sys.argv[1:])


@partial(jax.jit, donate_argnums=(0,))
def train_step(params, batch):
    loss, grads = jax.value_and_grad(lambda p: jnp.sum((p - batch) ** 2))(params)
    return params - 0.01 * grads, loss


params = jnp.ones(8)
for step in range(24):
    before = params
    params, loss = train_step(params, jnp.full(8, float(step)))
    if "donation" in CAUSES and before.is_deleted():
        params = params + (os.getpid() % 1009) * 1e-4
