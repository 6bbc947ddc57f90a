"""Data-parallel training on four virtual devices, called in five ways. Planted: a batch, a replica unlike the others."""

import hashlib
import os
import sys

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

WAY = next(word for word in ("automatic", "explicit", "aot", "pmap", "shard_map") if word in sys.argv)
DEVICES = 2 if "--two" in sys.argv else 4
kind = AxisType.Explicit if WAY == "explicit" else AxisType.Auto
mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(kind,), devices=jax.devices()[:DEVICES])
replicated, divided, columns = (NamedSharding(mesh, spec) for spec in (P(), P("d"), P(None, "d")))
if WAY == "explicit":
    jax.set_mesh(mesh)
rng = np.random.default_rng(0)


def draw(*shape):
    return rng.normal(size=shape).astype(np.float32)


def loss_of(params, x, y):
    return jnp.mean((jnp.tanh(x @ params["w1"]) @ params["w2"] - y) ** 2)


optimizer = optax.adam(1e-2)
params = {"w1": draw(6, 8) / 3, "w2": draw(8, 1) / 3}


def update(params, opt_state, batch, key):
    noise = 0.01 * jax.random.normal(key, (6,))
    loss, grads = jax.value_and_grad(loss_of)(params, batch["x"] + noise, batch["y"])
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


@jax.jit
def locally(params, x, y):
    loss, grads = jax.value_and_grad(loss_of)(params, x, y)
    mean = jax.lax.pmean(grads, "d")
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, mean), jax.lax.pmean(loss, "d")


def tear(array):
    """Return a replicated array of which one device has another bit."""
    copies = [np.asarray(array).copy() for _ in range(DEVICES)]
    copies[-1].reshape(-1).view(np.uint32)[0] ^= 1
    shards = [jax.device_put(copy, device) for copy, device in zip(copies, mesh.devices, strict=True)]
    return jax.make_array_from_single_device_arrays(array.shape, replicated, shards)


if WAY == "pmap":
    params = jax.tree.map(lambda leaf: np.stack([leaf] * DEVICES), params)
    step = jax.pmap(locally, axis_name="d", devices=jax.devices()[:DEVICES])
else:
    params = jax.device_put(params, replicated)
    if "--columns" in sys.argv:
        params["w1"] = jax.device_put(params["w1"], columns)
    if "torn" in sys.argv:
        params["w2"] = tear(params["w2"])
    opt_state = jax.device_put(optimizer.init(params), replicated)
    step = jax.jit(update, donate_argnums=(0, 1))
if WAY == "shard_map":
    step = jax.shard_map(locally, mesh=mesh, in_specs=(P(), P("d"), P("d")), out_specs=(P(), P()), check_vma=False)
key = jax.device_put(jax.random.key(0), replicated)
for number in range(1, 9):
    x = draw(16, 6)
    if number == 5 and "batch" in sys.argv:
        x[9, 0] += 1
    y = x.sum(1, keepdims=True)
    if number == 6 and "torn-at-6" in sys.argv:
        params["w2"] = tear(params["w2"])
    if WAY == "pmap":
        params, loss = step(params, x.reshape(DEVICES, -1, 6), y.reshape(DEVICES, -1, 1))
    elif WAY == "shard_map":
        params, loss = step(params, *jax.device_put((x, y), divided))
    else:
        batch, key = jax.device_put({"x": x, "y": y}, divided), jax.device_put(jax.random.key(number), replicated)
        if WAY == "aot" and number == 1:
            step = step.lower(params, opt_state, batch, key).compile()
        params, opt_state, loss = step(params, opt_state, batch, key)
print("digest", hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))).hexdigest())
