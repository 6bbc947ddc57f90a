"""A perceptron with norm and dropout."""

import jax
import jax.numpy as jnp
import optax
from helper import scaled

optimizer = optax.sgd(0.05, momentum=0.9)


def norm(h):
    centred = h - h.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(h.var(-1, keepdims=True) + 1e-6)


def loss_of(params, x, y, key):
    h = norm(x @ params["in"])
    h = jax.nn.gelu(h, approximate=True)
    keep = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.8, h.shape)
    h = jnp.where(keep, h / 0.8, 0.0)
    h = jnp.tanh(h @ params["middle"])
    h = (scaled(h) + params["bias"]) + 0.1 * h
    out = h @ params["out"]
    return jnp.square(out - y).mean()


@jax.jit
def step(params, state, x, y, key):
    loss, grads = jax.value_and_grad(loss_of)(params, x, y, key)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


keys = jax.random.split(jax.random.key(0), 4)
params = {
    "in": jax.random.normal(keys[0], (24, 64)) * 0.2,
    "middle": jax.random.normal(keys[1], (64, 64)) * 0.1,
    "bias": jnp.full((64,), 0.03),
    "out": jax.random.normal(keys[2], (64, 3)) * 0.1,
}
state = optimizer.init(params)
for number in range(4):
    x = jax.random.normal(jax.random.fold_in(keys[3], number), (32, 24))
    params, state, loss = step(params, state, x, x[:, :3], jax.random.fold_in(keys[3], 100 + number))
