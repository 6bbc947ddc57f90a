"""Saving, restoring, resuming, branching and pruning, and what a kill at any moment leaves: through the command line."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import CNN, ENDLESS, MLP, TRANSFORMER, Cli, events_of, eventually, last_step, parsed, rows_of
from reprotui.checkpoints.listing import latest_good, list_checkpoints
from reprotui.checkpoints.prune import prune
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.errors import BadInputError, CannotTellError
from reprotui.integrity.formats import open_checkpoint
from reprotui.integrity.status import Status
from reprotui.manifest import to_json
from reprotui.race.equivalence import ControlResult, Equivalence
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Checkpointing, surplus
from reprotui.trace import verify_trace

SAVING = (*MLP, "--save-every", "4", "--save-at", "10", "--keep", "3")
"""20 steps: 4 and 8 are pruned, 10 was asked for, 12, 16 and 20 stay."""


def manifest(path: Path) -> dict[str, Any]:
    """Return a run's manifest."""
    return json.loads((path / "run.json").read_text())


def steps_of(path: Path) -> list[int]:
    """Return the steps of a run's checkpoints."""
    return [entry.step for entry in list_checkpoints(path) if entry.step is not None]


@pytest.fixture(scope="session")
def saved_once(once: Any, environment: dict[str, str]) -> Path:
    """Return a working directory with a run that saved, `runs/saved`, and the same one without, `runs/plain`. Only read it."""

    def build(path: Path) -> None:
        cli = Cli(path, environment)
        cli("run", *SAVING, "--name", "saved")
        cli("run", *MLP, "--name", "plain")

    return once("saved", build)


@pytest.fixture
def saved(saved_once: Path, reprotui: Cli) -> Path:
    """Return a copy of the run that saved, in the test's own runs directory."""
    shutil.copytree(saved_once / "runs", reprotui.runs)
    return reprotui.runs / "saved"


# Saving


@pytest.mark.slow
def test_the_schedule_saves_and_the_policy_prunes(saved: Path, reprotui: Cli) -> None:
    assert steps_of(saved) == [10, 12, 16, 20]
    assert [text for kind, text in events_of(saved) if kind == "saved"] == [f"step {step}" for step in (4, 8, 10, 12, 16, 20)]
    # What was pruned left nothing behind but its two lines in the registry.
    names = {entry.name for entry in (saved / "checkpoints").iterdir()}
    assert names == {"registry.jsonl", *(f"{step}{end}" for step in (10, 12, 16, 20) for end in ("", ".manifest.json"))}
    done = json.loads(reprotui("checkpoint", "verify", "saved", "--all", "--level", "trace", "--json").stdout)
    assert [result["status"] for result in done["results"]] == ["VALID"] * 4


@pytest.mark.slow
def test_saving_changes_no_bit(saved: Path) -> None:
    plain = saved.parent / "plain"
    assert manifest(saved)["result"]["digests"] == manifest(plain)["result"]["digests"]
    assert manifest(saved)["seal"]["chain"] == manifest(plain)["seal"]["chain"]


def test_a_checkpoint_holds_state_keys_step_and_position(saved: Path) -> None:
    leaves = {leaf.spec.path: leaf for leaf in open_checkpoint(saved / "checkpoints" / "10").leaves}
    assert {path.split("/")[0] for path in leaves} == {"params", "opt_state", "rng", "step", "data"}
    assert leaves["rng/key"].spec.dtype == "key<fry>"
    assert [int(leaves[name].read()) for name in ("step", "data/position", "rng/position")] == [10, 10, 10]


@pytest.mark.slow
def test_a_paused_run_saves_on_command_and_goes_on(reprotui: Cli) -> None:
    process = reprotui.start("run", *ENDLESS, "--save-every", 10**8, "--name", "endless")
    path = reprotui.runs / "endless"
    eventually("the run takes steps", lambda: last_step(path) > 3)
    reprotui("control", "endless", "pause")
    eventually("it is paused", lambda: any(kind == "paused" for kind, _ in events_of(path)))
    step = last_step(path)
    assert f"saved step {step}" in reprotui("checkpoint", "save", "endless", "--wait").stdout
    assert "it was there already" in reprotui("checkpoint", "save", "endless", "--wait").stdout
    assert verify_checkpoint(path / "checkpoints" / str(step), "trace").status is Status.VALID
    reprotui("control", "endless", "resume")
    eventually("it goes on", lambda: last_step(path) > step + 3)
    reprotui("control", "endless", "save")
    eventually("it saves while it runs", lambda: len(steps_of(path)) == 2)
    reprotui("control", "endless", "stop")
    process.communicate()
    assert process.returncode == 0
    # A schedule that saves at the end saves where a run is stopped.
    stopped = manifest(path)["result"]["last_step"]
    assert verify_checkpoint(path / "checkpoints" / str(stopped), "trace").status is Status.VALID
    assert "nothing to save" in reprotui("checkpoint", "save", "endless", exit_code=3).stderr


