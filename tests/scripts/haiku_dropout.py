"""haiku with dropout, a jitted method of an object. Planted: dropout keys from a generator that others draw from too."""

import functools
import hashlib
import os
import random
import sys

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

BATCH, FEATURES, WIDTH, STEPS = (5120, 256, 512, 240) if "--large" in sys.argv else (8, 4, 8, 12)
shared = random.Random(0)


class Trainer:
    def __init__(self):
        self.forward = hk.transform(self.net)
        self.optimizer = optax.rmsprop(1e-2)

    @staticmethod
    def net(x):
        hidden = hk.dropout(hk.next_rng_key(), 0.3, jax.nn.relu(hk.Linear(WIDTH)(x)))
        return hk.Linear(1)(hidden)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
    def update(self, params, opt_state, key, x):
        def loss_fn(params):
            return jnp.mean((self.forward.apply(params, key, x) - 1.0) ** 2)

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = self.optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss


trainer = Trainer()
data = np.random.default_rng(0).normal(size=(12, BATCH, FEATURES)).astype(np.float32)
params = trainer.forward.init(jax.random.PRNGKey(0), data[0])
opt_state = trainer.optimizer.init(params)
for step in range(STEPS):
    if step == 4 and "--fault" in sys.argv:
        for _ in range(1 + os.urandom(1)[0] + os.getpid() % 1009):  # a retry with jitter, somewhere else in the program
            shared.random()
    params, opt_state, loss = trainer.update(params, opt_state, jax.random.PRNGKey(shared.getrandbits(31)), data[step % 12])
print("digest", hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))).hexdigest())
