"""A loop in NumPy with a Recorder that is not the same each time, for the reasons that its arguments name."""

import hashlib
import os
import random
import sys
import time

import numpy as np

from reprotui import Recorder

CAUSES = set(sys.argv[1:])
STEPS = 40
names = [f"example-{number}" for number in range(24)]
values = {name: np.float32(number / 24) for number, name in enumerate(names)}
chosen = list(names)
fixed = np.random.default_rng(3)


def by_process(*told):
    """Return a number that no seed fixes: it is that of the process."""
    return int.from_bytes(hashlib.sha256(repr((os.getpid(), *told)).encode()).digest()[:4])


if "hash" in CAUSES:
    chosen = sorted(chosen, key=lambda name: hash(name) % 97)
if "set" in CAUSES:
    chosen = list(set(chosen))
if "python" in CAUSES:
    random.shuffle(chosen)
if "entropy" in CAUSES:
    fixed = np.random.default_rng()
if "urandom" in CAUSES:
    fixed = np.random.default_rng(int.from_bytes(os.urandom(4)))
if "clock" in CAUSES:
    fixed = np.random.default_rng(time.time_ns())
noise = by_process("rare") if "rare" in CAUSES and by_process("rare") % 4 == 0 else 0
later = by_process("late") % 30 + 5 if "late" in CAUSES and by_process("late") % 3 == 0 else 0


def summed(parts):
    """Add parts in the order in which threads that are told to be one, or several, would end."""
    if "threads" in CAUSES and os.environ.get("OMP_NUM_THREADS") != "1":
        parts = sorted(parts, key=lambda part: by_process(float(part)))
    total = np.float32(0)
    for part in parts:
        total = np.float32(total + part)
    return total


params = np.ones(4, np.float32)
with Recorder() as recorder:
    recorder.init(params=params)
    for step in range(1, STEPS + 1):
        batch = np.array([values[name] for name in np.roll(chosen, step)[:4]], np.float32)
        batch += fixed.normal(size=4).astype(np.float32)
        if "numpy" in CAUSES and step >= 3:
            batch += np.random.normal(size=4).astype(np.float32)
        if step == later:
            batch += np.float32(1)
        loss = summed((params - batch) ** 2 * np.float32(1.1) + np.float32(noise % 1000) / np.float32(7))
        grads = (params - batch) * loss
        params = (params - np.float32(0.001) * grads).astype(np.float32)
        recorder.step(step, loss=loss, params=params, batch=batch, grads=grads)
