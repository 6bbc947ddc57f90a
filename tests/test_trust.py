"""Runs of other people: looking at them runs nothing of theirs, and training from them asks first."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import MLP, QUICK_COMPILATION, Cli, edit_manifest, parsed
from pilots import dashboard, drive
from reprotui.run_directory import RunDirectory
from reprotui.trust import made_here
from reprotui.tui.screens.confirm import ConfirmScreen
from reprotui.variables import CACHE, recorded_environment, taken_over

EXPERIMENT = """
from pathlib import Path
import numpy as np, jax.numpy as jnp
from reprotui.experiments import State, StepOutput

Path(__file__).with_name("was-run").touch()

class Experiment:
    def __init__(self, config): pass

    def init(self, key):
        return State({"w": jnp.zeros(3)}, ())

    def batch(self, step):
        return np.full(3, step, np.float32)

    def train_step(self, state, batch, key):
        grads = {"w": state.params["w"] - batch}
        return State({"w": state.params["w"] - 0.1 * grads["w"]}, ()), StepOutput(jnp.sum(batch), grads)
"""
SITE = "from pathlib import Path\nPath(__file__).with_name('was-run').touch()\n"


@pytest.fixture(scope="session")
def made(once: Any, environment: dict[str, str]) -> Path:
    """Return a working directory with a run of an experiment file, `runs/own`, that saved at 3. Only read it."""

    def build(path: Path) -> None:
        cli = Cli(path, environment)
        cli.write("theirs/experiment.py", EXPERIMENT)
        cli("run", "theirs/experiment.py", "steps=5", "--save-at", 3, "--name", "own")
        cli("run", *MLP, "--save-at", 5, "--name", "built-in")

    return once("trust", build)


@pytest.fixture
def own(made: Path, reprotui: Cli) -> Path:
    """Return a run of an experiment file that this user recorded."""
    shutil.copytree(made / "runs", reprotui.runs)
    marker = made / "theirs" / "was-run"
    marker.unlink(missing_ok=True)
    return reprotui.runs / "own"


@pytest.fixture
def foreign(own: Path, reprotui: Cli) -> Path:
    """Return a run that says that it is of an experiment file in a folder that was unpacked here."""
    file = reprotui.write("unpacked/experiment.py", EXPERIMENT)
    # As a stranger would: everything is consistent, the mark of a run of ours included.
    edit_manifest(own, experiment=lambda entry: {**entry, "path": str(file)}, working_directory=str(file.parent))
    for name in ("json.py", "sitecustomize.py", "jax.py"):
        reprotui.write(f"unpacked/{name}", SITE)
    meddle_with_variables(own, file.parent)
    return own


def meddle_with_variables(run: Path, folder: Path) -> None:
    """Let a manifest set variables that run code."""
    planted = {
        "PYTHONPATH": str(folder), "PYTHONSTARTUP": str(folder / "sitecustomize.py"), "LD_LIBRARY_PATH": str(folder),
        "LD_PRELOAD": str(folder / "x.so"), CACHE: str(folder / "cache"),
        "XLA_FLAGS": f"{QUICK_COMPILATION} --xla_dump_to={folder / 'dump'}",
        "OMP_TOOL_LIBRARIES": str(folder / "x.so"),
    }  # fmt: skip
    edit_manifest(
        run, environment=lambda entry: {**entry, "variables": {**entry["variables"], **planted}}, working_directory=str(folder)
    )


def was_run(cli: Cli) -> list[str]:
    """Return what strangers' code, or a flag of theirs, left behind."""
    return sorted(path.name for path in (cli.directory / "unpacked").iterdir() if path.suffix != ".py")


@pytest.mark.slow
def test_looking_at_a_run_of_others_runs_nothing_of_theirs(foreign: Path, reprotui: Cli) -> None:
    reprotui("runs")
    reprotui("open", "own", "--once", exit_code=None)
    reprotui("compare", "runs/own", "runs/own", "--verify")
    reprotui("report", "own", "own", "--out", "report", exit_code=None)
    reprotui("checkpoint", "list", "own")
    reprotui("checkpoint", "verify", "own", "--all", "--level", "trace", exit_code=None)
    reprotui("checkpoint", "diff", "own", "own", "--step", 3)
    assert was_run(reprotui) == []


