"""Which of several runs agree, as groups and as one line; the same in the terminal, in JSON and in the report."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from conftest import edit_manifest
from reprotui.compare import Verdict
from reprotui.compare.agreement import Standing, agreement, provisional, said_of_all
from reprotui.compare.distance import Distance
from reprotui.compare.not_finite import NotFinite
from reprotui.manifest import RunState
from test_compare import changed, history, run

FINISHED, RUNNING, KILLED = RunState.FINISHED, RunState.RUNNING, RunState.KILLED


def diverged(label: str, step: int | None, **more: Any) -> Verdict:
    return Verdict("A", label, "diverged", None, step, "grads", ("grads",), **more)


def identical(label: str, through: int = 80) -> Verdict:
    return Verdict("A", label, "identical", through)


def incomplete(label: str, through: int | None) -> Verdict:
    return Verdict("A", label, "incomplete", through, reason="it goes on")


def told(verdicts: Sequence[Verdict], states: dict[str, RunState] | None = None, groups: Any = None) -> str:
    labels = ["A", *(verdict.b for verdict in verdicts)]
    runs = [Standing(label, (states or {}).get(label, FINISHED), 80) for label in labels]
    return said_of_all(verdicts, provisional(verdicts) if groups is None else groups, runs)


def test_who_agrees_is_one_line_and_the_earliest_difference_comes_first() -> None:
    assert told([diverged("B", 37), identical("C"), identical("D")]) == "A = C = D · B differs from step 37"
    assert told([identical("B"), identical("C")]) == "IDENTICAL through step 80 · A = B = C"
    assert told([diverged("B", 1200), diverged("C", 3)]) == "C differs from step 3, B from 1200"
    same = [diverged("B", 3), diverged("C", 3), identical("D")]
    assert told(same) == "A = D · B and C differ from step 3"
    assert told(same, groups=(("A", "D"), ("B", "C"))) == "A = D · B = C differ from step 3", "they differ alike"
    # Nobody recorded where it began; that is the last thing to be said.
    assert told([diverged("B", None), diverged("C", 3)]) == "C differs from step 3, B behind the last record"


def test_what_goes_on_agrees_so_far_and_what_was_killed_is_said() -> None:
    going = {"A": RUNNING, "B": RUNNING, "C": RUNNING}
    assert told([incomplete("B", 40), incomplete("C", 38)], going) == "IDENTICAL through step 38 · so far · A = B = C"
    assert told([diverged("B", 37), incomplete("C", 38)], going) == "A = C so far · B differs from step 37"
    assert told([incomplete("B", 40), incomplete("C", None)], going) == "A = B so far · C has no step yet"
    killed = {"A": RUNNING, "B": KILLED, "C": RUNNING}
    assert told([incomplete("B", 40), incomplete("C", 90)], killed) == (
        "A = C so far · B equal through step 40, was killed after step 80"
    )
    assert (
        told([diverged("B", 37), identical("C")], {"B": KILLED}) == "A = C · B differs from step 37 · B was killed after step 80"
    )
    assert told([identical("B"), identical("C")], {"A": KILLED}).endswith(" · A was killed after step 80")
    assert told([incomplete("B", 40), incomplete("C", 40)]) == "B equal through step 40 · C equal through step 40"
    assert "killed" not in told([incomplete("B", 40), identical("C")]), "no run was"


def test_runs_that_are_near_broken_torn_or_not_to_be_read_are_told_apart() -> None:
    near = diverged("B", 2, distance=Distance("ulp=4", "within", None, 80, (), ()))
    assert (
        told([near, diverged("C", 9), identical("D")]) == "A = D · C differs from step 9 · B differs within tolerance from step 2"
    )
    broken = NotFinite("C", 2, None, True, ("forward/loss",))
    assert told([identical("B"), diverged("C", 1, not_finite=(broken,))]) == (
        "A = B · C differs from step 1 · C not finite from step 2 on: first forward/loss"
    )
    torn = replace(identical("B"), torn=("B: params/w is not the same on all devices",))
    assert told([torn, identical("C")]).endswith(" · TORN in B")
    assert told([Verdict("A", "B", "incomparable"), identical("C")]) == "A = C · B cannot be compared"
    assert told([incomplete("B", None), identical("C")]) == "A = C · B has no step in common with A"


def test_a_run_that_ended_early_hides_no_difference_of_the_others(tmp_path: Path) -> None:
    names = {"a": history(9), "b": history(2), "c": changed(history(9), 5, "rng:rng")}
    views = [run(tmp_path / name, steps) for name, steps in names.items()]
    assert agreement(views) == [["A", "B"], ["C"]], "all three are equal up to the last step of the shortest"
    slow = [views[0], run(tmp_path / "d", history(8, every=4)), run(tmp_path / "e", changed(history(8, every=4), 8, "rng:rng"))]
    assert agreement(slow) == [["A", "D"], ["E"]], "another pace makes another chain of the same history"


@pytest.fixture
def four(sample: Any) -> Path:
    """Return a race of four: A = C = D, and B differs from step 37."""
    race = sample("identical")
    shutil.rmtree(race / "b")
    shutil.copytree(sample("batch-order") / "b", race / "b")
    for name in "cd":
        shutil.copytree(race / "a", race / name)
    members = {"members": list("abcd"), "verdicts": None}
    (race / "race.json").write_text(json.dumps({**json.loads((race / "race.json").read_text()), **members}))
    return race


@pytest.mark.slow
def test_the_terminal_json_and_the_report_say_the_same(reprotui: Any, four: Path) -> None:
    said = "a = c = d · b differs from step 37"
    assert reprotui("compare", four, exit_code=1).stdout.splitlines()[1] == said
    found = reprotui.compare(four, exit_code=1)
    assert (found["agreement"], found["groups"]) == (said, [["a", "c", "d"], ["b"]])
    report = json.loads(reprotui("report", four, "--json", exit_code=1).stdout)
    assert (report["agreement"], report["groups"]) == (said, [["a", "c", "d"], ["b"]])
    assert reprotui("open", four, "--once", exit_code=1).stdout.splitlines()[0] == said.replace("a", "A", 1).replace(
        "= c = d · b", "= C = D · B"
    )


@pytest.mark.slow
def test_a_killed_run_is_named_by_every_command(reprotui: Any, four: Path) -> None:
    manifest = json.loads((four / "b" / "run.json").read_text())
    gone = {**manifest["process"], "pid": 4194304, "host": gethostname()}
    edit_manifest(four / "b", result=None, seal=None, process=gone)
    for words in (("compare", four), ("open", four, "--once")):
        assert "differs from step 37 · b was killed after step 80" in reprotui(*words, exit_code=1).stdout.replace("B", "b")
