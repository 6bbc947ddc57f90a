"""Replay: the exact state of a step, exact differences of two runs, and findings where a replay is not faithful."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from textual.widgets import Checkbox, Input, Static

from conftest import CNN, MLP, Cli, edit_manifest
from pilots import dashboard, drive
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.checksum import numpy_form
from reprotui.errors import CannotTellError
from reprotui.integrity.status import IntegrityError, Status
from reprotui.replay import ReplayedState, cached_states, compare_states, replay_step
from reprotui.replay.stored import KEPT, open_state
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace
from reprotui.tui.leaves import Leaf
from reprotui.tui.widgets.leaf_table import LeafTable
from test_report import schema as report_schema

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


@pytest.mark.slow
def test_the_state_of_a_checkpoint_is_the_replayed_one(runs: Path, reprotui: Cli) -> None:
    from reprotui.checkpoints.restore import load_checkpoint

    # Replayed from init: the checkpoint of the step itself is not its own witness.
    assert replay(reprotui, "a", "--step", 5)["runs"][0]["started_from"] is None
    state, saved = replay_step(RunDirectory(runs / "a"), 5), load_checkpoint(runs / "a" / "checkpoints" / "5")
    assert isinstance(state, ReplayedState)
    assert np.array_equal(state.read(LEAF), saved.arrays[LEAF])


@pytest.mark.slow
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


@pytest.mark.slow
def test_differences_of_gradients_and_where_they_are(runs: Path, reprotui: Cli) -> None:
    assert replay(reprotui, "a", "c", "--step", 8, exit_code=1)["runs"][1]["faithful"]
    a, b = (replay_step(RunDirectory(runs / name), 8) for name in "ac")
    assert isinstance(a, ReplayedState)
    assert isinstance(b, ReplayedState)
    difference = compare_states(a, b)
    phases = [leaf.phase for leaf in difference.leaves]
    assert "grads" in phases
    assert phases == sorted(phases, key=["forward", "grads", "optimizer", "params"].index)
    grid = difference.heat_map("params/dense_1/kernel", 4, 4)
    assert grid.shape == (4, 4)
    assert (grid > 0).any()
    assert compare_states(a, a).same


@pytest.mark.slow
def test_a_state_with_keys_batch_statistics_and_dropout_replays(reprotui: Cli) -> None:
    reprotui("run", *CNN, "steps=6", "--every", 4, "--save-at", 2, "--name", "cnn")
    # Step 3 is not recorded: it is proved by the next record, of step 4.
    said = replay(reprotui, "cnn", "--step", 3)["runs"][0]
    assert (said["faithful"], said["compared"], said["started_from"]) == (True, 1, 2)
    phases = {phase for phase, *_ in said["leaves"]}
    assert phases == {"batch", "rng", "forward", "grads", "optimizer", "params"}
    assert any(path.startswith("extra/") for _, path, *_ in said["leaves"])


@pytest.mark.slow
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
    assert (found["step"], found["phases"], found["compared"]) == (1, ["params"], 1)
    assert {path.split("/")[0] for _, path in found["leaves"]} == {"params"}
    assert "the compiled program is another one: step, from jaxpr on" in found["reasons"]
    assert found["repeats"]["verdict"].startswith("systematic: 3 of 3")
    shown = reprotui("replay", "a", "b", "--step", 3, exit_code=3).stdout
    assert "NOT FAITHFUL  runs/a: replay not faithful from step 1 · params" in shown
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


@pytest.mark.slow
def test_a_flaky_step_is_told_from_a_steady_one(reprotui: Cli) -> None:
    reprotui.write("flaky.py", FLAKY)
    reprotui("run", "flaky.py", "steps=4", "--name", "flaky")
    found = replay(reprotui, "flaky", "--step", 4, "--repeat", 4, exit_code=1)["runs"][0]
    assert (found["step"], found["phases"][0], found["reasons"]) == (3, "batch", [])
    assert found["repeats"]["verdict"].startswith("flaky: 4 different outcomes in 4")
    steady = replay(reprotui, "flaky", "--step", 2, "--repeat", 4)["runs"][0]
    assert steady["repeats"]["verdict"].startswith("deterministic: 4 of 4")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_and_said(runs: Path, reprotui: Cli) -> None:
    reprotui("checkpoint", "damage", "a", "--step", 5, "--kind", "flip", "--in-place")
    said = replay(reprotui, "a", "--step", 6)["runs"][0]
    assert (said["faithful"], said["started_from"]) == (True, None)
    assert any("5: CORRUPT" in note for note in said["notes"])


@pytest.mark.slow
def test_the_records_that_a_branch_inherited_are_replayed_by_its_parent(runs: Path, reprotui: Cli) -> None:
    reprotui("checkpoint", "restore", "a", "--step", 5, "lr=0.01", "steps=8", "--name", "branch")
    assert replay(reprotui, "branch", "--step", 7)["runs"][0]["started_from"] == 5
    assert replay(reprotui, "branch", "--step", 3)["runs"][0]["faithful"]
    shutil.rmtree(runs / "a")
    reprotui("replay", "branch", "--step", 2, exit_code=3)
    assert "no way to it" in reprotui("replay", "branch", "--step", 8, exit_code=3).stderr


@pytest.mark.slow
def test_the_level_replay_resumes_and_compares(runs: Path, reprotui: Cli) -> None:
    done = reprotui("checkpoint", "verify", "a", "--step", 5, "--level", "replay").stdout
    assert "10 recorded steps, up to 15, are equal to the bit" in done
    edit_manifest(runs / "a", config=lambda config: {**config, "momentum": 0.8})
    done = reprotui("checkpoint", "verify", "a", "--step", 5, "--level", "replay", exit_code=1).stdout
    assert "resumed from step 5, not faithful from step 6 · optimizer" in done
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
    from reprotui.replay.stored import VERSION, keep

    array = np.arange(4, dtype=np.float32)
    written = run.path / "replay" / ".replaying"
    written.mkdir(parents=True)
    np.save(written / "0.npy", array)
    value = {
        "version": VERSION, "step": step, "created_ns": step, "started_from": None, "compared": 1, "notes": [], "proof": {},
        "leaves": [{"phase": "params", "path": "x", "dtype": "float32", "shape": [4], "file": "0.npy"}],
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


@pytest.mark.slow
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
    edit_manifest(runs / "a", kind="script", config_phases={})
    with pytest.raises(CannotTellError, match="only experiments that reprotui trains replay"):
        replay_step(RunDirectory(runs / "a"), 3)


@pytest.mark.slow
def test_a_state_that_was_kept_with_other_phases_is_replayed_again(runs: Path, reprotui: Cli) -> None:
    replay(reprotui, "a", "--step", 7)
    kept = runs / "a" / "replay" / "step-7"
    assert open_state(RunDirectory(runs / "a"), kept) is not None
    text = (kept / "state.json").read_text()
    (kept / "state.json").write_text(text.replace('"version": 2', '"version": 1').replace('"params"', '"update"'))
    assert open_state(RunDirectory(runs / "a"), kept) is None
    found = replay(reprotui, "a", "b", "--step", 7, exit_code=1)["difference"]
    assert [leaf["phase"] for leaf in found["leaves"]] == ["params"]


# Reports and the dashboard


def exact_report(cli: Cli, *arguments: object, exit_code: int = 1) -> dict[str, Any]:
    """Make a report as JSON, hold it against its schema, and return it."""
    report = json.loads(cli("report", *arguments, "--json", exit_code=exit_code).stdout)
    jsonschema.validate(report, report_schema(strict=False))
    jsonschema.validate(report["comparisons"][0], {"$ref": "#/$defs/comparison", "$defs": report_schema(strict=True)["$defs"]})
    return report


@pytest.mark.slow
def test_a_report_verifies_what_it_is_asked_to_and_says_the_difference_element_by_element(runs: Path, reprotui: Cli) -> None:
    report = exact_report(reprotui, "a", "b", "--verify", "--exact")
    exact = report["comparisons"][0]["exact"]
    assert (exact["step"], exact["equal_leaves"], exact["problem"]) == (7, 16, None)
    assert [(leaf["path"], leaf["elements"]["different"], leaf["elements"]["max_ulp"]) for leaf in exact["leaves"]] == [
        (LEAF, 1, 1)
    ]
    assert [run["verification"]["records"] for run in report["runs"]] == [21, 21]
    assert [item["status"] for item in report["runs"][0]["checkpoints"]] == ["VALID"] * len(report["runs"][0]["checkpoints"])
    assert report["commands"][-1]["command"].endswith("--verify --exact")
    for form in ("markdown", "html"):  # the states are kept: no process is started for them
        said = reprotui("report", "a", "b", "--exact", "--format", form, exit_code=1).stdout
        assert "element by element: 1 of 17 leaves differ" in said
        assert "1 of 2,048" in said
    # Each part alone, and nothing of it where it was not asked for
    traces = exact_report(reprotui, "a", "b", "--verify-traces")
    assert traces["runs"][0]["verification"]
    assert {item["status"] for item in traces["runs"][0]["checkpoints"]} == {"read back at its save"}
    read = exact_report(reprotui, "a", "b", "--verify-checkpoints")
    assert {item["status"] for item in read["runs"][0]["checkpoints"]} == {"VALID"}
    assert read["runs"][0]["verification"] is None
    assert read["comparisons"][0]["exact"] is None
    assert exact_report(reprotui, "a", "a", "--exact", exit_code=0)["comparisons"][0]["exact"] is None
    # What cannot be replayed is said, and the verdict stands.
    shutil.rmtree(runs / "b" / "replay")
    edit_manifest(runs / "b", experiment=lambda named: named | {"name": "gone", "source": None})
    problem = exact_report(reprotui, "a", "b", "--exact")["comparisons"][0]["exact"]["problem"]
    assert "b cannot be replayed" in problem
    assert "No exact difference: b cannot be replayed" in reprotui("report", "a", "b", "--exact", exit_code=1).stdout


@pytest.mark.slow
def test_the_dashboard_replays_sorts_and_shows_bits_and_reports_them(runs: Path, reprotui: Cli, own_settings: Path) -> None:
    out = runs.parent / "out"
    out.mkdir()

    async def look() -> None:
        async with dashboard(runs / "a", runs / "b", size=(120, 36)) as driven:

            def place() -> str:
                return " ".join(str(driven.get("#place").render()).split())

            def message() -> str:
                return " ".join(str(driven.app.screen.query_one("#export-message", Static).render()).split())

            async def write(name: str, *verified: str) -> None:
                await driven.press("e")
                for box in ("traces", "checkpoints", "exact"):
                    driven.app.screen.query_one(f"#export-{box}", Checkbox).value = box in verified
                driven.app.screen.query_one(Input).value = str(out / name)
                await driven.press("enter")

            # A report that replays is cancelled: nothing stays behind.
            await write("never", "exact")
            await driven.until("the replay", lambda: "replaying" in message())
            await driven.press("escape")
            await driven.until("the end", lambda: message() == "cancelled: nothing was written")
            assert not list(out.iterdir())
            assert not list(runs.glob("*/replay/.replaying-*"))
            await driven.press("escape")
            assert driven.app.screen is driven.race

            # What the panel has found goes into the report, though the report reads nothing.
            await driven.press("c")
            await driven.until("the list", lambda: "read back" in driven.text())
            await driven.press("enter")
            await driven.until("the status", lambda: "every file and every leaf is what was saved" in driven.text())
            await driven.press("escape")
            await write("known")
            await driven.until("the report", lambda: (out / "known.json").exists() and driven.app.screen is driven.race)
            found = json.loads((out / "known.json").read_text())["runs"][0]
            assert found["verification"] is None
            first, *others = found["checkpoints"]
            assert (first["status"], first["message"]) == ("VALID", "verified before, not read again for this report")
            assert {item["status"] for item in others} <= {"read back at its save"}

            # The step, element by element
            await driven.press("d", "enter")
            table = driven.get(LeafTable)
            assert "max ulp" not in driven.text()
            await driven.press("x")
            await driven.until("the difference", lambda: "exact: 1 of 17 leaves differ" in place())
            assert "max ulp" in driven.text()
            (row,) = [line for line in driven.lines() if "1/2048" in line and "kernel" in line]
            assert row.split()[-1] == "1"  # ulp
            await driven.press("greater_than_sign")
            assert "sorted by elements that differ" in place()
            assert isinstance(table.node, Leaf)
            assert table.node.path == LEAF
            await driven.pilot.click(table, offset=(table.scrollable_content_region.width - 3, 0))
            assert "sorted by max ulp" in place()
            await driven.press("enter")
            await driven.until("bits", lambda: "XOR 00000001: bit 0" in str(driven.get("#detail").render()))
            detail = str(driven.get("#detail").render())
            for said in ("first element [28, 5]", "by row and column of [64, 32]", "units in the last place", "log10"):
                assert said in detail
            assert driven.get(LeafTable).display is False
            await driven.press("escape", "escape")
            assert "sorted by" not in place()
            await driven.press("right_square_bracket")
            assert "max ulp" not in driven.text()

            # Now the states are kept, and the report has all of it.
            await write("whole", "traces", "checkpoints", "exact")
            await driven.until("the report", lambda: (out / "whole.json").exists())
            whole = json.loads((out / "whole.json").read_text())
            assert [leaf["path"] for leaf in whole["comparisons"][0]["exact"]["leaves"]] == [LEAF]
            assert {item["status"] for item in whole["runs"][0]["checkpoints"]} == {"VALID"}
            assert "verified before" not in (out / "whole.md").read_text()

    drive(look())
