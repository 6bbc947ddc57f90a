"""Train, save, verify, resume.

With --fault a bit of the checkpoint flips on the disk.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

FAULT = "--fault" in sys.argv
STEPS, SAVE_AT = 8, 4

x = np.arange(128, dtype=np.float32).reshape(4, 8, 4) / 128


@jax.jit
def train_step(w, x):
    loss, grads = jax.value_and_grad(lambda w: jnp.mean((x @ w - 1) ** 2))(w)
    return w - 0.1 * grads, loss


def train(w, first, last):
    for step in range(first, last):
        w, loss = train_step(w, x[step % len(x)])
    return w, loss


def digest(raw):
    return hashlib.sha256(raw).hexdigest()


w, _ = train(jnp.ones(4), 0, SAVE_AT)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "step-4.bin"
    path.write_bytes(np.asarray(w).tobytes())
    expected = digest(np.asarray(w).tobytes())  # of the memory, not of the file
    if FAULT:
        raw = bytearray(path.read_bytes())
        raw[6] ^= 1  # one bit of one byte
        path.write_bytes(raw)
    status = "VALID" if digest(path.read_bytes()) == expected else "CORRUPT"
    print(f"step {SAVE_AT}: {path.stat().st_size} bytes, {status}")
    # A script of yours stops here unless it is VALID; this one shows what comes.
    w = jnp.asarray(np.frombuffer(path.read_bytes(), np.float32))
w, loss = train(w, SAVE_AT, STEPS)
print(f"final loss {loss:.2f}")
