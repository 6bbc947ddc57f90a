"""Noise from a JAX key.

With --fault it comes from NumPy's global state, which nothing seeded.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
STEPS = 6

state = np.random.RandomState(0)  # as np.random.seed(0) makes the global one
print(f"after seed 0, NumPy draws {state.random_sample():.4f}")
print(f"where somebody drew before us, {state.random_sample():.4f}")
one, two = (jax.random.normal(jax.random.key(0), (8, 4)) for _ in range(2))
print("the same key twice gives the same bits:", bool((one == two).all()))


@jax.jit
def train_step(w, x, noise):
    def loss_function(w):
        return jnp.mean((jnp.tanh((x + noise) @ w) - 0.5) ** 2)

    loss, grads = jax.value_and_grad(loss_function)(w)
    return w - 0.1 * grads, loss


x = jnp.linspace(-1, 1, 32).reshape(8, 4)
w = jnp.ones(4)
key = jax.random.key(0)
for step in range(STEPS):
    if FAULT:
        noise = np.random.normal(size=(8, 4)).astype(np.float32)
    else:
        noise = jax.random.normal(jax.random.fold_in(key, step), (8, 4))
    w, loss = train_step(w, x, noise)
print(f"final loss {loss:.3f}")
