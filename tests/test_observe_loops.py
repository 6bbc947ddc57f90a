"""Trainings that go round in several jitted functions: what is one step, and what each of its leaves is called."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE, Cli, events_of, eventually, last_step
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

BEGIN = """
import sys, jax, jax.numpy as jnp, numpy as np, optax

def mlp(seed, inputs, outputs):
    first, second = jax.random.split(jax.random.key(seed))
    return {"w1": 0.1 * jax.random.normal(first, (inputs, 8)), "w2": 0.1 * jax.random.normal(second, (8, outputs))}

def net(p, x):
    return jnp.tanh(x @ p["w1"]) @ p["w2"]

def fault(name):
    return name in sys.argv

rng, optimizer = np.random.default_rng(0), optax.adam(1e-2)

def draw(*shape):
    return rng.normal(size=shape).astype(np.float32)
"""

PAIR = """
g, d = mlp(0, 3, 4), mlp(1, 4, 1)
gs, ds = optimizer.init(g), optimizer.init(d)

@jax.jit
def d_step(d, ds, g, x, z):
    loss, grads = jax.value_and_grad(lambda d: jnp.mean(net(d, net(g, z)) - net(d, x)))(d)
    updates, ds = optimizer.update(grads, ds)
    return optax.apply_updates(d, updates), ds, loss

@jax.jit
def g_step(g, gs, d, z):
    loss, grads = jax.value_and_grad(lambda g: -jnp.mean(net(d, net(g, z))))(g)
    updates, gs = optimizer.update(grads, gs)
    return optax.apply_updates(g, updates), gs, loss

for step in range(1, 9):
    for critic in range(CRITICS):
        x = draw(16, 4)
        if step == 5 and critic == CRITICS - 1 and fault("batch"):
            x[0, 0] += 1
        d, ds, loss = d_step(d, ds, g, x, draw(16, 3))
    if step == 4 and fault("replaced"):
        d = {"w1": d["w1"] * 1.01, "w2": d["w2"]}
    if step == 6 and fault("optimizer"):
        gs = optimizer.init(g)
    g, gs, loss = g_step(g, gs, d, draw(16, 3))
"""

ACTOR_AND_CRITIC = """
state = {"actor": mlp(0, 4, 2), "critic": mlp(1, 6, 1)}
state.update(actor_opt=optimizer.init(state["actor"]), critic_opt=optimizer.init(state["critic"]))

@jax.jit
def update_critic(state, seen, done, reward):
    judge = lambda p: jnp.mean((net(p, jnp.concatenate([seen, done], 1))[:, 0] - reward) ** 2)
    loss, grads = jax.value_and_grad(judge)(state["critic"])
    updates, opt = optimizer.update(grads, state["critic_opt"])
    return {**state, "critic": optax.apply_updates(state["critic"], updates), "critic_opt": opt}, loss

@jax.jit
def update_actor(state, seen):
    judge = lambda p: -jnp.mean(net(state["critic"], jnp.concatenate([seen, net(p, seen)], 1)))
    loss, grads = jax.value_and_grad(judge)(state["actor"])
    updates, opt = optimizer.update(grads, state["actor_opt"])
    return {**state, "actor": optax.apply_updates(state["actor"], updates), "actor_opt": opt}, loss

for step in range(1, 9):
    seen, done, reward = draw(16, 4), draw(16, 2), draw(16)
    if step == 5 and fault("batch"):
        reward[3] += 1
    state, loss = update_critic(state, seen, done, reward)
    if step == 4 and fault("replaced"):
        state["critic"]["w2"] = state["critic"]["w2"] * 1.01
    state, loss = update_actor(state, seen)
"""

SUMMED = """
p = mlp(0, 4, 1)
s = optimizer.init(p)

@jax.jit
def accumulate(total, p, x):
    loss, grads = jax.value_and_grad(lambda p: jnp.mean(net(p, x) ** 2))(p)
    return jax.tree.map(jnp.add, total, grads), loss

@jax.jit
def apply(p, s, total):
    updates, s = optimizer.update(total, s)
    return optax.apply_updates(p, updates), s

for step in range(1, 9):
    total = jax.tree.map(jnp.zeros_like, p)
    for part in range(4):
        x = draw(16, 4)
        if step == 5 and part == 2 and fault("batch"):
            x[0, 0] += 1
        total, loss = accumulate(total, p, x)
    if step == 4 and fault("replaced"):
        p = {"w1": p["w1"], "w2": p["w2"] * 1.01}
    p, s = apply(p, s, total)
