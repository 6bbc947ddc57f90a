"""What a printed loss hides.

With --fault one weight is moved by one ulp after step 3.
"""

import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
STEPS = 6

one = np.float32(1)
print(f"next to 1 stands {np.nextafter(one, np.float32(2)):.8f}")
print(f"one ulp of 1 is {np.spacing(one):.3g}")
minus, plus = np.float32(-0.0), np.float32(0.0)
print("-0.0 == 0.0:", bool(minus == plus))
print("the same bits:", minus.tobytes() == plus.tobytes())
nan = np.float32("nan")
print("nan == nan:", bool(nan == nan))
print("the same bits:", nan.tobytes() == nan.tobytes())


def digest(tree):
    raw = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree))
    return hashlib.sha256(raw).hexdigest()


@jax.jit
def train_step(w, x):
    loss, grads = jax.value_and_grad(lambda w: jnp.mean((x @ w - 1) ** 2))(w)
    return w - 0.1 * grads, loss


w = jnp.full(4, 0.5)
x = jnp.linspace(0, 1, 32).reshape(8, 4)
for step in range(1, STEPS + 1):
    w, loss = train_step(w, x)
    if FAULT and step == 3:
        w = w.at[0].set(jnp.nextafter(w[0], jnp.inf))
print(f"final loss {loss:.4f}")
print("digest", digest(w)[:16])
