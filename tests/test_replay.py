"""Replay: the exact state of a step, exact differences of two runs, and findings where a replay is not faithful."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import CNN, MLP, Cli, edit_manifest
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.checksum import numpy_form
from reprotui.errors import CannotTellError
from reprotui.integrity.status import IntegrityError, Status
from reprotui.replay import ReplayedState, cached_states, compare_states, replay_step
from reprotui.replay.stored import KEPT, open_state
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

LEAF = "params/dense_0/kernel"
FLIPPED = "perturb=7:params/dense_0/kernel:901:0"
"""The least significant bit of one element: one ulp, at step 7."""


@pytest.fixture(scope="session")
def replayed_once(once: Any, environment: dict[str, str]) -> Path:
    """Return a working directory with a run `runs/a` that saved at 5; `b` with one bit flipped, `c` a high one. Only read it."""

    def build(path: Path) -> None:
        cli = Cli(path, environment)
        cli("run", *MLP, "--save-at", 5, "--name", "a")
        cli("run", *MLP, FLIPPED, "--name", "b")
        cli("run", *MLP, "perturb=7:params/dense_1/bias:3:22", "--name", "c")

    return once("replayed", build)


@pytest.fixture
def runs(replayed_once: Path, reprotui: Cli) -> Path:
    """Return the runs directory of the test with copies of both runs."""
    shutil.copytree(replayed_once / "runs", reprotui.runs)
    return reprotui.runs


def replay(cli: Cli, *arguments: object, exit_code: int = 0) -> dict[str, Any]:
    """Replay with `--json` and return the object."""
    return json.loads(cli("replay", *arguments, "--json", exit_code=exit_code).stdout)


def test_a_replayed_state_has_the_checksums_of_the_record(runs: Path, reprotui: Cli) -> None:
    step = random.Random(11).randrange(6, 20)
    said = replay(reprotui, "a", "--step", step)["runs"][0]
    assert (said["faithful"], said["started_from"], said["compared"]) == (True, 5, step - 5)
    run = RunDirectory(runs / "a")
    state = replay_step(run, step)  # kept: no process is started for it
    assert isinstance(state, ReplayedState)
    assert state.content.root == said["content"]
    with Trace(run.trace_path) as trace:
        row = trace.row(step)
        assert row is not None
        table, recorded = trace.table(row.version), trace.leaf_checksums(step)
    assert recorded is not None
    assert [(leaf.phase, leaf.spec) for leaf in state.leaves] == list(zip(table.phases, table.specs, strict=True))
    assert [numpy_form.checksum(state.read(spec.path)) for spec in table.specs] == recorded.tolist()


def test_the_state_of_a_checkpoint_is_the_replayed_one(runs: Path, reprotui: Cli) -> None:
    from reprotui.checkpoints.restore import load_checkpoint

    # Replayed from init: the checkpoint of the step itself is not its own witness.
    assert replay(reprotui, "a", "--step", 5)["runs"][0]["started_from"] is None
    state, saved = replay_step(RunDirectory(runs / "a"), 5), load_checkpoint(runs / "a" / "checkpoints" / "5")
    assert isinstance(state, ReplayedState)
    assert np.array_equal(state.read(LEAF), saved.arrays[LEAF])


def test_one_flipped_bit_is_shown_at_its_leaf_and_index_with_one_ulp(runs: Path, reprotui: Cli) -> None:
    found = replay(reprotui, "a", "b", "--step", 7, exit_code=1)["difference"]
    assert [leaf["path"] for leaf in found["leaves"]] == [LEAF]
    elements = found["leaves"][0]["elements"]
    assert (elements["different"], elements["max_ulp"], elements["first_index"]) == (1, 1, [28, 5])
    assert elements["ulp_histogram"]["1"] == 1
    cells = [cell for row in found["heat_map"]["max_abs"] for cell in row]
    assert [cell for cell in cells if cell] == [elements["max_abs"]]
    # The step before it, and the same with a run of its own, are equal: nothing is shown that is not there.
    assert replay(reprotui, "a", "b", "--step", 6)["difference"] == {
        "same": True, "equal_leaves": 17, "leaves": [], "heat_map": None,
    }  # fmt: skip
    shown = reprotui("replay", "a", "b", "--step", 7, exit_code=1).stdout
    assert "DIFFERENT  1 of 17 leaves" in shown
    assert "1 of 2,048" in shown


def test_differences_of_gradients_and_where_they_are(runs: Path, reprotui: Cli) -> None:
    assert replay(reprotui, "a", "c", "--step", 8, exit_code=1)["runs"][1]["faithful"]
    a, b = (replay_step(RunDirectory(runs / name), 8) for name in "ac")
    assert isinstance(a, ReplayedState)
    assert isinstance(b, ReplayedState)
    difference = compare_states(a, b)
    phases = [leaf.phase for leaf in difference.leaves]
    assert "grads" in phases
    assert phases == sorted(phases, key=["forward", "grads", "update"].index)
    grid = difference.heat_map("params/dense_1/kernel", 4, 4)
    assert grid.shape == (4, 4)
    assert (grid > 0).any()
    assert compare_states(a, a).same


def test_a_state_with_keys_batch_statistics_and_dropout_replays(reprotui: Cli) -> None:
    reprotui("run", *CNN, "steps=6", "--every", 4, "--save-at", 2, "--name", "cnn")
    # Step 3 is not recorded: it is proved by the next record, of step 4.
    said = replay(reprotui, "cnn", "--step", 3)["runs"][0]
    assert (said["faithful"], said["compared"], said["started_from"]) == (True, 1, 2)
    phases = {phase for phase, *_ in said["leaves"]}
    assert phases == {"batch", "rng", "forward", "grads", "update"}
    assert any(path.startswith("extra/") for _, path, *_ in said["leaves"])


def test_a_changed_environment_is_found_and_named(runs: Path, reprotui: Cli) -> None:
    reprotui.environment = {**reprotui.environment, "XLA_FLAGS": "--xla_cpu_enable_fast_math=true --xla_cpu_max_isa=AVX"}
    del reprotui.environment["JAX_COMPILATION_CACHE_DIR"]
    found = replay(reprotui, "a", "--step", 8, "--current-environment", exit_code=1)["runs"][0]
    assert found["headline"].startswith("replay not faithful from step ")
    assert any(reason.startswith("variables.XLA_FLAGS: ") for reason in found["reasons"])
    assert found["leaves"]
    # In the recorded environment the same command is faithful, whatever this shell has.
    assert replay(reprotui, "a", "--step", 8)["runs"][0]["faithful"]
    assert cached_states(RunDirectory(runs / "a")) == [8]


def test_an_edited_config_is_not_faithful(runs: Path, reprotui: Cli) -> None:
    edit_manifest(runs / "a", config=lambda config: {**config, "lr": 0.04})
    shutil.rmtree(runs / "a" / "checkpoints")
    found = replay(reprotui, "a", "--step", 3, "--repeat", 3, exit_code=1)["runs"][0]
    assert (found["step"], found["phases"], found["compared"]) == (1, ["update"], 1)
    assert {path.split("/")[0] for _, path in found["leaves"]} == {"params"}
    assert "the compiled program is another one: step, from jaxpr on" in found["reasons"]
    assert found["repeats"]["verdict"].startswith("systematic: 3 of 3")
    shown = reprotui("replay", "a", "b", "--step", 3, exit_code=3).stdout
    assert "NOT FAITHFUL  runs/a: replay not faithful from step 1 · update" in shown
    assert cached_states(RunDirectory(runs / "a")) == []


FLAKY = """
import numpy as np, jax.numpy as jnp, os
from reprotui.experiments import State, StepOutput