"""

BY_HAND = """
g, d = mlp(0, 3, 4), mlp(1, 4, 1)
of_d = jax.jit(jax.value_and_grad(lambda d, g, x, z: jnp.mean(net(d, net(g, z)) - net(d, x))))
of_g = jax.jit(jax.value_and_grad(lambda g, d, z: -jnp.mean(net(d, net(g, z)))))

for step in range(1, 9):
    x = draw(16, 4)
    if step == 5 and fault("batch"):
        x[0, 0] += 1
    loss, grads = of_d(d, g, x, draw(16, 3))
    d = jax.tree.map(lambda value, grad: value - 0.01 * grad, d, grads)
    loss, grads = of_g(g, d, draw(16, 3))
    if step == 6 and fault("optimizer"):
        grads["w1"] = 2 * grads["w1"]
    g = jax.tree.map(lambda value, grad: value - 0.01 * grad, g, grads)
"""

TWO_STATES = """
import flax.linen as nn
from flax.training.train_state import TrainState

def make(seed, inputs, outputs):
    model = nn.Dense(outputs)
    return TrainState.create(apply_fn=model.apply, params=model.init(jax.random.key(seed), draw(1, inputs)), tx=optimizer)

@jax.jit
def train(d_state, g_state, x, z):
    def of_d(p):
        return jnp.mean(d_state.apply_fn(p, g_state.apply_fn(g_state.params, z)) - d_state.apply_fn(p, x))
    def of_g(p):
        return -jnp.mean(d_state.apply_fn(d_state.params, g_state.apply_fn(p, z)))
    d_loss, d_grads = jax.value_and_grad(of_d)(d_state.params)
    g_loss, g_grads = jax.value_and_grad(of_g)(g_state.params)
    return d_state.apply_gradients(grads=d_grads), g_state.apply_gradients(grads=g_grads), {"d_loss": d_loss, "g_loss": g_loss}

d, g = make(0, 4, 1), make(1, 3, 4)
for step in range(1, 9):
    d, g, losses = train(d, g, draw(16, 4), draw(16, 3))