@pytest.mark.slow
def test_a_save_that_fails_fails_the_run(reprotui: Cli) -> None:
    reprotui.write("place/checkpoints", "a file stands where the directory should")
    place = reprotui.directory / "place" / "checkpoints"
    done = reprotui("run", *MLP, "--save-at", 5, "--checkpoint-dir", place, "--name", "full", exit_code=4)
    assert "the checkpoint of step 5 was not saved" in done.stdout + done.stderr
    assert events_of(reprotui.runs / "full")[-1][0] == "failed"
    assert RunDirectory(reprotui.runs / "full").state() == "failed"


@pytest.mark.slow
def test_a_disk_that_fills_up_while_saving_leaves_nothing_that_looks_saved(reprotui: Cli) -> None:
    large = ("digits-mlp", "width=512", "steps=20", "--every", 10)
    done = reprotui("run", *large, "--save-at", 10, "--name", "full", exit_code=4, file_size=1 << 19)
    assert "the checkpoint of step 10 was not saved" in done.stdout + done.stderr
    path = reprotui.runs / "full"
    assert list(path.joinpath("checkpoints").glob("[0-9]*")) == []
    assert "no checkpoint" in reprotui("checkpoint", "verify", "full", exit_code=3).stderr
    assert last_step(path) == 20


