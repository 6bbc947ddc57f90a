"""What lies in no record is not called equal: calls left out, trainings that nobody recorded, an observation that ended."""

import json
import sys
from typing import Any

import pytest

from conftest import Cli, events_of, rows_of
from reprotui.trace import Trace

TRAIN = """
import sys, jax, jax.numpy as jnp, numpy as np
r = np.random.default_rng(0)
def make():
    @jax.jit
    def train(state, x):
        loss, g = jax.value_and_grad(lambda w: jnp.mean((x[:, :4] @ w) ** 2))(state["w"])
        return {**state, "w": state["w"] - 0.01 * g}, loss
    return train
@jax.jit
def adapt(state):
    return {**state, "scale": 0.9 * state["scale"]}
@jax.jit
def evaluate(state):
    return {**state, "count": state["count"] + 1}
state = {"w": jnp.ones((4, 3)), "scale": jnp.ones(3), "count": jnp.int32(0)}
def draw(step):
    x = r.normal(size=(8, 5)).astype(np.float32)
    if "unused" in sys.argv and step == 100:
        x[0, 4] += 1  # a column that the loss does not see: the end stays equal
    if "late" in sys.argv and step == 18:
        x[0, 0] += 1
    return x
"""
LOOP = "train = make()\nfor step in range(1, {steps} + 1):\n    state, loss = train(state, draw(step))\n"
ADAPTED_ONCE = LOOP + "    if step == 1:\n        state = adapt(state)\n"
EVALUATED = LOOP + "    if step % 50 == 1:\n        state = evaluate(state)\n"
EVALUATED_LATE = LOOP + "    if step % 50 == 0:\n        state = evaluate(state)\n"
TWO_PHASES = LOOP + LOOP
AVERAGED = (
    "average = jax.jit(lambda mean, w: 0.9 * mean + 0.1 * w)\nmean = jnp.zeros((4, 3))\n"
    + LOOP
    + "    mean = average(mean, state['w'])\n"
)


