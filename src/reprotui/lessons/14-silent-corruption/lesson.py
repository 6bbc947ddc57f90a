"""A training on a good chip.

With --fault a bit of a weight flips in memory after step 5, and nobody is told.
"""

import ctypes
import sys

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
STEPS, HIT_AFTER, BIT = 10, 5, 22


def cosmic_ray(w):
    """Flip a bit of the first weight where it lies; no array is replaced."""
    word = ctypes.c_uint32.from_address(w.unsafe_buffer_pointer())
    word.value ^= 1 << BIT


@jax.jit
def train_step(w, x):
    def loss_function(w):
        return jnp.mean((jnp.tanh(x @ w) - 0.5) ** 2)

    loss, grads = jax.value_and_grad(loss_function)(w)
    return w - 0.1 * grads, loss


w = jnp.ones(16)
x = np.random.default_rng(0).normal(size=(STEPS, 32, 16)).astype(np.float32)
for step in range(1, STEPS + 1):
    w, loss = train_step(w, x[step - 1])
    w.block_until_ready()
    if FAULT and step == HIT_AFTER:
        print(f"before the hit, the weight is {float(np.array(w)[0]):.2f}")
        cosmic_ray(w)
        print(f"after it, {float(np.array(w)[0]):.2f}")
print(f"final loss {loss:.1f}")
