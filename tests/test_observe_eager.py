"""jax without a jitted step: gradients that a script takes, loops that it runs, loops inside one call and their iterations.

Each script is seeded; with the word `unseeded` its data are drawn without a seed, at one line.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, events_of
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

BEGIN = """
import sys, functools, jax, jax.numpy as jnp, numpy as np, optax
rng = np.random.default_rng(None if "unseeded" in sys.argv else 0)
def draw(*shape):
    return rng.normal(size=shape).astype(np.float32)
"""
GRADIENTS = {
    "value_and_grad": """
params = {"w": jnp.zeros((8, 1)), "b": jnp.zeros(1)}
loss_fn = lambda p, x, y: ((x @ p["w"] + p["b"] - y) ** 2).mean()
for step in range(8):
    x = draw(16, 8)
    loss, grads = jax.value_and_grad(loss_fn)(params, x, x.sum(1, keepdims=True))
    params = jax.tree.map(lambda p, g: p - 0.05 * g, params, grads)
""",
    "captured": """
w, tx = jnp.zeros((8, 1)), optax.adam(1e-2)
state = tx.init(w)
def fit(x, y):
    return jax.grad(lambda w: ((x @ w - y) ** 2).mean())(w)
for step in range(8):
    x = draw(16, 8)
    updates, state = tx.update(fit(x, x.sum(1, keepdims=True)), state)
    w = optax.apply_updates(w, updates)
""",
    "captured elsewhere": """
from types import SimpleNamespace
import data
class Task:
    def __init__(self):
        self.x = None
    def loss(self, w, y=np.float32(1)):
        return ((self.x @ w - y) ** 2).mean() + (data.table * options.weight * w).sum() * 1e-6
data.table, options = draw(8, 1), SimpleNamespace(weight=draw(8, 1), unused=np.ones(3))
task, w = Task(), jnp.zeros((8, 1))
for step in range(8):
    task.x = draw(16, 8)
    w = w - 0.1 * jax.grad(task.loss)(w)
""",
    "vjp": """
w = jnp.zeros((8, 1))
for step in range(8):
    x = jnp.asarray(draw(16, 8))
    loss, pull = jax.vjp(lambda w: ((x @ w - 1) ** 2).mean(), w)
    w = w - 0.1 * pull(jnp.ones(()))[0]
""",
    "nnx": """
from flax import nnx
model = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
for step in range(8):
    x = draw(16, 4)
    loss, grads = nnx.value_and_grad(lambda m, x, y: ((m(x) - y) ** 2).mean())(model, x, x.sum(1, keepdims=True))
    optimizer.update(model, grads)
""",
    "equinox": """
import equinox as eqx
model = eqx.nn.Linear(4, 1, key=jax.random.key(0))
@eqx.filter_value_and_grad
def loss_fn(model, x, y):
    return ((jax.vmap(model)(x) - y) ** 2).mean()
for step in range(8):
    x = draw(16, 4)
    loss, grads = loss_fn(model, x, x.sum(1, keepdims=True))
    model = eqx.apply_updates(model, jax.tree.map(lambda g: -0.05 * g, grads))
""",
    "line_search": """
w = jnp.zeros((8, 1))
gradient = jax.jit(jax.value_and_grad(lambda w, x: ((x @ w - 1) ** 2).mean() + 0.1 * (w ** 4).sum()))
value = jax.jit(lambda w, x: ((x @ w - 1) ** 2).mean() + 0.1 * (w ** 4).sum())
for step in range(12):
    x = draw(16, 8)
    loss, g = gradient(w, x)
    rate = 8.0
    while value(w - rate * g, x) > loss and rate > 1e-3:
        rate /= 2
    w = w - rate * g
""",
    "scipy": """
from scipy.optimize import minimize
gradient = jax.jit(jax.value_and_grad(lambda w, x: jnp.mean((x @ w - 1) ** 2)))
x = draw(64, 5)
def evaluate(w):
    loss, g = gradient(w, x)
    return float(loss), np.asarray(g, "f8")
