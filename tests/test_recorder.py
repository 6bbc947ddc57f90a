"""The Recorder in loops that are not ours: what it writes, how a run ends, what it obeys; every claim through real processes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PATIENCE, Cli, events_of, eventually, last_step, rows_of
from reprotui.checksum import numpy_form
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

PYTREES = """
import sys
from typing import NamedTuple
import dataclasses
import equinox as eqx, flax.linen as nn, haiku as hk, jax, jax.numpy as jnp, numpy as np, optax
from flax import nnx
from reprotui import Recorder

class Pair(NamedTuple):
    left: jax.Array
    right: float

@dataclasses.dataclass
class Plain:
    rate: float
    table: np.ndarray
    name: str = "text is no leaf"

key = jax.random.key(0)
linen = nn.Dense(2).init(jax.random.PRNGKey(0), jnp.ones((1, 3)))
model = eqx.nn.MLP(3, 1, 4, 1, key=key)
trees = {
    "linen": linen, "nnx": nnx.Linear(3, 2, rngs=nnx.Rngs(0)), "state": nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(0))),
    "equinox": model, "haiku": {"linear": {"w": jnp.ones((2, 2))}}, "pair": Pair(jnp.arange(3), 0.5),
    "plain": Plain(0.1, np.arange(4)), "host": np.float64(2.5), "flag": True,
}
optimizer = optax.chain(optax.clip(1.0), optax.adamw(1e-3))
opt_state = optimizer.init(linen)
with Recorder(config={"lr": 0.1, "layers": [3, 2]}, name=sys.argv[1], steps=4) as rec:
    rec.init(params=trees, opt_state=opt_state)
    for step in range(1, 5):
        value = jnp.float32(step) + (1e-6 if step >= 3 and "--fault" in sys.argv else 0)
        rec.step(
            step, loss=value, params=trees, grads={"w": jnp.ones(3) * step}, opt_state=opt_state, metrics={"acc": 0.5},
            batch=(np.full((2, 3), step), [step]), rng={"typed": jax.random.fold_in(key, step), "raw": jax.random.PRNGKey(step)},
            extra={"mean": jnp.zeros(2)},
        )
"""
TORCH = """
import sys
import torch
from reprotui import Recorder

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters())
with Recorder(config=dict(lr=1e-3), name=sys.argv[1]) as rec:
    rec.init(model=model, optimizer=optimizer)
    for step in range(1, 7):
        batch = torch.randn(5, 4)
        optimizer.zero_grad()
        loss = (model(batch) ** 2).mean()
        loss.backward()
        if step == 4 and "--fault" in sys.argv:
            model[0].weight.grad[0, 0] += 1
        optimizer.step()
        rec.step(step, model=model, optimizer=optimizer, loss=loss, batch=batch, rng=torch.get_rng_state())
    torch.save(model[0].weight.detach(), sys.argv[1] + ".pt")
"""
LOOP = """
import os, sys, time
import numpy as np
from reprotui import Recorder

how = sys.argv[1]
params = {"w": np.zeros(3)}
with Recorder(config={"how": how}, name=None if how == "race" else how) as rec:
    for step in range(1, 10**9 if how in ("endless", "race-endless") else 6):
        if step == 4 and how == "raise":
            raise ValueError("the data ran out")
        if step == 4 and how == "die":
            time.sleep(0.5)
            os._exit(9)
        params["w"] += 1
        rec.step(step, params=params, loss=1.0 / step)
