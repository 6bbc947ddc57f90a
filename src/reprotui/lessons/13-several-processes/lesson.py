"""Two processes load the halves of each batch.

With --fault nobody gave them a seed.
"""

import multiprocessing
import sys

import numpy as np

FAULT = "--fault" in sys.argv
PROCESSES, BATCH, STEPS = 2, 8, 6


def load(job):
    """Return one process's part of a batch: of its seed, its number, the step."""
    process, step, seed = job
    rng = np.random.default_rng([seed, process, step])
    return rng.normal(size=(BATCH // PROCESSES, 4)).astype(np.float32)


def main():
    import jax
    import jax.numpy as jnp

    @jax.jit
    def train_step(w, x):
        def loss_function(w):
            return jnp.mean((x @ w - 1) ** 2)

        loss, grads = jax.value_and_grad(loss_function)(w)
        return w - 0.1 * grads, loss

    sequence = np.random.SeedSequence(None if FAULT else 0)
    seeds = sequence.generate_state(PROCESSES).tolist()
    w = jnp.zeros(4)
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for step in range(STEPS):
            jobs = [(process, step, seed) for process, seed in enumerate(seeds)]
            halves = pool.map(load, jobs)  # in this order, whoever is ready first
            w, loss = train_step(w, np.concatenate(halves))
    print(f"{PROCESSES} processes, {BATCH // PROCESSES} examples each")
    print(f"final loss {loss:.2f}")


if __name__ == "__main__":
    main()
