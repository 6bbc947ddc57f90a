"""Save after step 4, forget everything, load, go on.

With --fault the generator of the data is not saved.
"""

import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
STEPS, SAVE_AT = 8, 4

x = np.arange(128, dtype=np.float32).reshape(32, 4) / 128


@jax.jit
def train_step(params, momentum, x, key):
    def loss_function(params):
        noise = 0.1 * jax.random.normal(key, x.shape)
        return jnp.mean(((x + noise) @ params["w"] - 1) ** 2)

    loss, grads = jax.value_and_grad(loss_function)(params)
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
    params = jax.tree.map(lambda p, m: p - 0.1 * m, params, momentum)
    return params, momentum, loss


def save(params, momentum, step, rng):
    file = io.BytesIO()
    data = "" if FAULT else json.dumps(rng.bit_generator.state)
    np.savez(file, w=params["w"], momentum=momentum["w"], step=step, data=data)
    return file.getvalue()


def load(saved):
    file = np.load(io.BytesIO(saved))
    rng = np.random.default_rng()  # where it was not saved
    if file["data"]:
        rng = np.random.default_rng(0)
        rng.bit_generator.state = json.loads(str(file["data"]))
    w, momentum = jnp.asarray(file["w"]), jnp.asarray(file["momentum"])
    return {"w": w}, {"w": momentum}, int(file["step"]), rng


params, momentum, step = {"w": jnp.zeros(4)}, {"w": jnp.zeros(4)}, 0
rng = np.random.default_rng(0)
root = jax.random.key(0)
while step < STEPS:
    chosen = rng.integers(0, len(x), 8)
    key = jax.random.fold_in(root, step)
    params, momentum, loss = train_step(params, momentum, x[chosen], key)
    step += 1
    if step == SAVE_AT:
        params, momentum, step, rng = load(save(params, momentum, step, rng))
        print(f"saved at step {step} of {STEPS}, loaded, and gone on")
print(f"final loss {loss:.2f}")
