"""Explanations that a race keeps: where they stand, what replaces them, and how reports show them."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

import reprotui
from conftest import SAMPLES, Cli
from reprotui.compare.explained import FILE, Kept, keep_explained, read_explained
from reprotui.errors import DIFFERS
from reprotui.explain.sources import chosen, of_library
from test_report import schema

LINES = [
    ("known", "inputs equal · 3 of 1,024 elements · max 1 ulp"), ("source", "    28 def loss(p, x):"),
    ("source", ">   29     return (x @ p).sum()"), ("way", "fusion.37 → params/w <b>"),
]  # fmt: skip


@pytest.fixture
def race(reprotui: Cli) -> Path:
    """Return a race in the runs directory."""
    return Path(shutil.copytree(SAMPLES / "learning-rate", reprotui.runs / "race"))


def keep(
    race: Path, a: str = "a", b: str = "b", step: int = 1, headline: str = "first different: fusion.37 at model.py:29"
) -> Kept:
    return keep_explained((race / a, race / b), step, DIFFERS, headline, LINES)


def test_an_explanation_stands_in_all_forms_of_the_report(race: Path, reprotui: Cli) -> None:
    assert "explained" not in reprotui("report", race, "--out", "before.md", exit_code=1).stdout
    assert keep(race) == Kept(race / FILE)
    report = json.loads(reprotui("report", race, "--json", exit_code=1).stdout)
    jsonschema.validate(report, schema(strict=False))
    (found,) = report["explanations"]
    assert (found["a"], found["b"], found["step"], found["headline"].split()[-1]) == ("a", "b", 1, "model.py:29")
    assert [(line["about"], line["text"]) for line in found["lines"]] == LINES
    for name in ("report.md", "report.html"):
        reprotui("report", race / "a", race / "b", "--out", name, exit_code=1)
    text, page = ((reprotui.directory / name).read_text() for name in ("report.md", "report.html"))
    assert "## Step 1 of a and b, explained" in text and ">   29     return (x @ p).sum()" in text and "max 1 ulp" in text
    assert "Step 1 of a and b, explained" in page and "&gt;   29     return" in page and "<b>" not in page
    assert "explained" not in (reprotui.directory / "before.md").read_text()


def test_one_is_kept_a_pair_the_last_one(race: Path) -> None:
    keep(race)
    keep(race, b="c", headline="other pair")
    keep(race, "b", "a", 2, "the same pair")
    assert [(one.a, one.b, one.step, one.headline) for one in read_explained(race)] == [
        ("a", "c", 1, "other pair"), ("b", "a", 2, "the same pair"),
    ]  # fmt: skip


def test_runs_of_no_one_race_keep_nothing(race: Path, tmp_path: Path) -> None:
    assert keep_explained((race / "a", tmp_path / "b"), 1, DIFFERS, "", LINES) == Kept()
    (race / "race.json").unlink()
    assert keep(race) == Kept() and not (race / FILE).exists()


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense", '{"explanations": [{"a": "a"}]}', '{"explanations": [3]}'])
def test_a_damaged_file_is_named_and_not_written_over(race: Path, reprotui: Cli, text: str) -> None:
    (race / FILE).write_text(text)
    kept = keep(race)
    assert kept.path is None and FILE in kept.problem
    assert (race / FILE).read_text() == text
    assert FILE in reprotui("report", race, exit_code=2).stderr


def test_lines_of_the_observer_are_none_of_who_trains() -> None:
    ours, home = Path(reprotui.__file__).parent, "/home/me/project"
    stack = [(f"{ours}/observe/jax_loops.py", 148, "loop"), (f"{home}/train.py", 11, "cell"), (f"{home}/train.py", 30, "step")]
    place = chosen(stack)
    assert (place.file, place.line) == (f"{home}/train.py", 11)
    assert not of_library(f"{ours}/experiments/digits.py"), "the built-in experiments are what somebody trains"