@pytest.mark.slow
def test_the_last_checkpoint_of_a_run_is_read_back(saved: Path, reprotui: Cli) -> None:
    assert [text for kind, text in events_of(saved) if kind == "verified"] == ["checkpoint of step 20, read back"]
    process = reprotui.start("run", *ENDLESS, "--save-at", 5, "--name", "damaged")
    path = reprotui.runs / "damaged"
    eventually("the run takes steps", lambda: last_step(path) > 5)
    eventually("it is saved", lambda: any(kind == "saved" for kind, _ in events_of(path)))
    stored = max(path.joinpath("checkpoints", "5").rglob("d/*"), key=lambda file: file.stat().st_size)
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    reprotui("control", "damaged", "stop")
    said = "".join(process.communicate())
    assert process.returncode == 4
    assert "the checkpoint of step 5" in said
    assert "CORRUPT when read back" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--save-at", 21), "this run trains steps 1 to 20"),
        (("--keep", 2), "give --save-every N too"),
        (("--restore-from", 5), "of which run?"),
        (("--save-every", 0), "not at least 1"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_at_once(reprotui: Cli, arguments: tuple[Any, ...], said: str) -> None:
    assert said in reprotui("run", *MLP, *arguments, exit_code=2).stderr
    assert not reprotui.runs.exists()


def test_the_policy_keeps_what_it_says() -> None:
    policy = Checkpointing(every=10, at=(25, 30), at_end=True, keep=2, keep_every=50)
    assert surplus([10, 20, 25, 30, 40, 50, 60, 70, 80], policy) == [10, 20, 40, 60]
    assert surplus([10, 20, 25, 30], Checkpointing(every=10)) == []
    assert [step for step in range(1, 33) if policy.due(step, 33)] == [10, 20, 25, 30]
    assert policy.due(33, 33)
    assert parsed({"checkpointing": to_json(policy)}).checkpointing == policy


# Resuming


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(saved: Path, reprotui: Cli) -> None:
    reprotui("checkpoint", "restore", "saved", "--step", 10, "--name", "resumed")
    resumed = reprotui.runs / "resumed"
    verdict = reprotui.compare("plain", "resumed", "--verify")
    assert verdict["verdicts"][0]["headline"] == "IDENTICAL through step 20"
    assert verdict["groups"] == [["plain", "resumed"]]
    assert manifest(resumed)["seal"]["chain"] == manifest(saved)["seal"]["chain"]
    assert manifest(resumed)["restore"]["step"] == 10
    assert ("restored", "step 10 of saved") in events_of(resumed)
    # It saves as the run before did, at the steps that were left.
    assert steps_of(resumed) == [12, 16, 20]
    assert verify_checkpoint(resumed / "checkpoints" / "12", "trace").status is Status.VALID


@pytest.mark.slow
def test_a_branch_has_the_history_and_goes_its_own_way(saved: Path, reprotui: Cli) -> None:
    reprotui("run", "--restore-from", "saved:12", "lr=0.01", "--name", "branch")
    verdict = reprotui.compare("saved", "branch", exit_code=1)["verdicts"][0]
    assert (verdict["equal_through"], verdict["step"], verdict["phase"]) == (12, 13, "params")
    assert "lr" in json.dumps(verdict["cause"])
    assert manifest(reprotui.runs / "branch")["restore"]["changed"] == ["lr"]


@pytest.mark.slow
def test_the_newest_that_verifies_is_taken(saved: Path, reprotui: Cli) -> None:
    reprotui("checkpoint", "damage", "saved", "--step", 20, "--kind", "flip", "--in-place")
    reprotui("checkpoint", "damage", "saved", "--step", 16, "--kind", "truncate", "--in-place", "--seed", 1)
    found, passed = latest_good(saved)
    assert found is not None
    assert (found.step, [result.path.name for result in passed]) == (12, ["20", "16"])
    # The one that was asked for by its number is refused, and nothing is left behind.
    assert "CORRUPT" in reprotui("checkpoint", "restore", "saved", "--step", 20, exit_code=1).stderr
    assert sorted(path.name for path in reprotui.runs.iterdir()) == ["plain", "saved"]
    reprotui("checkpoint", "restore", "saved", "--name", "resumed")
    assert manifest(reprotui.runs / "resumed")["restore"]["step"] == 12
    assert reprotui.compare("plain", "resumed")["exit_code"] == 0


@pytest.mark.slow
def test_nothing_is_cast_cut_or_filled_up(saved: Path, reprotui: Cli) -> None:
    for overrides, said in (
        (("dtype=bfloat16",), "is float32[64,32], the experiment has bfloat16[64,32]"),
        (("optimizer=sgd",), "is in the checkpoint only"),
    ):
        done = reprotui("checkpoint", "restore", "saved", "--step", 12, *overrides, "--name", "other", exit_code=2)
        assert said in done.stderr
        assert not (reprotui.runs / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--step", 20), 2, "give more, such as steps=40"),
        (("--step", 11), 2, "has no checkpoint of step 11: there is 10, 12, 16, 20"),
        (("--step", 12, "perturb=5:params/dense_0/kernel:0:1"), 2, "that step is over"),
        (("--step", 12, "learning=1"), 2, "unknown key 'learning'"),
    ],
)
def test_what_cannot_be_resumed_is_refused_at_once(
    saved: Path, reprotui: Cli, arguments: tuple[Any, ...], code: int, said: str
) -> None:
    assert said in reprotui("checkpoint", "restore", "saved", *arguments, exit_code=code).stderr
    assert sorted(path.name for path in reprotui.runs.iterdir()) == ["plain", "saved"]


@pytest.mark.slow
def test_a_directory_of_checkpoints_serves_one_run_after_the_other(saved_once: Path, reprotui: Cli) -> None:
    reprotui("run", *MLP, "--save-at", 8, "--save-at", 12, "--checkpoint-dir", "shared", "--name", "first")
    assert "holds checkpoints of steps 8, 12" in reprotui("run", *MLP, "--checkpoint-dir", "shared", exit_code=2).stderr
    again = ("run", "--checkpoint-dir", "shared", "--restore-from")
    assert "holds checkpoints of steps 12" in reprotui(*again, 8, exit_code=2).stderr
    # What a save that was killed before its registration left stands in nobody's way.
    (reprotui.directory / "shared" / "20").mkdir()
    reprotui(*again, 12, "--name", "second")
    assert reprotui.compare("first", "second")["exit_code"] == 0
    assert steps_of(reprotui.runs / "second") == [8, 12, 20]
    statuses = json.loads(reprotui("checkpoint", "verify", "second", "--all", "--json").stdout)
    assert statuses["status"] == "VALID"


