"""The JobSet that `reprotui manifest` prints: of the form that the cluster expects, and its pods' commands train."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import MLP, Cli

TRAIN = """
import os
import numpy as np
from reprotui import Recorder
rank = int(os.environ.get("RANK", 0))
weights = np.ones(4, np.float32) * float(os.environ.get("SCALE", 1))
with Recorder() as recorder:
    for step in range(1, 6):
        weights = weights * np.float32(0.9)
        recorder.step(step, batch=np.full(3, rank, np.float32), params=weights, loss=float(weights.sum()))
"""
OF_ALL = ("--image", "me/train:1", "--claim", "runs", "--name", "check")


def printed(cli: Cli, *arguments: object) -> dict[str, Any]:
    done = cli("manifest", *OF_ALL, *arguments)
    return yaml.safe_load(done.stdout)


def pod(job: dict[str, Any], index: int, cli: Cli) -> subprocess.Popen[str]:
    """Start the command of a pod as the cluster would."""
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    variables = {}
    for entry in container["env"]:
        if "value" not in entry:
            assert entry["valueFrom"]["fieldRef"]["fieldPath"].endswith("['batch.kubernetes.io/job-completion-index']")
        variables[entry["name"]] = entry.get("value", str(index))
    environment = {**cli.environment, "JOB_COMPLETION_INDEX": str(index), **variables}
    return subprocess.Popen(
        container["command"], env=environment, cwd=cli.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def train(cli: Cli, found: dict[str, Any]) -> None:
    """Run all pods, those of one run at once."""
    for job in found["spec"]["replicatedJobs"]:
        pods = [pod(job, index, cli) for index in range(job["template"]["spec"]["completions"])]
        said = [each.communicate(timeout=300)[0] for each in pods]
        assert [each.returncode for each in pods] == [0] * len(pods), said


@pytest.fixture
def cli(reprotui: Cli) -> Cli:
    reprotui.write("train.py", TRAIN)
    python = Path(sys.executable).parent
    reprotui.environment = {**reprotui.environment, "PATH": f"{python}:{reprotui.environment['PATH']}"}
    return reprotui


@pytest.mark.parametrize("more", [(), ("--processes", "2", "--gpus", "8", "--queue", "team", "--directory", "/src")])
def test_the_form_is_that_of_a_job_set(cli: Cli, more: tuple[str, ...]) -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models")
    found = printed(cli, *more, "--", "python", "train.py")
    # What the models do not know does not come out of them again.
    assert json.loads(models.JobsetV1alpha2JobSet.from_dict(found).to_json()) == found


def test_two_runs_of_two_pods_are_one_comparison(cli: Cli) -> None:
    found = printed(cli, "--mount", cli.runs, "--processes", "2", "--gpus", "8", "--queue", "team", "--", "python", "train.py")
    assert found["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team"}
    (container,) = found["spec"]["replicatedJobs"][1]["template"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "8"}}
    told = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert told["MASTER_ADDR"] == "check-b-0-0.check" and told["WORLD_SIZE"] == "2" and told["RANK"] is None
    train(cli, found)
    assert (cli.runs / "check-a/ranks/0001/trace.db").is_file()
    verdict = cli.compare("check-a", "check-b")["verdicts"][0]
    assert verdict["kind"] == "identical"


def test_another_command_for_b_is_told_apart_with_its_variables(cli: Cli) -> None:
    found = printed(cli, "--mount", cli.runs, "--b", "SCALE=2 python train.py", "--", "python", "train.py")
    train(cli, found)
    assert cli.compare("check-a", "check-b", exit_code=1)["verdicts"][0]["step"] == 1


@pytest.mark.slow
def test_an_experiment_trains_too(cli: Cli) -> None:
    train(cli, printed(cli, *MLP, "--mount", cli.runs))
    assert cli.compare("check-a", "check-b")["verdicts"][0]["kind"] == "identical"


def test_what_to_do_with_it_is_said_beside_it(cli: Cli) -> None:
    done = cli("manifest", *OF_ALL, "--", "python", "-m", "train", "--lr", "0.1")
    assert "both runs write into the claim runs, mounted at /runs" in done.stderr
    assert "reprotui compare check-a check-b --runs-dir /runs" in done.stderr
    first = yaml.safe_load(done.stdout)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]
    assert first["command"] == [
        "python", "-m", "reprotui.observe", "--name", "check-a", "-m", "train", "--lr", "0.1",
    ]  # fmt: skip
    assert not cli.runs.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--", "torchrun", "train.py"], "expected `python train.py` or `python -m module`"),
        (["--processes", "2", "digits-mlp"], "an experiment trains in one process"),
        (["digits-mlp", "nope=1"], "nope"),
        (["digits-mlp", "--b", "digits-cnn"], "--b digits-cnn: expected key=value"),
        (["--b", "seed=1", "--", "python", "train.py"], "expected one command in quotes"),
        (["transformer", "--", "python", "train.py"], "'transformer' stands before a script's command"),
        (["--mount", "runs"], "expected an absolute path below /"),
        (["--gpus", "-1"], "--gpus -1: expected 0 or more"),
        (["--name", "Big_Name"], "'Big_Name' cannot be the name of a JobSet"),
    ],
)
def test_what_cannot_be_is_said(reprotui: Cli, arguments: list[str], said: str) -> None:
    assert said in reprotui("manifest", *OF_ALL, *arguments, exit_code=2).stderr


def test_an_image_and_a_claim_are_needed(reprotui: Cli) -> None:
    assert "the following arguments are required: --image, --claim" in reprotui("manifest", exit_code=2).stderr