"""

SCRIPTS = {
    "pair": PAIR.replace("CRITICS", "1"),
    "five_critics": PAIR.replace("CRITICS", "5"),
    "actor_and_critic": ACTOR_AND_CRITIC,
    "summed": SUMMED,
    "by_hand": BY_HAND,
    "two_states": TWO_STATES,
}
STEPS = {
    "pair": "g_step, with d_step",
    "five_critics": "g_step, with d_step",
    "actor_and_critic": "update_actor, with update_critic",
    "summed": "apply, with accumulate",
    "by_hand": "<lambda>, with <lambda>",
    "two_states": "train",
}
STATES = {
    "pair": ("params/d_step/d/w1", "params/g_step/g/w1", "opt_state/d_step/0/mu/w1", "opt_state/g_step/0/mu/w1"),
    "five_critics": ("params/d_step/d/w1#5", "params/g_step/g/w1", "opt_state/d_step/0/mu/w1#5"),
    "actor_and_critic": (
        "params/update_critic/state/critic/w1", "params/update_actor/state/actor/w1",
        "opt_state/update_critic/critic_opt/0/mu/w1", "opt_state/update_actor/actor_opt/0/mu/w1",
    ),
    "summed": ("params/p/w1", "opt_state/0/mu/w1"),
    "by_hand": ("params/d/w1", "params/g/w1"),
    "two_states": ("params/d_state/params/kernel", "params/g_state/params/kernel", "opt_state/d_state/0/mu/params/kernel"),
}  # fmt: skip
"""Some of the leaves that each step has as its new state."""
FAULTS = [
    ("pair", "batch", (5, "batch", "batch/x"), "data-order"),
    ("pair", "replaced", (4, "batch", "replaced/d/w1"), "state"),
    ("pair", "optimizer", (6, "optimizer", "replaced/opt_state/g_step/0/count"), "state"),
    ("five_critics", "batch", (5, "batch", "batch/x#5"), "data-order"),
    ("actor_and_critic", "batch", (5, "batch", "batch/reward"), "data-order"),
    ("actor_and_critic", "replaced", (4, "batch", "replaced/state/critic/w2"), "state"),
    ("summed", "batch", (5, "batch", "batch/x#3"), "data-order"),
    ("summed", "replaced", (4, "batch", "replaced/params/p/w2"), "state"),
    ("by_hand", "batch", (5, "batch", "batch/x"), "data-order"),
    ("by_hand", "optimizer", (6, "params", "params/g/w1"), "optimizer"),
]


def race(reprotui: Cli, script: str, *faults: str, exit_code: int) -> list[dict[str, Any]]:
    """Race a script with itself and with its faults; return the verdicts."""
    reprotui.write(f"{script}.py", BEGIN + SCRIPTS[script])
    words = f"{sys.executable} {script}.py"
    labels = [word for label, fault in zip("cde", faults, strict=False) for word in (f"--{label}", f"{words} {fault}")]
    options = ("--json", "--name", "race", "--stats-every", "3")
    done = reprotui("race", *options, "--a", words, "--b", words, *labels, exit_code=exit_code)
    return json.loads(done.stdout)["verdicts"]


@pytest.mark.slow(but="by_hand")
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_step_is_a_whole_round_with_the_state_of_all(reprotui: Cli, script: str) -> None:
    faults = [item for item in FAULTS if item[0] == script]
    same, *others = race(reprotui, script, *(fault for _, fault, _, _ in faults), exit_code=1 if faults else 0)

    run = RunDirectory(reprotui.runs / "race" / "a")
    assert dict(events_of(run.path))["compiled"] == f"train step: {STEPS[script]}"
    assert same["kind"] == "identical"
    with Trace(run.trace_path) as trace:
        assert [step for step in range(9) if trace.leaf_stats(step) is not None] == [0, 3, 6]
        first, second = (trace.table(row.version) for row in (trace.row(0), trace.row(2)) if row is not None)
        init = {spec.path for spec in first.specs}
        update = {spec.path for phase, spec in zip(second.phases, second.specs, strict=True) if phase in ("optimizer", "params")}
        assert all(trace.row(step) is not None for step in range(9)), "a record for every step, and the state before the first"
    assert set(STATES[script]) <= update
    assert {path.partition("#")[0] for path in update if path.startswith(("params/", "opt_state/", "extra/"))} >= init
    for (_, fault, place, cause), found in zip(faults, others, strict=True):
        step, phase, leaf = place
        assert (found["step"], found["phase"]) == (step, phase), fault
        assert leaf in {item["path"] for item in found["leaves"]}, fault
        assert found["cause"]["kind"] == cause, fault


@pytest.mark.slow
def test_what_follows_an_update_within_a_step_is_not_taken_for_its_reason(reprotui: Cli) -> None:
    # The generator's loss comes after the discriminator's update: where that differs, it is the first to.
    script = (BEGIN + SCRIPTS["pair"]).replace(
        "return optax.apply_updates(d, updates), ds, loss",
        """
    drawn = jax.pure_callback(lambda: np.float32(fault("update")), jax.ShapeDtypeStruct((), jnp.float32))
    return jax.tree.map(lambda value: value + 1e-3 * drawn, optax.apply_updates(d, updates)), ds, loss""",
    )
    reprotui.write("late.py", script)
    words = f"{sys.executable} late.py"
    found = json.loads(reprotui("race", "--json", "--a", words, "--b", f"{words} update", exit_code=1).stdout)["verdicts"][0]
    assert (found["step"], found["phase"]) == (1, "params")
    assert found["leaves"][0]["path"] == "params/d_step/d/w1"


@pytest.mark.slow
def test_a_named_function_ends_the_steps_and_its_loop_goes_along(reprotui: Cli) -> None:
    reprotui.write("pair.py", BEGIN + SCRIPTS["pair"])
    reprotui("race", "--name", "race", "--step-function", "d_step", "--", sys.executable, "pair.py", exit_code=0)
    run = RunDirectory(reprotui.runs / "race" / "a")
    assert dict(events_of(run.path))["compiled"] == "train step: d_step, with g_step"
    assert dict(events_of(run.path))["finished"] == "step 8"


# PyTorch: several optimizers

TORCH_PAIR = """
import sys, torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)
G = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
D = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
of_g, of_d = torch.optim.Adam(G.parameters(), 1e-3), torch.optim.Adam(D.parameters(), 1e-3)
for step in range(1, 9):
    x = torch.randn(16, 4)
    if step == 5 and "batch" in sys.argv:
        x[0, 0] += 1
    of_d.zero_grad()
    fake = G(torch.randn(16, 3))
    (D(fake.detach()).mean() - D(x).mean()).backward()
    if step == 3 and "d" in sys.argv:
        D[0].weight.grad *= 2
    of_d.step()
    of_g.zero_grad()
    (-D(fake).mean()).backward()
    if step == 6 and "g" in sys.argv:
        G[0].weight.grad *= 2
    of_g.step()
    if step == 7 and "state" in sys.argv:
        of_g.state[G[3].bias]["exp_avg"] += 1
