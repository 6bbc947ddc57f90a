"""The command line: help, exit codes, output for people and for scripts, and bad input at every door."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import reprotui as package
from conftest import ENDLESS, MLP, PATIENCE, TRANSFORMER, edit_manifest, rows_of
from reprotui.cli import build_parser

COMMANDS = ["race", "run", "compare", "report", "runs", "control", "checkpoint"]
HEAVY = ("numpy", "textual", "jax", "jaxlib", "flax", "optax", "torch", "pydantic", "rich", "sqlite3", "watchfiles")


def result_file(cli: Any, name: str, **changes: Any) -> str:
    """Write a result file and return its name."""
    result = {
        "hash": "ab" * 32, "experiment": "digits-mlp", "steps": 20, "batch_size": 64, "seed": 0, "lr": 0.05, "backend": "cpu",
        "final": {"loss": 0.5, "acc": 0.75},
    }  # fmt: skip
    cli.write(name, json.dumps(result | changes))
    return name


# Help


@pytest.mark.slow(but="--version")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_loads_nothing_heavy_and_has_an_example(reprotui: Any, arguments: list[str]) -> None:
    code = (
        "import sys\nfrom reprotui.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=reprotui.environment, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    if arguments == ["--version"]:
        assert done.stdout.strip() == f"reprotui {package.__version__}"
    else:
        assert "examples:\n  reprotui " in done.stdout


def test_the_entry_point_is_python_dash_m(reprotui: Any) -> None:
    script = shutil.which("reprotui", path=str(Path(sys.executable).parent))
    assert script is not None
    ran = subprocess.run([script, "--help"], env=reprotui.environment, capture_output=True, text=True, check=True)
    assert ran.stdout == reprotui("--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [["--nothing"], ["nothing"], ["race", "--nothing"], ["control", "x", "explode"], ["compare"], ["race", "--every", "x"]],
    ids=str,
)
def test_wrong_usage_exits_with_2(reprotui: Any, arguments: list[str]) -> None:
    assert "usage: " in reprotui(*arguments, exit_code=2).stderr


# run


@pytest.mark.slow
def test_run_writes_the_summary_that_scripts_read(reprotui: Any) -> None:
    arguments = (
        "run",
        "--steps",
        8,
        "--batch-size",
        32,
        "--seed",
        3,
        "--lr",
        0.1,
        "--out",
        "runs/a.json",
        "--json",
        "--name",
        "one",
    )
    done = reprotui(*arguments, "width=32", "depth=1")
    written = json.loads((reprotui.directory / "runs" / "a.json").read_text())
    settings = {"experiment": "digits-mlp", "steps": 8, "batch_size": 32, "seed": 3, "lr": 0.1, "backend": "cpu"}
    assert set(written) == {"hash", "final", *settings}
    assert {key: written[key] for key in settings} == settings
    assert set(written["final"]) == {"loss", "acc"}
    assert len(written["hash"]) == 64
    printed = json.loads(done.stdout)
    assert printed["result"] == written
    assert (printed["exit_code"], printed["state"]) == (0, "finished")
    assert "training in" in done.stderr
    # The run directory itself is a result too.
    assert "MATCH" in reprotui("compare", "runs/a.json", "one").stdout
    assert "one" in reprotui("runs").stdout


@pytest.mark.parametrize("out", ["file/result.json", "file/below/result.json", "."])
def test_an_out_that_cannot_be_written_is_told_before_training(reprotui: Any, out: str) -> None:
    reprotui.write("file", "in the way")
    assert f"--out {out} cannot be written" in reprotui("run", *MLP, "--out", out, exit_code=2).stderr
    assert not reprotui.runs.exists()


@pytest.mark.parametrize("command", [["run"], ["resume-check", "--at", "2"]], ids=" ".join)
def test_config_may_stand_before_and_behind_options(command: list[str]) -> None:
    parsed = build_parser().parse_args([*command, "digits-cnn", "steps=3", "--name", "x", "lr=0.1", "--json", "width=8"])
    assert parsed.experiment == ["digits-cnn", "steps=3", "lr=0.1", "width=8"]
    assert (parsed.name, parsed.json) == ("x", True)


@pytest.mark.parametrize("command", ["race", "run"])
def test_an_unwritable_runs_directory_is_bad_input(reprotui: Any, command: str) -> None:
    reprotui.write("file", "in the way")
    for place in ("file", "file/below"):
        done = reprotui(command, *MLP, "--runs-dir", place, exit_code=2)
        assert f"reprotui: {place} cannot be written" in done.stderr
        assert "--runs-dir" in done.stderr


@pytest.mark.slow
def test_the_runs_directory_comes_from_flag_then_variable(reprotui: Any) -> None:
    environment = reprotui.environment | {"REPROTUI_RUNS": "elsewhere"}
    assert "no runs in elsewhere" in reprotui("runs", env=environment).stdout
    assert "no runs in third" in reprotui("runs", "--runs-dir", "third", env=environment).stdout
    assert "no runs in runs" in reprotui("runs").stdout
    assert "no runs in fourth" in reprotui("--runs-dir", "fourth", "runs", env=environment).stdout
    assert "no runs in third" in reprotui("--runs-dir", "fourth", "runs", "--runs-dir", "third").stdout


@pytest.mark.slow
def test_a_disk_that_fills_up_fails_the_run_and_leaves_it_readable(reprotui: Any) -> None:
    done = reprotui("run", *ENDLESS, "--name", "full", exit_code=4, file_size=1 << 18)
    assert "trace.db cannot be written" in done.stdout
    run = reprotui.runs / "full"
    assert json.loads((run / "run.json").read_text())["result"]["state"] == "failed"
    assert len(rows_of(run)) > 10
    assert "failed" in reprotui("runs").stdout


def test_a_disk_that_is_full_is_told_at_once(reprotui: Any) -> None:
    done = reprotui("race", *MLP, "--name", "full", exit_code=2, file_size=100)
    assert "cannot be written" in done.stderr
    assert list(reprotui.runs.iterdir()) == []


# compare: result files


def test_equal_result_files_match(reprotui: Any) -> None:
    done = reprotui("compare", result_file(reprotui, "a.json"), result_file(reprotui, "b.json", seed=1))
    assert "✅ MATCH" in done.stdout
    assert "note: seed: 0 → 1" in done.stdout


def test_different_hashes_mismatch_and_settings_are_told(reprotui: Any) -> None:
    files = result_file(reprotui, "a.json"), result_file(reprotui, "b.json", hash="cd" * 32, lr=0.1)
    done = reprotui("compare", *files, exit_code=1)
    assert "❌ MISMATCH" in done.stdout
    assert f"hash: {'ab' * 32} → {'cd' * 32}" in done.stdout
    assert "lr: 0.05 → 0.1" in done.stdout
    assert reprotui.compare(*files, exit_code=1)["comparisons"][0]["match"] is False


def test_metrics_are_compared_where_asked_for(reprotui: Any) -> None:
    files = result_file(reprotui, "a.json"), result_file(reprotui, "b.json", final={"loss": 0.5, "acc": 0.8})
    assert "acc" not in reprotui("compare", *files).stdout
    assert "acc: 0.75 → 0.8" in reprotui("compare", *files, "--metrics", exit_code=1).stdout
    assert "MATCH" in reprotui("compare", files[0], files[0], "--metrics").stdout


def test_three_result_files_are_held_against_the_first(reprotui: Any) -> None:
    files = result_file(reprotui, "a.json"), result_file(reprotui, "b.json"), result_file(reprotui, "c.json", hash="00")
    found = reprotui.compare(*files, exit_code=1)
    assert [(item["b"], item["match"]) for item in found["comparisons"]] == [("b.json", True), ("c.json", False)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "bad.json does not exist"),
        ("{", "is not valid JSON"),
        ("[1]", "holds a JSON list, expected an object"),
        ("{}", "has no hash; write one with reprotui run --out"),
        ('{"hash": 3}', "has no hash"),
        ("\x00\ufffe", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
    ],
    ids=["missing", "broken", "list", "no-hash", "number", "binary", "deep"],
)
def test_a_file_that_is_no_result_is_bad_input(reprotui: Any, content: str | None, said: str) -> None:
    if content is not None:
        reprotui.write("bad.json", content)
    done = reprotui("compare", result_file(reprotui, "a.json"), "bad.json", exit_code=2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_one_result_alone_cannot_be_compared(reprotui: Any) -> None:
    assert "name two or more runs" in reprotui("compare", result_file(reprotui, "a.json"), exit_code=2).stderr


# compare: runs


@pytest.mark.slow(but="nan-loss-0-IDENTICAL through step")
@pytest.mark.parametrize(
    ("name", "exit_code", "said"),
    [
        ("identical", 0, "IDENTICAL through step"),
        ("nan-loss", 0, "IDENTICAL through step"),
        ("two-seeds", 1, "DIVERGED at step 0 · init"),
        ("learning-rate", 1, "DIVERGED at step 1 · params"),
        ("batch-order", 1, "DIVERGED at step 37 · batch"),
        ("bit-flip", 1, "DIVERGED at step 50 · params · 1 leaf"),
        ("killed", 3, "INCOMPLETE · equal up to step"),
    ],
)
def test_recorded_races_open_by_race_by_members_and_by_name(
    reprotui: Any, sample: Any, name: str, exit_code: int, said: str
) -> None:
    path = sample(name)
    by_race = reprotui("compare", path, exit_code=exit_code).stdout
    assert said in by_race
    assert reprotui("compare", path / "a", path / "b", exit_code=exit_code).stdout == by_race
    assert reprotui("compare", f"{name}/a", f"{name}/b", "--runs-dir", path.parent, exit_code=exit_code).stdout == by_race
    found = reprotui.compare(path, "--verify", exit_code=exit_code)
    assert said in found["verdicts"][0]["headline"]


def test_a_run_directory_and_a_result_file_compare_by_hash(reprotui: Any, sample: Any) -> None:
    path = sample("two-seeds")
    digest = json.loads((path / "a" / "run.json").read_text())["result"]["digests"]["params"]
    assert "MATCH" in reprotui("compare", path / "a", result_file(reprotui, "r.json", hash=digest)).stdout
    reprotui("compare", path / "b", "r.json", exit_code=1)


def test_a_run_without_result_is_no_result(reprotui: Any, sample: Any) -> None:
    path = sample("killed")
    done = reprotui("compare", path / "b", result_file(reprotui, "r.json"), exit_code=2)
    assert "has no result" in done.stderr


@pytest.mark.slow
def test_metrics_of_runs_are_compared_where_asked_for(reprotui: Any, sample: Any) -> None:
    path = sample("identical")
    reprotui("compare", path, "--metrics")
    edit_manifest(path / "b", result=lambda result: result | {"final": result["final"] | {"loss": 7.0}})
    assert " → 7.0" in reprotui("compare", path, "--metrics", exit_code=1).stdout
    reprotui("compare", path)


def test_three_runs_of_two_races_are_grouped(reprotui: Any, sample: Any) -> None:
    path = sample("two-seeds")
    found = reprotui.compare(path / "a", path / "b", shutil.copytree(path / "b", path / "c"), exit_code=1)
    assert found["groups"] == [["a"], ["b", "c"]]


@pytest.mark.slow
def test_trees_of_different_models_are_incomparable(reprotui: Any, sample: Any) -> None:
    reprotui("run", *TRANSFORMER, "steps=2", "--name", "other")
    done = reprotui("compare", sample("identical") / "a", "other", exit_code=3)
    assert "CANNOT TELL" in done.stdout
    assert "no parameter leaf in common: these are different models" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "said"),
    [("PRAGMA user_version=99", "upgrade reprotui"), ("UPDATE meta SET value='md5' WHERE key='checksum'", "holds checksums md5")],
    ids=["schema", "checksum"],
)
def test_a_newer_trace_is_incomparable(reprotui: Any, sample: Any, statement: str, said: str) -> None:
    path = sample("identical")
    with sqlite3.connect(path / "b" / "trace.db") as connection:
        connection.execute(statement)
    connection.close()
    assert said in reprotui("compare", path, exit_code=3).stdout
    assert reprotui.compare(path, exit_code=3)["verdicts"][0]["kind"] == "incomparable"


def test_a_newer_manifest_cannot_be_told(reprotui: Any, sample: Any) -> None:
    path = sample("identical")
    edit_manifest(path / "b", manifest_version=99)
    assert "upgrade reprotui" in reprotui("compare", path, exit_code=3).stderr


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.9])
def test_a_truncated_trace_is_incomparable_and_harms_no_other(reprotui: Any, sample: Any, keep: float) -> None:
    path = sample("identical")
    trace = path / "b" / "trace.db"
    os.truncate(trace, int(keep if keep > 1 else keep * trace.stat().st_size))
    whole = shutil.copytree(path / "a", path / "c")
    found = reprotui.compare(path / "a", path / "b", whole, exit_code=3)
    assert [verdict["kind"] for verdict in found["verdicts"]] == ["incomparable", "identical"]
    assert "b/trace.db" in found["verdicts"][0]["reason"]
    assert sorted(found["groups"]) == [["a", "c"], ["b"]]
    assert "a = c · b cannot be compared" in reprotui("compare", path / "a", path / "b", whole, exit_code=3).stdout


def test_a_root_that_no_leaf_explains_is_not_called_equal(reprotui: Any, sample: Any) -> None:
    path = sample("identical")
    with sqlite3.connect(path / "b" / "trace.db") as database:
        database.execute("UPDATE steps SET roots = zeroblob(48) WHERE step = 12")
    database.close()
    assert "was edited" in reprotui("compare", path, exit_code=3).stdout
    assert "IDENTICAL" in reprotui("compare", path / "a", path / "a").stdout


@pytest.mark.parametrize("name", ["config", "result", "process", "environment"])
def test_a_manifest_whose_entries_lost_their_form_is_refused_in_one_line(reprotui: Any, sample: Any, name: str) -> None:
    path = sample("identical")
    edit_manifest(path / "b", **{name: ["not", "an", "object"]})
    assert f"{name!r} is no object" in reprotui("compare", path / "a", path / "b", exit_code=2).stderr
    assert f"{name!r} is no object" in reprotui("runs", "--runs-dir", path.parent, "--json").stdout.replace('\\"', '"')


def test_an_edited_row_is_found_by_verify(reprotui: Any, sample: Any) -> None:
    path = sample("identical")
    with sqlite3.connect(path / "b" / "trace.db") as connection:
        connection.execute("UPDATE steps SET roots = zeroblob(56) WHERE step = 5")
    connection.close()
    assert "does not verify" in reprotui("compare", path, "--verify", exit_code=3).stdout


@pytest.mark.slow
def test_a_foreign_database_and_an_empty_directory_are_refused(reprotui: Any, sample: Any) -> None:
    path = sample("identical")
    with sqlite3.connect(path / "other.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    shutil.move(path / "other.db", path / "b" / "trace.db")
    assert "not a trace of reprotui" in reprotui("compare", path, exit_code=3).stdout
    (path / "empty").mkdir()
    assert "it has no run.json" in reprotui("compare", path / "a", path / "empty", exit_code=2).stderr
    assert "does not exist" in reprotui("compare", path / "a", "nothing", exit_code=2).stderr


# runs


def test_runs_lists_what_is_there_with_verdicts(reprotui: Any, sample: Any) -> None:
    paths = [sample(name) for name in ("identical", "bit-flip", "killed")]
    for path in paths:
        shutil.move(path, reprotui.runs / path.name) if reprotui.runs.mkdir(exist_ok=True) is None else None
    (reprotui.runs / "no-run").mkdir()
    table = reprotui("runs").stdout
    assert "identical/b" in table and "IDENTICAL through step" in table
    assert "DIVERGED at step 50" in table
    assert "no-run" not in table
    found = json.loads(reprotui("runs", "--json").stdout)
    entries = {entry["name"]: entry for entry in found["runs"]}
    assert found["runs_dir"] == "runs"
    assert len(entries) == 6
    keys = {"name", "path", "created_ns", "experiment", "state", "step", "steps", "loss", "verdict", "why", "note"}
    assert set(entries["killed/b"]) == keys
    assert entries["killed/b"]["state"] in ("killed", "elsewhere")
    assert entries["identical/a"]["state"] == "finished"


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"manifest_version": 1}', '{"manifest_version": 99}'])
def test_an_unreadable_entry_does_not_hide_the_others(reprotui: Any, sample: Any, damage: str) -> None:
    path = sample("identical")
    (path / "b" / "run.json").write_text(damage)
    reprotui.write("single/run.json", damage)
    entries = json.loads(reprotui("runs", "--runs-dir", ".", "--json").stdout)["runs"]
    states = {entry["name"]: entry["state"] for entry in entries}
    assert states["identical/a"] == "finished"
    assert len(states) == 3
    assert states["single"] == "created" if damage == '{"manifest_version": 1}' else states["single"].startswith("unreadable")


@pytest.mark.parametrize("damage", ["{", "{}", '{"members": ["../x"]}', '{"members": [".."]}', '{"members": ["."]}', "link"])
def test_a_damaged_race_is_listed_as_such(reprotui: Any, sample: Any, damage: str) -> None:
    race = sample("identical")
    if damage == "link":  # a member that lies elsewhere, and leads there
        (race / "a").rename(race.parent / "elsewhere")
        (race / "a").symlink_to("../elsewhere")
    else:
        (race / "race.json").write_text(damage)
    assert "unreadable" in reprotui("runs", "--runs-dir", ".").stdout
    reprotui("compare", "identical", exit_code=2)


def test_no_runs_is_no_error(reprotui: Any) -> None:
    assert "no runs in runs; start with: reprotui race" in reprotui("runs").stdout
    assert json.loads(reprotui("runs", "--json").stdout)["runs"] == []


# Terminals and pipes


def test_a_pipe_has_no_escape_codes_and_no_wrapping(reprotui: Any, sample: Any) -> None:
    for arguments in (["compare", sample("two-seeds")], ["runs", "--runs-dir", "."]):
        done = reprotui(*arguments, exit_code=None, env=reprotui.environment | {"COLUMNS": "20"})
        assert "\x1b" not in done.stdout + done.stderr
        assert any(len(line) > 80 for line in done.stdout.splitlines())


def on_a_terminal(cli: Any, *arguments: str, **variables: str) -> str:
    """Return what a command writes where stdout is a terminal."""
    leader, follower = os.openpty()
    process = cli.start(
        *arguments, stdout=follower, stderr=follower, env=cli.environment | {"TERM": "xterm-256color"} | variables
    )
    os.close(follower)
    output = b""
    try:
        while chunk := os.read(leader, 65536):
            output += chunk
    except OSError:  # Linux's way of saying that the other end is closed
        pass
    os.close(leader)
    process.wait(60)
    return output.decode()


def test_a_terminal_has_colours_unless_no_color_is_set(reprotui: Any, sample: Any) -> None:
    path = str(sample("two-seeds"))
    assert "\x1b[" in on_a_terminal(reprotui, "compare", path)
    plain = on_a_terminal(reprotui, "compare", path, NO_COLOR="1")
    assert "MISMATCH" in plain
    assert "\x1b[3" not in plain and "\x1b[38" not in plain


def test_an_encoding_without_symbols_gets_words(reprotui: Any, sample: Any) -> None:
    done = reprotui("compare", sample("identical"), env=reprotui.environment | {"PYTHONIOENCODING": "ascii:replace"})
    assert done.stdout.startswith("MATCH")


@pytest.mark.parametrize(
    "arguments",
    [["compare", "identical"], ["compare", "identical", "--json"], ["runs", "--runs-dir", "."], ["--help"]],
    ids=" ".join,
)
def test_a_reader_that_goes_away_is_no_error(reprotui: Any, sample: Any, arguments: list[str]) -> None:
    sample("identical")
    read, write = os.pipe()
    os.close(read)
    process = reprotui.start(*arguments, stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")


# control


def test_control_of_what_is_not_alive_is_told(reprotui: Any, sample: Any) -> None:
    path = sample("identical")
    assert "no run is alive" in reprotui("control", path, "pause", exit_code=3).stderr
    assert "does not exist" in reprotui("control", "nothing", "pause", exit_code=2).stderr
    assert not (path / "a" / "commands.jsonl").exists()


def test_a_loss_that_is_nan_is_listed_as_nan(reprotui: Any, sample: Any) -> None:
    sample("nan-loss")
    sample("identical")
    listed = json.loads(reprotui("runs", "--runs-dir", ".", "--json").stdout)["runs"]
    losses = {entry["name"]: entry["loss"] for entry in listed}
    assert losses["nan-loss/a"] == losses["nan-loss/b"] == "nan"
    # Its verdict was kept before there was a word for that: it must not look healthy.
    verdicts = {entry["name"]: entry["verdict"] for entry in listed}
    assert verdicts["nan-loss/b"].endswith("not finite from step 2 on: first forward/loss")
    assert isinstance(losses["identical/a"], float)
