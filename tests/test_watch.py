"""`reprotui watch`: one run alone, whose steps are recomputed: what it finds, what it leaves alone, that it changes no bit."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.watching import bounds, expected
from conftest import Cli
from reprotui.checksum.numpy_form import flipped_bit, lanes
from reprotui.compare.watched import Watched
from reprotui.errors import BadInputError
from reprotui.event_kinds import CORRUPT, GRADIENT_SPIKE, LOSS_SPIKE, RECOMPUTED
from reprotui.observation import parse_share, share_text
from reprotui.observe.checks import drawn
from reprotui.record.spikes import Spikes
from reprotui.trace import Trace

FLIPPED = Path(__file__).parent / "scripts/flipped.py"
TORCH = """
import random, sys
import numpy as np
import torch

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 2)
)
if "hook" in sys.argv:
    seen = []
    model[0].register_forward_hook(lambda *given: seen.append(1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)
random.seed(1), np.random.seed(1)
for step in range(1, 25):
    x, y = torch.randn(65, 6)[1:], torch.randn(64, 2) * (1 + random.random() + np.random.rand())
    if step == 20 and "spike" in sys.argv:
        y = y * 1000
    optimizer.zero_grad()
    for half in (slice(0, 32), slice(32, 64)) if "accumulate" in sys.argv else (slice(0, 64),):
        loss = torch.nn.functional.mse_loss(model(x[half]), y[half])
        if "penalty" in sys.argv:
            loss = loss + 1e-3 * model[0].weight.square().sum()
        loss.backward()
    optimizer.step(), schedule.step()
    if "data" in sys.argv and step > 3:
        model[0].weight.data.clamp_(-0.1, 0.1)
    with torch.no_grad():
        model[4].weight.clamp_(-0.5, 0.5)  # a write that torch counts
if "hook" in sys.argv:
    print("calls", len(seen))
"""
JAX = """
import sys
import jax, jax.numpy as jnp
import numpy as np

def loss(params, x, key):
    hidden = jnp.tanh(x @ params["w"]) * jax.random.bernoulli(key, 0.8, (16,))
    return jnp.mean((hidden @ params["v"]) ** 2)

def train(params, key, x):
    key, used = jax.random.split(key)
    value, grads = jax.value_and_grad(loss)(params, x, used)
    if "callback" in sys.argv:
        jax.debug.callback(lambda value: None, value)
    print("traced")
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), key, value

train = jax.jit(train, donate_argnums=(0, 1))
key = jax.random.key(0)
params = {"w": jax.random.normal(key, (6, 16)), "v": jax.random.normal(key, (16, 3))}
rng = np.random.default_rng(0)
x = np.empty((8, 6), np.float32)
for _ in range(24):
    x[:] = rng.normal(size=(8, 6))
    params, key, value = train(params, key, x)
    value.block_until_ready()
