"""The lessons in the dashboard, driven by keys and mouse, with real workers."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Markdown

from pilots import Dashboard, dashboard, drive
from reprotui.lessons.catalog import all_lessons, find_lesson
from reprotui.lessons.play import start_lesson
from reprotui.tui.app import DashboardApp
from reprotui.tui.opening import lessons
from reprotui.tui.screens.home import HomeScreen
from reprotui.tui.screens.lesson import LessonScreen
from reprotui.tui.screens.race import RaceScreen
from reprotui.tui.widgets.lesson_code import LessonCode
from reprotui.tui.widgets.lesson_rows import LessonRows

pytestmark = pytest.mark.usefixtures("own_settings", "quiet_cache")


@pytest.fixture
def quiet_cache(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's caches out of what is started here."""
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, environment[name])


def lesson_of(driven: Dashboard) -> LessonScreen:
    screen = driven.app.screen
    assert isinstance(screen, LessonScreen), screen
    return screen


async def opened(driven: Dashboard, number: int = 1) -> LessonScreen:
    """Open a lesson from Home, as a newcomer does."""
    rows = driven.app.screen.query_one(LessonRows)
    await driven.press("tab", "tab", "tab")
    await driven.until("the lessons", lambda: rows.count == 14)
    await driven.press(*["down"] * (number - 1), "enter")
    await driven.until("the lesson", lambda: isinstance(driven.app.screen, LessonScreen))
    await driven.until("its text", lambda: driven.app.screen.query_one(Markdown).children)
    return lesson_of(driven)


async def judged(driven: Dashboard) -> str:
    await driven.until("the verdict", lambda: lesson_of(driven).verdict)
    return lesson_of(driven).verdict or ""


@pytest.mark.slow
def test_the_first_lesson_is_played_to_its_end() -> None:
    async def play() -> None:
        async with dashboard(size=(120, 36), runs=Path("runs")) as driven:
            screen = await opened(driven)
            assert "What reproducibility is, and why" in driven.text() and "np.random.default_rng(0)" in driven.text()
            assert "clean" in driven.text() and screen.code.pointed is None
            await driven.press("1", "enter")
            assert (await judged(driven)) == "IDENTICAL through step 8"
            assert "your prediction was right" in driven.text() and "raced 1 of 2" in driven.text()
            await driven.press("2")
            assert "predict before you run" in driven.said()[-1]

            await driven.press("x")
            assert "planted: fault" in driven.text() and screen.code.pointed == 30 and screen.prediction is None
            assert "IDENTICAL through step 8" not in driven.text()
            await driven.press("3", "enter", "enter")
            assert "the race is on" in driven.said()[-1]
            await driven.press("x")
            assert "the race is on" in driven.said()[-1]
            assert (await judged(driven)).startswith("DIVERGED at step 5 · batch")
            text = await driven.steady()
            assert "numpy.random.default_rng at lesson.py:30 was given no seed" in text
            assert "your prediction was wrong" in text and "raced 2 of 2" in text

            await driven.press("O")
            assert isinstance(driven.app.screen, RaceScreen)
            await driven.settled()
            assert "DIVERGED at step 5 · batch" in driven.text()
            await driven.press("escape", "escape")
            assert isinstance(driven.app.screen, HomeScreen)
            assert any("2/2" in line for line in driven.lines() if "What reproducibility is" in line)

    drive(play())
    kept = json.loads(Path("settings/layout.json").read_text())
    assert kept["lessons"] == {"01-reproducible": {"clean": "right", "fault": "wrong"}}
    assert len(list(Path("runs").glob("lesson-01-reproducible-*/race.json"))) == 2


@pytest.mark.slow
def test_faults_are_planted_one_after_the_other_and_mended() -> None:
    lesson = find_lesson("pitfalls")

    async def look() -> None:
        async with dashboard(size=(80, 24), runs=Path("runs")) as driven:
            screen = await opened(driven, 9)
            for race in lesson.faults:
                await driven.press("x")
                assert screen.race is race and screen.code.pointed == lesson.line_number(race)
                assert f"planted: {race.name}" in driven.text() and race.about[:30] in driven.text()
            await driven.press("x")
            assert screen.race is lesson.races[0] and screen.code.pointed is None

    drive(look())


