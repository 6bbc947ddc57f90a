"""The lessons through the command line: what they promise is what comes, and their texts say nothing that no run brings forth."""

import ast
import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.markdown import Markdown

from conftest import PATIENCE, Cli
from reprotui.lessons.catalog import CLEAN, Lesson, all_lessons, find_lesson, matches
from reprotui.lessons.play import unfounded_numbers
from reprotui.lessons.progress import done, predicted, read_progress, with_race

LESSONS = all_lessons()
RACED = [lesson for lesson in LESSONS if lesson.number in (1, 11, 14)]
"""`reprotui learn --check` races all of them, which takes minutes."""
MOST_LINES, MOST_WIDE = 60, 88
SCREEN = (80, 24)


def named(lessons: Any) -> Any:
    return pytest.mark.parametrize("lesson", lessons, ids=[lesson.name for lesson in lessons])


def checked(reprotui: Cli, lesson: Lesson, exit_code: int = 0) -> dict[str, Any]:
    """Race a lesson clean and faulty."""
    process = reprotui.start("learn", lesson.name, "--check", "--json")
    out, err = process.communicate(timeout=4 * PATIENCE)
    assert process.returncode == exit_code, f"{out}\n{err}"
    return json.loads(out)


@pytest.mark.slow(but="01-reproducible")
@named(RACED)
def test_a_lesson_is_identical_clean_and_diverges_where_it_says(reprotui: Cli, lesson: Lesson) -> None:
    found = checked(reprotui, lesson)
    assert [check["race"] for check in found["checks"]] == [race.name for race in lesson.races]
    for check, race in zip(found["checks"], lesson.races, strict=True):
        assert matches(check["verdict"], race.verdict) and not check["problems"]
        assert check["verdict"].startswith("IDENTICAL" if race.name == CLEAN else "DIVERGED")


def test_there_are_fourteen_lessons_in_order() -> None:
    assert [lesson.number for lesson in LESSONS] == list(range(1, 15))
    assert len({lesson.title for lesson in LESSONS}) == 14
    assert len(find_lesson("pitfalls").faults) >= 8


