"""What of a command can be a cause: the settings of its script, never what only starts it, or names what it writes."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE, Cli
from reprotui.commands import script_of, settings_of, unobserved
from reprotui.compare.arguments import only_names
from reprotui.compare.around import ConfigDifference
from reprotui.environment import first_variables
from reprotui.trace import PHASES

STARTED = [
    ("python train.py --lr 1", {"lr": 1}),
    ("taskset -c 0,1 python train.py --lr 1", {"lr": 1}),
    ("taskset 0x3 python3 -u train.py --lr 1", {"lr": 1}),
    ("nice -n 5 ionice -c 3 python train.py --lr 1", {"lr": 1}),
    ("numactl --cpunodebind=0 -m 0 python -m train --lr 1", {"lr": 1}),
    ("chrt -b 0 python train.py --lr 1", {"lr": 1}),
    ("sh -c 'exec taskset -c 0 python train.py --lr 1'", {"lr": 1}),
    ("env -u HOME DATA=/x NPROC=2 python train.py --lr 1", {"lr": 1, "DATA": "/x"}),
    ("bash -c 'DATA=/x python train.py --lr 1'", {"lr": 1, "DATA": "/x"}),
    ("taskset -c 0 torchrun train.py", {"command": "torchrun train.py"}),
    # Where a shell does more than start one command, the command is all that is known.
    ("sh -c 'python train.py | tee log'", {"command": "sh -c 'python train.py | tee log'"}),
    ("sh train.sh", {"command": "sh train.sh"}),
    ("nice", {"command": "nice"}),
]


@pytest.mark.parametrize(("command", "settings"), STARTED)
def test_the_settings_of_a_command_are_those_of_its_script(command: str, settings: dict[str, Any]) -> None:
    assert settings_of(shlex.split(command)) == settings


def test_the_script_of_a_command_and_the_command_without_its_observer() -> None:
    assert script_of(shlex.split("taskset -c 0 python -W error train.py a b")) == ("train.py", ["a", "b"])
    observed = "python -u -m reprotui.observe --name x --loss l train.py --name y"
    assert unobserved(observed.split()) == ["python", "-u", "train.py", "--name", "y"]
    assert unobserved(["python", "train.py"]) == ["python", "train.py"]


@pytest.mark.parametrize(
    "name", ["out", "output-dir", "log_dir", "logdir", "run_name", "save", "wandb-project", "outputDir", "exp_name"]
)
def test_a_name_of_what_is_written_enters_no_computation(name: str) -> None:
    assert only_names(ConfigDifference(name, "x", "y", PHASES))
    assert not only_names(ConfigDifference(name, 1, 2, PHASES))  # an interval, or a number of something
    assert not only_names(ConfigDifference(name, "x", "y", ("batch",)))  # an experiment says what its settings enter


@pytest.mark.parametrize(
    "name", ["lr", "data_dir", "model_name", "dataset", "resume_from", "load_path", "input", "argument_1", "activation"]
)
def test_an_argument_that_may_be_read_can_be_a_cause(name: str) -> None:
    assert not only_names(ConfigDifference(name, "x", "y", PHASES))


TRAIN = """
import os, sys
import jax, jax.numpy as jnp
cores = float(len(os.sched_getaffinity(0)))
changed = sum(map(len, sys.argv)) if "--lr" in sys.argv else os.getpid() if "--out" in sys.argv else 0
train = jax.jit(lambda w, x: (w - 0.1 * x * cores, (w * x).sum() * cores))
w = jnp.ones(3)
for step in range(4):
    w, loss = train(w, jnp.ones(3) + changed)
"""


def compared(reprotui: Cli, a: str, b: str, exit_code: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Race two command lines, `python` for this one; return the verdict and both manifests."""
    reprotui.write("train.py", TRAIN)
    words = [text.replace("python", sys.executable) for text in (a, b)]
    found = reprotui("race", "--json", "--name", "race", "--a", words[0], "--b", words[1], exit_code=exit_code)
    manifests = [json.loads((reprotui.runs / "race" / label / "run.json").read_text()) for label in "ab"]
    return json.loads(found.stdout)["verdicts"][0], manifests


@pytest.mark.slow
def test_a_shell_and_a_priority_are_no_difference_and_variables_are_those_of_the_start(reprotui: Cli) -> None:
    verdict, manifests = compared(reprotui, "python train.py --seed 1", "sh -c 'exec nice -n 1 python train.py --seed 1'", 0)
    assert verdict["kind"] == "identical"
    assert [manifest["config"] for manifest in manifests] == [{"seed": 1}, {"seed": 1}]
    # One is observed from its first line on, the other when it takes a step, and jax has set variables of its own by then.
    assert manifests[0]["environment"]["variables"] == manifests[1]["environment"]["variables"]
    assert manifests[0]["experiment"] == manifests[1]["experiment"]


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be taken away")
def test_the_cores_that_are_taken_away_are_the_cause_not_the_command_that_takes_them(reprotui: Cli) -> None:
    core = min(os.sched_getaffinity(0))
    verdict, _ = compared(reprotui, "python train.py", f"taskset -c {core} python train.py", 1)
    threads = f"devices.cpu_threads: {len(os.sched_getaffinity(0))} → 1"
    assert verdict["phase"] != "batch" and threads in verdict["cause"]["sentence"]
    assert not any("taskset" in text or "command" in text for text in json.dumps(verdict).split('"'))


@pytest.mark.slow
def test_a_path_of_output_is_told_only_where_nothing_else_is_there(reprotui: Cli) -> None:
    verdict, _ = compared(reprotui, "python train.py --out x", "python train.py --out y", 1)
    assert verdict["cause"]["sentence"].endswith("; of the settings nothing differs but out: x → y")
    assert verdict["cause"]["explained_by"] == [] and "out: x → y" in verdict["cause"]["unrelated"]


@pytest.mark.slow
def test_runs_started_by_hand_are_told_apart_by_their_commands(reprotui: Cli) -> None:
    reprotui.write("train.py", TRAIN)
    for name, rate in (("one", "1"), ("two", "22")):
        command = [sys.executable, "-m", "reprotui.observe", "--name", name, "train.py", "--lr", rate]
        subprocess.run(command, cwd=reprotui.directory, env=reprotui.environment, check=True, timeout=PATIENCE)
    cause = reprotui.compare("one", "two", exit_code=1)["verdicts"][0]["cause"]
    assert cause["sentence"] == "the batch differs, because of lr: 1 → 22"
    assert cause["unrelated"] == []


def test_variables_are_those_that_the_process_was_started_with(tmp_path: Path) -> None:
    script = (
        "import os; os.environ['TPU_X'] = '1'; from reprotui.environment import first_variables\n"
        "print(first_variables().get('TPU_X'), first_variables()['XLA_X'], os.environ['TPU_X'])"
    )
    environment = {**os.environ, "XLA_X": "2"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == (["None", "2", "1"] if Path("/proc/self/environ").exists() else ["1", "2", "1"])
    assert "PATH" in first_variables()
