"""What a run was asked to record: kept with it, shown where runs are, and said where two runs were asked for something else."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE, Cli, parsed
from reprotui.compare import compare_runs
from reprotui.compare.recorded import asked_for
from reprotui.observation import Options
from reprotui.report import collect_report, render
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Recording, Replicas
from test_compare import changed, history, run

SCRIPT = """
import jax
train = jax.jit(lambda w: (w - 0.1 * w, (w * w).sum()))
w = jax.numpy.ones(3)
for _ in range(5):
    w, loss = train(w)
"""
OTHER = changed(history(5), 2, "params:params/w")


def observed(options: Options = Options(), calls: str = "train", **entries: Any) -> dict[str, Any]:  # noqa: B008 - immutable
    """Return entries of the manifest of a script that was observed in a way of its own."""
    launch = {"words": ["python", "train.py"], "variables": {}, "directory": "/", "options": options.to_text()}
    coverage = {"calls": {calls: {"made": 5, "recorded": 5, "sampled_out": 0}}}
    return {"launch": launch, "result": {"state": "finished", "digests": {"state": "same"}, "coverage": coverage}, **entries}


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({}, []),
        (observed(), []),
        (observed(Options("train", "mean", inside=True)), ["--inside", "--step-function train", "--loss mean"]),
        ({"observation": {"step_function": "train", "inside": True}}, ["--inside", "--step-function train"]),
        ({"observation": {"step_function": 5, "loss": None}}, []),
        (observed(launch=None), []),
        ({"launch": {"words": [], "variables": {}, "directory": "/", "options": "[1]"}}, []),
        ({"recording": {"enabled": False}}, ["--no-record"]),
        ({"recording": {"every": 10, "replicas": "first"}}, ["--every 10", "--replicas first"]),
        ({"recording": {"stop_at_nan": True}}, ["--stop-at-nan"]),
    ],
)  # fmt: skip
def test_what_is_not_the_usual_is_told_as_the_command_line_takes_it(entries: Mapping[str, Any], said: list[str]) -> None:
    assert asked_for(parsed(entries)) == said


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (Options(inside=True), Options(), "A was recorded with --inside and B without --inside"),
        (Options(), Options("other"), "A without --step-function and B was recorded with --step-function other"),
    ],
)  # fmt: skip
def test_steps_that_are_not_the_same_thing_are_not_compared(tmp_path: Path, a: Options, b: Options, reason: str) -> None:
    one = run(tmp_path / "a", history(5), **observed(a))
    verdict = compare_runs(one, run(tmp_path / "b", OTHER, **observed(b, calls=b.step_function or "train")))
    assert verdict.kind == "incomparable" and reason in verdict.reason
    # What both began with is the same thing in any case, and where all is equal nothing is in doubt.
    init = compare_runs(one, run(tmp_path / "c", changed(history(5), 0, "init:params/w"), **observed(b)))
    assert (init.kind, init.step) == ("diverged", 0)
    same = compare_runs(one, run(tmp_path / "d", history(5), **observed(b)))
    assert same.kind == "identical" and any("recorded in different ways: A " in note for note in same.notes)


def test_a_function_that_was_named_is_the_one_that_was_found(tmp_path: Path) -> None:
    one, two = run(tmp_path / "a", history(5), **observed()), run(tmp_path / "b", OTHER, **observed(Options("train")))
    verdict = compare_runs(one, two)
    assert (verdict.kind, verdict.step) == ("diverged", 2)
    assert "recorded in different ways: A as usual, B --step-function train" in verdict.notes


def test_another_output_as_the_loss_is_no_difference_of_the_training(tmp_path: Path) -> None:
    one = run(tmp_path / "a", history(5), **observed(Options(loss="mean")))
    loss, more = changed(history(5), 1, "forward:loss"), changed(history(5), 1, "forward:loss", "forward:metrics/accuracy")
    verdict = compare_runs(one, run(tmp_path / "b", loss, **observed()))
    assert verdict.kind == "incomparable" and "what they call a loss is not the same thing" in verdict.reason
    assert compare_runs(one, run(tmp_path / "c", more, **observed())).kind == "diverged"


def test_runs_that_were_recorded_alike_are_compared_without_a_word_about_it(tmp_path: Path) -> None:
    entries = observed(Options(inside=True), recording={"every": 1, "replicas": "first"})
    verdict = compare_runs(run(tmp_path / "a", history(5), **entries), run(tmp_path / "b", OTHER, **entries))
    assert verdict.kind == "diverged" and not any("recorded" in note for note in verdict.notes)


def test_a_report_says_how_runs_were_recorded(tmp_path: Path) -> None:
    run(tmp_path / "a", history(5), **observed(Options("train"), recording={"replicas": "first"}))
    run(tmp_path / "b", history(5), **observed(Options("train")))
    run(tmp_path / "c", history(5), **observed())
    run(tmp_path / "d", history(5), **observed())
    page = render(collect_report([tmp_path / "a", tmp_path / "b", tmp_path / "c"]), "markdown")
    row = next(line for line in page.splitlines() if "recorded with" in line)
    cells = [cell.strip(" `") for cell in row.split("|")[2:5]]
    assert cells == ["--replicas first --step-function train", "--step-function train", "as usual"]
    assert "recorded with" not in render(collect_report([tmp_path / "c", tmp_path / "d"]), "markdown")
    told = json.loads(render(collect_report([tmp_path / "a", tmp_path / "c"]), "json"))
    assert [item["recorded_with"] for item in told["runs"]] == [["--replicas first", "--step-function train"], []]


@pytest.mark.slow
def test_a_script_that_was_started_by_hand_keeps_how_it_is_observed(reprotui: Cli) -> None:
    reprotui.write("train.py", SCRIPT)
    for name, options in {"named": ["--step-function", "<lambda>"], "found": []}.items():
        command = [sys.executable, "-m", "reprotui.observe", "--name", name, *options, "train.py"]
        subprocess.run(command, cwd=reprotui.directory, env=reprotui.environment, timeout=PATIENCE, check=True)
    assert RunDirectory(reprotui.runs / "named").manifest().observation == {"step_function": "<lambda>"}
    assert "observation" in RunDirectory(reprotui.runs / "found").manifest().document
    assert (
        "recorded in different ways: named --step-function <lambda>, found as usual"
        in reprotui("compare", "named", "found").stdout
    )


@pytest.mark.slow
def test_a_race_says_how_it_was_recorded_and_carries_the_whole_ledger(reprotui: Cli) -> None:
    reprotui.write("train.py", SCRIPT.replace("ones(3)", "ones(3) * float(open('rate').read())"))
    reprotui.write("rate", "1.0")
    words = [sys.executable, "train.py"]
    done = reprotui("race", "--headless", "--name", "shown", "--replicas", "first", "--", *words)
    assert "recorded with --replicas first" in done.stdout
    told = json.loads(reprotui("race", "--json", "--name", "told", "--", *words).stdout)
    assert [item["recorded_with"] for item in told["runs"].values()] == [[], []]
    assert [(line["place"], line["source"], line["differs"]) for line in told["chance"]] == [
        ("train.py:4", "open(rate)", [False, False])
    ]
    assert told["chance"] == json.loads(reprotui("compare", "told", "--chance", "--json").stdout)["chance"]
    assert RunDirectory(reprotui.runs / "shown" / "a").manifest().recording == Recording(replicas=Replicas.FIRST)