@named(LESSONS)
def test_a_lesson_is_whole(lesson: Lesson) -> None:
    names = [race.name for race in lesson.races]
    assert names[0] == CLEAN and len(names) >= 2 and len(set(names)) == len(names)
    assert 3 <= len(lesson.choices) <= 6 and len(set(lesson.choices)) == len(lesson.choices)
    lines = lesson.code.splitlines()
    assert len(lines) <= MOST_LINES and max(map(len, lines)) <= MOST_WIDE
    imported = {
        name.name.split(".")[0]
        for node in ast.walk(ast.parse(lesson.code))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert "jax" in imported and not imported & {"torch", "reprotui"}
    for race in lesson.races:
        assert race.verdict in lesson.choices, "what will come is among what can be predicted"
        if race.name == CLEAN:
            assert (race.a, race.b, race.line, race.cause) == ("python lesson.py", "python lesson.py", "", "")
        else:
            assert sum(race.line in line for line in lines) == 1 and race.cause
            assert race.b != "python lesson.py"


@named(LESSONS)
def test_a_text_has_at_most_two_screens(lesson: Lesson) -> None:
    screen = Console(file=StringIO(), width=SCREEN[0] - 4)
    assert len(screen.render_lines(Markdown(lesson.text))) <= 2 * SCREEN[1]
    assert lesson.text.startswith("# ")


@pytest.mark.slow(but="09-pitfalls")
@named(LESSONS)
def test_a_file_runs_alone_and_its_text_tells_no_other_numbers(
    lesson: Lesson, environment: dict[str, str], tmp_path: Path
) -> None:
    outputs = []
    for words in {race.b for race in lesson.races if lesson.number != 9} | {"python lesson.py"}:
        variables = dict(re.findall(r"([A-Z_]+)=(\S+) ", words))
        arguments = words.partition("lesson.py")[2].split()
        command = [sys.executable, str(lesson.path), *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env={**environment, **variables}, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert not unfounded_numbers(lesson, outputs)
    if lesson.number in (7, 12, 14):  # their texts say that the fault does not show in the loss that is printed
        losses = [re.search(r"final loss (\S+)", output) for output in outputs]
        assert len({loss[1] for loss in losses if loss}) == 1 and len(losses) == 2


@pytest.mark.slow
def test_the_number_of_threads_and_a_reused_key_show_where_the_pitfalls_say(reprotui: Cli) -> None:
    lesson = find_lesson("pitfalls")
    for name in ("thread-count", "reused-key"):
        found = json.loads(reprotui("learn", "9", "--fault", name, "--json", exit_code=1).stdout)
        assert not found["problems"] and matches(found["verdict"]["headline"], lesson.race(name).verdict)


def test_a_number_that_nothing_brings_forth_is_found() -> None:
    lesson = find_lesson("2")
    assert {"0.5488", "0.7152"} <= set(unfounded_numbers(lesson, []))
    assert unfounded_numbers(lesson, ["0.5488 and 0.7152"]) == []


@pytest.mark.slow
def test_the_list_shows_progress_and_a_lesson_is_played(reprotui: Cli) -> None:
    listed = reprotui("learn").stdout
    assert all(lesson.title in listed for lesson in LESSONS) and "raced 1 of 2" not in listed
    done = reprotui("learn", "reproducible", "--fault", "--predict", "4", exit_code=1)
    lesson = find_lesson("1")
    for part in (
        lesson.text.splitlines()[0],
        lesson.races[1].line,
        lesson.question,
        "planted: fault, in line 30",
        str(lesson.path),
    ):
        assert part in done.stdout
    assert "DIVERGED at step 5 · batch" in done.stdout and "numpy.random.default_rng at lesson.py:30" in done.stdout
    assert "you predicted DIVERGED at step 5 · batch: right" in done.stdout
    assert "raced 1 of 2, predicted 1" in reprotui("learn").stdout
    found = json.loads(reprotui("learn", "1", "--json", "--predict", "3").stdout)
    assert (found["verdict"]["kind"], found["right"], found["problems"]) == ("identical", False, [])
    assert json.loads(reprotui("learn", "--json").stdout)["lessons"][0]["raced"] == {"fault": "right", "clean": "wrong"}
    assert reprotui("runs").stdout.count("lesson-01-reproducible") >= 2


@pytest.mark.slow
def test_what_a_lesson_shows_is_not_changed_by_the_variables_of_who_plays(reprotui: Cli) -> None:
    reprotui.environment = {**reprotui.environment, "PYTHONHASHSEED": "0", "XLA_FLAGS": "--xla_allow_excess_precision=false"}
    found = checked(reprotui, find_lesson("key-patterns"))
    assert found["exit_code"] == 0


@pytest.mark.slow
def test_a_broken_promise_is_told(reprotui: Cli, tmp_path: Path) -> None:
    """A copy of the package whose first lesson promises another step, and tells a number that nothing brings forth."""
    import shutil

    import reprotui as package

    copied = tmp_path / "copy" / "reprotui"
    shutil.copytree(Path(package.__file__).parent, copied, ignore=shutil.ignore_patterns("__pycache__"))
    folder = copied / "lessons" / "01-reproducible"
    told = (folder / "lesson.toml").read_text()
    (folder / "lesson.toml").write_text(told.replace("step 5", "step 4"))
    (folder / "text.md").write_text((folder / "text.md").read_text() + "\nIt takes 12345 steps.\n")
    reprotui.environment = {**reprotui.environment, "PYTHONPATH": str(copied.parent)}
    done = reprotui("learn", "1", "--check", exit_code=1)
    assert "promised DIVERGED at step 4 · batch, and it is DIVERGED at step 5 · batch" in done.stdout
    assert "its text has numbers that nothing brings forth: 12345" in done.stdout and "2 not as promised" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["99"], "there is no lesson '99': reprotui learn lists all, 1 to 14"),
        (["1", "--fault", "clock"], "lesson 01-reproducible has no race 'clock': there are clean, fault"),
        (["1", "--predict", "5"], "--predict 5: lesson 01-reproducible has choices 1 to 4"),
        (["--fault"], "--fault needs a lesson"),
        (["1", "--check", "--fault"], "--check races all there is"),
    ],
)
def test_what_cannot_be_played_is_said(reprotui: Cli, arguments: list[str], says: str) -> None:
    assert says in reprotui("learn", *arguments, exit_code=2).stderr


def test_progress_keeps_what_was_right() -> None:
    lesson = find_lesson("1")
    clean, fault = lesson.races
    kept = with_race({}, lesson, clean, None)
    assert (done(kept, lesson), predicted(kept, lesson)) == (1, 0)
    kept = with_race(with_race(kept, lesson, clean, True), lesson, clean, False)
    assert (done(kept, lesson), predicted(kept, lesson)) == (1, 1)
    assert done(with_race(kept, lesson, fault, False), lesson) == 2
    assert read_progress({"lessons": kept}) == kept and read_progress({"lessons": 7}) == {}


@pytest.mark.slow
def test_the_script_that_is_run_is_the_script_wherever_it_is_installed(reprotui: Cli) -> None:
    """Its lines are told by the ledger, not taken for those of a library."""
    path = reprotui.write("lib/site-packages/tool/train.py", find_lesson("1").code)
    done = reprotui("race", "--headless", "--", sys.executable, str(path), "--fault", exit_code=1)
    assert "train.py:30 was given no seed" in done.stdout
