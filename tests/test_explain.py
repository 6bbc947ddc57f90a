"""Explain: the first kernel that differs, its line of source, and silence where nothing can be said."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Static

from conftest import PATIENCE, Cli, edit_manifest
from pilots import dashboard, drive

SMALL = ("digits-mlp", "width=8", "depth=1", "steps=3")

MODEL = """
import jax, jax.numpy as jnp
def gelu(x):
    return jax.nn.gelu(x, approximate=True)
def norm(x):
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)
def scanned(p, x):
    def body(c, w):
        return jnp.tanh(c @ w), c.sum()
    return jax.lax.scan(body, x, p["r"])
def loss(p, x, key):
    h = gelu(norm(x) @ p["w"])
    h = jnp.where(jax.random.bernoulli(key, 0.9, h.shape), h / 0.9, 0.0)
    c, sums = scanned(p, h)
    c = jax.lax.cond(c.sum() > 0, jnp.sin, jnp.cos, c)
    low = (c @ p["o"]).astype(jnp.bfloat16)
    return jnp.sum(low.astype(jnp.float32) ** 2) + 1e-3 * sums.sum() + jnp.linalg.eigh(c.T @ c)[0].sum()
def step(p, m, x, key):
    l, g = jax.value_and_grad(loss)(p, x, key)
    m = jax.tree.map(lambda a, b: 0.9 * a + b, m, g)
    return jax.tree.map(lambda a, b: a - 0.01 * b, p, m), m, l, x
