"""A raw JAX loop: the gradient is jitted, the update is not. Planted: a shuffle by an unseeded NumPy generator."""

import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
BATCH, FEATURES, WIDTH, EPOCHS = (4096, 256, 1536, 80) if "--large" in sys.argv else (8, 6, 3, 3)
data = np.random.default_rng(0).normal(size=(5 * BATCH, FEATURES)).astype(np.float32)
params = {"w": jax.random.normal(jax.random.key(0), (FEATURES, WIDTH)), "b": jnp.zeros(WIDTH)}


def loss_fn(params, x):
    return jnp.mean((jnp.tanh(x @ params["w"] + params["b"]) - 0.5) ** 2)


grad = jax.jit(jax.value_and_grad(loss_fn))
shuffler = np.random.default_rng(None if FAULT else 1)
order = np.arange(5 * BATCH)
for _ in range(EPOCHS):
    for start in range(0, 5 * BATCH, BATCH):
        loss, grads = grad(params, data[order[start : start + BATCH]])
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    order = shuffler.permutation(5 * BATCH)
print("digest", hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))).hexdigest())
