"""What a jitted function captured enters all that it computes: it is recorded once, by its name, and compared before the rest."""

import json
import sys
from typing import Any

import pytest

from conftest import Cli
from reprotui.trace import Trace

BEGIN = """
import functools, sys, jax, jax.numpy as jnp, numpy as np, optax
rng = np.random.default_rng(1 if "other" in sys.argv else 0)
rng = np.random.default_rng() if "unseeded" in sys.argv else rng
X = rng.standard_normal((16, 4)).astype(np.float32)
optimizer = optax.adam(1e-2)
w = jnp.zeros(4)
state = optimizer.init(w)

def update(w, state, loss_function):
    loss, gradient = jax.value_and_grad(loss_function)(w)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(w, updates), state, loss
"""
LOOP = "for step in range(1, 7):\n    w, state, loss = train(w, state)\n"
MODULE = """
X, y = jnp.asarray(X), jnp.asarray(X.sum(1))
train = jax.jit(lambda w, state: update(w, state, lambda w: jnp.mean((X @ w - y) ** 2)))
"""
NUMPY_IN_A_CLOSURE = """
def make(data, scale):
    return jax.jit(lambda w, state: update(w, state, lambda w: jnp.sum((data @ w - 1) ** 2 * scale)))
train = make(X.astype(np.float64), jnp.float32(0.1))
"""
METHOD = """
class Training:
    def __init__(self):
        self._table = {"rows": jnp.asarray(X)}
    def step(self, w, state):
        return update(w, state, lambda w: jnp.mean((jax.jit(self.look)(w) - 1) ** 2))
    def look(self, w):
        return self._table["rows"] @ w
train = jax.jit(Training().step)
"""
PARTIAL = """
def step(rows, w, state):
    return update(w, state, lambda w: jnp.mean((rows @ w - 1) ** 2))
train = jax.jit(functools.partial(step, jnp.asarray(X)))
"""
NNX_MODULE = """
from flax import nnx
class Frozen(nnx.Module):
    def __init__(self):
        self.rows = nnx.Param(jnp.asarray(X))
frozen = Frozen()
train = jax.jit(lambda w, state: update(w, state, lambda w: jnp.mean((frozen.rows[...] @ w - 1) ** 2)))
"""
FORMS = {
    "module": (MODULE, ["X", "y"]),
    "numpy_in_a_closure": (NUMPY_IN_A_CLOSURE, ["data", "scale"]),
    "method": (METHOD, ["self/_table/rows"]),
    "partial": (PARTIAL, ["argument_0"]),
    "nnx_module": (NNX_MODULE, ["frozen/rows"]),
}
"""Ways to capture data, and the names that they have in records."""


def race(reprotui: Cli, script: str, b: str, exit_code: int) -> dict[str, Any]:
    """Race a script with itself, B with a word; return the verdict."""
    reprotui.write("train.py", BEGIN + script)
    words = f"{sys.executable} train.py"
    done = reprotui("race", "--json", "--name", "race", "--a", words, "--b", f"{words} {b}", exit_code=exit_code)
    return json.loads(done.stdout)["verdicts"][0]


@pytest.mark.slow(but="module")
@pytest.mark.parametrize("form", FORMS)
def test_what_a_function_captured_is_recorded_by_its_name(reprotui: Cli, form: str) -> None:
    script, names = FORMS[form]
    found = race(reprotui, script + LOOP, "other", exit_code=1)
    assert (found["step"], found["phase"]) == (1, "batch")
    differing = [name for name in names if name != "scale"]
    assert [leaf["path"] for leaf in found["leaves"]] == [f"captured/{name}" for name in differing]
    assert found["cause"]["sentence"].startswith(f"what the step captured differs from the start ({', '.join(differing)}: ")
    with Trace(reprotui.runs / "race" / "a" / "trace.db") as trace:
        recorded = {
            step: [spec.path for spec in trace.table(trace.recorded(step).version).specs if spec.path.startswith("captured/")]
            for step in range(1, 7)
        }
    # Read once, when the function is traced.
    assert sorted(recorded[1]) == sorted(f"captured/{name}" for name in names)
    assert not any(recorded[step] for step in range(2, 7))


@pytest.mark.slow
def test_captured_data_that_nobody_seeded_name_the_line_and_seeded_ones_are_identical(reprotui: Cli) -> None:
    script = MODULE + LOOP
    reprotui.write("train.py", BEGIN + script)
    command = ("--", sys.executable, "train.py")
    found = json.loads(reprotui("race", "--json", "--name", "one", *command, "unseeded", exit_code=1).stdout)["verdicts"][0]
    assert "(X, y: constants of <lambda>), because numpy.random.default_rng at train.py:4" in found["cause"]["sentence"]
    assert "what the step captured is not" in found["cause"]["evidence"][0]
    done = reprotui("race", "--json", "--name", "two", *command, exit_code=0)
    assert json.loads(done.stdout)["verdicts"][0]["headline"] == "IDENTICAL through step 6"


@pytest.mark.slow
def test_what_is_captured_anew_is_recorded_when_the_function_is_traced_anew(reprotui: Cli) -> None:
    script = """
mask = [jnp.ones(4), jnp.ones(4)]
rng = np.random.default_rng(0)
X = jnp.ones((3, 4))

@functools.partial(jax.jit, static_argnames="masked")
def train(w, state, masked):
    return update(w, state, lambda w: jnp.mean((X @ (w * mask[masked]) - 1) ** 2))

for step in range(1, 7):
    if step == 4:
        mask[1] = jnp.ones(4).at[0].set(2.0 if "other" in sys.argv else 0.5)
    w, state, loss = train(w, state, masked=int(step >= 4))
"""
    found = race(reprotui, script, "other", exit_code=1)
    assert (found["step"], found["phase"], found["leaves"][0]["path"]) == (4, "batch", "captured/mask/1")
    assert "differs from step 4 on" in found["cause"]["sentence"]
