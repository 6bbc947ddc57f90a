"""Batches as a function of seed and step.

With --fault they come from a list that is shuffled in place.
"""

import random
import sys

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
EXAMPLES, BATCH, STEPS, SEED = 24, 8, 9, 0
PER_EPOCH = EXAMPLES // BATCH

x = np.arange(EXAMPLES * 4, dtype=np.float32).reshape(EXAMPLES, 4) / 96
shared = list(range(EXAMPLES))


def indices(step):
    epoch, within = divmod(step, PER_EPOCH)
    if FAULT and epoch > 0:
        if within == 0:
            random.shuffle(shared)
        order = np.array(shared)
    else:
        order = np.random.default_rng([SEED, epoch]).permutation(EXAMPLES)
    return order[within * BATCH : (within + 1) * BATCH]


@jax.jit
def train_step(w, x):
    loss, grads = jax.value_and_grad(lambda w: jnp.mean((x @ w - 1) ** 2))(w)
    return w - 0.1 * grads, loss


w = jnp.zeros(4)
for step in range(STEPS):
    w, loss = train_step(w, x[indices(step)])
epochs = STEPS // PER_EPOCH
print(f"{PER_EPOCH} steps an epoch, {epochs} epochs, {STEPS} steps")
if not FAULT:
    seen = np.concatenate([indices(step) for step in range(PER_EPOCH)])
    print("every example once an epoch:", sorted(seen.tolist()) == shared)
    same = indices(7).tolist() == indices(7).tolist()
    print("asked for again, batch 7 is the same:", same)
print(f"final loss {loss:.2f}")
