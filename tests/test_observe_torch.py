"""PyTorch as people write it: closures, Lightning's way of stepping, L-BFGS, compiled and wrapped models."""

import json
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli
from reprotui.trace import Trace

LOOP = """
import random, sys, torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)
{model}
data = [(torch.randn(8), torch.randn(1)) for _ in range(32)]
seed = 1 if "--seeded" in sys.argv else None
for epoch in range(2):
    if seed: random.seed(seed)
    random.shuffle(data)
    for k in range(0, 32, 8):
        x, y = (torch.stack([item[i] for item in data[k : k + 8]]) for i in (0, 1))
        def closure():
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            return loss
        optimizer.step({closure})
"""
MODEL = "model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))\n"
ADAM = MODEL + "optimizer = torch.optim.AdamW(model.parameters(), 1e-2)"
NEWTON = MODEL + "optimizer = torch.optim.LBFGS(model.parameters(), 0.5, max_iter=3)"


def race(reprotui: Cli, script: str, *arguments: str, exit_code: int) -> dict[str, Any]:
    """Race a script against itself; return the verdict."""
    reprotui.write("train.py", script)
    done = reprotui("race", "--json", "--name", "race", "--", sys.executable, "train.py", *arguments, exit_code=exit_code)
    return json.loads(done.stdout)["verdicts"][0]


def leaves(reprotui: Cli, step: int) -> list[tuple[str, str]]:
    """Return phase and path of the leaves of a step of run A."""
    with Trace(reprotui.runs / "race" / "a" / "trace.db") as trace:
        row = trace.row(step)
        assert row is not None
        table = trace.table(row.version)
        return list(zip(table.phases, (spec.path for spec in table.specs), strict=True))


@pytest.mark.slow(but="closure=closure")
@pytest.mark.parametrize("closure", ["closure", "closure=closure"])
def test_what_a_closure_does_comes_before_the_update(reprotui: Cli, closure: str) -> None:
    found = race(reprotui, LOOP.format(model=ADAM, closure=closure), exit_code=1)
    assert (found["step"], found["phase"]) == (1, "batch")
    assert "random.shuffle at train.py:" in found["cause"]["sentence"] and "which nothing seeded" in found["cause"]["sentence"]
    recorded = leaves(reprotui, 1)
    assert [path for phase, path in recorded if phase in ("batch", "forward")] == ["batch/0", "batch/mse_loss/target", "loss"]
    assert {path for phase, path in recorded if phase == "grads"} == {
        f"grads/{n}/{w}" for n in (0, 2) for w in ("weight", "bias")
    }


@pytest.mark.slow
def test_the_same_with_a_seed_is_identical(reprotui: Cli) -> None:
    assert race(reprotui, LOOP.format(model=ADAM, closure="closure"), "--seeded", exit_code=0)["kind"] == "identical"


