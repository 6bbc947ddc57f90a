"""PyTorch without a torch optimizer: backward passes are the steps; and calls of networks that no training comes of."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, events_of
from reprotui.trace import Trace

HEAD = """
import random, sys, torch
from torch import nn
from torch.func import functional_call, grad_and_value
torch.manual_seed(0)
torch.set_num_threads(1)
X = torch.randn(64, 8)
Y = X.sum(1, keepdim=True)
draws = torch.Generator().manual_seed(1)
def batch(step):
    rows = torch.randperm(64, generator=draws)[:16]
    x, y = X[rows], Y[rows]
    if step == 3 and "x" in sys.argv: x[0, 0] += 1
    if step == 3 and "y" in sys.argv: y[0, 0] += 1
    return x, y
"""
LOOPS = {
    "in place": """
w, b = torch.randn(8, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
for step in range(1, 7):
    x, y = batch(step)
    nn.functional.mse_loss(x @ w + b, y).backward()
    with torch.no_grad():
        w -= 0.05 * w.grad
        b -= 0.05 * b.grad
    w.grad = b.grad = None
""",
    "through data": """
def main():
    params = {"w": torch.randn(8, 1, requires_grad=True), "b": torch.zeros(1, requires_grad=True)}
    for step in range(1, 7):
        x, y = batch(step)
        nn.functional.mse_loss(x @ params["w"] + params["b"], y).backward()
        for p in params.values():
            p.data -= 0.05 * p.grad
            p.grad.zero_()
main()
""",
    "optimizer of one's own": """
class Sgd:
    def __init__(self, params):
        self.params = list(params)
    @torch.no_grad()
    def step(self):
        for p in self.params:
            p.sub_(p.grad, alpha=0.05)
            p.grad = None
model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
optimizer = Sgd(model.parameters())
for step in range(1, 7):
    x, y = batch(step)
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
""",
    "gradients by a function": """
def main():
    w, b = torch.randn(8, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
    for step in range(1, 7):
        x, y = batch(step)
        loss = nn.functional.mse_loss(x @ w + b, y)
        w, b = ((p - 0.05 * g).detach().requires_grad_() for p, g in zip((w, b), torch.autograd.grad(loss, (w, b))))
main()
""",
    "an iterator": """
model = nn.Linear(8, 1)
for step in range(1, 7):
    x, y = batch(step)
    loss = nn.functional.mse_loss(model(x), y)
    grads = torch.autograd.grad(loss, model.parameters())
    assert len(grads) == 2
    with torch.no_grad():
        for p, g in zip(model.parameters(), grads):
            p -= 0.05 * g
""",
    "one leaf": """
w, b = torch.randn(8, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
for step in range(1, 7):
    x, y = batch(step)
    torch.autograd.backward((item for item in [nn.functional.mse_loss(x @ w + b, y)]), inputs=w)
    with torch.no_grad():
        w -= 0.05 * w.grad
    w.grad = None
""",
    "functional": """
model = nn.Linear(8, 1)
params = {name: value.detach() for name, value in model.named_parameters()}
def loss_of(p, x, y):
    return nn.functional.mse_loss(functional_call(model, p, (x,)), y)
for step in range(1, 7):
    x, y = batch(step)
    grads, loss = grad_and_value(loss_of)(params, x, y)
    params = {name: value - 0.05 * grads[name] for name, value in params.items()}
""",
    "accumulation": """
w = torch.randn(8, 1, requires_grad=True)
for step in range(1, 7):
    for part in zip(*(half.split(8) for half in batch(step))):
        nn.functional.mse_loss(part[0] @ w, part[1]).backward()
    with torch.no_grad():
        w -= 0.05 * w.grad
    w.grad = None
""",
}


def race(reprotui: Cli, script: str, *faults: str, exit_code: int = 1) -> list[dict[str, Any]]:
    """Race a script with itself and with its faults; return the verdicts."""
    reprotui.write("train.py", script)
    words = f"{sys.executable} train.py"
    labels = [word for label, fault in zip("cdefg", faults, strict=False) for word in (f"--{label}", f"{words} {fault}")]
    done = reprotui("race", "--json", "--name", "race", "--a", words, "--b", words, *labels, exit_code=exit_code)
    return json.loads(done.stdout)["verdicts"]


def recorded(run: Path, step: int) -> dict[str, list[str]]:
    """Return the paths of a record's leaves by phase."""
    with Trace(run / "trace.db") as trace:
        table = trace.table(trace.recorded(step).version)
    return {phase: [spec.path for spec in table.specs[start:end]] for phase, start, end in table.slices}


@pytest.mark.slow(but="accumulation")
@pytest.mark.parametrize("loop", LOOPS)
def test_a_step_is_a_backward_pass_after_which_the_parameters_change(reprotui: Cli, loop: str) -> None:
    same, x, y = race(reprotui, HEAD + LOOPS[loop], "x", "y")
    assert (same["kind"], same["equal_through"]) == ("identical", 6)
    assert [(item["step"], item["phase"]) for item in (x, y)] == [(3, "batch"), (3, "batch")]
    found = recorded(reprotui.runs / "race" / "a", 3)
    assert list(found) == ["batch", "rng", "forward", "grads", "params"]
    by_loop = {name: {"weight", "bias"} for name in ("functional", "an iterator")} | {
        name: {"w"} for name in ("accumulation", "one leaf")
    }
    names = by_loop.get(loop, {"w", "b"})
    if loop == "optimizer of one's own":
        names = {f"{n}/{kind}" for n in (0, 1, 2) for kind in ("weight", "bias")}
        assert "extra/1/running_mean" in found["forward"]
    assert set(found["params"]) == {f"params/{name}" for name in names}
    assert set(found["grads"]) == {f"grads/{name}" for name in names}
    assert "loss" in found["forward"]
    if loop == "accumulation":
        assert {"batch/mm/self", "batch/mse_loss/target", "metrics/loss_1"} <= {*found["batch"], *found["forward"]}


PAIR = """
G, D = nn.Linear(3, 8), nn.Linear(8, 1)
def update(model):
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.05 * p.grad
    G.zero_grad(), D.zero_grad()
for step in range(1, 4):
    x, _ = batch(step)
    (D(G(torch.randn(16, 3)).detach()).mean() - D(x).mean()).backward()
    update(D)
    (-D(G(torch.randn(16, 3))).mean()).backward()
    update(G)
"""


@pytest.mark.slow
def test_two_networks_that_take_turns_take_a_step_each(reprotui: Cli) -> None:
    same, x = race(reprotui, HEAD + PAIR, "x")
    assert (same["kind"], same["equal_through"]) == ("identical", 6)
    assert (x["step"], x["phase"]) == (5, "batch")
    found = recorded(reprotui.runs / "race" / "a", 6)
    assert {"params/G/weight", "params/D/weight"} <= set(found["params"])


@pytest.mark.slow
def test_an_optimizer_that_comes_later_goes_on_counting_and_passes_that_train_nothing_are_no_steps(reprotui: Cli) -> None:
    script = """
model = nn.Linear(8, 1)
def loss(step):
    x, y = batch(step)
    return nn.functional.mse_loss(model(x), y)
for step in range(1, 4):
    loss(step).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.05 * p.grad
            p.grad = None
if "only" not in sys.argv:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(4, 7):
        loss(step).backward()
        optimizer.step()
        optimizer.zero_grad()
"""
    same, x = race(reprotui, HEAD + script, "x")
    assert (same["kind"], same["equal_through"]) == ("identical", 6)
    assert (x["step"], x["phase"]) == (3, "batch")
    assert "opt_state/group_0/lr" in recorded(reprotui.runs / "race" / "a", 4)["optimizer"]
    reprotui.write("look.py", HEAD + "w = torch.ones(8, 1, requires_grad=True)\nfor _ in range(4): (X @ w).sum().backward()\n")
    reprotui("race", "--name", "look", "--", sys.executable, "look.py", exit_code=3)
    assert "nothing-observed" in dict(events_of(reprotui.runs / "look" / "a"))


ACTING = """
q, t = nn.Linear(4, 2), nn.Linear(4, 2)
optimizer = torch.optim.SGD(q.parameters(), 0.1)
for step in range(1, 5):
    seen = []
    for number in range(1, 4):
        s = torch.randn(4, generator=draws)
        if step == 3 and number == 2 and "acts" in sys.argv:
            s[0] += 1
        q(s).argmax()  # no loss comes of it, though its gradients could be taken
        seen.append(s)
    s = torch.stack(seen)
    with torch.no_grad():
        y = t(s + (step == 2) * sys.argv.count("looks")) * 0 + 1
    nn.functional.mse_loss(q(s), y).backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.slow
def test_what_a_network_is_asked_is_not_its_batch_and_is_said_where_it_differs_first(reprotui: Cli) -> None:
    same, acts, looks = race(reprotui, HEAD + ACTING, "acts", "looks")
    assert same["kind"] == "identical" and not any("asked" in note for note in same["notes"])
    assert (acts["step"], acts["phase"], [leaf["path"] for leaf in acts["leaves"]]) == (3, "batch", ["batch/0"])
    assert "what the network Linear was asked differs, at its 2nd call before step 3" in acts["cause"]["evidence"]
    # An evaluation of which nothing comes: the trainings are the same, and it is told.
    assert looks["kind"] == "identical"
    assert looks["notes"][0].startswith("what the network Linear#2 was asked differs, at its 1st call before step 2")
    assert recorded(reprotui.runs / "race" / "a", 3)["batch"] == ["batch/0", "batch/mse_loss/target"]


COPIES = """
import copy
model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1))
ema, target = copy.deepcopy(model), nn.Linear(8, 1)
average = torch.optim.swa_utils.AveragedModel(model)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(1, 6):
    x, y = batch(step)
    with torch.no_grad():
        y = y + 0 * target(x)
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    average.update_parameters(model)
    with torch.no_grad():
        for a, b in zip(ema.parameters(), model.parameters()):
            a.lerp_(b, 0.5 if step == 3 and "ema" in sys.argv else 0.1)
    if step == 3 and "average" in sys.argv:
        average.module[0].weight.data += 1
    if step == 3 and "target" in sys.argv:
        target.bias.data += 1
"""


@pytest.mark.slow
def test_copies_targets_and_averages_are_state_too(reprotui: Cli) -> None:
    same, *others = race(reprotui, HEAD + COPIES, "ema", "average", "target")
    assert same["kind"] == "identical"
    found = [(item["step"], item["phase"], item["leaves"][0]["path"]) for item in others]
    assert found == [
        (4, "params", "extra/ema/0/weight"), (4, "params", "extra/average/module/0/weight"), (4, "params", "extra/target/bias")
    ]  # fmt: skip
    assert "extra/target/weight" not in recorded(reprotui.runs / "race" / "a", 1)["params"]
