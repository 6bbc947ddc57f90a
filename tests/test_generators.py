"""The states of global generators: in which step streams part, and that one which nobody seeded makes no runs diverge."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Cli
from reprotui.compare import compare_traces
from reprotui.observe.generators import Generators
from reprotui.observe.ledger import Ledger
from reprotui.trace import Trace
from test_compare import changed, history, write

JAX = """
import random, sys
import jax, jax.numpy as jnp, numpy as np
{before}
train = jax.jit(lambda w, x: (w - 0.1 * jax.grad(lambda w: jnp.mean((x @ w) ** 2))(w), jnp.mean((x @ w) ** 2)))
w, x = jnp.ones((4, 1)), jnp.ones((8, 4))
for step in range(1, 21):
    if step == 12 and sys.argv[1] == "b": {drawn}
    w, loss = train(w, x)
"""
TORCH = """
import random, sys
import numpy as np, torch
{before}
model = torch.nn.Linear(4, 1)
with torch.no_grad():
    model.weight.fill_(1), model.bias.fill_(0)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
for step in range(1, 21):
    if step == 12 and sys.argv[1] == "b": {drawn}
    optimizer.zero_grad(), model(torch.ones(8, 4)).mean().backward(), optimizer.step()
"""
SEEDED = "random.seed(1), np.random.seed(2)"
FRAMEWORKS = {"jax": (JAX, ""), "torch": (TORCH, "torch.manual_seed(3)\n")}


def race(reprotui: Cli, framework: str, before: str, drawn: str, exit_code: int) -> dict[str, Any]:
    """Race a script of which only B does `drawn` in step 12, and trains on with the same numbers; return the verdict."""
    script, seed = FRAMEWORKS[framework]
    reprotui.write("train.py", script.format(before=seed + before, drawn=drawn))
    commands = [f"{sys.executable} train.py {label}" for label in "ab"]
    done = reprotui("race", "--json", "--name", "race", "--a", commands[0], "--b", commands[1], exit_code=exit_code)
    return json.loads(done.stdout)["verdicts"][0]


@pytest.mark.slow(but="random.random()-jax")
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("drawn", ["random.random()", "np.random.rand()", "random.seed(7)"])
def test_the_step_in_which_a_seeded_stream_parts_is_found(reprotui: Cli, framework: str, drawn: str) -> None:
    found = race(reprotui, framework, SEEDED, drawn, exit_code=1)
    path, whose = ("rng/numpy", "NumPy's") if drawn.startswith("np") else ("rng/python", "Python's")
    assert (found["step"], found["phase"], [leaf["path"] for leaf in found["leaves"]]) == (12, "rng", [path])
    assert found["cause"]["sentence"].startswith(f"the state of {whose} generator differs")
    assert "key" not in found["cause"]["evidence"][0]


@pytest.mark.slow(but="random.random(), np.random.rand()-jax")
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    "before",
    [
        "pass",
        "random.random(), np.random.rand()",
        "random.setstate(random.getstate()), np.random.set_state(np.random.get_state())",
    ],
)
def test_what_nobody_seeded_makes_no_runs_diverge(reprotui: Cli, framework: str, before: str) -> None:
    found = race(reprotui, framework, before, "random.random(), np.random.rand()", exit_code=0)
    assert found["kind"] == "identical"


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_streams_that_are_seeded_and_drawn_from_alike_are_equal(reprotui: Cli, framework: str) -> None:
    drawn = "pass\n    random.random(), np.random.normal()"
    assert race(reprotui, framework, SEEDED, drawn, exit_code=0)["kind"] == "identical"
    with Trace(reprotui.runs / "race" / "a" / "trace.db") as trace:
        paths = [spec.path for spec in trace.table(trace.recorded(20).version).specs]
    assert {"rng/python", "rng/numpy"} <= set(paths) and ("rng/torch" in paths) == (framework == "torch")


@pytest.mark.slow
def test_an_unseeded_model_of_torch_is_put_down_to_its_generator(reprotui: Cli) -> None:
    script = TORCH.format(before="", drawn="pass").replace("model.weight.fill_(1), model.bias.fill_(0)", "pass")
    reprotui.write("train.py", script)
    done = reprotui("race", "--json", "--name", "race", "--", sys.executable, "train.py", "x", exit_code=1)
    found = json.loads(done.stdout)["verdicts"][0]
    line = 1 + script.splitlines().index(next(text for text in script.splitlines() if "backward" in text))
    because = f"because something drew from torch's generator before train.py:{line}, and nothing seeded it"
    assert found["phase"] == "init" and found["cause"]["sentence"].endswith(because)


def test_the_states_are_those_that_python_and_numpy_give() -> None:
    ledger = Ledger(lambda: 0)
    generators = Generators(ledger)
    assert generators.leaves() == []
    ledger.seeded |= {"python", "numpy"}
    kept, of_numpy = random.getstate(), np.random.get_state()
    try:
        for seed in range(3):
            random.seed(seed), np.random.seed(seed)
            random.random(), np.random.rand(seed)
            states = {path: list(state) for (_, path), state in generators.leaves()}
            *words, position = random.getstate()[1]
            assert states["rng/python"] == [position, *words]
            state = np.random.get_state(legacy=False)["state"]
            assert states["rng/numpy"] == [*state["key"], state["pos"]]
    finally:
        random.setstate(kept), np.random.set_state(of_numpy)
    assert not generators.problem


def test_of_another_bit_generator_a_digest_tells_whether_its_state_is_the_same() -> None:
    ledger = Ledger(lambda: 0)
    ledger.seeded.add("numpy")
    generators, usual = Generators(ledger), np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(1))
        ((_, first),) = generators.leaves()
        ((_, again),) = generators.leaves()
        np.random.rand()
        ((_, moved),) = generators.leaves()
    finally:
        np.random.set_bit_generator(usual)
    assert list(first) == list(again) != list(moved)


def test_a_state_that_cannot_be_read_is_told_once_and_never_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(lambda: 0)
    ledger.seeded.add("python")
    monkeypatch.delattr(random, "_inst")
    generators = Generators(ledger)
    assert generators.leaves() == [] and generators.leaves() == []
    assert ledger.problem.startswith("states of generators: AttributeError")


def test_a_generator_that_one_run_alone_seeded_is_a_note_and_of_both_a_difference(tmp_path: Path) -> None:
    seeded = in_order({step: {**leaves, **({"rng:rng/python": step} if step else {})} for step, leaves in history(5).items()})
    kinds = [history(5), seeded, changed(seeded, 3, "rng:rng/python")]
    paths = [write(tmp_path / f"{number}.db", steps) for number, steps in enumerate(kinds)]
    with Trace(paths[0]) as without, Trace(paths[1]) as one, Trace(paths[2]) as other:
        alone, both = compare_traces(without, one), compare_traces(one, other)
    assert alone.first is None and "rng/python is only in B" in alone.notes
    assert both.first is not None and (both.first.step, both.first.phases) == (3, ("rng",))
    assert "rng" in both.first.recorded  # there is a key besides


def in_order(steps: Any) -> Any:
    """Return a history with the leaves of each phase together."""
    phases = ("init", "batch", "rng", "forward", "grads", "optimizer", "params")
    return {
        step: dict(sorted(leaves.items(), key=lambda item: phases.index(item[0].partition(":")[0])))
        for step, leaves in steps.items()
    }
