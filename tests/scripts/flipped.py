"""A training in which single bits are flipped: `flipped.py torch|jax STEPS EVERY`, a flip each EVERY steps, 0 for none.

Flipped are parameters between two steps, gradients as the backward pass gives them, and activations, in turns. A flip is printed
as JSON; after its step the state is put back. A flip happens in memory, once, and nobody is told.
"""

import ctypes
import json
import random
import sys

import numpy as np

FRAMEWORK, STEPS, EVERY = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
KINDS = ("params", "grads", "activation")
chance = random.Random(7)
planned = {}
for number, step in enumerate(range(20, STEPS, EVERY) if EVERY else ()):
    planned[step + chance.randrange(EVERY - 2)] = KINDS[number % 3]
armed = []  # the kind of the flip that is due


def flip(address: int, words: int) -> None:
    """Flip one of the upper bits of a mantissa, or of the exponent, of one of so many float32 numbers."""
    memory = (ctypes.c_uint32 * words).from_address(address)
    memory[chance.randrange(words)] ^= 1 << chance.randrange(14, 30)


def due(kind: str) -> bool:
    """Say whether a flip of this kind is due, once."""
    if armed and armed[0] == kind:
        armed.clear()
        return True
    return False


def train_torch() -> None:
    import torch

    torch.manual_seed(0)

    class Fault(torch.autograd.Function):
        """A device that computes wrongly once."""

        @staticmethod
        def forward(context, values):
            values = values.clone()
            if due("activation"):
                flip(values.data_ptr(), values.numel())
            return values

        @staticmethod
        def backward(context, gradient):
            gradient = gradient.contiguous().clone()
            if due("grads"):
                flip(gradient.data_ptr(), gradient.numel())
            return gradient

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)

        def forward(self, x):
            return self.last(Fault.apply(torch.nn.functional.softplus(self.first(x))))

    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = torch.randn(32, 8), torch.randn(32, 4)
    for step in range(1, STEPS + 1):
        if kind := planned.get(step):
            kept = told(step, kind), {name: value.clone() for name, value in model.state_dict().items()}
            if kind == "params":
                flip(model.first.weight.data_ptr(), model.first.weight.numel())
            else:
                armed[:] = [kind]
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        if kind:
            model.load_state_dict(kept[1])
            optimizer.state.clear()


def train_jax() -> None:
    import jax
    import jax.numpy as jnp
    import optax

    observer = sys.modules.get("reprotui.observe.jax_observer")
    if observer is not None:
        real = observer.outputs_of

        def outputs_of(call, result):
            """Give what a device gave that computes wrongly once."""
            if armed and "gradients" in call.function.name:
                (_, hidden), grads = result
                for kind, value in (("grads", grads["last"]), ("activation", hidden)):
                    if due(kind):
                        jax.block_until_ready(result)
                        flip(value.unsafe_buffer_pointer(), value.size)
            return real(call, result)

        observer.outputs_of = outputs_of

    key = jax.random.key(0)
    params = {"first": 0.3 * jax.random.normal(key, (8, 16)), "last": 0.3 * jax.random.normal(key, (16, 4))}
    optimizer = optax.adam(1e-3)
    state = optimizer.init(params)
    x, y = np.asarray(jax.random.normal(key, (32, 8))), np.asarray(jax.random.normal(key, (32, 4)))

    def loss(params, x, y):
        hidden = jax.nn.softplus(x @ params["first"])
        return jnp.mean((hidden @ params["last"] - y) ** 2), hidden

    @jax.jit
    def gradients(params, x, y):
        return jax.value_and_grad(loss, has_aux=True)(params, x, y)

    @jax.jit
    def update(params, state, grads):
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state

    for step in range(1, STEPS + 1):
        if kind := planned.get(step):
            told(step, kind)
            kept = jax.tree.map(jnp.copy, (params, state))
            jax.block_until_ready((params, state))
            if kind == "params":
                if observer is not None:
                    from reprotui.record.session import Session

                    Session.current.writer.flush()  # what was read of the step before was read before the flip
                flip(params["first"].unsafe_buffer_pointer(), params["first"].size)
            else:
                armed[:] = [kind]
        _, grads = gradients(params, x, y)
        params, state = update(params, state, grads)
        jax.block_until_ready((params, state))
        if kind:
            params, state = kept


def told(step: int, kind: str) -> None:
    print(json.dumps({"step": step, "kind": kind}), flush=True)


{"torch": train_torch, "jax": train_jax}[FRAMEWORK]()
