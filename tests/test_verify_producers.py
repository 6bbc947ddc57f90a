"""`compare --verify` on a trace of every producer: clean pairs match, a touched leaf row is found in each."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import MLP, Cli

BY_HAND = """
import sys, numpy as np
{imports}
from reprotui import Recorder
draw = np.random.default_rng(0)
with Recorder(name=sys.argv[1], steps=12) as rec:
    trees = lambda: {{f"layer_{{n}}": make(draw.normal(size=(n + 1, 3)).astype(np.float32)) for n in range(9)}}
    rec.init(params=trees())
    for step in range(1, 13):
        parts = {{name: trees() for name in ("params", "grads", "opt_state")}}
        rec.step(step, loss=make(np.float32(step)), batch=make(draw.normal(size=(4, 3))), **parts)
"""
FRAMEWORKS = {
    "numpy": "make = lambda array: array",
    "jax": "import jax.numpy as jnp\nmake = jnp.asarray",
    "torch": "import torch\nmake = lambda array: torch.from_numpy(np.array(array))",
}
SCRIPTS = Path(__file__).parent / "scripts"
OBSERVED = ("raw_jax", "flax_nnx", "torch_plain", "torch_amp")


def worker(reprotui: Cli) -> None:
    for name in "ab":
        reprotui("run", *MLP, "--name", name)


def by_hand(framework: str) -> Callable[[Cli], None]:
    def record(reprotui: Cli) -> None:
        reprotui.write("loop.py", BY_HAND.format(imports=FRAMEWORKS[framework]))
        for name in "ab":
            subprocess.run([sys.executable, "loop.py", name], cwd=reprotui.directory, env=reprotui.environment, check=True)

    return record


def observed(script: str) -> Callable[[Cli], None]:
    def record(reprotui: Cli) -> None:
        reprotui("race", "--headless", "--name", "race", "--", sys.executable, SCRIPTS / f"{script}.py", exit_code=0)
        for name in "ab":
            (reprotui.runs / "race" / name).rename(reprotui.runs / name)

    return record


PRODUCERS = {
    "worker": worker,
    **{f"recorder-{name}": by_hand(name) for name in FRAMEWORKS},
    **{f"observed-{name}": observed(name) for name in OBSERVED},
}


@pytest.mark.slow(but="recorder-numpy")
@pytest.mark.parametrize("producer", PRODUCERS)
def test_the_traces_of_every_producer_verify_and_a_touched_row_does_not(reprotui: Cli, producer: str) -> None:
    PRODUCERS[producer](reprotui)
    assert "MATCH" in reprotui("compare", "a", "b", "--verify", exit_code=0).stdout
    with sqlite3.connect(reprotui.runs / "b" / "trace.db") as trace:
        step, blob = trace.execute("SELECT step, blob FROM leaf_checksums ORDER BY step DESC LIMIT 1 OFFSET 3").fetchone()
        trace.execute("UPDATE leaf_checksums SET blob = ? WHERE step = ?", (bytes([blob[0] ^ 1]) + blob[1:], step))
    trace.close()
    said = reprotui("compare", "a", "b", "--verify", exit_code=3).stdout
    assert f"the leaf checksums of step {step} do not give its roots" in " ".join(said.split())
