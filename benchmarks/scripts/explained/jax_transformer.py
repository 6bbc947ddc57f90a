"""One block of attention."""

import jax
import jax.numpy as jnp
import optax

WIDTH, HEADS = 32, 4
optimizer = optax.adamw(3e-3)


def layer_norm(x):
    return jax.nn.standardize(x, axis=-1, epsilon=1e-5)


def attend(params, x):
    shape = (*x.shape[:-1], HEADS, WIDTH // HEADS)
    q, k, v = ((x @ params[name]).reshape(shape) for name in "qkv")
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (WIDTH // HEADS) ** -0.5
    weights = jax.nn.softmax(scores, axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
    return mixed.reshape(x.shape)


def loss_of(params, x):
    h = x + attend(params, layer_norm(x))
    wide = jax.nn.silu(layer_norm(h) @ params["up"])
    h = h + wide @ params["down"]
    return jnp.abs(h[:, 1:] - x[:, :-1]).mean()


@jax.jit
def step(params, state, x):
    loss, grads = jax.value_and_grad(loss_of)(params, x)
    grads = jax.tree.map(lambda g: jnp.clip(g, -0.5, 0.5), grads)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


keys = jax.random.split(jax.random.key(2), 6)
shapes = {"q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "up": (WIDTH, 64), "down": (64, WIDTH)}
params = {name: jax.random.normal(key, shape) * 0.2 for key, (name, shape) in zip(keys, shapes.items(), strict=False)}
state = optimizer.init(params)
for number in range(4):
    params, state, loss = step(params, state, jax.random.normal(jax.random.fold_in(keys[5], number), (8, 12, WIDTH)))