print("digest", *(float(p.detach().sum()) for m in (D, G) for p in m.parameters()))
"""


def torch_race(reprotui: Cli, *faults: str, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Race the pair with itself and with its faults; return the verdicts."""
    reprotui.write("pair.py", TORCH_PAIR)
    words = f"{sys.executable} pair.py"
    labels = [word for label, fault in zip("cdefg", faults, strict=False) for word in (f"--{label}", f"{words} {fault}")]
    done = reprotui(
        "race", "--json", "--name", "race", *options, "--a", words, "--b", words, *labels, exit_code=1 if faults else 0
    )
    return json.loads(done.stdout)["verdicts"]


@pytest.mark.slow
def test_steps_of_several_optimizers_are_one_step_with_the_state_of_all(reprotui: Cli) -> None:
    same, batch, d, g, state = torch_race(reprotui, "batch", "d", "g", "state", options=("--stats-every", "4"))
    assert same["kind"] == "identical"
    found = [(item["step"], item["phase"], item["leaves"][0]["path"]) for item in (batch, d, g)]
    assert found == [
        (5, "batch", "batch/call_2/0"), (3, "grads", "grads/Adam#2/0/weight"), (6, "params", "grads/Adam/0/weight")
    ]  # fmt: skip
    assert "the step's first update is equal" in g["cause"]["sentence"]
    # Changed between two steps of its optimizer, it shows in the next one.
    assert (state["step"], state["phase"], state["leaves"][0]["path"]) == (8, "params", "opt_state/Adam/3/bias/exp_avg")

    run = RunDirectory(reprotui.runs / "race" / "a")
    assert dict(events_of(run.path))["compiled"] == "optimizer: Adam#2"
    with Trace(run.trace_path) as trace:
        rows = list(trace.rows())
        assert [row.step for row in rows] == list(range(9)), "a record for every step, the last one too"
        assert [row.step for row in rows if trace.leaf_stats(row.step) is not None] == [0, 4, 8]
        init = {spec.path for spec in trace.table(rows[0].version).specs}
    assert {"params/Adam/0/weight", "params/Adam#2/0/weight", "extra/Adam/1/running_mean"} <= init


@pytest.mark.slow
def test_several_optimizers_recorded_every_third_step_have_all_of_it(reprotui: Cli) -> None:
    torch_race(reprotui)
    reprotui("race", "--json", "--name", "third", "--every", "3", "--", sys.executable, "pair.py", exit_code=0)
    with (
        Trace(reprotui.runs / "race" / "a" / "trace.db") as all_steps,
        Trace(reprotui.runs / "third" / "a" / "trace.db") as third,
    ):
        rows = list(third.rows())
        assert [row.step for row in rows] == [0, 3, 6]
        assert [row.roots for row in rows] == [all_steps.row(row.step).roots for row in rows]


@pytest.mark.slow
def test_two_optimizers_of_one_model_and_an_optimizer_that_takes_another_s_place(reprotui: Cli) -> None:
    reprotui.write(
        "two.py",
        """
import sys, torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
matrices = torch.optim.SGD([p for p in model.parameters() if p.ndim == 2], 0.1)
vectors = torch.optim.AdamW([p for p in model.parameters() if p.ndim < 2], 0.1)
for step in range(1, 13):
    if step == 5:
        del matrices  # a second phase begins, with an optimizer for all
        vectors = torch.optim.AdamW(model.parameters(), 0.1)
    model.zero_grad()
    model(torch.randn(8, 4) + (step == 9) * sys.argv.count("batch")).pow(2).mean().backward()
    if step < 5:
        matrices.step()
    vectors.step()
""",
    )
    words = f"{sys.executable} two.py"
    found = json.loads(reprotui("race", "--json", "--name", "race", "--a", words, "--b", f"{words} batch", exit_code=1).stdout)
    verdict = found["verdicts"][0]
    assert (verdict["step"], verdict["phase"], verdict["leaves"][0]["path"]) == (9, "batch", "batch/0")
    run = reprotui.runs / "race" / "a"
    with Trace(run / "trace.db") as trace:
        assert [row.step for row in trace.rows()] == list(range(13))
    assert dict(events_of(run))["optimizer-replaced"] == "SGD is another AdamW from here on"