class Experiment:
    def __init__(self, config): pass

    def init(self, key):
        return State({"w": jnp.zeros(3)}, ())

    def batch(self, step):
        return np.frombuffer(os.urandom(12), np.uint8).astype(np.float32) if step == 3 else np.full(12, step, np.float32)

    def train_step(self, state, batch, key):
        grads = {"w": state.params["w"] - batch[:3]}
        return State({"w": state.params["w"] - 0.1 * grads["w"]}, ()), StepOutput(jnp.sum(grads["w"]), grads)
"""


def test_a_flaky_step_is_told_from_a_steady_one(reprotui: Cli) -> None:
    reprotui.write("flaky.py", FLAKY)
    reprotui("run", "flaky.py", "steps=4", "--name", "flaky")
    found = replay(reprotui, "flaky", "--step", 4, "--repeat", 4, exit_code=1)["runs"][0]
    assert (found["step"], found["phases"][0], found["reasons"]) == (3, "batch", [])
    assert found["repeats"]["verdict"].startswith("flaky: 4 different outcomes in 4")
    steady = replay(reprotui, "flaky", "--step", 2, "--repeat", 4)["runs"][0]
    assert steady["repeats"]["verdict"].startswith("deterministic: 4 of 4")


def test_a_damaged_checkpoint_is_passed_over_and_said(runs: Path, reprotui: Cli) -> None:
    reprotui("checkpoint", "damage", "a", "--step", 5, "--kind", "flip", "--in-place")
    said = replay(reprotui, "a", "--step", 6)["runs"][0]
    assert (said["faithful"], said["started_from"]) == (True, None)
    assert any("5: CORRUPT" in note for note in said["notes"])


def test_the_records_that_a_branch_inherited_are_replayed_by_its_parent(runs: Path, reprotui: Cli) -> None:
    reprotui("checkpoint", "restore", "a", "--step", 5, "lr=0.01", "steps=8", "--name", "branch")
    assert replay(reprotui, "branch", "--step", 7)["runs"][0]["started_from"] == 5
    assert replay(reprotui, "branch", "--step", 3)["runs"][0]["faithful"]
    shutil.rmtree(runs / "a")
    reprotui("replay", "branch", "--step", 2, exit_code=3)
    assert "no way to it" in reprotui("replay", "branch", "--step", 8, exit_code=3).stderr


def test_the_level_replay_resumes_and_compares(runs: Path, reprotui: Cli) -> None:
    done = reprotui("checkpoint", "verify", "a", "--step", 5, "--level", "replay").stdout
    assert "10 recorded steps, up to 15, are equal to the bit" in done
    edit_manifest(runs / "a", config=lambda config: {**config, "momentum": 0.8})
    done = reprotui("checkpoint", "verify", "a", "--step", 5, "--level", "replay", exit_code=1).stdout
    assert "resumed from step 5, not faithful from step 6 · update" in done
    assert verify_checkpoint(runs / "a" / "checkpoints" / "5", "trace").status is Status.VALID


def test_a_kept_state_that_was_damaged_is_refused(replayed_once: Path, tmp_path: Path) -> None:
    run = RunDirectory(Path(shutil.copytree(replayed_once / "runs" / "a", tmp_path / "a")))
    made = _made_up(run)
    assert np.array_equal(made.read("x"), np.arange(4, dtype=np.float32))
    file = made.directory / "0.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match="is not what was replayed"):
        made.read("x")
    file.unlink()
    with pytest.raises(IntegrityError, match="cannot be read"):
        made.read("x")


@pytest.mark.parametrize("file", ["..", "../../run.json", "", "a/b", "link", "0.npy"])
def test_a_kept_state_names_no_file_outside_of_its_folder(tmp_path: Path, file: str) -> None:
    run = RunDirectory(tmp_path / "run")
    made = _made_up(run)
    (made.directory / "link").symlink_to(tmp_path)
    value = json.loads((made.directory / "state.json").read_text())
    value["leaves"][0]["file"] = file
    (made.directory / "state.json").write_text(json.dumps(value))
    assert (open_state(run, made.directory) is None) == (file != "0.npy")


def _made_up(run: RunDirectory, step: int = 1) -> ReplayedState:
    """Write a state as a replay would."""
    from reprotui.checksum import LeafSpec
    from reprotui.integrity import content_to_json, digest_state
    from reprotui.replay.stored import keep

    array = np.arange(4, dtype=np.float32)
    written = run.path / "replay" / ".replaying"
    written.mkdir(parents=True)
    np.save(written / "0.npy", array)
    value = {
        "version": 1, "step": step, "created_ns": step, "started_from": None, "compared": 1, "notes": [], "proof": {},
        "leaves": [{"phase": "update", "path": "x", "dtype": "float32", "shape": [4], "file": "0.npy"}],
        "content": content_to_json(digest_state([(LeafSpec("x", "float32", (4,)), array)])),
    }  # fmt: skip
    (written / "state.json").write_text(json.dumps(value))
    state = open_state(run, keep(run, written, step))
    assert state is not None
    return state


def test_few_states_are_kept(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    for step in range(1, KEPT + 3):
        _made_up(run, step)
    assert cached_states(run) == list(range(3, KEPT + 3))


def test_a_replay_can_be_cancelled(runs: Path, environment: dict[str, str]) -> None:
    class Cancelled(Exception):  # noqa: N818
        pass

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        replay_step(RunDirectory(runs / "a"), 20, cancel, environment=environment)
    assert list((runs / "a" / "replay").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("a", "--step", 21), 2, "has records of steps 0 to 20, not of 21"),
        (("a", "--step", 0, "--repeat", 2), 2, "step 0 is none"),
        (("a", "a", "b", "--step", 1), 2, "two runs at most"),
        (("bare", "--step", 1), 3, "has no trace"),
    ],
)
def test_what_cannot_be_replayed_is_refused(runs: Path, reprotui: Cli, arguments: Any, code: int, said: str) -> None:
    shutil.copytree(runs / "a", runs / "bare", ignore=shutil.ignore_patterns("trace.db"))
    assert said in reprotui("replay", *arguments, exit_code=code).stderr


def test_a_run_that_a_script_recorded_is_not_replayed(runs: Path) -> None:
    edit_manifest(runs / "a", config_phases={})
    with pytest.raises(CannotTellError, match="only experiments that reprotui trains replay"):
        replay_step(RunDirectory(runs / "a"), 3)
