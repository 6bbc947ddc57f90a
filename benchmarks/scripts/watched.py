"""Steps of 20 ms and more, timed: `watched.py torch|jax`. Prints for each how many seconds the process computed, in all its
threads: what others do on the machine is not in that."""

import json
import sys
import time

STEPS, BATCH, WIDTH = 240, 640, 384


def torch_steps():
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU()] * 3
    model = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x, y = torch.randn(BATCH, WIDTH), torch.randn(BATCH, 8)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def jax_steps():
    import jax
    import jax.numpy as jnp

    key = jax.random.key(0)
    state = {"params": [0.05 * jax.random.normal(key, (WIDTH, WIDTH)) for _ in range(4)]}
    x, y = jax.random.normal(key, (BATCH, WIDTH)), jax.random.normal(key, (BATCH, WIDTH))

    def loss(params):
        hidden = x
        for weight in params:
            hidden = jnp.tanh(hidden @ weight)
        return jnp.mean((hidden - y) ** 2)

    @jax.jit
    def train(params):
        value, grads = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value

    def step():
        state["params"], value = train(state["params"])
        return float(value)

    return step


take = {"torch": torch_steps, "jax": jax_steps}[sys.argv[1]]()
times = []
for _ in range(STEPS):
    begun = time.process_time()
    take()
    times.append(round(time.process_time() - begun, 6))
print("computing", json.dumps(times))