minimize(evaluate, np.zeros(5), jac=True, method="L-BFGS-B")
""",
}  # fmt: skip
LEAVES = {
    "value_and_grad": ("batch/x", "params/w"),
    "captured": ("captured/x", "params/w"),
    "captured elsewhere": ("captured/data/table", "params/w"),
    "vjp": ("captured/x", "params/w"),
    "nnx": ("batch/x", "params/kernel"),
    "equinox": ("batch/x", "params/weight"),
    "line_search": ("batch/x", "params/w"),
    "scipy": ("batch/x", "params/w"),
}
"""The first leaf that differs without a seed, and one of the state."""
LOOPS = {
    "scan": """
X, tx = draw(12, 16, 8), optax.adam(1e-2)
def update(carry, x):
    p, state = carry
    loss, g = jax.value_and_grad(lambda p: ((x @ p["w"] - 1) ** 2).mean())(p)
    updates, state = tx.update(g, state)
    return (optax.apply_updates(p, updates), state), loss
p = {"w": jnp.zeros((8, 1))}
(p, state), losses = jax.lax.scan(update, (p, tx.init(p)), X)
""",
    "fori": """
X = jnp.asarray(draw(16, 8))
def body(i, w):
    return w - 0.1 * jax.grad(lambda w: ((X @ w - 1) ** 2).mean())(w)
w = jax.lax.fori_loop(0, 12, body, jnp.zeros((8, 1)))
""",
    "while": """
X = jnp.asarray(draw(16, 8))
def body(state):
    w, n = state
    return w - 0.1 * jax.grad(lambda w: ((X @ w - 1) ** 2).mean())(w), n + 1
w, n = jax.lax.while_loop(lambda state: state[1] < 12, body, (jnp.zeros((8, 1)), 0))
""",
    "one_call": """
@functools.partial(jax.jit, static_argnums=2)
def train(key, scale, steps):
    def update(carry, key):
        w, obs = carry
        act = jnp.tanh(obs @ w) + 0.1 * jax.random.normal(key, (16, 1))
        loss, g = jax.value_and_grad(lambda w: ((obs @ w - act + scale) ** 2).mean())(w)
        return (w - 0.1 * g, jnp.roll(obs, 1, 0) * 0.99), {"loss": loss, "reward": act.mean()}
    start = jnp.zeros((8, 1)), jnp.ones((16, 8))
    (w, _), metrics = jax.lax.scan(update, start, jax.random.split(key, steps))
    return w * 1.0, metrics
w, metrics = train(jax.random.key(0), jnp.asarray(draw(1)), 12)
""",
    "epochs": """
tx = optax.adam(1e-2)
@functools.partial(jax.jit, donate_argnums=(0, 1))
def epoch(params, opt_state, xs):
    def update(carry, x):
        p, state = carry
        loss, g = jax.value_and_grad(lambda p: ((x @ p["w"] - 1) ** 2).mean())(p)
        updates, state = tx.update(g, state)
        return (optax.apply_updates(p, updates), state), loss
    (params, opt_state), losses = jax.lax.scan(update, (params, opt_state), xs)
    return params, opt_state, losses
params = {"w": jnp.zeros((8, 1))}
opt_state = tx.init(params)
for number in range(3):
    xs = draw(4, 16, 8)
    params, opt_state, losses = epoch(params, opt_state, xs)
    xs[:] = 0
""",
}
INSIDE = {
    "scan": (12, 1, "batch/X", (16, 8), "params/carry/0/w"),
    "fori": (12, 1, "captured/X", (16, 8), "params/w"),
    "while": (12, 1, "captured/X", (16, 8), "params/state/0"),
    "one_call": (12, 1, "batch/scale", (1,), None),
    "epochs": (12, 3, "batch/xs", (16, 8), "params/w"),
}
"""Iterations and calls; of the first leaf that differs without a seed, its name and its shape in an iteration; a state's name."""


def race(reprotui: Cli, script: str, *options: str, name: str = "race") -> list[dict[str, Any]]:
    """Race a script with itself, seeded and then not; return the verdicts."""
    reprotui.write("train.py", BEGIN + script)
    reprotui.write("data.py", "")
    words = ("--", sys.executable, "train.py")
    same = reprotui("race", "--json", "--name", name, *options, *words, exit_code=0)
    unseeded = reprotui("race", "--json", "--name", f"{name}-unseeded", *options, *words, "unseeded", exit_code=1)
    return [json.loads(done.stdout)["verdicts"][0] for done in (same, unseeded)]


