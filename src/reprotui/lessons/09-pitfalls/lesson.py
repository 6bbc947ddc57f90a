"""Eight faults, each somebody's bug once: --fault NAME plants one."""

import os
import sys
import time

os.environ["NPROC"] = "2" if "thread-count" in sys.argv else "1"  # jax reads it

import jax
import jax.numpy as jnp
import numpy as np

FAULT = sys.argv[sys.argv.index("--fault") + 1] if "--fault" in sys.argv else ""
STEPS, BATCH, FEATURES = 6, 1024, 64
NAMES = [f"example-{number:04}" for number in range(STEPS * BATCH)]


@jax.jit
def train_step(params, momentum, x, mask, key):
    def loss_function(params):
        noisy = x + 0.1 * jax.random.normal(key, x.shape)
        by_feature = jnp.mean((noisy * mask * params["w"] - x) ** 2, axis=0)
        return jnp.mean(by_feature), by_feature

    gradient = jax.value_and_grad(loss_function, has_aux=True)
    (loss, by_feature), grads = gradient(params)
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
    params = jax.tree.map(lambda p, m: p - 0.1 * m, params, momentum)
    return params, momentum, loss, by_feature


root = jax.random.key(time.time_ns() % 2**31 if FAULT == "clock" else 0)
params = {"w": jax.random.normal(root, (FEATURES,))}
momentum = jax.tree.map(jnp.zeros_like, params)
rng = np.random.default_rng(None if FAULT == "unseeded-numpy" else 0)
values = rng.normal(size=(len(NAMES), FEATURES)).astype(np.float32)
table = dict(zip(NAMES, values, strict=True))
names = list(set(NAMES)) if FAULT == "set-order" else sorted(NAMES)
buffer = np.empty((BATCH, FEATURES), np.float32)


def load(step):
    buffer[:] = [table[name] for name in names[step * BATCH : (step + 1) * BATCH]]
    return buffer if FAULT == "overwritten-batch" else buffer.copy()


batch = load(0)
for step in range(STEPS):
    following = load((step + 1) % STEPS)  # while the one before it is used
    key = jax.random.fold_in(root, 0 if FAULT == "reused-key" else step)
    mask = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.8, (FEATURES,))
    if FAULT == "dropout-without-key":
        mask = np.random.random(FEATURES) < 0.8
    if FAULT == "forgotten-optimizer" and step == 3:
        momentum = jax.tree.map(jnp.zeros_like, params)  # it was not saved
    params, momentum, loss, _ = train_step(params, momentum, batch, mask, key)
    batch = following
print(f"{STEPS} steps, final loss {loss:.2f}")
