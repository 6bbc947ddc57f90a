"""optax alone, gradient and update jitted apart, with an interruption after step 6. Planted: the optimizer is not restored."""

import hashlib
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

BATCH, FEATURES, WIDTH, STEPS = (4096, 256, 1536, 400) if "--large" in sys.argv else (8, 5, 2, 12)
optimizer = optax.adam(1e-2)
params = {"w": jax.random.normal(jax.random.key(0), (FEATURES, WIDTH)), "b": jnp.zeros(WIDTH)}
opt_state = optimizer.init(params)
gradient = jax.jit(jax.value_and_grad(lambda params, x: jnp.mean((x @ params["w"] + params["b"]) ** 2)))
update = jax.jit(optimizer.update)
data = np.random.default_rng(0).normal(size=(12, BATCH, FEATURES)).astype(np.float32)


def restored(saved):
    params, opt_state = pickle.loads(saved)
    return params, optimizer.init(params) if "--fault" in sys.argv else opt_state


for step in range(STEPS):
    if step == 6:
        params, opt_state = restored(pickle.dumps(jax.device_get((params, opt_state))))
    loss, grads = gradient(params, data[step % 12])
    updates, opt_state = update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
print("digest", hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))).hexdigest())
