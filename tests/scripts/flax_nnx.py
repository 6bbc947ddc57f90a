"""flax nnx: modules that are updated in place by a jitted function. Planted: a shuffle by Python's unseeded `random`."""

import hashlib
import random
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

BATCH, FEATURES, WIDTH, EPOCHS = (4608, 256, 1024, 100) if "--large" in sys.argv else (8, 4, 8, 3)


class Model(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(FEATURES, WIDTH, rngs=rngs)
        self.second = nnx.Linear(WIDTH, 1, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


model = Model(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, x):
    loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - 1.0) ** 2))(model)
    optimizer.update(model, grads)
    return loss


if "--fault" not in sys.argv:
    random.seed(0)
data = np.random.default_rng(0).normal(size=(4 * BATCH, FEATURES)).astype(np.float32)
order = list(range(4 * BATCH))
for _ in range(EPOCHS):
    for start in range(0, 4 * BATCH, BATCH):
        loss = train_step(model, optimizer, data[order[start : start + BATCH]])
    random.shuffle(order)
leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
print("digest", hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest())