def race(reprotui: Cli, loop: str, *faults: str, steps: int, exit_code: int, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """Race a loop against itself, or against itself with faults; return the verdict."""
    reprotui.write("loop.py", TRAIN + loop.format(steps=steps))
    words = f"{sys.executable} loop.py"
    commands = ("--a", words, "--b", " ".join([words, *faults]))
    done = reprotui("race", "--json", "--name", "race", *options, *commands, exit_code=exit_code)
    return json.loads(done.stdout)["verdicts"][0]


def test_calls_that_no_record_holds_are_counted_and_the_runs_are_not_called_identical(reprotui: Cli) -> None:
    # `adapt` changes state that trains as well, once: a step that waits for its next call holds all that follows.
    found = race(reprotui, ADAPTED_ONCE, "unused", steps=500, exit_code=3)
    assert found["kind"] == "incomplete"
    assert "A and B: 243 of 500 calls of train lie in no record" in found["reason"]
    run = reprotui.runs / "race" / "a"
    with Trace(run / "trace.db") as trace:
        assert trace.calls(1) == {"train": 1, "adapt": 1}
        assert trace.calls(2) == {"train": 256}
    assert dict(events_of(run))["finished"] == "step 1"
    assert "recorded as step 2" in dict(events_of(run))["step-unfinished"]


@pytest.mark.slow
def test_a_step_that_was_under_way_is_recorded_and_all_calls_recorded_are_identical(reprotui: Cli) -> None:
    assert race(reprotui, ADAPTED_ONCE, steps=200, exit_code=0)["headline"] == "IDENTICAL through step 2"
    assert [row.step for row in rows_of(reprotui.runs / "race" / "a")] == [0, 1, 2]


@pytest.mark.slow
def test_a_difference_that_leaves_the_end_equal_is_found_in_the_step_that_was_under_way(reprotui: Cli) -> None:
    found = race(reprotui, ADAPTED_ONCE, "unused", steps=200, exit_code=1)
    assert (found["step"], found["phase"]) == (2, "batch")


@pytest.mark.slow
@pytest.mark.parametrize("loop", [EVALUATED, EVALUATED_LATE])
def test_an_evaluation_that_counts_in_the_state_takes_no_step(reprotui: Cli, loop: str) -> None:
    found = race(reprotui, loop, "unused", steps=120, exit_code=1)
    assert (found["step"], found["phase"]) == (100, "batch")
    assert "what the step before gave is equal" not in found["cause"]["evidence"][0]
    run = reprotui.runs / "race" / "a"
    assert dict(events_of(run))["compiled"] == "train step: train"
    assert [row.step for row in rows_of(run)] == list(range(121))
    after = 52 if loop is EVALUATED else 51
    with Trace(run / "trace.db") as trace:
        replaced = {
            step: [spec.path for spec in trace.table(trace.recorded(step).version).specs if spec.path.startswith("replaced/")]
            for step in range(1, 121)
        }
    # What it writes enters the step that follows; the parameters, which it hands back, do not enter again.
    assert {step for step, paths in replaced.items() if paths} - {2} == {after, after + 50}
    assert replaced[after] == ["replaced/extra/state/count"]


def test_an_evaluation_s_state_that_differs_is_no_equal_run(reprotui: Cli) -> None:
    loop = EVALUATED_LATE.replace("evaluate(state)", "evaluate(dict(state, count=state['count'] + len(sys.argv)))")
    found = race(reprotui, loop, "other", steps=120, exit_code=1)
    assert (found["step"], found["phase"], found["leaves"][0]["path"]) == (51, "batch", "replaced/extra/state/count")


def test_an_evaluation_is_noted_and_the_runs_are_identical(reprotui: Cli) -> None:
    found = race(reprotui, EVALUATED_LATE, steps=120, exit_code=0)
    assert found["headline"] == "IDENTICAL through step 120"
    assert any("evaluate (2 calls) takes no step" in note for note in found["notes"])


@pytest.mark.slow
def test_a_second_training_that_is_not_recorded_is_said_and_nothing_is_called_identical(reprotui: Cli) -> None:
    found = race(reprotui, TWO_PHASES, steps=20, exit_code=3)
    assert "A and B: train (20 calls) hands on state of its own, which is not recorded" in found["reason"]


@pytest.mark.slow
def test_an_average_of_the_parameters_follows_from_what_is_recorded(reprotui: Cli) -> None:
    found = race(reprotui, AVERAGED, steps=20, exit_code=0)
    assert found["kind"] == "identical"
    assert any("<lambda> (20 calls) hands on state of its own" in note for note in found["notes"])


@pytest.mark.slow
def test_a_training_alone_has_nothing_to_add(reprotui: Cli) -> None:
    found = race(reprotui, LOOP, steps=20, exit_code=0)
    assert (found["headline"], found["notes"]) == ("IDENTICAL through step 20", [])


@pytest.mark.slow
def test_records_of_some_steps_say_so(reprotui: Cli) -> None:
    found = race(reprotui, LOOP, steps=20, exit_code=0, options=("--every", "8"))
    assert found["headline"] == "IDENTICAL in 3 recorded steps through step 16"


@pytest.mark.slow
def test_ends_that_differ_behind_the_last_record_are_a_divergence_of_that_place(reprotui: Cli) -> None:
    found = race(reprotui, LOOP, "late", steps=20, exit_code=1, options=("--every", "8"))
    assert found["headline"] == "DIVERGED after step 16 · in calls that were not recorded"
    assert (found["equal_through"], found["step"]) == (16, None)
    assert "the final states do not: it began after step 16" in found["cause"]["sentence"]
    assert "likely because of argument_1: none → late" in found["cause"]["sentence"]
    for command in ("compare", "report"):
        done = reprotui(command, reprotui.runs / "race" / "a", reprotui.runs / "race" / "b", exit_code=1)
        assert "DIVERGED after step 16" in done.stdout


@pytest.mark.slow
def test_ends_that_differ_in_a_recorded_step_are_found_there(reprotui: Cli) -> None:
    found = race(reprotui, LOOP, "late", steps=20, exit_code=1)
    assert (found["step"], found["phase"]) == (18, "batch")


BROKEN = """
import sys, torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 1)
    def forward(self, x, extra):
        return self.inner(x)
class Odd(torch.Tensor):
    @property
    def layout(self):
        raise RuntimeError("ask somebody else")
net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
for step in range(1, 9):
    x, extra = torch.randn(8, 4), torch.eye(3)
    if step == 5 and "sparse" in sys.argv:
        extra = extra.to_sparse()
    if step == 5 and "odd" in sys.argv:
        extra = extra.as_subclass(Odd)  # cannot be looked at: the observation ends here
    opt.zero_grad()
    net(x, extra).mean().backward()
    opt.step()
"""


@pytest.mark.slow(but="odd")
@pytest.mark.parametrize("extra", ["odd", "sparse", ""])
def test_an_observation_that_ended_leaves_the_rest_unseen(reprotui: Cli, extra: str) -> None:
    reprotui.write("broken.py", BROKEN)
    ends = extra == "odd"
    done = reprotui("race", "--json", "--name", "race", "--", sys.executable, "broken.py", extra, exit_code=3 if ends else 0)
    found = json.loads(done.stdout)["verdicts"][0]
    assert found["kind"] == ("incomplete" if ends else "identical")
    assert any("sparse_coo on cpu are not recorded" in note for note in found["notes"]) is (extra == "sparse")
    if ends:
        assert "A and B: observing ended after step 4" in found["reason"]
