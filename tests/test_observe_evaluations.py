"""Trainings of flax nnx with evaluations among their steps: which function takes the steps, and what the others leave alone."""

import json
import sys
from typing import Any

import pytest

from conftest import Cli, events_of, rows_of
from reprotui.trace import Trace

CLASSIFIER = """
import sys, jax.numpy as jnp, numpy as np, optax
from flax import nnx

class Model(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(8, 16, rngs=rngs)
        self.between = BETWEEN
        self.last = nnx.Linear(16, 4, rngs=rngs)
    def __call__(self, x):
        return self.last(self.between(nnx.relu(self.first(x))))

model = Model(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adamw(5e-3), wrt=nnx.Param)
metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))

def loss_fn(model, batch):
    logits = model(batch["image"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return losses @ weight, logits

@nnx.jit
def train_step(model, optimizer, metrics, batch):
    (loss, logits), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch["label"])
    optimizer.update(model, grads)

@nnx.jit
def eval_step(model, metrics, batch):
    loss, logits = loss_fn(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch["label"])

weight = np.append(np.zeros(1), np.full(7, 1 / 7)).astype(np.float32)  # the first example of a batch counts for nothing
rng = np.random.default_rng(0)
X = rng.normal(size=(264, 8)).astype(np.float32)
Y = X[:, :4].argmax(1).astype(np.int32)

def evaluate():
    metrics.reset()
    EVAL_MODE
    for at in range(200, 264, 8):
        eval_step(model, metrics, {"image": X[at:at + 8], "label": Y[at:at + 8]})
    metrics.reset()

FIRST
for step in range(1, STEPS + 1):
    index = rng.integers(0, 200, 8)
    image = X[index].copy()
    if step == FAULT and "fault" in sys.argv:
        image[0] += 1
    model.train()
    train_step(model, optimizer, metrics, {"image": image, "label": Y[index]})
    if step % EVERY == 0:
        evaluate()
"""


def classifier(steps: int, every: int, fault: int, **changes: str) -> str:
    """Return the script; `changes` name what stands in the place of its words in capitals."""
    words = {"BETWEEN": "nnx.Dropout(0.1, rngs=rngs)", "EVAL_MODE": "model.eval()", "FIRST": "", **changes}
    script = CLASSIFIER
    for word, text in {**words, "STEPS": str(steps), "EVERY": str(every), "FAULT": str(fault)}.items():
        script = script.replace(word, text)
    return script


def race(reprotui: Cli, script: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Race a script with itself and with its fault; return the two verdicts."""
    reprotui.write("train.py", script)
    words = f"{sys.executable} train.py"
    arguments = ("--json", "--name", "race", "--a", words, "--b", words, "--c", f"{words} fault")
    same, faulty = json.loads(reprotui("race", *arguments, exit_code=1).stdout)["verdicts"]
    return same, faulty


@pytest.mark.slow
def test_an_evaluation_between_the_steps_is_none_of_them(reprotui: Cli) -> None:
    same, faulty = race(reprotui, classifier(500, 100, 300))
    assert same["headline"] == "IDENTICAL through step 500"
    assert any("eval_step (40 calls) takes no step" in note for note in same["notes"])
    assert (faulty["step"], faulty["phase"]) == (300, "batch")
    assert [leaf["path"] for leaf in faulty["leaves"]] == ["batch/batch/image"]
    run = reprotui.runs / "race" / "c"
    assert dict(events_of(run))["compiled"] == "train step: train_step"
    assert [row.step for row in rows_of(run)] == list(range(501))
    with Trace(run / "trace.db") as trace:
        calls = [trace.calls(step) for step in (100, 101, 102)]
    assert calls == [{"train_step": 1}, {"eval_step": 8, "train_step": 1}, {"train_step": 1}], "what was called before the step"


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"BETWEEN": "nnx.BatchNorm(16, rngs=rngs)", "EVAL_MODE": "pass"}],
    ids=["that_counts", "that_writes_batch_statistics"],
)
def test_an_evaluation_before_the_first_step_is_not_taken_for_it(reprotui: Cli, changes: dict[str, str]) -> None:
    same, faulty = race(reprotui, classifier(40, 10, 23, FIRST="evaluate()", **changes))
    assert same["headline"] == "IDENTICAL through step 40"
    assert (faulty["step"], faulty["phase"]) == (23, "batch")
    run = reprotui.runs / "race" / "a"
    assert dict(events_of(run))["compiled"] == "train step: train_step"
    # The parameters, which an evaluation hands back, do not enter the next step as something new.
    with Trace(run / "trace.db") as trace:
        paths = {spec.path for row in trace.rows() for spec in trace.table(row.version).specs}
    replaced = {path for path in paths if path.startswith("replaced/")}
    assert not any("kernel" in path for path in replaced)
    assert any("between/mean" in path for path in replaced) == bool(changes)


SHARDED = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, jax.numpy as jnp, numpy as np, optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
jax.set_mesh(mesh)

def placed(value, *axes):
    return jax.device_put(value, NamedSharding(mesh, P(*axes)))

class Model(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Param(placed(0.1 * rngs.params.normal((8, 32)), None, "model"))
        self.last = nnx.Param(placed(0.1 * rngs.params.normal((32, 8)), "model", None))
    def __call__(self, x):
        hidden = jnp.dot(x, self.first[...], out_sharding=P("data", "model"))
        return jnp.dot(jax.nn.relu(hidden), self.last[...], out_sharding=P("data"))

model = Model(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss

rng = np.random.default_rng(0)
for step in range(1, 13):
    x = rng.normal(size=(16, 8)).astype(np.float32)
    if step == 5 and "fault" in sys.argv:
        x[0, 0] += 1
    BEFORE
    loss = train_step(model, optimizer, placed(x, "data"), placed(np.sin(x), "data"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "before", ["pass", "nnx.update(model, jax.tree.map(jnp.copy, nnx.state(model)))"], ids=["kept", "copied"]
)
def test_a_batch_that_is_handed_back_is_a_batch(reprotui: Cli, before: str) -> None:
    # Where the script copies the parameters before each step, nothing but their place among the outputs tells what they are.
    same, faulty = race(reprotui, SHARDED.replace("BEFORE", before))
    assert same["headline"] == "IDENTICAL through step 12"
    assert (faulty["step"], faulty["phase"]) == (5, "batch")
    assert [leaf["path"] for leaf in faulty["leaves"]] == ["batch/x", "batch/y"]
    with Trace(reprotui.runs / "race" / "a" / "trace.db") as trace:
        paths = {spec.path for row in trace.rows() for spec in trace.table(row.version).specs}
    assert not {path for path in paths if path.endswith(("/x", "/y"))} - {"batch/x", "batch/y"}
