"""Runs named by relative paths, from other folders than they were recorded in, and after they were moved."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import MLP, TRANSFORMER, Cli


@pytest.fixture(scope="session")
def recorded(once: Any, environment: dict[str, str]) -> Path:
    """Return a working directory with runs that saved: `a`, `branch` that went on from it, `text` of a text. Only read it."""

    def build(path: Path) -> None:
        cli = Cli(path, environment)
        cli("run", *MLP, "--save-at", 5, "--name", "a")
        cli("checkpoint", "restore", "a", "--step", 5, "lr=0.01", "steps=8", "--name", "branch")
        cli.write("words.txt", "to be or not to be " * 40)
        cli("run", *TRANSFORMER, "steps=4", "text=words.txt", "--save-at", 2, "--name", "text")

    return once("moved", build)


@pytest.fixture
def elsewhere(recorded: Path, reprotui: Cli) -> Cli:
    """Return the command line in another folder than the runs were recorded in, which are copied below it."""
    shutil.copytree(recorded / "runs", reprotui.directory / "kept")
    return reprotui


def replayed(cli: Cli, *arguments: object) -> dict[str, Any]:
    """Replay with `--json`; return what is said of the one run."""
    return json.loads(cli("replay", *arguments, "--json").stdout)["runs"][0]


@pytest.mark.slow
def test_a_run_named_by_a_relative_path_replays_from_another_folder_than_it_was_recorded_in(elsewhere: Cli) -> None:
    said = replayed(elsewhere, "kept/a", "--step", 7)
    assert (said["faithful"], said["started_from"]) == (True, 5)
    assert "VALID" in elsewhere("checkpoint", "verify", "kept/a", "--step", 5, "--level", "replay").stdout
    elsewhere("checkpoint", "verify", "kept/a/checkpoints/5", "--level", "replay")
    elsewhere("checkpoint", "restore", "kept/a", "--step", 5, "--name", "on")
    assert elsewhere.compare("kept/a", "runs/on")["verdicts"][0]["kind"] == "identical"
    elsewhere("report", "kept/a", "runs/on", "--out", "report")


@pytest.mark.slow
def test_a_path_with_parent_folders_in_it_is_read_and_written(elsewhere: Cli) -> None:
    below = Cli(elsewhere.directory / "below", elsewhere.environment)
    below.directory.mkdir()
    said = json.loads(below("replay", "../kept/a", "--step", 7, "--json").stdout)["runs"][0]
    assert (said["faithful"], said["started_from"]) == (True, 5)
    below("run", *MLP, "--save-at", 5, "--checkpoint-dir", "../saved", "--name", "up")
    assert "VALID" in below("checkpoint", "verify", "../saved/5").stdout


@pytest.mark.slow
def test_a_branch_that_was_moved_with_its_parent_finds_its_checkpoint_and_its_parent_there(
    recorded: Path, elsewhere: Cli, tmp_path: Path
) -> None:
    kept = elsewhere.directory / "kept"
    manifest = json.loads((kept / "branch" / "run.json").read_text())
    # As it stands where the folder of the recording is gone.
    text = json.dumps(manifest).replace(str(recorded), str(tmp_path / "gone"))
    (kept / "branch" / "run.json").write_text(text)
    assert replayed(elsewhere, "kept/branch", "--step", 7)["started_from"] == 5
    assert replayed(elsewhere, "kept/branch", "--step", 3)["faithful"]
    # Another checkpoint in its place is not taken for it.
    shutil.rmtree(kept / "a")
    shutil.copytree(kept / "text", kept / "a")
    (kept / "a" / "checkpoints" / "2").rename(kept / "a" / "checkpoints" / "5")
    (kept / "a" / "checkpoints" / "2.manifest.json").rename(kept / "a" / "checkpoints" / "5.manifest.json")
    elsewhere("replay", "kept/branch", "--step", 7, "--fresh", exit_code=3)


@pytest.mark.slow
def test_paths_in_a_config_mean_what_they_meant_where_the_run_was_started(elsewhere: Cli) -> None:
    assert replayed(elsewhere, "kept/text", "--step", 4)["faithful"]
    elsewhere("checkpoint", "restore", "kept/text", "--step", 2, "--name", "on")
    assert elsewhere.compare("kept/text", "runs/on")["verdicts"][0]["kind"] == "identical"
    # A path that is given now is one of here.
    elsewhere.write("other.txt", "not to be or to be " * 40)
    elsewhere("checkpoint", "restore", "kept/text", "--step", 2, "text=other.txt", "--name", "other", exit_code=None)
    result = json.loads((elsewhere.runs / "other" / "run.json").read_text())["result"]
    assert "does not exist" not in str(result.get("error"))