@pytest.mark.slow
def test_a_wrapper_that_steps_another_optimizer_takes_one_step_and_the_end_is_read_when_its_function_is_over(
    reprotui: Cli,
) -> None:
    reprotui.write(
        "sharp.py",
        """
import torch
from torch import nn

class Sharp(torch.optim.Optimizer):
    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})
        self.below = torch.optim.SGD(self.param_groups, lr=0.1)

    def step(self):
        self.below.step()

def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Linear(4, 1)
    optimizer = Sharp(model.parameters())
    for _ in range(6):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).pow(2).mean().backward()
        optimizer.step()

main()
""",
    )
    reprotui("race", "--name", "race", "--", sys.executable, "sharp.py", exit_code=0)
    run = reprotui.runs / "race" / "a"
    with Trace(run / "trace.db") as trace:
        assert [row.step for row in trace.rows()] == list(range(7))
        assert "params/weight" in {spec.path for spec in trace.table(trace.row(1).version).specs}
    found = json.loads(reprotui("certify", "--json", "--", sys.executable, "sharp.py").stdout)
    assert found["kind"] == "unchanged" and all(trial["state"] for trial in found["trials"])


# Parameters that the script updates by itself: they show only as what goes into the next call, and are read after it.

BY_HAND = """
import sys, time, jax, jax.numpy as jnp, numpy as np

@jax.jit
def gradient(params, x):
    assert x.shape[1] == 3, "columns"
    return jax.value_and_grad(lambda p: jnp.mean((x @ p["w"]) ** 2))(params)

params, rng = {"w": jnp.ones((3, 2))}, np.random.default_rng(0)
for step in range(1, STEPS):
    columns = 4 if step == 9 and "raise" in sys.argv else 3
    loss, grads = gradient(params, rng.normal(size=(4, columns)).astype(np.float32))
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    time.sleep(PAUSE)
"""


def paths_of(trace: Trace, step: int) -> set[str]:
    """Return the leaves of a record."""
    return {spec.path for spec in trace.table(trace.row(step).version).specs}


@pytest.mark.slow
def test_a_run_that_stands_has_all_of_its_last_record_and_goes_on_step_by_step(reprotui: Cli) -> None:
    reprotui.write("hand.py", BY_HAND.replace("STEPS", "10**9").replace("PAUSE", "0.02"))
    process = reprotui.start("race", "--name", "race", "--headless", "--", sys.executable, "hand.py")
    runs = [reprotui.runs / "race" / label for label in "ab"]
    for run in runs:
        eventually("records", lambda run=run: last_step(run) >= 5)
    reprotui("control", "race", "pause")
    before = dict.fromkeys(runs, 0)

    def stands_anew(run: Path) -> bool:
        """Say whether a run stands behind where it stood; the one that was behind the other may have stood on the way."""
        stood = max(stands(run), default=0)
        # Written before the record that it is about, the event is read after it.
        assert last_step(run) >= stood
        return stood > before[run] and stood == last_step(run)

    for _ in range(3):
        for run in runs:
            eventually("the run stands", lambda run=run: stands_anew(run))
            before[run] = stood = last_step(run)
            with Trace(run / "trace.db") as trace:
                assert paths_of(trace, stood) == {"loss", "grads/w", "params/w", "batch/x"}
        assert len(set(before.values())) == 1
        reprotui("control", "race", "advance")
    reprotui("control", "race", "stop")
    process.communicate(timeout=PATIENCE)
    assert [RunDirectory(run).state() for run in runs] == ["stopped", "stopped"]


def stands(run: Path) -> list[int]:
    """Return after which steps a run stood still."""
    return [int(text.rpartition(" ")[2]) for kind, text in events_of(run) if kind == "paused"]


@pytest.mark.slow
def test_the_record_before_a_call_that_raises_is_whole(reprotui: Cli) -> None:
    reprotui.write("hand.py", BY_HAND.replace("STEPS", "13").replace("PAUSE", "0"))
    words = f"{sys.executable} hand.py"
    done = reprotui("race", "--json", "--name", "race", "--a", words, "--b", f"{words} raise", exit_code=4)
    found = json.loads(done.stdout)
    assert found["runs"]["b"]["result"]["error"] == "AssertionError: columns"
    with Trace(reprotui.runs / "race" / "a" / "trace.db") as whole, Trace(reprotui.runs / "race" / "b" / "trace.db") as short:
        assert [row.step for row in short.rows()] == list(range(9))
        assert [row.roots for row in short.rows()] == [whole.row(step).roots for step in range(9)]
        assert "params/w" in paths_of(short, 8)
        assert [row.step for row in whole.rows()] == list(range(13))
        # What follows the last update is seen by nobody: nothing jitted is called with it.
        assert "params/w" not in paths_of(whole, 12)
