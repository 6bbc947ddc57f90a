"""Data-parallel training on two devices of the CPU: the batch is divided, the parameters lie on both, the accuracy comes last."""

import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

mesh = jax.make_mesh((2,), ("data",))
replicated, divided = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
rng = np.random.default_rng(0)
x = rng.normal(size=(512, 16)).astype(np.float32)
y = (x @ rng.normal(size=(16, 4))).argmax(axis=1)
optimizer = optax.adam(1e-2)
params = jax.device_put({"w": np.zeros((16, 4), np.float32)}, replicated)
opt_state = jax.device_put(optimizer.init(params), replicated)


@jax.jit
def train_step(params, opt_state, x, y):
    def loss_of(params):
        return optax.softmax_cross_entropy_with_integer_labels(x @ params["w"], y).mean()

    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


@jax.jit
def accuracy(params, x, y):
    return ((x @ params["w"]).argmax(axis=1) == y).mean()


for _ in range(40):
    rows = rng.permutation(512)[:64]
    params, opt_state, loss = train_step(params, opt_state, jax.device_put(x[rows], divided), jax.device_put(y[rows], divided))
print(
    "loss", float(loss), "accuracy", float(accuracy(params, jax.device_put(x, divided), jax.device_put(jnp.asarray(y), divided)))
)
