"""equinox with filter_jit on a small text. Planted: a vocabulary in the order of a set, which PYTHONHASHSEED decides."""

import hashlib
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

SENTENCE = "the quick brown fox jumps over a lazy dog while seven small birds sing about rain and wind in an old grey town"
LARGE = "--large" in sys.argv
TEXT = SENTENCE.split() * (200 if LARGE else 1)
words = set(TEXT) if "--fault" in sys.argv else sorted(set(TEXT))
index = {word: number for number, word in enumerate(words)}
tokens = np.array([index[word] for word in TEXT], np.int32)


class Model(eqx.Module):
    embedding: jax.Array
    mlp: eqx.nn.MLP

    def __init__(self, key):
        first, second = jax.random.split(key)
        size, width = (128, 512) if LARGE else (4, 8)
        self.embedding = jax.random.normal(first, (len(index), size))
        self.mlp = eqx.nn.MLP(size, len(index), width, 2 if LARGE else 1, key=second)

    def __call__(self, token):
        return self.mlp(self.embedding[token])


model = Model(jax.random.key(0))
optim = optax.sgd(0.1, momentum=0.9)
opt_state = optim.init(eqx.filter(model, eqx.is_inexact_array))


@eqx.filter_jit
def make_step(model, opt_state, x, y):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

    loss, grads = eqx.filter_value_and_grad(loss_fn)(model)
    updates, opt_state = optim.update(grads, opt_state)
    return eqx.apply_updates(model, updates), opt_state, loss


for step in range(400 if LARGE else 12):
    at = np.arange(step, step + (3584 if LARGE else 8))
    model, opt_state, loss = make_step(model, opt_state, jnp.asarray(tokens[at]), jnp.asarray(tokens[at + 1]))
leaves = jax.tree.leaves(eqx.filter(model, eqx.is_array))
print("digest", hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest())
