"""flax linen with a TrainState and dropout. Planted: a seed that comes from the clock."""

import hashlib
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState

BATCH, FEATURES, WIDTH, STEPS = (3072, 256, 1024, 400) if "--large" in sys.argv else (8, 4, 8, 12)


class Model(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Dense(WIDTH)(x))
        return nn.Dense(2)(nn.Dropout(0.2, deterministic=not train)(x))


seed = time.time_ns() % 2**31 if "--fault" in sys.argv else 0
model = Model()
variables = model.init(jax.random.PRNGKey(seed), jnp.ones((1, FEATURES)), train=False)
state = TrainState.create(apply_fn=model.apply, params=variables["params"], tx=optax.adamw(1e-2))


@jax.jit
def train_step(state, batch, dropout_key):
    def loss_fn(params):
        logits = state.apply_fn({"params": params}, batch["x"], train=True, rngs={"dropout": dropout_key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), {"loss": loss, "norm": optax.global_norm(grads)}


data = np.random.default_rng(0)
for step in range(STEPS):
    batch = {"x": data.normal(size=(BATCH, FEATURES)).astype(np.float32), "y": data.integers(0, 2, BATCH)}
    state, metrics = train_step(state, batch, jax.random.fold_in(jax.random.PRNGKey(1), step))
leaves = jax.tree.leaves(state.params)
print("digest", hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest())
