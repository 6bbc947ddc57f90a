"""A loop in NumPy with a Recorder that saves by itself and goes on when it is started again. Arguments: `{dir}` and faults."""

import signal
import sys
from pathlib import Path

import numpy as np

from reprotui import Recorder

place, faults = Path(sys.argv[1]) / "state.npz", sys.argv[2:]
params, mean, step = np.ones(4, np.float32), np.zeros(4, np.float32), 0
if place.exists():
    saved = np.load(place)
    params, step = saved["params"], int(saved["step"])
    mean = mean if "momentum" in faults else saved["mean"]


def save():
    np.savez(place, params=params, mean=mean, step=step)


def leave(number, frame):
    save()
    sys.exit(0)


if "crash" not in faults:
    signal.signal(signal.SIGTERM, leave)
with Recorder() as recorder:
    recorder.init(params=params, opt_state=mean)
    while step < 12:
        x = np.random.default_rng(step).normal(size=4).astype(np.float32)
        mean = 0.9 * mean + params * x
        params = params - np.float32(0.1) * mean
        step += 1
        recorder.step(step, params=params, opt_state=mean, batch=x)
        if step % 4 == 0:
            save()