@pytest.mark.slow
def test_a_race_without_a_prediction_runs_too_and_says_so() -> None:
    async def play() -> None:
        async with dashboard(size=(80, 24), runs=Path("runs")) as driven:
            screen = await opened(driven)
            await driven.press("O")
            assert "nothing was raced yet" in driven.said()[-1]
            await driven.press("x", "enter")
            assert (await judged(driven)).startswith("DIVERGED at step 5 · batch")
            assert "no prediction was made" in await driven.steady()
            await driven.press("x")
            await driven.press("4", "enter")
            assert (await judged(driven)) == "IDENTICAL through step 8" and screen.prediction is not None
            assert "your prediction was wrong" in await driven.steady()
            await driven.press("enter")  # the same once more
            await driven.until("another race", lambda: screen.verdict is None)
            assert await judged(driven) == "IDENTICAL through step 8"

    drive(play())
    kept = json.loads(Path("settings/layout.json").read_text())["lessons"]
    assert kept == {"01-reproducible": {"fault": "seen", "clean": "wrong"}}


@pytest.mark.slow
def test_a_lesson_that_is_left_while_it_runs_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def noting(*arguments: Any) -> Any:
        started.append(start_lesson(*arguments))
        return started[-1]

    monkeypatch.setattr("reprotui.lessons.play.start_lesson", noting)

    async def play() -> None:
        async with dashboard(size=(80, 24), runs=Path("runs")) as driven:
            screen = await opened(driven)
            await driven.press("enter")
            await driven.until("its processes", lambda: screen.raced)
            await driven.press("escape")
            assert isinstance(driven.app.screen, HomeScreen)

    drive(play())
    assert [process.wait(120) for process in started[0].processes.values()] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)], ids=["80", "120", "200"])
def test_text_and_code_are_found_at_every_size(size: tuple[int, int]) -> None:
    async def look() -> None:
        async with dashboard(size=size, runs=Path("runs")) as driven:
            await opened(driven, 5)
            text, code = "A batch should be a pure function of seed and step", "import random"
            flat = " ".join(driven.text().split())
            assert "Lesson 5 of 14 · Deterministic data" in flat
            assert "There are three steps in an epoch." in flat and "4 DIVERGED at 4 · batch" in flat
            wide = size[0] >= 120
            assert ("A batch should be a" in flat) and (code in flat) == wide
            await driven.press("tab")
            assert driven.app.focused is not None and driven.app.focused.id == "code"
            assert code in driven.text() and (text[:19] in driven.text()) == wide
            await driven.press("tab")
            assert text[:19] in driven.text()

    drive(look())


@pytest.mark.slow
def test_lessons_follow_one_another_and_keys_are_in_the_help() -> None:
    async def look() -> None:
        async with dashboard(size=(120, 36), runs=Path("runs")) as driven:
            await opened(driven)
            await driven.press("left_square_bracket")
            assert "this is the first lesson" in driven.said()[-1]
            await driven.press("right_square_bracket")
            await driven.until("the second", lambda: lesson_of(driven).lesson.number == 2)
            await driven.press("left_square_bracket")
            await driven.until("the first", lambda: lesson_of(driven).lesson.number == 1)
            await driven.press("y")
            assert "path of the lesson's file copied" in driven.said()[-1]
            assert Path("settings/reprotui-copied.txt").read_text().strip() == str(all_lessons()[0].path)
            await driven.press("6")
            assert "there are 4 choices" in driven.said()[-1]
            await driven.press("question_mark")
            assert "plant the next fault" in driven.text()

    drive(look())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "data"])
def test_learn_opens_the_list_or_the_lesson(name: str) -> None:
    async def look() -> None:
        app = DashboardApp(Path("runs"), opening=partial(lessons, Path("runs"), name))
        async with app.run_test(size=(120, 36)) as pilot:
            driven = Dashboard(app, pilot)
            if name:
                await driven.until("the lesson", lambda: isinstance(app.screen, LessonScreen))
                assert lesson_of(driven).lesson.name == "05-data" and app.screen.query_one(LessonCode)
                await driven.press("escape")
            assert isinstance(app.screen, HomeScreen) and app.screen.tab == "lessons"
            await driven.until("the lessons", lambda: "Silent corruption" in driven.text())

    drive(look())
