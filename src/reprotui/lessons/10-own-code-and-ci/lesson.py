"""A script as it may lie on your disk.

With --fault the name of the run is its seed.
"""

import hashlib
import sys
import uuid

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
STEPS = 6

run_name = str(uuid.uuid4())[:8] if FAULT else "baseline"
seed = int(hashlib.sha256(run_name.encode()).hexdigest()[:8], 16)
root = jax.random.key(seed)


@jax.jit
def train_step(params, x, y, key):
    def loss_function(params):
        noise = 0.05 * jax.random.normal(key, x.shape)
        return jnp.mean(((x + noise) @ params["w"] + params["b"] - y) ** 2)

    loss, grads = jax.value_and_grad(loss_function)(params)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), loss


x = jnp.linspace(-1, 1, 32).reshape(8, 4)
y = x.sum(axis=1)
params = {"w": jnp.zeros(4), "b": jnp.zeros(())}
for step in range(STEPS):
    params, loss = train_step(params, x, y, jax.random.fold_in(root, step))

raw = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))
print(hashlib.sha256(raw).hexdigest())