"""

TWO = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Any:
    """Return what watches a script, each once in this module: its directory and what the command prints as JSON."""
    known: dict[Any, tuple[Path, dict[str, Any]]] = {}

    def run(script: str, *arguments: str, check: str = "100%", exit_code: int = 0, **variables: str) -> Any:
        key = script, arguments, check, tuple(variables.items())
        if key not in known:
            cli = Cli(tmp_path_factory.mktemp("watch"), {**environment, "OMP_NUM_THREADS": "1", **variables})
            file = cli.directory / "train.py"
            file.write_text(FLIPPED.read_text() if script == "flipped" else script)
            done = cli(
                "watch",
                "--json",
                "--name",
                "run",
                "--check",
                check,
                "--",
                sys.executable,
                "train.py",
                *arguments,
                exit_code=exit_code,
            )
            known[key] = cli.runs / "run", json.loads(done.stdout)
        return known[key]

    return run


def events(run: Path, kind: str) -> list[str]:
    with Trace(run / "trace.db") as trace:
        return [event.text for event in trace.events() if event.kind == kind]


def ends(run: Path) -> tuple[Any, Any]:
    """Return the digest of the final state, and the chain over all records."""
    manifest = json.loads((run / "run.json").read_text())
    return manifest["result"]["digests"]["state"], manifest["seal"]["chain"]


@pytest.mark.slow(but="jax")
@pytest.mark.parametrize("script", [TORCH, JAX], ids=["torch", "jax"])
def test_steps_come_out_again_and_the_training_keeps_its_bits(watch: Any, script: str) -> None:
    """Batch statistics, dropout, a schedule, donated state, a batch that is overwritten: all checked, and nothing moved."""
    variables = TWO if script == JAX else {}
    run, found = watch(script, **variables)
    checked = found["watched"]
    assert found["exit_code"] == 0 and not found["wrong"] and not checked["unsteady"]
    assert checked["steps"] == 24 and checked["recomputed"] == checked["equal"] > 12
    assert checked["recomputed"] + sum(checked["left_out"].values()) == 24
    parts = {name.split(" on ")[0] for name in checked["parts"]}
    assert parts == ({"train"} if script == JAX else {"forward", "gradients", "update"})
    assert script == TORCH or len(checked["parts"]) == 2  # on another device too
    assert checked["looked"] == checked["unchanged"] > 0
    assert found["sentence"].startswith(f"WATCHED 24 steps · {checked['recomputed']} recomputed, all equal · state between")
    assert len({text.split(" · ")[0] for text in events(run, RECOMPUTED)}) == checked["recomputed"]
    seldom, other = watch(script, check="2%", exit_code=None, **variables)
    assert ends(run) == ends(seldom) and other["watched"]["recomputed"] <= 1
    assert (run / "worker.log").read_text() == (seldom / "worker.log").read_text()  # traced and printed as often


@pytest.mark.slow(but="jax")
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_flipped_bits_are_found_where_a_step_is_drawn_and_nowhere_else(watch: Any, framework: str) -> None:
    run, found = watch("flipped", framework, "160", "9", check="25%", exit_code=1)
    planted = [(one["step"], one["kind"]) for one in map(json.loads, (run / "worker.log").read_text().splitlines())]
    told = events(run, CORRUPT)
    assert len(planted) == 16 and {int(text.split()[3]) for text in told} == expected(planted, 4)
    assert found["wrong"] and found["wrong"][0] in told
    state = [text for text in told if "· state ·" in text]
    assert state and all("params/first" in text for text in state)
    assert framework == "jax" or all(" flipped" in text for text in state)  # which bit


@pytest.mark.slow
def test_what_cannot_be_computed_once_more_is_left_alone_and_told(watch: Any) -> None:
    run, found = watch(TORCH, "hook", "data", exit_code=3)
    assert "calls 24" in (run / "worker.log").read_text()
    assert found["watched"]["left_out"] == {"Linear has hooks, which would be called once more": 24}
    assert set(found["watched"]["parts"]) == {"update"}
    _, found = watch(TORCH, "penalty")
    assert found["watched"]["left_out"] == {"the loss uses parameters beside the first call of the model": 24}
    _, found = watch(JAX, "callback", exit_code=3, **TWO)
    assert found["watched"]["recomputed"] == 0 and any("Python" in why for why in found["watched"]["left_out"])


@pytest.mark.slow
def test_a_write_that_nobody_counted_cannot_be_told_from_memory_and_a_counted_one_is_the_scripts(watch: Any) -> None:
    _, found = watch(TORCH, "hook", "data", exit_code=3)
    assert not found["wrong"] and sum(found["watched"]["changed"].values()) == 20  # after the steps 4 to 23
    _, found = watch(TORCH)
    assert not found["watched"]["changed"] and found["watched"]["unchanged"] == 23


@pytest.mark.slow
def test_a_spike_is_marked_with_its_step_and_a_calm_run_has_none(watch: Any) -> None:
    run, found = watch(TORCH, "accumulate", "spike")
    assert found["watched"]["equal"] == 24 and found["watched"]["parts"]["gradients"] == 24
    assert [text for text in found["spikes"] if text.startswith("step 20: loss")] == events(run, LOSS_SPIKE)
    calm, found = watch(TORCH)
    assert not found["spikes"] and not events(calm, LOSS_SPIKE) and not events(calm, GRADIENT_SPIKE)


def test_what_a_spike_is() -> None:
    spikes = Spikes()
    calm = [1.0 + 0.01 * (number % 7) for number in range(64)]
    assert [spikes.median_below(value) for value in calm] == [None] * 64
    assert spikes.median_below(1.4) is None  # less than half of the median
    assert spikes.median_below(float("nan")) is None
    assert spikes.median_below(30.0) == pytest.approx(1.03, abs=0.01)
    assert spikes.median_below(31.0) is None  # it stays up there: told once
    assert spikes.median_below(1.0) is None and spikes.median_below(30.0) is not None


def test_one_step_of_each_block_is_drawn_and_always_the_same() -> None:
    for one_of in (1, 4, 100):
        chosen = [step for step in range(1, 20 * one_of + 1) if drawn(step, one_of)]
        assert [(step - 1) // one_of for step in chosen] == list(range(20))
    assert len({(step - 1) % 100 for step in range(1, 2001) if drawn(step, 100)}) > 10  # not each time the same place
    assert bounds(100, 0.2) == (12, 28)


def test_a_share_of_the_steps_is_read_and_written() -> None:
    assert [parse_share(text) for text in ("1%", "0.5%", "100%", "33%")] == [100, 200, 1, 3]
    assert share_text(100) == "1%" and parse_share(share_text(3)) == 3
    for text in ("", "1", "0%", "101%", "nan%", "x%", "-1%", "1e-9%"):
        with pytest.raises(BadInputError, match="no share of the steps"):
            parse_share(text)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8"])
def test_the_bit_that_was_flipped_is_found_by_the_checksum_of_before(dtype: str) -> None:
    array = np.random.default_rng(3).integers(0, 100, 1000).astype(dtype)
    before, bits = lanes(array), array.view(f"u{array.dtype.itemsize}")
    bits[777] ^= bits.dtype.type(1 << 5)
    assert flipped_bit(array, before) == (777, 5)
    bits[3] ^= bits.dtype.type(1)
    assert flipped_bit(array, before) is None


@pytest.mark.parametrize(
    ("steps", "looked", "said"),
    [
        (1, 0, "WATCHED 1 step · none recomputed · state between steps looked at 0 of 0 times"),
        (1, 1, "WATCHED 1 step · none recomputed · state between steps unchanged at 1 of 1"),  # ended within its second step
        (9, 8, "WATCHED 9 steps · none recomputed · state between steps unchanged at 8 of 8"),
        (9, 3, "WATCHED 9 steps · none recomputed · state between steps unchanged at 3 of 3 looked at, of 8"),
    ],
)
def test_what_was_watched_is_said_in_one_line(steps: int, looked: int, said: str) -> None:
    found = Watched.of({"one_of": 10, "steps": steps, "state": {"looked": looked, "unchanged": looked}})
    assert found is not None and found.sentence == said


def test_bad_input_is_refused(reprotui: Cli) -> None:
    assert "needs a script" in reprotui("watch", exit_code=2).stderr
    assert "no share of the steps" in reprotui("watch", "--check", "2", "--", sys.executable, "x.py", exit_code=2).stderr
    assert "does not exist" in reprotui("watch", "--", sys.executable, "missing.py", exit_code=2).stderr
    assert "--check needs a script" in reprotui("race", "--check", "1%", exit_code=2).stderr
