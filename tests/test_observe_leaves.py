"""What is recorded of an observed call is what went in and came out, to the bit, whatever becomes of it afterwards."""

import json
import sys
from pathlib import Path

import pytest

from conftest import Cli, events_of, rows_of
from reprotui.checksum import LeafSpec
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

SCRIPTS = Path(__file__).parent / "scripts"
OVERWRITTEN = """
import json, sys
import jax, jax.numpy as jnp, numpy as np, ml_dtypes
from reprotui.checksum import numpy_form

DONATED = (0, 2) if "donated" in sys.argv else ()

def train(w, batch, key, scale):
    x = batch["x"].astype(jnp.float32) + batch["half"].astype(jnp.float32) + batch["flag"] + jnp.abs(batch["wave"])
    new = w - 0.01 * scale * (x.mean(0) + jax.random.normal(key, w.shape) + batch["label"].sum())
    return new, {"loss": jnp.sum(new ** 2), "next": jax.random.fold_in(key, 1)}

train = jax.jit(train, donate_argnums=DONATED)
draw = np.random.default_rng(0)
SIZE = int(sys.argv[1])
batch = {
    "x": np.zeros((SIZE, 8)), "half": np.zeros((SIZE, 8), ml_dtypes.bfloat16), "flag": np.zeros((SIZE, 8), bool),
    "wave": np.zeros((SIZE, 8), np.complex64), "label": np.zeros(SIZE, np.int64),
}
w, given = jnp.zeros(8), []
for step in range(1, 46):
    for name, array in batch.items():
        array[...] = (draw.normal(size=array.shape) * 3).astype(array.dtype)
    key, scale = jax.random.fold_in(jax.random.PRNGKey(0), step), jnp.float32(step)
    before = {f"batch/batch/{name}": numpy_form.checksum(array) for name, array in batch.items()}
    before |= {"rng/key": numpy_form.checksum(np.array(key)), "batch/scale": numpy_form.checksum(np.array(scale))}
    handed = (key + 0, scale + 0)
    w, out = train(w, batch, *handed)
    jax.block_until_ready(out)  # jax reads numpy arrays where they lie, while it computes
    for array in batch.values():
        array[...] = 1
    assert handed[0].is_deleted() == bool(DONATED)
    after = {"params/w": numpy_form.checksum(np.array(w)), "loss": numpy_form.checksum(np.array(out["loss"]))}
    given.append(before | after)
json.dump(given, open("given.json", "w"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 4000])
@pytest.mark.parametrize("donated", ["donated", "kept"])
def test_a_batch_overwritten_after_the_call_and_memory_given_away_are_recorded_as_they_were(
    reprotui: Cli, size: int, donated: str
) -> None:
    reprotui.write("overwritten.py", OVERWRITTEN)
    reprotui("race", "--name", "race", "--", sys.executable, "overwritten.py", str(size), donated, exit_code=0)
    given = json.loads((reprotui.directory / "given.json").read_text())
    run = reprotui.runs / "race" / "a"
    with Trace(RunDirectory(run).trace_path) as trace:
        rows = {row.step: row for row in trace.rows()}
        for step, expected in enumerate(given, 1):
            table = trace.table(rows[step].version)
            checksums = trace.leaf_checksums(step)
            assert checksums is not None
            recorded = dict(zip((spec.path for spec in table.specs), checksums.tolist(), strict=True))
            assert {path: recorded.get(path) for path in expected} == expected, step
        assert len({rows[step].version for step in range(1, len(given) + 1)}) == 1
    assert not {"observing-failed", "inputs-gone"} & set(dict(events_of(run)))
    assert LeafSpec("batch/batch/x", "float64", (size, 8)) in table.specs


@pytest.mark.slow
@pytest.mark.parametrize("script", ["raw_jax", "optax_resume", "flax_linen", "haiku_dropout"])
def test_every_third_step_is_recorded_as_it_is_among_all(reprotui: Cli, script: str) -> None:
    rows = []
    for name, options in (("all", ()), ("third", ("--every", "3"))):
        reprotui("race", "--name", name, *options, "--", sys.executable, str(SCRIPTS / f"{script}.py"), exit_code=0)
        rows.append({row.step: row.roots for row in rows_of(reprotui.runs / name / "a")})
    assert sorted(rows[1]) == [step for step in sorted(rows[0]) if step % 3 == 0]
    assert all(rows[0][step] == roots for step, roots in rows[1].items())


@pytest.mark.slow
def test_an_input_whose_memory_is_gone_without_notice_is_said_and_ends_nothing(reprotui: Cli) -> None:
    script = """
import jax, jax.numpy as jnp
jax.config.update("jax_disable_jit", True)
def train(w, key):
    new = w - jax.random.normal(key, w.shape)
    if len(seen) == 6:
        key.delete()
    seen.append(key)
    return new, jnp.sum(new ** 2)
train, w, seen = jax.jit(train), jnp.ones(3), []
for step in range(10):
    w, loss = train(w, jax.random.PRNGKey(step))
"""
    reprotui.write("gone.py", script)
    reprotui("race", "--name", "race", "--", sys.executable, "gone.py", exit_code=0)
    run = reprotui.runs / "race" / "a"
    assert dict(events_of(run))["inputs-gone"].startswith("step 7 lacks inputs")
    lacking = [row.step for row in rows_of(run) if row.step and not row.root("rng")]
    assert lacking == [7] and len(rows_of(run)) == 11
