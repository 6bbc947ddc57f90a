"""The environment of a run: what is captured, without frameworks, and what counts as a difference."""

import os
import subprocess
import sys

import pytest

from reprotui.environment import capture_environment, compare_environments, cpu_model, git_state, package_versions


def git(directory, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", "-C", directory, *identity, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "train.py").write_text("lr = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def names(differences):
    return [difference.name for difference in differences]


def test_capture_loads_no_framework():
    script = (
        "import sys; from reprotui.environment import capture_environment, compare_environments\n"
        "compare_environments(capture_environment(), capture_environment())\n"
        "print(sorted({'jax', 'jaxlib', 'torch', 'flax', 'optax', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_capture_describes_this_process(monkeypatch, repository):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    monkeypatch.setenv("NPROC", "3")
    monkeypatch.setenv("MY_SECRET_TOKEN", "hunter2")
    found = capture_environment(repository)
    assert found["executable"] == sys.executable
    assert found["packages"]["jax"] == package_versions()["jax"]
    assert found["cpu"]["model"] == cpu_model()
    assert found["cpu"]["count"] == os.cpu_count()
    assert found["variables"]["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2"
    assert found["variables"]["NPROC"] == "3"
    assert found["git"] == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False, "diff_digest": None}
    assert "hunter2" not in str(found)


def test_affinity_is_that_of_the_process():
    script = (
        "import os; from reprotui.environment import capture_environment as c\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(c()['cpu']['affinity'])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "1"


def test_an_environment_does_not_differ_from_itself(repository):
    assert compare_environments(capture_environment(repository), capture_environment(repository)) == []


def test_differences_are_named_by_their_path_in_stable_order():
    a = {"python": "3.11", "packages": {"jax": "1", "torch": "2"}, "cpu": {"count": 2}, "git": None}
    b = {"python": "3.12", "packages": {"jax": "1", "optax": "3"}, "cpu": {"count": 4}, "git": {"commit": "c", "dirty": False}}
    differences = compare_environments(a, b)
    assert list(map(str, differences)) == [
        "python: 3.11 → 3.12",
        "packages.torch: 2 → unset",
        "cpu.count: 2 → 4",
        "packages.optax: unset → 3",
        "git.commit: unset → c",
        "git.dirty: unset → False",
    ]
    assert names(compare_environments(b, a)) != []


def test_a_changed_variable_is_a_difference_and_a_neutral_one_is_not(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--a")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/one")
    before = capture_environment()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/two")
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "1")
    assert compare_environments(before, capture_environment()) == []
    assert capture_environment()["variables"]["JAX_COMPILATION_CACHE_DIR"] == "/two"
    monkeypatch.setenv("XLA_FLAGS", "--b")
    assert list(map(str, compare_environments(before, capture_environment()))) == ["variables.XLA_FLAGS: --a → --b"]


def test_git_state_tells_uncommitted_changes_apart(repository):
    clean = git_state(repository)
    assert clean["dirty"] is False
    (repository / "train.py").write_text("lr = 2\n")
    first = git_state(repository)
    (repository / "train.py").write_text("lr = 3\n")
    second = git_state(repository)
    assert first["dirty"] and second["dirty"]
    assert first["commit"] == second["commit"] == clean["commit"]
    assert len({first["diff_digest"], second["diff_digest"], None}) == 3
    (repository / "train.py").write_text("lr = 1\n")
    assert git_state(repository) == clean
    (repository / "new.py").write_text("")
    assert git_state(repository)["dirty"]


def test_git_state_of_a_directory_below_the_root_is_the_repositorys(repository):
    (repository / "inside").mkdir()
    assert git_state(repository / "inside") == git_state(repository)


def test_there_is_no_git_state_without_repository_commit_directory_or_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / "absent") is None
    git(tmp_path, "init")
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None
