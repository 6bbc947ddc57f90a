"""Gradients of four micro-batches are added up.

With --fault in another order.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
STEPS, MICRO = 4, 4

big, small = np.float32(2**24), np.float32(1)
print(f"(big + small) - big = {(big + small) - big:.0f}")
print(f"(big - big) + small = {(big - big) + small:.0f}")
for value in (np.float32(1), big):
    print(f"one ulp of {value:.0f} is {np.spacing(value):.3g}")
print(f"0.1 + 0.2 = {0.1 + 0.2}")

# Each micro-batch pulls with another strength; the two strong ones cancel out.
strength = np.array([2**24, 1, -(2**24), 1], np.float32)
x = np.ones((MICRO, 8, 4), np.float32) * strength[:, None, None]
order = [2, 0, 1, 3] if FAULT else [0, 1, 2, 3]


@jax.jit
def train_step(w, x):
    def loss_function(w, x):
        return jnp.mean(x @ w)

    total, losses = jnp.zeros_like(w), []
    for number in order:
        loss, grads = jax.value_and_grad(loss_function)(w, x[number])
        total = total + grads
        losses.append(loss)
    return w - 0.125 * total, {"loss": losses[-1], "grads": total}


w = jnp.zeros(4)
for step in range(STEPS):
    w, out = train_step(w, x)
    if step == 0:
        print(f"first gradient of a weight: {out['grads'][0]:.0f}")
print(f"weight after {STEPS} steps: {w[0]}")
