"""A recurrent network by scan."""

import jax
import jax.numpy as jnp

RATE = 0.05


def loss_of(params, x):
    def cell(h, now):
        h = jnp.tanh(now @ params["in"] + h @ params["recurrent"])
        return h, h.mean()

    first = jnp.zeros((x.shape[1], 16))
    h, means = jax.lax.scan(cell, first, x)
    out = h @ params["out"]
    return jnp.square(out - x[-1]).mean() + 0.01 * means.sum()


@jax.jit
def step(params, x):
    loss, grads = jax.value_and_grad(loss_of)(params, x)
    return jax.tree.map(lambda p, g: p - RATE * g, params, grads), loss


keys = jax.random.split(jax.random.key(3), 4)
params = {
    "in": jax.random.normal(keys[0], (5, 16)) * 0.3,
    "recurrent": jax.random.normal(keys[1], (16, 16)) * 0.2,
    "out": jax.random.normal(keys[2], (16, 5)) * 0.3,
}
for number in range(4):
    params, loss = step(params, jax.random.normal(jax.random.fold_in(keys[3], number), (7, 6, 5)))
