"""A convolutional network with batch statistics."""

import jax
import jax.numpy as jnp
import optax

optimizer = optax.adam(1e-2)


def batch_norm(h, running):
    mean, variance = h.mean((0, 1, 2)), h.var((0, 1, 2))
    running = 0.9 * running + 0.1 * mean
    return (h - mean) / jnp.sqrt(variance + 1e-5), running


def loss_of(params, running, x, y):
    h = jax.lax.conv_general_dilated(x, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    h, running = batch_norm(h, running)
    h = jax.nn.relu(h)
    h = jax.lax.reduce_window(h, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    flat = h.reshape(h.shape[0], -1)
    logits = flat @ params["head"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), running


@jax.jit
def step(params, running, state, x, y):
    (loss, running), grads = jax.value_and_grad(loss_of, has_aux=True)(params, running, x, y)
    updates, state = optimizer.update(grads, state, params)
    params = jax.tree.map(lambda p, u: p + u, params, updates)
    return params, running, state, loss


keys = jax.random.split(jax.random.key(1), 3)
params = {"kernel": jax.random.normal(keys[0], (3, 3, 1, 8)) * 0.3, "head": jax.random.normal(keys[1], (128, 10)) * 0.1}
running, state = jnp.full((8,), 0.1), optimizer.init(params)
for number in range(4):
    x = jax.random.normal(jax.random.fold_in(keys[2], number), (16, 8, 8, 1))
    params, running, state, loss = step(params, running, state, x, jnp.arange(16) % 10)
