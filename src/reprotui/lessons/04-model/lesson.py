"""A model of two layers.

With --fault one layer is initialised by NumPy, without a seed.
"""

import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
STEPS, FEATURES, WIDTH = 6, 4, 8


def init(key):
    hidden_key, out_key = jax.random.split(key)
    hidden = jax.random.normal(hidden_key, (FEATURES, WIDTH)) / FEATURES**0.5
    if FAULT:
        drawn = np.random.default_rng().normal(size=WIDTH)
        out = jnp.asarray(drawn, jnp.float32)
    else:
        out = jax.random.normal(out_key, (WIDTH,)) / WIDTH**0.5
    return {"hidden": hidden, "out": out}


@jax.jit
def train_step(params, x):
    def loss_function(params):
        hidden = jnp.tanh(x @ params["hidden"])
        return jnp.mean((hidden @ params["out"] - 1) ** 2)

    loss, grads = jax.value_and_grad(loss_function)(params)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), loss


params = init(jax.random.key(0))
count = sum(leaf.size for leaf in jax.tree.leaves(params))
print(f"{len(params)} leaves, {count} parameters, {4 * count} bytes")
for path, leaf in params.items():
    print(path, hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()[:8])
x = jnp.linspace(-1, 1, 8 * FEATURES).reshape(8, FEATURES)
for _ in range(STEPS):
    params, loss = train_step(params, x)
print(f"final loss {loss:.2f}")
