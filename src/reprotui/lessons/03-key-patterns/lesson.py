"""One key for each purpose, step and process.

With --fault the number of a purpose is the hash of its name.
"""

import sys

import jax
import jax.numpy as jnp

FAULT = "--fault" in sys.argv
STEPS, PROCESS = 6, 0
PURPOSES = ("init", "dropout", "augment")

root = jax.random.key(0)


def purpose_key(name):
    number = hash(name) % 2**31 if FAULT else PURPOSES.index(name)
    return jax.random.fold_in(root, number)


def step_key(name, step):
    key = jax.random.fold_in(purpose_key(name), step)
    return jax.random.fold_in(key, PROCESS)


@jax.jit
def train_step(w, x, key):
    def loss_function(w):
        kept = jax.random.bernoulli(key, 0.8, x.shape)
        return jnp.mean((jnp.where(kept, x / 0.8, 0) @ w - 1) ** 2)

    loss, grads = jax.value_and_grad(loss_function)(w)
    return w - 0.1 * grads, loss


w = jax.random.normal(jax.random.fold_in(root, 0), (4,))
x = jnp.linspace(0, 1, 32).reshape(8, 4)
for step in range(STEPS):
    w, loss = train_step(w, x, step_key("dropout", step))

later = STEPS - 1  # fold_in goes there at once; splits have to be walked
chain = root
for _ in range(later + 1):
    chain, walked = jax.random.split(chain)
print(f"fold_in: step {later} in 1 call; split: in {later + 1}")
print(f"final loss {loss:.2f}")
