"""bfloat16 on the way to a loss.

A flag of the compiler says whether it may be kept more exact than it is written.
"""

import os

import jax
import jax.numpy as jnp

STEPS = 6


@jax.jit
def train_step(w, x):
    def loss_function(w):
        hidden = x.astype(jnp.bfloat16) * w.astype(jnp.bfloat16) / 3
        return jnp.mean((jnp.tanh(3 * hidden).astype(jnp.float32) - 0.5) ** 2)

    loss, grads = jax.value_and_grad(loss_function)(w)
    return w - 0.1 * grads, loss


x = jax.random.normal(jax.random.key(0), (64, 16))
w = jax.random.normal(jax.random.key(1), (16,))
for _ in range(STEPS):
    w, loss = train_step(w, x)

print("device:", jax.devices()[0].platform)
print("flags:", os.environ.get("XLA_FLAGS", "none"))
third = jnp.asarray(1, jnp.bfloat16) / 3
print(f"a third in bfloat16 is {float(third):.4f}, in float32 {1 / 3:.4f}")
print(f"final loss {loss:.2f}")
