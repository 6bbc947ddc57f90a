"""`reprotui env`, and what the capture knows beyond packages: OS, GPUs and driver, builds."""

import json
import os
from importlib import metadata

import pytest

from conftest import SAMPLES, Cli
from reprotui import environment
from reprotui.environment import capture_environment, compare_environments, gpus, package_builds


@pytest.fixture
def command(tmp_path, bare_environment):
    return Cli(tmp_path, bare_environment)


@pytest.fixture
def no_cache():
    gpus.cache_clear()
    yield
    gpus.cache_clear()


def test_builds_are_read_without_importing():
    builds = package_builds()
    assert len(builds["jaxlib"]["git_hash"]) == 40
    assert set(builds["torch"]) == {"cuda", "hip", "git_version"}
    assert capture_environment()["builds"] == builds
    assert metadata.version("torch") == capture_environment()["packages"]["torch"]


def test_gpus_come_from_nvidia_smi(tmp_path, monkeypatch, no_cache):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771 MiB, 570.86.15'\necho 'NVIDIA H200, 143771 MiB, 570.86.15'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    card = {"name": "NVIDIA H200", "memory": "143771 MiB", "driver": "570.86.15"}
    assert capture_environment()["gpus"] == [card, card]


def test_gpus_come_from_the_driver_where_there_is_no_nvidia_smi(tmp_path):
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "gpus" / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA A100-SXM4\nIRQ: 3\n")
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version: 11\n")
    assert environment._gpus_of_the_driver(tmp_path) == ({"name": "NVIDIA A100-SXM4", "driver": "535.104.05"},)
    assert environment._gpus_of_the_driver(tmp_path / "absent") == ()


def test_a_gpu_more_and_another_driver_are_differences():
    a = {"gpus": [{"name": "x", "driver": "1"}]}
    b = {"gpus": [{"name": "x", "driver": "2"}, {"name": "y", "driver": "2"}]}
    assert list(map(str, compare_environments(a, b))) == [
        "gpus: 1 → 2", "gpus.0.driver: 1 → 2", "gpus.1.name: unset → y", "gpus.1.driver: unset → 2",
    ]  # fmt: skip


def test_a_manifest_of_an_earlier_version_does_not_differ_by_what_it_lacks():
    new = capture_environment()
    old = {name: value for name, value in new.items() if name not in environment.LATER_ENTRIES}
    assert compare_environments(old, new) == compare_environments(new, old) == []
    assert [item.name for item in compare_environments(new | {"os": "Plan 9"}, new)] == ["os"]


def test_the_command_shows_and_compares(command):
    assert "packages" in command("env").stdout
    path = command.write("monday.json", command("env", "--json").stdout)
    assert command("env", "--diff", path, path).stdout == "the environments are equal\n"
    value = json.loads(path.read_text())
    value["packages"]["jax"] = "0.0.1"
    other = command.write("tuesday.json", json.dumps(value))
    done = json.loads(command("env", "--diff", path, other, "--json", exit_code=1).stdout)
    assert [item["name"] for item in done["differences"]] == ["packages.jax"]
    assert "packages.jax: " in command("env", "--diff", path, other, exit_code=1).stdout


@pytest.mark.slow
def test_the_command_compares_runs(command):
    a, b = SAMPLES / "bit-flip" / "a", SAMPLES / "bit-flip" / "b"
    assert command("env", "--diff", a, b).stdout == "the environments are equal\n"
    assert command("env", "--diff", "a", "b", "--runs-dir", SAMPLES / "bit-flip").returncode == 0
    assert "name one of its runs" in command("env", "--diff", SAMPLES / "bit-flip", a, exit_code=2).stderr
    command("env", "--diff", "absent", a, exit_code=2)
    command("env", "--diff", command.write("x.json", "{}"), a, exit_code=3)
    command("env", "--diff", command.write("y.json", "no"), a, exit_code=2)