@pytest.mark.parametrize(
    "command",
    [
        ("replay", "own", "--step", 4),
        ("replay", "own", "--step", 4, "--repeat", 2),
        ("replay", "own", "--step", 4, "--current-environment"),
        ("checkpoint", "restore", "own", "--step", 3),
        ("run", "--restore-from", "own:3"),
    ],
)
def test_training_from_a_run_of_others_asks_first_and_names_file_digest_and_command(
    foreign: Path, reprotui: Cli, command: tuple[Any, ...]
) -> None:
    before = sorted(reprotui.runs.iterdir())
    said = reprotui(*command, exit_code=3).stderr
    assert f"the experiment file {reprotui.directory / 'unpacked' / 'experiment.py'} (sha256 " in said
    assert f"\n  reprotui {' '.join(map(str, command))} --trust\n" in said
    assert (was_run(reprotui), sorted(reprotui.runs.iterdir())) == ([], before)


def test_verifying_by_replay_asks_first_and_says_unchecked(foreign: Path, reprotui: Cli) -> None:
    (foreign / "checkpoints" / "3.manifest.json").touch()
    done = reprotui("checkpoint", "verify", "own", "--step", 3, "--level", "replay", exit_code=None)
    assert done.returncode != 0
    assert was_run(reprotui) == []


@pytest.mark.slow
def test_with_trust_the_file_is_run_and_its_variables_still_are_not(foreign: Path, reprotui: Cli) -> None:
    reprotui("replay", "own", "--step", 4, "--trust")
    assert was_run(reprotui) == ["was-run"]


@pytest.mark.slow
def test_a_run_of_ones_own_is_replayed_and_resumed_without_a_question(own: Path, reprotui: Cli) -> None:
    assert made_here(RunDirectory(own).manifest())
    reprotui("replay", "own", "--step", 4)
    assert "VALID" in reprotui("checkpoint", "verify", "own", "--step", 3, "--level", "replay").stdout
    reprotui("checkpoint", "restore", "own", "--step", 3, "--name", "on")
    assert made_here(RunDirectory(reprotui.runs / "on").manifest())


@pytest.mark.slow
def test_a_run_of_ones_own_that_was_moved_is_still_ones_own(own: Path, reprotui: Cli) -> None:
    own.rename(reprotui.directory / "moved")
    reprotui("replay", "moved", "--step", 4)
    reprotui("checkpoint", "restore", "moved", "--step", 3, "--name", "on")


@pytest.mark.slow
def test_of_another_user_s_run_nobody_knows_that_it_was_recorded_here(own: Path, reprotui: Cli) -> None:
    reprotui.environment = {**reprotui.environment, "XDG_STATE_HOME": str(reprotui.directory / "other-state")}
    reprotui("replay", "own", "--step", 4, exit_code=3)
    # Nor may it be forged where there is no key at all.
    edit_manifest(own, mark=None)
    reprotui("replay", "own", "--step", 4, exit_code=3)


@pytest.mark.slow
def test_a_built_in_experiment_of_others_is_replayed_without_their_variables(own: Path, reprotui: Cli) -> None:
    for name in ("json.py", "sitecustomize.py", "jax.py", "numpy.py"):
        reprotui.write(f"unpacked/{name}", SITE)
    run = reprotui.runs / "built-in"
    meddle_with_variables(run, reprotui.directory / "unpacked")
    edit_manifest(run, mark=None)
    said = json.loads(reprotui("replay", run, "--step", 4, "--json").stdout)["runs"][0]
    assert said["faithful"]
    assert any(note.startswith("variables.XLA_FLAGS: ") and "--xla_dump_to" in note for note in said["notes"])
    # From inside the folder, too: a Python that is started there must not take its modules from it.
    words = [sys.executable, "-P", "-m", "reprotui", "replay", str(run), "--step", "4", "--fresh"]
    subprocess.run(words, cwd=reprotui.directory / "unpacked", env=reprotui.environment, check=True, capture_output=True)
    assert was_run(reprotui) == []