@pytest.mark.slow
def test_what_was_never_registered_takes_the_place_of_no_checkpoint_that_is_kept(reprotui: Cli) -> None:
    shared = reprotui.directory / "shared"
    (shared / "100").mkdir(parents=True)
    (shared / "registry.jsonl").touch()
    reprotui("run", *MLP, "--save-every", 5, "--keep", 1, "--checkpoint-dir", "shared", "--name", "r")
    found = {entry.path.name: entry.problem for entry in list_checkpoints(reprotui.runs / "r")}
    assert found == {"20": None, "100": Status.INCOMPLETE}


# Equivalence, with controls


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "components", "not_exercised"),
    [
        (CNN, ["params", "extra", "rng", "step"], []),
        (MLP, ["opt_state", "extra", "rng"], ["rng"]),
        (TRANSFORMER, ["data"], []),
    ],
    ids=["digits-cnn", "digits-mlp", "transformer"],
)
def test_resumed_runs_are_equivalent_and_controls_diverge(
    reprotui: Cli, experiment: tuple[str, ...], components: list[str], not_exercised: list[str]
) -> None:
    done = json.loads(reprotui("resume-check", *experiment, "--at", 9, "--json", "--controls", *components).stdout)
    assert (done["verdict"], done["resumed"], done["saving"]) == ("equivalent", *["IDENTICAL through step 20"] * 2)
    controls = {control["component"]: control for control in done["controls"]}
    assert [name for name in components if not controls[name]["exercised"] and controls[name]["present"]] == not_exercised
    assert [name for name in components if not controls[name]["present"]] == (["extra"] if experiment is MLP else [])
    first = {"step": 1, "params": 10, "opt_state": 10, "extra": 10, "rng": 10, "data": 10}
    assert all(control["step"] == first[name] for name, control in controls.items() if control["exercised"])
    assert done["runs"] is None
    assert list(reprotui.runs.iterdir()) == []