"""
PLANTED = {
    "same": ("step", "step"),
    "gelu": ("approximate=True", "approximate=False"),
    "constant": ("0.01 * b", "0.0101 * b"),
    "variance": ("jnp.sum(low.astype", "jnp.var(low.astype"),
    "scanned": ("jnp.tanh(c @ w)", "jnp.sin(c @ w)"),
    "key": ("bernoulli(key,", "bernoulli(jax.random.fold_in(key, 1),"),
}
READ = """
import importlib.util, json, sys
import jax, jax.numpy as jnp, numpy as np
from reprotui.errors import CannotTellError
from reprotui.explain.recompute import Recomputation
keys = jax.random.split(jax.random.key(0), 4)
shapes = {"w": (8, 8), "r": (3, 8, 8), "o": (8, 4)}
p = {name: jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items())}
arguments = p, jax.tree.map(jnp.zeros_like, p), jax.random.normal(keys[3], (16, 8)), jax.random.key(5)
found = {}
for name in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location(name, name + ".py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    outputs = jax.jit(module.step)(*arguments)
    names = [str(number) for number in range(len(jax.tree.leaves(outputs)))]
    step = Recomputation(module.step, arguments, outputs, names)
    found[name] = {"inputs": [], **step.read()}
    kernels, held = step._taps.kernels, []
    for kind, number, output in step._taps.ends:
        held += [step.value((number, output)).tobytes()] if kind == "kernel" else []
    found[name]["leaves"] = sum(bits in [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(outputs)] for bits in held)
    found[name]["taps"] = len(held)
    if name == "same":
        try:
            Recomputation(module.step, arguments, jax.tree.map(lambda leaf: leaf * 2, outputs), names).read()
        except CannotTellError as error:
            found["refused"] = str(error)
json.dump(found, open("found.json", "w"))
"""


@pytest.fixture(scope="session")
def read(once: Any, environment: dict[str, str]) -> Path:
    """Return a directory with a model, copies of it with one line changed, and what their kernels gave."""

    def build(path: Path) -> None:
        for name, (old, new) in PLANTED.items():
            assert old in MODEL
            (path / f"{name}.py").write_text(MODEL.replace(old, new))
        command = [sys.executable, "-c", READ, *PLANTED]
        subprocess.run(command, cwd=path, env=environment, check=True, timeout=3 * PATIENCE, stdout=subprocess.DEVNULL)

    return once("explained-models", build)


@pytest.fixture(scope="session")
def explained(once: Any, environment: dict[str, str]) -> Path:
    """Return a working directory with a run `a`, one with another learning rate, and one with a bit flipped. Only read it."""

    def build(path: Path) -> None:
        cli = Cli(path, environment)
        cli("run", *SMALL, "--name", "a")
        cli("run", *SMALL, "lr=0.051", "--name", "lr")
        cli("run", *SMALL, "perturb=2:params/dense_0/kernel:0:0", "--name", "flipped")

    return once("explained-runs", build)


@pytest.fixture
def runs(explained: Path, reprotui: Cli) -> Path:
    """Return the runs directory of the test with copies of the runs."""
    shutil.copytree(explained / "runs", reprotui.runs)
    return reprotui.runs


def compared(read: Path, name: str) -> Any:
    from reprotui.explain.explain import compare_results

    found = json.loads((read / "found.json").read_text())
    return compare_results(1, ("a", "b"), [found["same"], found[name]], name != "same")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PLANTED if name != "same"])
def test_a_line_that_was_changed_is_named(read: Path, name: str) -> None:
    found = compared(read, name)
    wanted = [number for number, (a, b) in enumerate(zip(*texts(read, name), strict=True), 1) if a != b]
    assert found.place is not None and [found.place.line] == wanted, found.headline
    assert (found.exit_code, found.likely) == (1, False)
    assert f"at {name}.py:" in found.headline or "at same.py:" in found.headline
    if name == "constant":
        # The same kernel with another number in it; of other operations XLA makes kernels without a counterpart.
        assert found.first is not None and found.first.inputs_equal
        assert len(found.different) == len(found.origins) == 3


def texts(read: Path, name: str) -> list[list[str]]:
    return [(read / f"{which}.py").read_text().splitlines() for which in ("same", name)]


def test_equal_programs_have_no_kernel_that_differs(read: Path) -> None:
    found = compared(read, "same")
    assert (found.exit_code, found.different, found.first, found.changes) == (0, [], None, ())
    assert found.headline.startswith("no kernel differs: ") and not any(found.alone)


def test_taps_read_what_the_outputs_hold_and_change_none_of_them(read: Path) -> None:
    found = json.loads((read / "found.json").read_text())
    for name in PLANTED:
        result = found[name]
        # p, m and the loss come from kernels; x is only handed on.
        assert (result["leaves"], result["taps"]) == (7, 7)
        assert result["outputs"] == {"count": 8, "identical": 8}
        assert result["unread"] == []
    opcodes = {kernel["opcode"] for kernel in found["same"]["kernels"]}
    assert {"while", "conditional", "custom-call"} <= opcodes
    assert found["refused"].startswith("only 1 of 8 outputs") or found["refused"].startswith("only 0 of 8 outputs")


@pytest.mark.slow
def test_two_learning_rates_differ_in_the_update(runs: Path, reprotui: Cli) -> None:
    found = json.loads(reprotui("explain", "a", "lr", "--json", exit_code=1).stdout)
    assert (found["step"], found["likely"], found["inputs_differ"]) == (1, False, [])
    assert "self.optimizer.update" in line_of(found["place"])
    assert found["first"]["inputs_equal"] and found["first"]["elements"]["different"] > 0
    assert found["first"]["leaf"].startswith("params/")
    assert "lr" in found["cause"]
    assert not found["programs"]["same"]
    assert found["kernels"]["unread"] == []


@pytest.mark.slow
def test_an_explanation_is_kept_for_reports_of_its_race(explained: Path, reprotui: Cli, own_settings: Path) -> None:
    race = reprotui.runs / "pair"
    for name, label in (("a", "a"), ("lr", "b")):
        shutil.copytree(explained / "runs" / name, race / label)
    (race / "race.json").write_text(json.dumps({"name": "pair", "members": ["a", "b"], "command": [], "created_ns": 1}))
    assert "kept" in reprotui("explain", "pair/a", "pair/b", exit_code=1).stdout
    (kept,) = json.loads(reprotui("report", "pair", "--json", exit_code=1).stdout)["explanations"]
    assert kept["headline"].startswith("first different: ") and (kept["b"], kept["step"]) == ("b", 1)
    assert any("self.optimizer.update" in line["text"] for line in kept["lines"] if line["about"] == "source")
    (race / "explanations.json").unlink()

    async def scene() -> None:
        async with dashboard(race, size=(80, 24)) as driven:
            await driven.press("d", "enter", "X")
            await driven.until("the answer", lambda: "reports of this race" in str(driven.get("#explanation", Static).render()))

    drive(scene())
    assert (race / "explanations.json").is_file()


def line_of(place: dict[str, Any]) -> str:
    return Path(place["file"]).read_text().splitlines()[place["line"] - 1]


@pytest.mark.slow
def test_a_bit_that_flipped_outside_of_the_step_is_no_kernels_work(runs: Path, reprotui: Cli) -> None:
    said = reprotui("explain", "a", "flipped", exit_code=3).stdout
    assert "no kernel differs" in said and "although the records of step 2 differ" in said
    assert "identical with taps" in said
    # A step later the states are not the same any more, and kernels say nothing.
    said = reprotui("explain", "a", "flipped", "--step", 3, exit_code=3).stdout
    assert "what enters step 3 is not the same: params/dense_0/kernel" in said


@pytest.mark.slow
def test_a_step_that_repeats_has_no_flaky_kernel(runs: Path, reprotui: Cli) -> None:
    found = json.loads(reprotui("explain", "a", "--step", 2, "--repeat", 3, "--json").stdout)
    assert (found["flaky"], found["count"], found["outputs"]["count"]) == ([], 3, found["outputs"]["identical"])


@pytest.mark.slow
def test_a_step_that_does_not_come_out_as_recorded_is_not_explained(runs: Path, reprotui: Cli) -> None:
    edit_manifest(runs / "a", config=lambda config: {**config, "lr": 0.07})
    said = reprotui("explain", "a", "lr", "--step", 1, "--trust", exit_code=3).stdout
    assert "NOT FAITHFUL" in said and "first different" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["a"], 2, "one run alone has nothing to differ from"),
        (["a", "--repeat", "3"], 2, "name it with --step"),
        (["a", "lr", "--repeat", "3"], 2, "--repeat is for one run"),
        (["a", "a"], 2, "no difference to explain"),
        (["a", "lr", "--step", "0"], 2, "step 0 is none"),
        (["a", "lr", "--step", "9"], 2, "steps 0 to 3, not of 9"),
        (["a", "lr", "lr"], 2, "explain takes two runs"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_words(
    runs: Path, reprotui: Cli, arguments: list[str], code: int, said: str
) -> None:
    assert said in reprotui("explain", *arguments, exit_code=code).stderr


@pytest.mark.slow
def test_the_step_screen_explains_its_step(runs: Path, own_settings: Path) -> None:
    async def scene() -> None:
        async with dashboard(runs / "a", runs / "lr", size=(120, 40)) as driven:
            await driven.press("d", "enter", "X")

            def said() -> str:
                return " ".join(str(driven.get("#explanation", Static).render()).split())

            await driven.until("the answer", lambda: "identical with taps" in said())
            assert said().startswith("first different: ") and "self.optimizer.update" in said()
            await driven.press("escape")
            assert driven.step

    drive(scene())