def paths_of(run: Path, step: int) -> dict[str, tuple[int, ...]]:
    """Return the leaves of a record."""
    with Trace(run / "trace.db") as trace:
        row = trace.row(step)
        assert row is not None
        return {spec.path: tuple(spec.shape) for spec in trace.table(row.version).specs}


@pytest.mark.slow(but="line_search")
@pytest.mark.parametrize("script", GRADIENTS)
def test_gradients_that_a_script_takes_are_its_steps(reprotui: Cli, script: str) -> None:
    same, unseeded = race(reprotui, GRADIENTS[script])
    batch, state = LEAVES[script]
    assert same["kind"] == "identical"
    assert (unseeded["step"], unseeded["phase"], unseeded["leaves"][0]["path"]) == (1, "batch", batch)
    assert "default_rng at train.py:3 was given no seed" in unseeded["cause"]["sentence"]
    run = reprotui.runs / "race" / "a"
    assert state in paths_of(run, 0), "what is differentiated is the state"
    found = paths_of(run, 2)
    assert state in found
    assert any(path.startswith("grads/") for path in found)
    if script == "captured elsewhere":
        assert {"captured/self/x", "captured/options/weight", "captured/y"} <= set(paths_of(run, 1))
        assert "captured/options/unused" not in paths_of(run, 1)
    if script == "line_search":
        with Trace(run / "trace.db") as trace:
            assert trace.calls(8)["<lambda>"] > 2, "evaluations on the way to an update are counted"


@pytest.mark.slow
def test_gradients_inside_a_jitted_step_are_a_part_of_it(reprotui: Cli) -> None:
    same, unseeded = race(
        reprotui,
        """
@jax.jit
def train(w, x):
    loss, g = jax.value_and_grad(lambda w: ((x @ w - 1) ** 2).mean())(w)
    return jax.lax.fori_loop(0, 2, lambda i, w: w - 0.1 * g, w), loss
w = jnp.zeros((8, 1))
jax.grad(lambda w: (w ** 2).sum())(w)
for step in range(8):
    w, loss = train(w, draw(16, 8))
""",
    )
    assert same["kind"] == "identical"
    assert (unseeded["step"], unseeded["phase"]) == (1, "batch")
    run = RunDirectory(reprotui.runs / "race" / "a")
    assert dict(events_of(run.path))["compiled"] == "train step: train"
    assert list(run.manifest().document["result"]["coverage"]["calls"]) == ["train"]


@pytest.mark.slow
@pytest.mark.parametrize("script", LOOPS)
def test_a_loop_is_one_call_and_its_iterations_are_steps_where_they_are_asked_for(reprotui: Cli, script: str) -> None:
    iterations, calls, leaf, shape, state = INSIDE[script]
    same, unseeded = race(reprotui, LOOPS[script])
    assert same["kind"] == "identical"
    assert (unseeded["step"], unseeded["phase"], unseeded["leaves"][0]["path"]) == (1, "batch", leaf)
    assert "default_rng at train.py:3 was given no seed" in unseeded["cause"]["sentence"]
    run = RunDirectory(reprotui.runs / "race" / "a")
    told = " ".join(text for kind, text in events_of(run.path) if kind in ("loop-hidden", "loop-inside"))
    assert "--inside records each iteration" in told
    final = run.manifest().document["result"]["final"]
    ends = run.manifest().document["result"]["digests"]["state"]
    if script in ("scan", "one_call", "epochs"):
        each = iterations // calls
        assert f"of {each} iterations" in told
        with Trace(run.trace_path) as trace:
            losses = [loss for step in range(1, calls + 1) for loss in trace.iteration_losses(step)]
        assert (len(losses), losses[-1]) == (iterations, final["loss"])
        assert final["iteration_losses"] == losses[-each:]

    same, unseeded = race(reprotui, LOOPS[script], "--inside", name="inside")
    assert same["kind"] == "identical"
    assert (unseeded["step"], unseeded["phase"], unseeded["leaves"][0]["path"]) == (1, "batch", leaf)
    run = RunDirectory(reprotui.runs / "inside" / "a")
    assert "not-inside" not in dict(events_of(run.path))
    assert run.manifest().document["result"]["digests"]["state"] == ends, "what the script computed is the same"
    with Trace(run.trace_path) as trace:
        rows = [row for row in trace.rows() if row.step]
        assert [row.step for row in rows] == list(range(1, iterations + 1))
        if script in ("scan", "one_call", "epochs"):
            assert [row.loss for row in rows] == losses, "the losses of the iterations are those that the call gave"
    found = paths_of(run.path, 1)
    assert found[leaf] == shape
    assert state is None or state in found