@pytest.mark.slow
def test_evaluations_after_the_first_follow_an_update(reprotui: Cli) -> None:
    found = race(reprotui, LOOP.format(model=NEWTON, closure="closure"), exit_code=1)
    assert (found["step"], found["phase"]) == (1, "batch")
    recorded = leaves(reprotui, 1)
    assert [path for phase, path in recorded if phase in ("batch", "forward")] == ["batch/0", "batch/mse_loss/target", "loss"]
    assert ("optimizer", "batch/call_2/0") in recorded and ("optimizer", "metrics/loss_2") in recorded
    assert len([path for phase, path in recorded if phase == "grads"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", ["torch.compile(model, backend='eager')", "nn.DataParallel(model)"])
def test_a_wrapped_model_is_the_same_model(reprotui: Cli, wrapped: str) -> None:
    wrap = f"\nif '--wrapped' in sys.argv: model = {wrapped}\n"
    script = LOOP.format(model=MODEL + wrap + "optimizer = torch.optim.AdamW(model.parameters(), 1e-2)", closure="closure")
    reprotui.write("train.py", script)
    words = f"{sys.executable} train.py --seeded"
    reprotui("race", "--name", "race", "--a", words, "--b", f"{words} --wrapped", exit_code=None)
    tables = []
    for label in ("a", "b"):
        with Trace(reprotui.runs / "race" / label / "trace.db") as trace:
            row = trace.row(1)
            assert row is not None
            tables.append([spec.path for spec in trace.table(row.version).specs])
    assert tables[0] == tables[1]
    assert "params/0/weight" in tables[0]


LIGHTNING = """
import sys, warnings
import lightning, torch
from torch.utils.data import DataLoader, TensorDataset
warnings.filterwarnings("ignore")
lightning.seed_everything(0, verbose=False)
torch.set_num_threads(1)
x = torch.randn(64, 8)
order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
if "--unseeded" in sys.argv:
    import random
    order = torch.tensor(random.Random().sample(range(64), 64))
data = TensorDataset(x[order], x[order].sum(1, keepdim=True))

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 1))
    def forward(self, x):
        return self.net(x)
    def training_step(self, batch, _):
        return torch.nn.functional.mse_loss(self(batch[0]), batch[1])
    def validation_step(self, batch, _):
        torch.nn.functional.mse_loss(self(batch[0]), batch[1])
    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 1e-2)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)]

trainer = lightning.Trainer(
    max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False, gradient_clip_val=1.0,
)
trainer.fit(Model(), DataLoader(data, batch_size=8, shuffle=True), DataLoader(data, batch_size=8))
"""


@pytest.mark.slow
def test_lightning_steps_by_a_closure_and_its_validation_is_no_step(reprotui: Cli) -> None:
    pytest.importorskip("lightning")
    assert race(reprotui, LIGHTNING, exit_code=0)["equal_through"] == 16
    done = reprotui("race", "--json", "--name", "chance", "--", sys.executable, "train.py", "--unseeded", exit_code=1)
    found = json.loads(done.stdout)["verdicts"][0]
    assert (found["step"], found["phase"]) == (1, "batch")
    # Before its first step Lightning looks whether the validation works, here with data in the same unseeded order.
    asked = "what the network was asked differs, at its 1st call before step 1"
    assert found["cause"]["sentence"] == f"{asked}, because random.Random at train.py:12 was given no seed"
    assert any("batch" in line for line in found["cause"]["evidence"])


SCALED = """
import sys, torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
model = nn.ModuleDict({"body": nn.Linear(8, 16), "head": nn.Linear(16, 1), "other": nn.Linear(16, 1)})
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = model
    def forward(self, x, both):
        hidden = torch.tanh(self.parts["body"](x))
        return self.parts["head"](hidden) + (self.parts["other"](hidden) if both else 0)
net = Net()
optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
scaler = torch.amp.GradScaler("cpu", init_scale=192.0 if "scale" in sys.argv else 256.0, growth_interval=4)
for step in range(1, 11):
    x, y = torch.randn(4, 8), torch.randn(4, 1)
    if step == 5 and "overflow" in sys.argv:
        x[0, 0] = float("inf")
    if not (step == 6 and "kept" in sys.argv):
        optimizer.zero_grad(set_to_none="zeros" not in sys.argv)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(x, step == 1)
    loss = nn.functional.mse_loss(out.float(), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
"""
SCALED_FAULTS = {
    "same": None,
    "scale": (1, "forward", "loss"),  # of what is scaled otherwise the loss differs first
    "overflow": (5, "batch", "batch/0"),  # the scaler leaves out this step; its batch enters the next one's record
    "kept": (6, "grads", "grads/parts/body/weight"),  # the gradients of the step before were not taken away
    "zeros": (2, "grads", "grads/parts/other/weight"),  # zeros in the place of none: only one run has them, and decays
}
"""The first leaf that differs, by what was planted."""


@pytest.mark.slow
def test_a_scaler_of_gradients_and_how_they_are_taken_away(reprotui: Cli) -> None:
    reprotui.write("train.py", SCALED)
    words = f"{sys.executable} train.py"
    members = [part for label, fault in zip("bcdef", SCALED_FAULTS, strict=True) for part in (f"--{label}", f"{words} {fault}")]
    done = reprotui("race", "--json", "--a", words, *members, exit_code=1)
    for (fault, expected), found in zip(SCALED_FAULTS.items(), json.loads(done.stdout)["verdicts"], strict=True):
        if expected is None:
            assert found["headline"] == "IDENTICAL through step 10"
        else:
            assert (found["step"], found["phase"], found["leaves"][0]["path"]) == expected
            assert found["cause"]["sentence"].endswith(f"because of argument_1: none → {fault}")


COMPILED = """
import sys, torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), 1e-2 * (4 if "fast" in sys.argv else 1))
if "compiled" in sys.argv:
    model = torch.compile(model, backend=sys.argv[-1])
for step in range(8):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    loss.backward()
    optimizer.step()
"""


@pytest.mark.slow
def test_an_eager_model_and_its_compiled_twin_are_within_a_tolerance_and_another_rate_is_not(reprotui: Cli) -> None:
    """With the real compiler where there is one for C++, which torch's needs on the CPU."""
    backend = "inductor" if shutil.which("c++") and Path(sysconfig.get_path("include"), "Python.h").exists() else "aot_eager"
    reprotui.write("train.py", COMPILED)
    words = f"{sys.executable} train.py"
    b, c = f"{words} compiled {backend}", f"{words} fast compiled {backend}"
    done = reprotui("race", "--json", "--tolerance", "rel=1e-2", "--a", words, "--b", b, "--c", c, exit_code=1)
    twin, faster = json.loads(done.stdout)["verdicts"]
    assert twin["kind"] == "identical" or (twin["distance"]["kind"] == "within" and twin["phase"] in ("forward", "grads"))
    assert faster["distance"]["kind"] == "exceeded"
    assert (faster["step"], faster["leaves"][0]["path"]) == (0, "opt_state/group_0/lr")
    tables = []
    for label in "ab":
        with Trace(next(reprotui.runs.iterdir()) / label / "trace.db") as trace:
            tables.append({spec.path for row in trace.rows() for spec in trace.table(row.version).specs})
    assert tables[0] == tables[1] and "params/0/weight" in tables[0]
