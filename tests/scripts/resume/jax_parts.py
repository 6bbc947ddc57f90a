"""JAX and optax with everything that a checkpoint must bring back. `--forget NAME` leaves one of it out when going on."""

import argparse
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--save")
parser.add_argument("--resume")
parser.add_argument("--forget", default="")
given = parser.parse_args()
EPOCH, BATCH = 4, 8
data = np.random.default_rng(0).normal(size=(EPOCH * BATCH, 6)).astype(np.float32)
transformation = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(lambda count: -0.01 / (1 + count)))
optimizer = optax.MultiSteps(transformation, every_k_schedule=2)


def begin():
    """Return what a run without a checkpoint begins with."""
    params = {"b": jnp.zeros(4), "w": 0.3 * jax.random.normal(jax.random.key(0), (6, 4))}
    opt_state = optimizer.init(params)
    scale = {"loss_scale": jnp.float32(16.0), "fin_steps": jnp.int32(0)}
    statistics = {"mean": jnp.zeros(4), "var": jnp.ones(4)}
    return {
        "params": params, "opt_state": opt_state, "key": jax.random.key(1), "scale": scale, "batch_stats": statistics,
        "ema": params, "place": 0, "epoch": 0,
    }  # fmt: skip


def forward(params, statistics, key, x):
    hidden = x @ params["w"] + params["b"]
    mean, var = hidden.mean(0), hidden.var(0)
    kept = {"mean": 0.9 * statistics["mean"] + 0.1 * mean, "var": 0.9 * statistics["var"] + 0.1 * var}
    hidden = (hidden - kept["mean"]) / jnp.sqrt(kept["var"] + 1e-3)
    hidden = jnp.where(jax.random.bernoulli(key, 0.8, hidden.shape), hidden, 0.0)
    return jnp.mean((jax.nn.relu(hidden).sum(1) - 1.0) ** 2), kept


@jax.jit
def train_step(params, opt_state, scale, batch_stats, ema, key, x):
    def loss_fn(params):
        loss, kept = forward(params, batch_stats, key, x)
        return loss * scale["loss_scale"], kept

    (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    grads = jax.tree.map(lambda gradient: gradient / scale["loss_scale"], grads)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    ema = jax.tree.map(lambda mean, value: 0.9 * mean + 0.1 * value, ema, params)
    grown = scale["fin_steps"] == 2
    scale = {
        "loss_scale": jnp.where(grown, 2 * scale["loss_scale"], scale["loss_scale"]),
        "fin_steps": jnp.where(grown, 0, scale["fin_steps"] + 1),
    }
    return params, opt_state, scale, batch_stats, ema, loss


state = begin()
step = 0
if given.resume:
    saved = pickle.loads(Path(given.resume).read_bytes())
    step = saved["step"]
    saved["key"] = jax.random.wrap_key_data(saved["key"])
    kept = {name: value for name, value in saved.items() if name in state and name != given.forget}
    if given.forget == "ema":
        kept["ema"] = kept["params"]
    if given.forget == "schedule":
        inner = kept["opt_state"].inner_opt_state
        kept["opt_state"] = kept["opt_state"]._replace(inner_opt_state=(inner[0], state["opt_state"].inner_opt_state[1]))
    if given.forget == "accumulation":
        fresh = state["opt_state"]
        kept["opt_state"] = kept["opt_state"]._replace(mini_step=fresh.mini_step, acc_grads=fresh.acc_grads)
    state |= jax.tree.map(lambda leaf: leaf if isinstance(leaf, int) else jnp.asarray(leaf), kept)

while step < given.steps:
    order = np.random.default_rng((7, state["epoch"])).permutation(len(data))
    x = data[order[state["place"] * BATCH : (state["place"] + 1) * BATCH]]
    state["key"], key = jax.random.split(state["key"])
    names = ("params", "opt_state", "scale", "batch_stats", "ema")
    *new, loss = train_step(*(state[name] for name in names), key, x)
    state |= dict(zip(names, new, strict=True))
    step, state["place"] = step + 1, state["place"] + 1
    if state["place"] == EPOCH:
        state["place"], state["epoch"] = 0, state["epoch"] + 1
if given.save:
    plain = {**state, "key": jax.random.key_data(state["key"]), "step": step}
    plain = jax.tree.map(lambda leaf: leaf if isinstance(leaf, int) else np.asarray(leaf), plain)
    Path(given.save).write_bytes(pickle.dumps(plain))
