"""The same training twice.

With --fault its batches come in an order that nobody chose.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
EXAMPLES, BATCH, EPOCHS = 32, 8, 2

rng = np.random.default_rng(0)
x = rng.normal(size=(EXAMPLES, 4)).astype(np.float32)
y = x @ np.array([1, -2, 3, 0], np.float32)


@jax.jit
def train_step(w, x, y):
    def loss_function(w):
        return jnp.mean((x @ w - y) ** 2)

    loss, grads = jax.value_and_grad(loss_function)(w)
    return w - 0.1 * grads, loss


w = jnp.zeros(4)
shuffler = np.random.default_rng(None if FAULT else 1)
order = np.arange(EXAMPLES)  # the first epoch is not shuffled
for _ in range(EPOCHS):
    for start in range(0, EXAMPLES, BATCH):
        chosen = order[start : start + BATCH]
        w, loss = train_step(w, x[chosen], y[chosen])
    order = shuffler.permutation(EXAMPLES)
per_epoch = EXAMPLES // BATCH
print(f"{per_epoch} steps an epoch, {EPOCHS * per_epoch} in all")
print(f"final loss {loss:.2f}")