def test_flags_in_the_config_of_others_are_asked_for_where_they_do_more_than_change_numbers(own: Path, reprotui: Cli) -> None:
    flags = f"--xla_dump_to={reprotui.write('unpacked/x.py', '').parent / 'dump'}"
    edit_manifest(reprotui.runs / "built-in", config=lambda config: {**config, "xla_flags": flags})
    said = reprotui("checkpoint", "restore", "built-in", "--step", 5, exit_code=3).stderr
    assert f"this would run XLA with {flags}" in said
    assert was_run(reprotui) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYTHONPATH", "/x"), ("PYTHONSTARTUP", "/x.py"), ("PYTHONHOME", "/x"), ("LD_PRELOAD", "x.so"), ("LD_LIBRARY_PATH", "/x"),
        ("LD_AUDIT", "x.so"), ("PATH", "/x"), (CACHE, "/x"), ("JAX_DUMP_IR_TO", "x"), ("JAX_PLATFORMS", "/x/plugin.so"),
        ("XLA_FLAGS", "flags.txt"), ("XLA_FLAGS", "--xla_dump_to=x"), ("XLA_FLAGS", "--xla_gpu_cuda_data_dir=x"),
        ("XLA_FLAGS", "--xla_backend_extra_options=-load=x.so"), ("XLA_FLAGS", "--xla_cpu_max_isa=../x"),
        ("TF_XLA_FLAGS", "--tf_xla_x"), ("CUDA_HOME", "/x"), ("CUDA_INJECTION64_PATH", "x.so"), ("NCCL_NET_PLUGIN", "x"),
        ("TPU_LIBRARY_PATH", "x.so"), ("OMP_TOOL_LIBRARIES", "x.so"), ("OMP_NUM_THREADS", "$(x)"), ("MALLOC_CHECK_", "3"),
    ],
)  # fmt: skip
def test_a_variable_that_does_more_than_change_numbers_is_not_taken(name: str, value: str) -> None:
    assert taken_over({name: value}) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true --xla_cpu_max_isa=AVX"), ("NPROC", "1"), ("OMP_NUM_THREADS", "4"),
        ("JAX_ENABLE_X64", "1"), ("JAX_PLATFORMS", "cuda,cpu"), ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"), ("PYTHONHASHSEED", "0"),
        ("XLA_FLAGS", "--xla_gpu_deterministic_ops=true"), ("CUDA_VISIBLE_DEVICES", "0,1"), ("MKL_CBWR", "AVX2"),
    ],
)  # fmt: skip
def test_a_variable_that_changes_numbers_is_taken(name: str, value: str) -> None:
    assert taken_over({name: value}) == {name: value}


def test_of_several_flags_those_that_change_numbers_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = "--xla_cpu_max_isa=AVX --xla_dump_to=/tmp/x --xla_gpu_autotune_level=0"
    assert taken_over({"XLA_FLAGS": flags}) == {"XLA_FLAGS": "--xla_cpu_max_isa=AVX --xla_gpu_autotune_level=0"}
    # The cache of compiled programs is the one of here, for the threads of the run.
    monkeypatch.setenv(CACHE, "/here")
    monkeypatch.delenv("NPROC", raising=False)
    assert recorded_environment(parsed({"environment": {"variables": {CACHE: "/theirs"}}}))[CACHE] == "/here"
    assert recorded_environment(parsed({"environment": {"variables": {"NPROC": "3"}}}))[CACHE] not in ("/here", "/theirs")


@pytest.mark.slow
def test_the_dashboard_asks_before_it_replays_a_run_of_others(
    foreign: Path, reprotui: Cli, own_settings: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name in (CACHE, "JAX_PLATFORMS"):
        monkeypatch.setenv(name, environment[name])
    shutil.copytree(foreign, reprotui.runs / "second")

    async def look() -> None:
        async with dashboard(reprotui.runs / "own", reprotui.runs / "second") as driven:
            await driven.press("enter", "x")
            await driven.until("a question", lambda: isinstance(driven.app.screen, ConfirmScreen))
            assert isinstance(driven.app.screen, ConfirmScreen)
            asked = " ".join(driven.app.screen._names)
            assert "experiment.py" in asked
            assert "sha256" in asked
            await driven.press("n")
            assert was_run(reprotui) == []
            await driven.press("x")
            await driven.until("a question", lambda: isinstance(driven.app.screen, ConfirmScreen))
            await driven.press("y")
            await driven.until("it is run", lambda: was_run(reprotui) == ["was-run"])

    drive(look())