@pytest.mark.slow
def test_a_resumed_run_whose_controls_all_change_nothing_proves_nothing(reprotui: Cli) -> None:
    """A check that no omission would have failed has checked nothing: keys are not used by a model without dropout."""
    done = json.loads(reprotui("resume-check", *MLP, "--at", 9, "--json", "--controls", "rng", "extra", exit_code=3).stdout)
    assert (done["verdict"], done["resumed"]) == ("cannot tell", "IDENTICAL through step 20")
    assert [(control["component"], control["exercised"], control["present"]) for control in done["controls"]] == [
        ("rng", False, True), ("extra", False, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("equivalent", "exercised", "verdict", "code"),
    [
        (True, [True, False], "equivalent", 0), (True, [False, False], "cannot tell", 3), (True, [], "cannot tell", 3),
        (False, [True, True], "not equivalent", 1), (False, [False], "not equivalent", 1),
    ],
)  # fmt: skip
def test_a_resume_check_is_worth_what_its_controls_are(equivalent: bool, exercised: list[bool], verdict: str, code: int) -> None:
    controls = tuple(ControlResult("params", found, 3 if found else None, "grads" if found else None) for found in exercised)
    found = Equivalence(Path(), 2, 4, "", "", equivalent, controls)
    assert (found.verdict, found.exit_code) == (verdict, code)


@pytest.mark.slow
def test_a_checkpoint_that_lacks_something_is_not_equivalent(reprotui: Cli) -> None:
    # State that lives outside of what init returns and train_step takes is in no checkpoint: the check must notice.
    reprotui.write("hidden.py", HIDDEN_STATE)
    done = json.loads(
        reprotui("resume-check", "hidden.py", "steps=6", "--at", 3, "--json", "--controls", "params", exit_code=1).stdout
    )
    assert done["verdict"] == "not equivalent"
    assert done["resumed"].startswith("DIVERGED at step 4 · batch")
    assert done["saving"] == "IDENTICAL through step 6"
    assert Path(reprotui.directory / done["runs"]).is_dir()


HIDDEN_STATE = """
import jax.numpy as jnp, numpy as np
from reprotui.experiments import State, StepOutput

class Experiment:
    def __init__(self, config):
        self.calls = 0

    def init(self, key):
        return State({"w": jnp.zeros(3)}, ())

    def batch(self, step):
        self.calls += 1  # not a function of the step
        return np.full(3, self.calls, np.float32)

    def train_step(self, state, batch, key):
        grads = {"w": state.params["w"] - batch}
        return State({"w": state.params["w"] - 0.1 * grads["w"]}, ()), StepOutput(jnp.sum(grads["w"]), grads)
"""


# Pruning


@pytest.mark.slow
def test_pruning_keeps_the_newest_and_says_what_it_would_do(saved: Path, reprotui: Cli) -> None:
    would = json.loads(reprotui("checkpoint", "prune", "saved", "--keep", 2, "--dry-run", "--json").stdout)
    assert (would["removed"], would["kept"]) == ([10, 12], [16, 20])
    assert steps_of(saved) == [10, 12, 16, 20]
    assert "removed steps 10, 12" in reprotui("checkpoint", "prune", "saved", "--keep", 2).stdout
    assert steps_of(saved) == [16, 20]
    assert json.loads(reprotui("checkpoint", "verify", "saved", "--all", "--json").stdout)["status"] == "VALID"


def test_pruning_never_takes_the_last_good_one(saved: Path, reprotui: Cli) -> None:
    reprotui("checkpoint", "damage", "saved", "--step", 20, "--kind", "flip", "--in-place")
    with pytest.raises(CannotTellError, match="nothing is removed"):
        prune(saved, 1)
    assert steps_of(saved) == [10, 12, 16, 20]
    assert prune(saved, 2).steps == (10, 12)


@pytest.mark.parametrize("moment", ["announced", "renamed", "half deleted"])
def test_a_removal_that_was_cut_short_is_never_valid_and_is_finished_later(saved: Path, moment: str) -> None:
    from reprotui.checkpoints.register import announce_removal

    checkpoint = saved / "checkpoints" / "12"
    announce_removal(checkpoint)
    if moment != "announced":
        checkpoint.rename(checkpoint.with_name(".removing-12"))
    if moment == "half deleted":
        next(checkpoint.with_name(".removing-12").rglob("*.ocdbt")).unlink()
    assert [entry.step for entry in list_checkpoints(saved) if entry.problem is None] == [10, 16, 20]
    if checkpoint.exists():
        assert verify_checkpoint(checkpoint).status is Status.INCOMPLETE
    assert prune(saved, 3).steps == ()
    assert not [entry for entry in (saved / "checkpoints").iterdir() if "12" in entry.name]


# Kills


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_nothing_valid_that_is_not(saved_once: Path, reprotui: Cli) -> None:
    generator = random.Random(4)
    resumed = 0
    for number in range(5):
        process = reprotui.start("run", *MLP, "steps=100000", "--save-every", 1, "--keep", 2, "--name", f"killed-{number}")
        path = reprotui.runs / f"killed-{number}"
        eventually("it saves", lambda path=path: (path / "checkpoints").is_dir())
        time.sleep(generator.uniform(0, 0.6))  # a save takes some 50 ms: the kill meets every part of several
        worker = manifest(path)["process"]["pid"]
        os.kill(worker, signal.SIGKILL)
        process.communicate()
        for entry in list_checkpoints(path):
            valid = verify_checkpoint(entry.path, "trace").status is Status.VALID if entry.path.exists() else False
            # What verifies to the trace has the state of its step; what does not was never offered.
            assert valid == (entry.problem is None), entry
        found, passed = latest_good(path)
        assert passed == []
        assert verify_trace(path / "trace.db").problem is None
        if found is None or found.step is None or found.step >= 20 or resumed:
            continue
        resumed += 1
        reprotui("checkpoint", "restore", path.name, "steps=20", "--name", f"resumed-{number}")
        plain = rows_of(saved_once / "runs" / "plain")
        assert [row.chain for row in rows_of(reprotui.runs / f"resumed-{number}")] == [row.chain for row in plain]


def test_a_state_that_cannot_be_stored_is_refused_with_its_leaves() -> None:
    from reprotui.checkpoints.save import nested

    assert nested({"a/b": 1, "a/c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}
    for leaves in ({"a": 1, "a/b": 2}, {"a/b": 1, "a": 2}, {"a/b": 1, "a.b": 2}):
        with pytest.raises(BadInputError, match="would get one name"):
            nested(leaves)
