"""What cannot be used is said in one line with exit code 2 or 3, whatever stands where a run, a file or a number is expected."""

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from conftest import SAMPLES, Cli, edit_manifest, parsed
from reprotui.compare.results import compare_results, read_result, summary
from reprotui.errors import BadInputError, CannotTellError
from reprotui.regular import read_regular

HUGE = "9" * 5001


@pytest.fixture
def cli(tmp_path: Path, bare_environment: dict[str, str]) -> Cli:
    """Return the command line in a directory full of things that are no runs."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "huge.json").write_text(f'{{"hash": {HUGE}}}')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "good.json").write_text('{"hash": "x", "final": 3}')
    (tmp_path / "runs" / "hangs").mkdir(parents=True)
    os.mkfifo(tmp_path / "runs" / "hangs" / "run.json")
    return Cli(tmp_path, bare_environment)


COMMANDS = (
    ["checkpoint", "verify", "{}"], ["checkpoint", "register", "{}"], ["checkpoint", "restore", "{}"],
    ["run", "--restore-from", "{}"], ["compare", "{}", "good.json"], ["env", "--diff", "{}", "good.json"],
    ["open", "{}", "--once"], ["report", "{}", "good.json"], ["replay", "{}", "--step", "1"], ["control", "{}", "stop"],
    ["fleet", "{}", "--once"],
)  # fmt: skip
ARGUMENTS = (".", "/", "", "..", "fifo", "/dev/zero", "folder", "huge.json", "deep.json", "hangs")


def refused_or_judged(done: Any) -> None:
    """Hold that a command refused its input, or found something and said what: any file can be registered or be damaged."""
    assert done.returncode in (2, 3) or (done.returncode in (0, 1) and done.stdout), done
    assert "unexpected" not in done.stderr, done


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_what_is_no_run_is_refused_by_every_command(cli: Cli, argument: str) -> None:
    # Two commands an argument, in turn: every command meets several of them, every one of them several commands.
    first = ARGUMENTS.index(argument)
    for number in (first, first + 4):
        arguments = [part.format(argument) for part in COMMANDS[number % len(COMMANDS)]]
        done = cli(*arguments, exit_code=None)
        refused_or_judged(done)


@pytest.mark.parametrize("argument", [".", "/", "", ".."])
@pytest.mark.parametrize("number", range(4))
def test_a_checkpoint_without_a_name_is_refused_or_meant_by_its_own_name(cli: Cli, number: int, argument: str) -> None:
    done = cli(*(part.format(argument) for part in COMMANDS[number]), exit_code=None)
    refused_or_judged(done)


def test_a_dot_is_the_run_that_one_stands_in(tmp_path: Path, bare_environment: dict[str, str]) -> None:
    path = shutil.copytree(SAMPLES / "identical", tmp_path / "identical")
    assert "MATCH" in Cli(path, bare_environment)("compare", ".").stdout
    assert "MATCH" in Cli(path / "a", bare_environment)("compare", ".", "../b").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "x", "--step", "9" * 20], ["replay", "x", "--step", HUGE], ["checkpoint", "verify", "x", "--step", "9" * 20],
        ["run", "--restore-from", f"x:{HUGE}"], ["checkpoint", "restore", "x", "--step", f"-{'9' * 30}"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)  # fmt: skip
def test_steps_that_no_trace_can_number_are_refused(cli: Cli, arguments: list[str]) -> None:
    assert "unexpected" not in cli(*arguments, exit_code=2).stderr


@pytest.mark.slow
def test_a_replay_of_a_config_with_nan_is_an_answer(cli: Cli) -> None:
    run = shutil.copytree(SAMPLES / "identical" / "a", cli.directory / "run")
    edit_manifest(run, config=lambda config: config | {"lr": float("nan")})
    done = cli("replay", run, "--step", "1", exit_code=None)
    assert done.returncode in (1, 2, 3) and "unexpected" not in done.stderr, done


@pytest.mark.parametrize("name", ["fifo", "folder", "socket", "device", "link"])
def test_only_a_regular_file_is_read(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = cli.directory / name
    if name == "device":
        path = Path("/dev/zero")
    elif name == "link":
        path.symlink_to("fifo")
    elif name == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            monkeypatch.chdir(cli.directory)
            server.bind(name)
    with pytest.raises(BadInputError, match="expected a file"):
        read_regular(path)


def test_a_regular_file_is_read_through_a_link_too(cli: Cli) -> None:
    (cli.directory / "link").symlink_to("folder/file")
    assert read_regular(cli.directory / "link") == read_regular(cli.directory / "folder" / "file") == b"x"


# Results of runs that somebody else recorded


@pytest.mark.parametrize("manifest", [{}, {"config": None, "result": None}, {"result": {"final": [], "digests": {"state": "x"}}}])
def test_a_summary_takes_nothing_for_granted(manifest: dict[str, Any]) -> None:
    found = summary(parsed(manifest))
    assert found["hash"] is None and found["batch_size"] is None and found["final"] == {"loss": None, "acc": None}


def test_metrics_of_runs_without_usual_settings_are_compared(cli: Cli) -> None:
    race = shutil.copytree(SAMPLES / "identical", cli.directory / "race")
    for label in "ab":
        edit_manifest(race / label, config={"temperature": 1})
    assert "MATCH" in cli("compare", race, "--metrics").stdout
    edit_manifest(race / "b", result=lambda result: {**result, "final": {**result["final"], "loss": 0.125}})
    assert "loss" in cli("compare", race, "--metrics", exit_code=1).stdout


def test_two_results_without_a_digest_are_not_the_same(cli: Cli) -> None:
    run = shutil.copytree(SAMPLES / "identical" / "a", cli.directory / "run")
    edit_manifest(run, result=lambda result: {**result, "digests": {"state": "x"}})
    with pytest.raises(CannotTellError, match="no digest of its parameters"):
        read_result(run)
    cli("compare", run, "good.json", exit_code=3)


def test_final_metrics_that_are_no_object_are_no_metrics() -> None:
    a, b = json.loads('{"hash": "x", "final": 3}'), json.loads('{"hash": "x", "final": [1]}')
    assert compare_results(a, b, metrics=True).differs == []
    assert compare_results(a, {**b, "final": {"loss": 1.0}}, metrics=True).differs == ["loss: None → 1.0"]
