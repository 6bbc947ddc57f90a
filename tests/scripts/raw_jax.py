"""A raw JAX loop: the gradient is jitted, the update is not. Planted: a shuffle by an unseeded NumPy generator."""

import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
data = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
params = {"w": jax.random.normal(jax.random.key(0), (6, 3)), "b": jnp.zeros(3)}


def loss_fn(params, x):
    return jnp.mean((jnp.tanh(x @ params["w"] + params["b"]) - 0.5) ** 2)


grad = jax.jit(jax.value_and_grad(loss_fn))
shuffler = np.random.default_rng(None if FAULT else 1)
order = np.arange(40)
for _ in range(3):
    for start in range(0, 40, 8):
        loss, grads = grad(params, data[order[start : start + 8]])
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    order = shuffler.permutation(40)
print("digest", hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))).hexdigest())
