"""A perceptron of 0.83 million parameters in flax, trained by optax."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from steps import STEPS, done

WIDTH, BATCH = 512, 128


class Net(nn.Module):
    """Three hidden layers."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the logits."""
        for _ in range(3):
            x = nn.relu(nn.Dense(WIDTH)(x))
        return nn.Dense(10)(x)


net, optimizer, draw = Net(), optax.adam(1e-3), np.random.default_rng(0)
params = net.init(jax.random.key(0), jnp.ones((1, 64)))
state = optimizer.init(params)


@jax.jit
def train(params: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any, jax.Array]:
    """Return the next parameters, the optimizer's state and the loss."""

    def loss_of(params: Any) -> jax.Array:
        logits: Any = net.apply(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, loss


for _ in range(STEPS):
    x, y = draw.normal(size=(BATCH, 64)).astype(np.float32), draw.integers(0, 10, BATCH)
    params, state, loss = train(params, state, x, y)
    loss.block_until_ready()
    done()
