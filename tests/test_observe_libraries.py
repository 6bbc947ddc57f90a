"""Libraries that train with PyTorch or JAX, each by its own package: clean, and with one thing left to chance."""

import importlib.util
import json
import sys
from typing import Any

import pytest

from conftest import Cli
from reprotui.trace import Trace

DATA = """
import random, sys, warnings
warnings.filterwarnings("ignore")
import torch
torch.set_num_threads(1)
def shuffled(items):
    return random.Random(None if "--unseeded" in sys.argv else 0).sample(items, len(items))
"""
TRAINER = """
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed
config = BertConfig(
    vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=16
)
tokens = torch.randint(32, (32, 8), generator=torch.Generator().manual_seed(1))
rows = shuffled([{"input_ids": row, "labels": row[0] % 2} for row in tokens])
arguments = TrainingArguments(
    output_dir="out", max_steps=3, per_device_train_batch_size=4, gradient_accumulation_steps=2, use_cpu=True, report_to=[],
    save_strategy="no", logging_strategy="no", disable_tqdm=True,
)
set_seed(0)
Trainer(BertForSequenceClassification(config), arguments, train_dataset=rows).train()
"""
ACCELERATE = """
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, TensorDataset
set_seed(0)
x = torch.stack(shuffled(list(torch.randn(32, 8))))
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Dropout(0.1), torch.nn.Linear(4, 1))
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True, num_workers=1)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=8)
model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
for _ in range(2):
    for a, b in loader:
        with accelerator.accumulate(model):
            accelerator.backward(torch.nn.functional.mse_loss(model(a), b))
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
"""
KERAS = """
import numpy as np, keras
keras.utils.set_random_seed(0)
x = np.stack(shuffled(list(np.random.default_rng(1).normal(size=(64, 8)).astype("float32"))))
layers = keras.layers.Input((8,)), keras.layers.Dense(4, "relu"), keras.layers.Dropout(0.1), keras.layers.Dense(1)
model = keras.Sequential(layers)
model.compile(keras.optimizers.Adam(1e-2), "mse")
model.fit(x, x.sum(1), batch_size=16, epochs=2, verbose=0)
"""
IGNITE = """
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.utils import manual_seed
from torch.utils.data import DataLoader, TensorDataset
manual_seed(0)
x = torch.stack(shuffled(list(torch.randn(64, 8))))
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=16, shuffle=True)
model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), 1e-2), torch.nn.MSELoss())
evaluator = create_supervised_evaluator(model)
trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run(loader))
trainer.run(loader, max_epochs=2)
"""
PPO = """
import gymnasium
from stable_baselines3 import PPO
model = PPO(
    "MlpPolicy", "CartPole-v1", n_steps=32, batch_size=16, n_epochs=1, seed=0, device="cpu", policy_kwargs={"net_arch": [8]}
)
if "--unseeded" in sys.argv:
    model.set_env(gymnasium.make("CartPole-v1"))
model.learn(64)
"""
DQN = """
import gymnasium
from stable_baselines3 import DQN
model = DQN(
    "MlpPolicy", "CartPole-v1", learning_starts=16, batch_size=8, train_freq=4, buffer_size=100, seed=0, device="cpu",
    policy_kwargs={"net_arch": [8]},
)
if "--unseeded" in sys.argv:
    model.set_env(gymnasium.make("CartPole-v1"))
model.learn(48)
"""
SHUFFLED = "the batch differs, because random.Random at train.py:7 was given no seed"
LIBRARIES = {
    "transformers": (TRAINER, 3, ["batch/input_ids", "batch/labels", "batch/call_2/input_ids"]),
    "accelerate": (ACCELERATE, 4, ["batch/0", "batch/mse_loss/target", "batch/call_2/0"]),
    "ignite": (IGNITE, 8, ["batch/0", "batch/MSELoss/1"]),
    "keras": (KERAS, 8, ["batch/0"]),
}


def needs(library: str) -> None:
    """Skip a test where a library is not installed; it is not imported here, because Keras asks for a backend."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def verdicts(reprotui: Cli, script: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Race a script with itself, then with what it leaves to chance; return both verdicts."""
    reprotui.write("train.py", script)
    words = sys.executable, "train.py"
    same = reprotui("race", "--json", "--name", "same", "--", *words, exit_code=0)
    other = reprotui("race", "--json", "--name", "other", "--", *words, "--unseeded", exit_code=1)
    return json.loads(same.stdout)["verdicts"][0], json.loads(other.stdout)["verdicts"][0]


def paths(reprotui: Cli, step: int) -> set[str]:
    """Return the leaves of a record of the clean run."""
    with Trace(reprotui.runs / "same" / "a" / "trace.db") as trace:
        return {spec.path for spec in trace.table(trace.recorded(step).version).specs}


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_trains_as_its_records_say(reprotui: Cli, library: str) -> None:
    needs(library)
    script, steps, batch = LIBRARIES[library]
    reprotui.environment["KERAS_BACKEND"] = "torch"
    same, other = verdicts(reprotui, DATA + script)
    assert (same["kind"], same["equal_through"]) == ("identical", steps)
    assert (other["step"], other["phase"], other["cause"]["sentence"]) == (1, "batch", SHUFFLED)
    assert set(batch) <= paths(reprotui, steps)


@pytest.mark.slow
def test_keras_on_jax_trains_as_its_records_say(reprotui: Cli) -> None:
    needs("keras")
    reprotui.environment["KERAS_BACKEND"] = "jax"
    same, other = verdicts(reprotui, DATA.replace("import torch\ntorch.set_num_threads(1)\n", "\n\n") + KERAS)
    assert (same["kind"], same["equal_through"]) == ("identical", 8)
    assert (other["step"], other["phase"], other["cause"]["sentence"]) == (1, "batch", SHUFFLED)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_an_agent_whose_environment_has_no_seed_is_asked_something_else_first(reprotui: Cli, algorithm: str) -> None:
    needs("stable_baselines3")
    same, other = verdicts(reprotui, DATA + algorithm)
    assert same["kind"] == "identical" and same["equal_through"] >= 4
    assert (other["step"], other["phase"]) == (1, "batch")
    said = other["cause"]["sentence"]
    assert said.startswith("what the network ") and "was asked differs, at its 1st call before step 1" in said
    assert "env.reset() at train.py:" in said and "was given no seed" in said