@pytest.mark.slow
def test_the_iteration_is_found_in_which_a_batch_differs(reprotui: Cli) -> None:
    reprotui.write(
        "train.py",
        BEGIN
        + LOOPS["epochs"].replace("    params, opt", "    xs[1] += number == 1 and 'fault' in sys.argv\n    params, opt", 1),
    )
    words = f"{sys.executable} train.py"
    done = reprotui("race", "--json", "--inside", "--a", words, "--b", f"{words} fault", exit_code=1)
    verdict = json.loads(done.stdout)["verdicts"][0]
    assert (verdict["step"], verdict["phase"], verdict["leaves"][0]["path"]) == (6, "batch", "batch/xs")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("jax.debug.print('loss {}', loss)", "it calls back into Python"),
        (
            "loss = jax.pure_callback(lambda x: np.float32(x), jax.ShapeDtypeStruct((), 'float32'), loss)",
            "it calls back into Python",
        ),
    ],
)
def test_what_cannot_be_computed_once_more_stays_one_step(reprotui: Cli, line: str, reason: str) -> None:
    script = LOOPS["epochs"].replace("        updates, state", f"        {line}\n        updates, state", 1)
    same, unseeded = race(reprotui, script, "--inside")
    assert same["kind"] == "identical"
    assert (unseeded["step"], unseeded["phase"]) == (1, "batch")
    run = RunDirectory(reprotui.runs / "race" / "a")
    assert reason in dict(events_of(run.path))["not-inside"]
    assert reason in " ".join(run.manifest().document["result"]["coverage"]["notes"])
    log = (run.path / "worker.log").read_text()
    assert log.count("loss ") == (12 if "print" in line else 0), "nothing of the script runs twice"


def test_inside_is_for_scripts(reprotui: Cli) -> None:
    assert "--inside needs a script" in reprotui("race", "digits", "--inside", exit_code=2).stderr


NUMPYRO = """
import numpyro, numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
X = draw(32, 3)
y = X @ np.arange(3, dtype=np.float32)
def model(X, y):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(X @ w, 1.0), obs=y)
"""
LIBRARIES = {
    "svi": NUMPYRO
    + """
svi = SVI(model, AutoNormal(model), numpyro.optim.Adam(1e-2), Trace_ELBO())
result = svi.run(jax.random.key(0), 12, X, y, progress_bar=False)
""",
    "nuts": NUMPYRO
    + """
mcmc = MCMC(NUTS(model), num_warmup=10, num_samples=10, progress_bar=False)
mcmc.run(jax.random.key(0), X, y)
""",
    "jaxopt": """
import jaxopt
X = draw(32, 3)
y = X @ np.arange(3, dtype=np.float32)
solver = jaxopt.LBFGS(lambda w, X, y: ((X @ w - y) ** 2).mean() + 0.01 * (w ** 4).sum(), maxiter=12)
w, state = solver.run(jnp.zeros(3), X, y)
""",
}
"""What libraries run in one call. Sampler and solver begin with values that are computed from the data: these are `init`."""


@pytest.mark.slow
@pytest.mark.parametrize(("script", "phase"), [("svi", "batch"), ("nuts", "init"), ("jaxopt", "init")])
def test_what_libraries_run_in_one_call_is_seen(reprotui: Cli, script: str, phase: str) -> None:
    same, unseeded = race(reprotui, LIBRARIES[script])
    assert same["kind"] == "identical"
    assert (unseeded["kind"], unseeded["phase"]) == ("diverged", phase)
    assert "default_rng at train.py:3 was given no seed" in unseeded["cause"]["sentence"]
    if script == "svi":
        run = RunDirectory(reprotui.runs / "race" / "a")
        assert len(run.manifest().document["result"]["final"]["iteration_losses"]) == 12
        assert unseeded["leaves"][0]["path"] == "captured/args/0"