print("behind the loop")
"""


def python(reprotui: Cli, script: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a script as a person would, in the test's directory."""
    path = reprotui.directory / "loop.py"
    path.write_text(script)
    command = [sys.executable, str(path), *arguments]
    done = subprocess.run(
        command, cwd=reprotui.directory, env=reprotui.environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def paths_of(run: Path, step: int) -> dict[str, int]:
    """Return phase/path and checksum of the leaves of a record."""
    with Trace(run / "trace.db") as trace:
        row = trace.row(step)
        assert row is not None
        table, sums = trace.table(row.version), trace.leaf_checksums(step)
    assert sums is not None
    return {f"{phase}:{spec.path}": int(value) for phase, spec, value in zip(table.phases, table.specs, sums, strict=True)}


@pytest.mark.slow
def test_any_pytree_is_recorded_and_two_scripts_by_hand_open_together(reprotui: Cli) -> None:
    python(reprotui, PYTREES, "one")
    python(reprotui, PYTREES, "two")
    python(reprotui, PYTREES, "three", "--fault")
    assert "IDENTICAL through step 4" in reprotui("open", "one", "two", "--once").stdout
    verdict = reprotui.compare(reprotui.runs / "one", reprotui.runs / "three", exit_code=1)["verdicts"][0]
    assert (verdict["step"], verdict["phase"], [leaf["path"] for leaf in verdict["leaves"]]) == (3, "forward", ["loss"])
    leaves = paths_of(reprotui.runs / "one", 4)
    for path in (
        "batch:batch/0", "batch:batch/1/0", "rng:rng/raw", "rng:rng/typed", "forward:loss", "forward:metrics/acc",
        "forward:extra/mean", "grads:grads/w", "optimizer:opt_state/1/0/mu/params/kernel", "params:params/linen/params/kernel",
        "params:params/nnx/kernel", "params:params/state/kernel", "params:params/equinox/layers/0/weight",
        "params:params/haiku/linear/w", "params:params/pair/left", "params:params/plain/table", "params:params/plain/rate",
        "params:params/host", "params:params/flag",
    ):  # fmt: skip
        assert path in leaves, f"{path} is not among {sorted(leaves)}"
    assert not [path for path in leaves if path.endswith("/name") or "activation" in path]
    manifest = RunDirectory(reprotui.runs / "one").manifest().document
    assert manifest["config"] == {"lr": 0.1, "layers": [3, 2], "steps": 4}
    assert manifest["result"]["state"] == "finished" and manifest["result"]["final"]["loss"] == 4.0
    assert manifest["experiment"]["sources"].keys() == {"loop.py"}
    assert manifest["devices"]["backend"] == "cpu"


@pytest.mark.slow
def test_torch_model_optimizer_and_gradients_are_recorded(reprotui: Cli) -> None:
    import torch

    python(reprotui, TORCH, "one")
    python(reprotui, TORCH, "two")
    python(reprotui, TORCH, "three", "--fault")
    assert reprotui.compare(reprotui.runs / "one", reprotui.runs / "two")["verdicts"][0]["kind"] == "identical"
    verdict = reprotui.compare(reprotui.runs / "one", reprotui.runs / "three", exit_code=1)["verdicts"][0]
    assert (verdict["step"], verdict["phase"]) == (4, "grads")
    assert [leaf["path"] for leaf in verdict["leaves"]] == ["grads/0/weight"]
    last = paths_of(reprotui.runs / "one", 6)
    weight = torch.load(reprotui.directory / "one.pt").numpy()
    assert last["params:params/0/weight"] == numpy_form.checksum(weight)
    assert {"forward:extra/1/running_mean", "optimizer:opt_state/0/weight/exp_avg", "rng:rng", "batch:batch"} <= last.keys()
    assert "grads:grads/0/weight" not in paths_of(reprotui.runs / "one", 0)


def test_an_exception_leaves_a_failed_run_with_the_error_and_a_readable_trace(reprotui: Cli) -> None:
    done = python(reprotui, LOOP, "raise", code=1)
    assert "ValueError: the data ran out" in done.stderr
    manifest = RunDirectory(reprotui.runs / "raise").manifest().document
    assert manifest["result"]["state"] == "failed"
    assert manifest["result"]["error"] == "ValueError: the data ran out"
    assert [row.step for row in rows_of(reprotui.runs / "raise")] == [1, 2, 3]
    assert manifest["seal"]["last_step"] == 3


@pytest.mark.slow
def test_a_process_that_dies_leaves_a_killed_run_and_a_readable_trace(reprotui: Cli) -> None:
    python(reprotui, LOOP, "die", code=9)
    assert RunDirectory(reprotui.runs / "die").state() == "killed"
    assert [row.step for row in rows_of(reprotui.runs / "die")] == [1, 2, 3]
    reprotui("open", "die", "--once")


@pytest.mark.slow
def test_pause_advance_and_stop_are_obeyed_and_the_script_goes_on_behind_the_loop(reprotui: Cli) -> None:
    path = reprotui.directory / "loop.py"
    path.write_text(LOOP)
    process = subprocess.Popen(
        [sys.executable, str(path), "endless"],
        cwd=reprotui.directory,
        env=reprotui.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    run = reprotui.runs / "endless"
    try:
        eventually("a first record", lambda: last_step(run) >= 1)
        reprotui("control", "endless", "pause")
        eventually("paused", lambda: "paused" in dict(events_of(run)))
        standing = last_step(run)
        reprotui("control", "endless", "advance")
        eventually("one step more", lambda: last_step(run) == standing + 1)
        reprotui("control", "endless", "stop")
        out, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "behind the loop" in out
    assert RunDirectory(run).state() == "stopped"


SKIPPING = """
import sys
import numpy as np
from reprotui import Recorder

name, fault, steps = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
with Recorder(name=name) as rec:
    for step in range(1, 31):
        if str(step) in steps or not steps:
            rec.step(step, params={"w": np.full(3, step) + (step >= fault)}, loss=1.0 / step)
"""


@pytest.mark.slow
def test_loops_that_record_steps_without_a_rule_open_together(reprotui: Cli) -> None:
    python(reprotui, SKIPPING, "all", "99")
    python(reprotui, SKIPPING, "some", "99", "2", "3", "7", "30")
    python(reprotui, SKIPPING, "other", "8", "1", "2", "7", "19", "30")
    for pair in (("all", "some"), ("some", "all")):
        assert "IDENTICAL in 4 recorded steps through step 30" in reprotui("open", *pair, "--once").stdout
    for pair in (("some", "other"), ("other", "all")):
        said = reprotui("open", *pair, "--once", exit_code=1).stdout
        assert f"DIVERGED at step {30 if 'some' in pair else 19}" in said


@pytest.mark.slow
def test_a_race_gives_the_recorder_its_directory(reprotui: Cli) -> None:
    (reprotui.directory / "loop.py").write_text(LOOP)
    race = json.loads(reprotui("race", "--name", "race", "--json", "--", sys.executable, "loop.py", "race").stdout)
    assert race["verdicts"][0]["kind"] == "identical" and race["verdicts"][0]["equal_through"] == 5
    assert race["runs"]["a"]["config"] == {"argument_1": "race", "how": "race"}
    assert not list(reprotui.runs.glob("loop-*"))


@pytest.mark.slow
def test_a_race_ends_a_recorder_by_a_signal_too(reprotui: Cli) -> None:
    (reprotui.directory / "loop.py").write_text(LOOP)
    process = reprotui.start("race", "--name", "race", "--", sys.executable, "loop.py", "race-endless")
    eventually("a first record", lambda: last_step(reprotui.runs / "race" / "b") >= 1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert [RunDirectory(reprotui.runs / "race" / label).state() for label in "ab"] == ["stopped", "stopped"]


@pytest.mark.slow
def test_steps_grow_and_a_name_is_taken_once(reprotui: Cli) -> None:
    script = "from reprotui import Recorder\nrec = Recorder(name='x')\nrec.step(2, loss=1.0)\nrec.step(2, loss=1.0)\n"
    done = python(reprotui, script, code=1)
    assert "rec.step(2) comes after rec.step(2): steps are numbered from 1 and grow" in done.stderr
    done = python(reprotui, script, code=1)
    assert "exists already" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("config, problem", [("3", "config is a int"), ("{'a': {1, 2}, 'b': float('inf')}", "")])
def test_a_config_is_whatever_has_named_entries(reprotui: Cli, config: str, problem: str) -> None:
    done = python(
        reprotui, f"from reprotui import Recorder\nRecorder(config={config}, name='x').close()\n", code=1 if problem else 0
    )
    if problem:
        assert problem in done.stderr
    else:
        assert RunDirectory(reprotui.runs / "x").manifest().config == {"a": "{1, 2}", "b": "inf"}


def test_importing_the_package_loads_nothing_heavy(reprotui: Cli) -> None:
    done = python(
        reprotui,
        "import sys, json, reprotui\nfrom reprotui import StopTraining\n"
        "print(json.dumps([name for name in ('numpy', 'jax', 'torch', 'flax') if name in sys.modules]))",
    )
    assert json.loads(done.stdout) == []
