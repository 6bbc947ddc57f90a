"""The manifest of a run: former ones open, what is unknown stays, what is damaged is named, and what states mean."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import edit_manifest, parsed
from reprotui.compare import compare_runs, open_run
from reprotui.errors import BadInputError
from reprotui.integrity import identity_of_run
from reprotui.manifest import Kind, Membership, RunManifest, RunState, assignment
from reprotui.observation import Options
from reprotui.race.launch import LocalWorker
from reprotui.race.monitor import Monitor
from reprotui.run_directory import RunDirectory, this_process, write_json
from reprotui.schedule import Checkpointing, Recording
from reprotui.trace import TraceWriter
from reprotui.trust import made_here
from test_compare import history as steps_of
from test_compare import to_record

RECORDED = Path(__file__).parent / "manifests"
"""Manifests that reprotui wrote before it said which kind a run is."""


def recorded(name: str, **changes: Any) -> RunManifest:
    """Return a recorded manifest with some entries changed."""
    return RunManifest.parse({**json.loads((RECORDED / f"{name}.json").read_text()), **changes}, name)


# Those of former versions


def test_a_former_run_of_an_experiment_opens() -> None:
    run = recorded("trained")
    assert (run.kind, run.name, run.experiment.name, run.experiment.path) == (Kind.EXPERIMENT, "trained", "digits-mlp", None)
    assert (run.config["steps"], run.planned_steps, run.recording) == (4, 4, Recording())
    assert run.checkpointing == Checkpointing(at=(2,))
    assert run.result is not None and run.result.state is RunState.FINISHED and len(run.result.digests["params"]) == 64
    assert run.process is not None and run.process.host == "sample"
    assert (run.restore, run.launch, run.race, run.rank, run.world_size, run.host, run.job) == (None,) * 7


def test_a_former_run_that_went_on_from_a_checkpoint_opens() -> None:
    restore = recorded("resumed").restore
    assert restore is not None
    assert (restore.step, restore.begins_after, restore.omit, restore.changed) == (2, 2, (), ())
    assert restore.run_id == identity_of_run(recorded("trained"), 2).run_id


def test_a_former_run_of_a_script_opens_started_by_a_race_or_by_hand() -> None:
    run = recorded("scripted")
    assert (run.kind, run.race) == (Kind.SCRIPT, Membership("scripted", "a"))
    assert run.launch is not None and run.launch.words[-1] == "loop.py"
    assert Options.from_text(run.launch.options) == Options()
    by_hand = recorded("by-hand")
    assert (by_hand.kind, by_hand.launch, by_hand.race) == (Kind.SCRIPT, None, None)
    assert by_hand.experiment.sources.keys() == {"loop.py"}


@pytest.mark.parametrize("name", ["trained", "resumed"])
def test_the_mark_of_a_former_run_still_says_who_recorded_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert not made_here(recorded(name))  # by somebody else
    (tmp_path / "reprotui").mkdir()
    (tmp_path / "reprotui" / "key").write_bytes(bytes(range(32)))
    assert made_here(recorded(name))
    assert not made_here(recorded(name, working_directory="/elsewhere"))


# Those of newer versions


def test_what_this_version_does_not_know_is_there_again_after_an_update(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    known = json.loads((RECORDED / "by-hand.json").read_text())
    write_json(run.manifest_path, {**known, "moon": {"phase": 3}, "recording": {**known["recording"], "colour": "blue"}})
    updated = run.update_manifest(recording=Recording(every=7), rank=1)
    assert updated == run.manifest()
    assert (updated.recording.every, updated.rank) == (7, 1)
    assert updated.document["moon"] == {"phase": 3}
    assert updated.document["recording"]["colour"] == "blue"


def test_ranks_and_hosts_are_written_only_where_they_are_told() -> None:
    alone = RunManifest.new(Kind.SCRIPT, "x", ["python"], Recording())
    assert not {"rank", "world_size", "host", "job"} & alone.document.keys()
    one_of_two = RunManifest.new(Kind.SCRIPT, "x", ["python"], Recording(), rank=0, world_size=2, host="n1", job="17")
    assert (one_of_two.rank, one_of_two.world_size, one_of_two.host, one_of_two.job) == (0, 2, "n1", "17")


# Damaged ones


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"config": 3}, "'config' is no object but a number"),
        ({"name": ["x"]}, "'name' is no text but a list"),
        ({"created_ns": True}, "'created_ns' is no whole number but true or false"),
        ({"command": ["reprotui", 1]}, "'command' is no list of texts but a list"),
        ({"experiment": {"path": 7}}, "'experiment.path' is no text but a number"),
        ({"restore": {"step": 3}}, "'restore.checkpoint' is missing"),
        ({"result": {"state": "dancing"}}, "'result.state' is 'dancing', expected one of created, "),
        ({"kind": "opera"}, "'kind' is 'opera', expected one of experiment, script"),
        ({"checkpointing": {"at": "2"}}, "'checkpointing.at' is no list of whole numbers but a text"),
    ],
    ids=str,
)
def test_a_damaged_manifest_is_refused_with_the_file_the_key_and_what_was_expected(entries: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parsed(entries)
    assert str(caught.value).startswith(f"run.json is damaged: {said}")
    assert parsed(dict.fromkeys(entries)).name is None  # absent is no damage


# States


def test_only_what_goes_on_is_alive_and_a_command_reaches_a_run_on_another_host_too() -> None:
    alive = {RunState.CREATED, RunState.STARTING, RunState.RUNNING, RunState.PAUSED}
    assert {state for state in RunState if state.alive} == alive
    assert {state for state in RunState if state.obeys} == alive | {RunState.ELSEWHERE}


@pytest.mark.parametrize(("through", "state"), [(3, "starting"), (4, "running")])
def test_a_resumed_run_is_starting_until_it_records_a_step_of_its_own(tmp_path: Path, through: int, state: str) -> None:
    run = RunDirectory(tmp_path)
    restore = {"checkpoint": "/x/3", "step": 3, "history": "/x/trace.db"}  # the trace begins with that run's records
    run.write_manifest(parsed({"process": this_process(), "restore": restore}).document)
    writer = TraceWriter(run.trace_path)
    for step, leaves in steps_of(through).items():
        writer.put(lambda step=step, leaves=leaves: to_record(step, leaves, True))
    writer.flush()
    assert Monitor([("A", run)]).look().runs[0].state == state
    writer.close()


def test_a_worker_that_has_not_written_its_name_is_starting_while_its_process_lives(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_manifest(parsed({"name": "x"}).document)
    with LocalWorker([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        monitor = Monitor([("A", run)], {"A": process})
        assert monitor.look().runs[0].state == "starting"
        process.kill()
        process.wait()
        assert monitor.look().runs[0].state == "killed"


def test_a_run_on_another_host_without_a_record_is_incomplete_not_incomparable(sample: Any) -> None:
    path = sample("identical")
    (path / "b" / "trace.db").unlink()
    assert compare_runs(open_run(path / "a", "A"), open_run(path / "b", "B")).kind == "incomparable"  # it ended, and lost it
    edit_manifest(path / "b", result=None, seal=None, process={"pid": 1, "host": "elsewhere.example", "started": "1"})
    verdict = compare_runs(open_run(path / "a", "A"), open_run(path / "b", "B"))
    assert (verdict.kind, verdict.exit_code) == ("incomplete", 3)
    assert verdict.reason == "B has no seal, its process is on another host before its first record"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "x=none"), (True, "x=true"), (False, "x=false"), (0.1, "x=0.1"), ("a", "x=a")], ids=str
)
def test_a_setting_is_told_as_the_command_line_takes_it(value: Any, text: str) -> None:
    assert assignment("x", value) == text
