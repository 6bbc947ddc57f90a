"""The race screen by keys and mouse: recorded races, races that go on, and races that cannot be read."""

import json
import os
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyte
import pytest
from textual._compositor import CompositorUpdate

from pilots import Dashboard, LiveRace, dashboard, drive
from reprotui.manifest import RunState
from reprotui.settings import Settings
from reprotui.trace.phases import MARKS
from reprotui.tui.actions import ACTIONS, BY_ID, EVERYWHERE, Action, key_name, keys_of, of_screen
from reprotui.tui.app import DashboardApp
from reprotui.tui.screens.race import RaceScreen
from reprotui.tui.symbols import ASCII, UNICODE
from reprotui.tui.widgets.card import RunCard
from reprotui.tui.widgets.chart import AXIS, LossChart
from reprotui.tui.widgets.keybar import KeyBar
from reprotui.tui.widgets.plots import Plots
from reprotui.tui.widgets.run_table import RunTable
from reprotui.tui.widgets.steps import StepTable
from reprotui.tui.widgets.strip import LABEL, DivergenceStrip
from reprotui.tui.widgets.verdict import VerdictBand
from test_compare import changed
from test_compare import history as steps_of

pytestmark = pytest.mark.usefixtures("own_settings")


def part(first: int, last: int, **changes: Any) -> Any:
    """Return the records from a step to another, of a run that is like all others."""
    return {step: leaves for step, leaves in steps_of(last).items() if first <= step}


@pytest.fixture
def live(sample: Any, tmp_path: Path) -> Any:
    """Return a function that makes a race which this process writes."""
    made: list[LiveRace] = []

    def make(names: str = "ab") -> LiveRace:
        made.append(LiveRace(sample("identical"), tmp_path / "live", names))
        return made[-1]

    yield make
    for race in made:
        race.close()


def chart_lines(driven: Dashboard) -> list[str]:
    chart = driven.get(LossChart)
    return ["".join(segment.text for segment in chart.render_line(y)) for y in range(chart.size.height)]


def lanes(driven: Dashboard) -> dict[str, str]:
    """Return the strip's lanes by name."""
    strip = driven.get(DivergenceStrip)
    texts = ["".join(segment.text for segment in strip.render_line(y)) for y in range(strip.size.height)]
    return {text[:LABEL].strip(" │"): text[LABEL:].rstrip() for text in texts if text.strip()}


# What a race looks like


@pytest.mark.parametrize(
    ("name", "headline", "first", "kind", "lane"),
    [
        ("identical", "=  IDENTICAL through step 80", None, "identical", "="),
        ("two-seeds", "≠  DIVERGED at step 0 · init · 3 leaves", 0, "diverged", "≠"),
        ("learning-rate", "≠  DIVERGED at step 1 · params · 6 leaves", 1, "diverged", "≠"),
        ("batch-order", "≠  DIVERGED at step 37 · batch · 2 leaves", 37, "diverged", "=≠"),
        ("bit-flip", "≠  DIVERGED at step 50 · params · 1 leaf", 50, "diverged", "=≠"),
        ("nan-loss", "!  IDENTICAL through step 80 · not finite from step 2 on: first forward/loss", None, "broken", "=x"),
        ("killed", "?  INCOMPLETE · equal up to step 260; B was killed and left no seal", None, "incomplete", "=·"),
    ],
)
def test_a_recorded_race_tells_its_story_at_a_glance(
    sample: Any, name: str, headline: str, first: int | None, kind: str, lane: str
) -> None:
    async def look() -> None:
        async with dashboard(sample(name)) as driven:
            lines, band = driven.lines(), driven.get(VerdictBand)
            assert (lines[0].strip() or lines[1].strip()).startswith(headline)
            assert band.has_class(f"-{kind}")
            table = driven.get(StepTable)
            assert table.count == (201 if name == "killed" else 81)
            assert table.has_focus
            signs = set(lanes(driven)["all"])
            assert signs == set(lane)
            assert len(driven.race.query(RunCard)) == 2
            assert "A reference  finished" in driven.text()
            assert "4 events" in driven.text()
            if first is None:
                assert f"≠{first}" not in chart_lines(driven)[-1]
                return
            assert table.step == first
            row = next(line for line in lines if f"{first} ≠" in line)
            assert table.emphasis(table.cursor) == "first"
            assert driven.race.status is not None
            assert MARKS[str(driven.race.status.verdicts[0].phase)] in row.rpartition("≠")[2]
            assert f"≠{first}" in chart_lines(driven)[-1]
            assert any("┊" in line for line in chart_lines(driven)) or first <= 1
            # The strip turns where the runs do.
            assert lanes(driven)["all"].count("=") * 81 // len(lanes(driven)["all"]) in range(first - 2, first + 2)

    drive(look())


@pytest.mark.slow
def test_what_else_stands_there(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("nan-loss")) as driven:
            assert "not finite from step" in driven.text()
            assert "all checksums of 81 recorded steps agree" in driven.text()
            assert "x" in chart_lines(driven)[-2]
            assert "NaN" in driven.text()
        async with dashboard(sample("batch-order")) as driven:
            assert "shuffle_from: none → 37" in driven.text()
            assert "B shuffle_from=37  finished" in driven.text()
            assert lanes(driven)["rng"].count("≠") == 0
            assert lanes(driven)["batch"].count("≠") > 10
        path = sample("identical")
        async with dashboard(path / "a") as driven:  # one run alone
            assert "FINISHED · step 80" in driven.text()
            assert not driven.get("#strip").display
            assert "B" not in {line[:3].strip() for line in driven.lines()}
            await driven.press("d")
            assert driven.said() == ["one run alone has nothing to differ from"]
            await driven.press("2")
            assert "no divergence strip" in driven.said()[0]
            await driven.press("e")
            assert driven.said() == ["a report compares runs: open two, or a race"]

    drive(look())


def test_three_runs_and_another_one_against_a(sample: Any, tmp_path: Path) -> None:
    race = sample("identical")
    shutil.copytree(sample("bit-flip") / "b", race / "c")
    shutil.copytree(sample("batch-order") / "b", race / "d")
    edited = json.loads((race / "race.json").read_text())
    (race / "race.json").write_text(json.dumps({**edited, "members": ["a", "b", "c", "d"]}))

    async def look() -> None:
        async with dashboard(race) as driven:
            band, runs, table = driven.get(VerdictBand), driven.get(RunTable), driven.get(StepTable)
            said = driven.lines()
            assert said[0].strip() == "≠  A = B · D differs from step 37, C from 50"
            assert said[1].strip() == "D against A: DIVERGED at step 37 · batch · 2 leaves", (
                "what differs first is held against A"
            )
            assert "3 steps D against A" in driven.text()
            assert (table.step, runs.cursor) == (37, 3)
            await driven.press("v")
            assert "3 steps B against A" in driven.text()
            assert "B against A: IDENTICAL through step 80" in driven.lines()[1]
            assert "all checksums of 81 recorded steps agree" in driven.lines()[2]
            assert band.has_class("-diverged"), "two others differ"
            assert (table.step, runs.cursor) == (37, 1), "nothing to jump to: the cursor stays"
            assert set(lanes(driven)["all"]) == {"="}
            await driven.press("d")
            await driven.press("v")
            assert "3 steps C against A" in driven.text()
            assert "≠50" in chart_lines(driven)[-1]
            assert table.step == 50
            assert set(lanes(driven)["all"]) == {"=", "≠"}
            await driven.press("enter")
            assert "step 50 · C against A" in driven.text()
            await driven.press("escape")
            await driven.pilot.click(runs, offset=(8, 4))  # the row of D
            await driven.pilot.pause()
            assert driven.race.pair == 2
            assert table.step == 37
            assert driven.app.focused is runs
            await driven.press("k", "k")
            assert driven.race.pair == 0
            await driven.press("k")
            assert driven.race.pair == 0, "A is held against nobody"
            assert [line[1:2] for line in driven.lines() if line[1:2] in "ABCD" and "finished" in line] == list("ABCD")

    drive(look())


def eight(sample: Any) -> Path:
    """Return a race of eight that came to eight different things; the last one records every fifth step, and was killed."""
    race = sample("identical")
    others = ["batch-order", "identical", "two-seeds", "learning-rate", "bit-flip", "nan-loss", "killed"]
    copies = {name: sample(name) for name in others if name != "identical"} | {"identical": race}
    shutil.copytree(race / "b", race / "c")
    shutil.rmtree(race / "b")
    for label, name in zip("bdefgh", [name for name in others if name != "identical"], strict=True):
        shutil.copytree(copies[name] / "b", race / label)
    edited = json.loads((race / "race.json").read_text())
    (race / "race.json").write_text(json.dumps({**edited, "members": list("abcdefgh"), "verdicts": None}))
    return race


@pytest.mark.slow
@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
def test_eight_runs_are_seen_at_once_or_scrolled_to(sample: Any, size: tuple[int, int]) -> None:
    race = eight(sample)

    async def look() -> None:
        async with dashboard(race, size=size) as driven:
            head = " ".join(" ".join(driven.lines()[:2]).split())
            assert head.startswith(
                "≠ A = C · D differs from step 0, E and G from 1, B from 37, F from 50 · H equal through step 80"
            )
            seen = [line for line in driven.lines() if line[1:4] in {f"{label}  " for label in "ABCDEFGH"}]
            assert len(seen) == (8 if size[1] == 36 else 5)
            row = next(line for line in driven.lines() if line.startswith("▸D"))
            assert "≠ 0 init" in row
            assert "seed: 0 → 1" in row
            for label in "EFGHBCD":
                await driven.press("v")
                row = next(line for line in driven.lines() if line.startswith(f"▸{label}"))
                assert f"3 steps {label} against A" in driven.text()
                assert f"{label} against A: " in "".join(driven.lines()[:4])
            assert "NaN" in driven.text() or size[1] < 36

    drive(look())


# The table of actions


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_an_action_is_done_by_a_method_and_says_what_it_does(action: Action) -> None:
    from reprotui.tui import app
    from reprotui.tui.screens import checkpoints, diagnosis, fleet, home, lesson, new_race, race, step

    modules = home, fleet, lesson, new_race, race, step, checkpoints, diagnosis
    kinds: list[Any] = [value for module in modules for value in vars(module).values()]
    screens = {kind.NAME: kind for kind in kinds if getattr(kind, "NAME", "") and isinstance(kind, type)}
    if action.screen == EVERYWHERE:
        assert callable(getattr(app.DashboardApp, f"action_{action.method}"))
    else:
        assert callable(getattr(screens[action.screen], f"do_{action.method}"))
        if action.argument is not None:
            if action.method == "chart":
                assert callable(getattr(Plots, action.argument))
            assert action.method == "chart" or action.argument in (
                "chart",
                "strip",
                "steps",
                "events",
                "log",
                *"123456",
                "-1",
                "open",
                "close",
                "behind",
                "before",
                "pause",
                "advance",
                "stop",
                "hold",
                "stop_at",
                "0",
                "rename",
                "note",
                "delete",
            )
    assert len(action.text) <= 16
    assert action.help


def test_a_letter_means_the_same_on_every_screen_and_what_ends_or_deletes_something_is_a_capital() -> None:
    moves = {"h", "j", "k", "l", "g", "G"}
    meanings: dict[str, set[str]] = {}
    for action in ACTIONS:
        for key in keys_of(action, {}):
            if len(key) == 1 and key.isalpha() and key not in moves:
                meanings.setdefault(key, set()).add(action.text)
    # A run of a race, or a checkpoint of it, is held against A; x plants the fault of a lesson, whose screen replays nothing.
    twice = {"v": {"versus", "A against B"}, "x": {"exact", "plant / mend"}}
    assert {key: texts for key, texts in meanings.items() if len(texts) > 1} == twice
    for name in ("race.stop", "race.stop_at_divergence", "home.delete"):
        assert not any(len(key) == 1 and key.islower() for key in keys_of(BY_ID[name], {})), name


@pytest.mark.parametrize("screen", sorted({action.screen for action in ACTIONS}))
def test_no_two_actions_of_a_screen_share_a_key(screen: str) -> None:
    keys = [key for action in of_screen(screen) for key in keys_of(action, {})]
    if screen != EVERYWHERE:
        assert len(keys) == len(set(keys)), sorted(key for key in keys if keys.count(key) > 1)


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("screen", sorted({action.screen for action in ACTIONS} - {EVERYWHERE}))
def test_every_action_of_the_footer_has_a_place_at_80_columns(screen: str, ascii_only: bool) -> None:
    symbols = ASCII if ascii_only else UNICODE
    bar = KeyBar(screen, symbols, {})
    for width in (80, 100, 120, 160, 240):
        lines = [line.plain for line in bar._lines(width, 24)]
        assert all(len(line) <= width for line in lines)
        for action in bar.actions:
            key = key_name(keys_of(action, {})[0], symbols.ascii)
            short = key_name(keys_of(action, {})[0], symbols.ascii, short=True)
            assert any(f" {name} " in line for line in lines for name in (key, short)), (width, action.id, lines)
    assert len(bar._lines(240, 24)) == 1
    # Where lines are few there is one, and what holds everywhere is on it.
    (line,) = [line.plain for line in bar._lines(60, 12)]
    assert len(line) <= 60
    assert line.endswith(" q quit")


@pytest.mark.slow
def test_signs_and_words_are_one_key_away_on_every_screen(sample: Any, tmp_path: Path) -> None:
    sample("bit-flip")

    async def look() -> None:
        async with dashboard(runs=tmp_path, size=(120, 60)) as driven:
            for keys in ("", "enter", "enter", "escape c", "escape escape T enter"):
                await driven.press(*keys.split())
                await driven.press("i")
                told = driven.text()
                assert "different bits" in told, keys
                for phase, mark in MARKS.items():
                    assert f"{mark} {phase}" in told
                for word in ("leaf", "root", "seal", "chain", "checksum"):
                    assert f"│  {word} " in told
                await driven.press("tab")
                assert "keys and what they do" in driven.text()
                await driven.press("tab")
                assert "different bits" in driven.text()
                await driven.press("escape")
                assert "different bits" not in driven.text()

    drive(look())


def test_a_click_leads_back_and_the_next_click_is_obeyed(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=(140, 40)) as driven:
            await driven.press("d", "enter")
            assert driven.step

            async def click(text: str) -> None:
                y, line = [(y, line) for y, line in enumerate(driven.lines()) if f" {text} " in f"{line} "][-1]
                await driven.pilot.click(offset=(line.rindex(text), y))

            await click("esc")
            await driven.until("the race", lambda: driven.app.screen is driven.race)
            await click("checkpoints")
            await driven.until("the checkpoints", lambda: "checkpoints" in driven.lines()[0])

    drive(look())


@pytest.mark.slow
def test_help_footer_and_palette_name_the_actions(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=(220, 80)) as driven:
            for screen in ("race", "step"):
                footer = driven.lines()[-1]
                for action in of_screen(screen):
                    if action.footer:
                        assert f"{key_name(keys_of(action, {})[0])} {action.text}" in footer
                await driven.press("question_mark")
                told = " ".join(driven.text().split())
                for action in of_screen(screen):
                    assert action.text in told
                    assert action.help.split(":")[0].split(",")[0] in told
                    assert key_name(keys_of(action, {})[0]) in told
                await driven.press("escape")
                await driven.press("enter")
                assert screen == "step" or driven.step

    drive(look())


# Keys


def test_keys_of_a_recorded_race_do_what_their_help_says(sample: Any, own_settings: Path) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip")) as driven:
            table, chart = driven.get(StepTable), driven.get(LossChart)

            async def goes(keys: str, step: int) -> None:
                await driven.press(*keys.split())
                assert table.step == step, keys
                assert chart.step == step

            for keys, step in (
                ("g", 0),
                ("n", 50),
                ("n", 51),
                ("N", 50),
                ("G", 80),
                ("d", 50),
                ("j", 51),
                ("k k", 49),
                ("end", 80),
            ):
                await goes(keys, step)
            await driven.press("n")
            assert driven.said() == ["no difference behind step 80"]
            await goes("home", 0)
            await driven.press("N")
            assert driven.said() == ["no difference before step 0"]
            await goes("pagedown", table.page_rows)
            await goes("pageup down d", 50)

            # The chart
            assert chart.window == (0, 80)
            await driven.press("right")
            assert "zoom in first" in driven.said()[0]
            await driven.press("plus", "plus")
            first, last = chart.window
            assert first < 50 < last
            assert last - first == 20
            assert "zoomed" in driven.text()
            await driven.press("right")
            assert chart.window == (first + 5, last + 5)
            await driven.press("left", "h")
            assert chart.window == (first - 5, last - 5)
            await driven.press("minus")
            assert chart.window[1] - chart.window[0] == 40
            await driven.press("g")  # the window follows the crosshair
            assert chart.window[0] == 0
            await driven.press("0")
            assert chart.window == (0, 80)
            assert "1 loss, log" in driven.text()
            await driven.press("L")
            assert "1 loss, linear" in driven.text()
            assert json.loads((own_settings.parent / "layout.json").read_text()) == {"log_scale": False}

            # Panes, and one layer at a time
            for key, name in (("1", "chart"), ("2", "strip"), ("3", "steps"), ("4", "events"), ("5", "log")):
                await driven.press(key)
                assert driven.app.focused is driven.get(f"#{name}")
            await driven.press("1", "plus", "z")
            assert driven.race.has_class("-zoom-chart")
            assert not table.region
            await driven.press("5")
            assert driven.race.has_class("-zoom-log")
            await driven.press("escape")
            assert not driven.race.has_class("-zoom")
            assert chart.zoomed
            await driven.press("escape")
            assert not chart.zoomed
            assert isinstance(driven.app.screen, RaceScreen)

            # Copying
            await driven.press("Y")
            command = (
                "reprotui race digits-mlp width=32 depth=2 batch_size=32 steps=80 --b perturb=50:params/dense_1/kernel:100:20"
            )
            copied = own_settings.parent / "reprotui-copied.txt"
            assert command.split("--b")[1] in copied.read_text()
            assert driven.app.clipboard + "\n" == copied.read_text()
            await driven.press("3", "d", "y")
            lines = copied.read_text().splitlines()
            assert lines[0] == "step 50"
            assert lines[1].startswith("A loss=0.434130")
            assert "params=" in lines[2]
            assert "copied" in driven.said()[0]

    drive(look())


@pytest.mark.slow
def test_the_pane_that_has_the_screen_has_it_the_next_time_too(sample: Any, own_settings: Path) -> None:
    race = sample("bit-flip")

    async def look() -> None:
        async with dashboard(race) as driven:
            await driven.press("1", "z")
            assert driven.race.zoomed == "chart"
        async with dashboard(race) as driven:
            assert driven.race.zoomed == "chart"
            assert not driven.get(StepTable).region
            await driven.press("escape")
            assert driven.get(StepTable).region
        async with dashboard(race) as driven:
            assert driven.race.zoomed is None
            await driven.press("2", "z")
            assert driven.race.zoomed == "strip"
        async with dashboard(race / "a") as driven:
            assert driven.race.zoomed is None, "one run alone has no strip"
        (own_settings.parent / "layout.json").write_text('{"zoomed_pane": "cards"}')
        async with dashboard(race) as driven:
            assert driven.race.zoomed is None, "what is no pane is passed over"

    drive(look())


def test_what_cannot_be_done_says_why(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("identical")) as driven:
            for key in ("space", "full_stop", "S", "B", "t", "f"):
                await driven.press(key)
                assert driven.said() == ["no run is alive: there is nothing to control or to follow"], key
            for key in ("d", "n", "N"):
                await driven.press(key)
                assert driven.said() == ["no difference: IDENTICAL through step 80"], key
            await driven.press("v")
            assert "two runs at most" in driven.said()[0]
            race = driven.race
            assert race.why_not("race.pause")
            assert race.why_not("race.follow")
            assert race.why_not("race.log_scale") is None

    drive(look())


@pytest.mark.slow
def test_the_palette_goes_to_a_step_and_does_any_action(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip")) as driven:
            await driven.press("ctrl+p")
            await driven.pilot.press(*"step 33")
            await driven.until("the step in the palette", lambda: "Go to step 33" in driven.text())
            await driven.press("enter")
            await driven.until("the race again", lambda: isinstance(driven.app.screen, RaceScreen))
            await driven.until("the step", lambda: driven.get(StepTable).step == 33)
            await driven.press("ctrl+p")
            await driven.pilot.press(*"log scale")
            await driven.until("the action in the palette", lambda: "Log scale  (L)" in driven.text())
            await driven.press("down", "enter")
            await driven.until("a linear axis", lambda: not driven.race.query_one(LossChart).log_scale)
            await driven.press("ctrl+p")
            await driven.press("escape")
            assert isinstance(driven.app.screen, RaceScreen)

    drive(look())


# Mouse


@pytest.mark.slow
def test_everything_can_be_clicked(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("batch-order")) as driven:
            table, chart, strip = driven.get(StepTable), driven.get(LossChart), driven.get(DivergenceStrip)
            await driven.pilot.click(chart, offset=(AXIS, 3))
            assert table.step == 0
            await driven.pilot.click(chart, offset=(AXIS + chart._plot_width - 1, 3))
            assert table.step == 80
            width = strip._width
            await driven.pilot.click(strip, offset=(LABEL, 1))
            assert table.step == 0
            column = 37 * width // 81
            await driven.pilot.click(strip, offset=(LABEL + column, 1))
            assert table.step == 37  # of a column of several steps, the first difference
            await driven.pilot.click(table, offset=(8, 3))
            row = table.scroll_offset.y + 1
            assert table.step == row
            cards = list(driven.race.query(RunCard))
            await driven.pilot.click(cards[1])
            assert driven.race.cards.target == 1
            await driven.pilot.click(cards[1])
            assert driven.race.cards.target is None

            await driven.pilot._post_mouse_events([_wheel(up=True)], chart, offset=(AXIS + 20, 4), button=0)
            await driven.pilot.pause()
            assert chart.zoomed
            assert "1 loss, log · zoomed" in driven.text(), "the title says so whoever zooms"
            assert chart.window[1] - chart.window[0] == 40
            before = chart.window
            await driven.pilot.mouse_down(chart, offset=(AXIS + 30, 4))
            await driven.pilot.hover(chart, offset=(AXIS + 20, 4))
            await driven.pilot.mouse_up(chart, offset=(AXIS + 20, 4))
            assert chart.window[0] > before[0]
            await driven.pilot._post_mouse_events([_wheel(up=False)], chart, offset=(AXIS + 20, 4), button=0)
            await driven.pilot.pause()
            assert not chart.zoomed

            await driven.pilot.click(table, offset=(8, 3))
            await driven.pilot.click(table, offset=(8, 3))  # where the cursor stood already
            assert driven.step._step == row
            await driven.press("escape")
            footer = driven.lines()[-1]
            await driven.pilot.click(offset=(footer.index("help"), driven.app.size.height - 1))
            assert "Runs side by side" in driven.text()

    drive(look())


def _wheel(up: bool) -> Any:
    from textual import events

    return events.MouseScrollUp if up else events.MouseScrollDown


# Races that go on


@pytest.mark.slow
def test_runs_that_record_at_other_paces_are_seen_side_by_side(live: Any) -> None:
    race, kept = live(), (0, 7, 14, 20, 33)
    race.write(part(0, 40), "a")
    race.write({step: leaves for step, leaves in changed(steps_of(40), 20, "grads:grads/w").items() if step in kept}, "b")

    async def look() -> None:
        async with dashboard(race.path) as driven:
            table = driven.get(StepTable)
            assert table.count == 41
            assert "DIVERGED at step 20" in driven.text()
            table.go_to_step(19)
            assert table.values().splitlines()[0] == "step 19"
            assert [line[0] for line in table.values().splitlines()[1:]] == ["A"]  # B did not record it
            table.go_to_step(20)
            assert [line[0] for line in table.values().splitlines()[1:]] == ["A", "B"]
            assert driven.race.status.timeline.pairs[0].next_difference(20) == 33
            await driven.press("enter")
            assert driven.step._step == 20
            await driven.press("n")
            assert "33" in driven.text()

    drive(look())


@pytest.mark.slow
def test_follow_goes_with_the_newest_step_until_somebody_scrolls(live: Any) -> None:
    race = live()
    race.write(part(0, 40))

    async def look() -> None:
        async with dashboard(race.path) as driven:
            table = driven.get(StepTable)
            assert "IDENTICAL through step 40 · so far" in driven.text()
            assert driven.get(VerdictBand).has_class("-so-far")
            assert "following" in driven.text()
            assert table.step == 40

            async def grows(last: int) -> None:
                race.write(part(driven.race.status.timeline.last + 1, last))
                await driven.until(f"step {last}", lambda: driven.race.status.timeline.last == last and table.count == last + 1)

            await grows(60)
            assert table.step == 60
            await driven.pilot._post_mouse_events([_wheel(up=True)], table, offset=(5, 5), button=0)
            await driven.pilot.pause()
            assert not table.follow
            seen = table.scroll_offset.y
            await grows(90)
            assert table.step == 60
            assert table.scroll_offset.y == seen
            assert f"{table.unseen:,} new" in driven.text()
            assert table.unseen >= 30
            await driven.press("f")
            assert table.step == 90
            assert table.follow
            for keys in (("k",), ("pageup",), ("g",)):
                await driven.press(*keys)
                assert not table.follow, keys
                await driven.press("f")
                assert table.follow
            from textual.scrollbar import ScrollTo

            table.post_message(ScrollTo(y=3, animate=False))  # the bar is dragged
            await driven.pilot.pause()
            assert not table.follow
            await driven.press("f")
            await grows(120)
            assert table.step == 120

    drive(look())


@pytest.mark.slow
def test_runs_are_controlled_together_and_one_by_one(live: Any) -> None:
    race = live()
    race.write(part(0, 10))

    async def look() -> None:
        async with dashboard(race.path) as driven:

            def states() -> list[str]:
                return [run.state for run in driven.race.status.runs]

            assert states() == ["running", "running"]
            await driven.press("full_stop")
            assert driven.said() == ["one step goes from a paused run: pause it first"]
            await driven.press("space")
            assert (race.asked("a"), race.asked("b")) == (["pause"], ["pause"])
            race.event("a", "paused", "after step 10")
            race.event("b", "paused", "after step 10")
            await driven.until("both paused", lambda: states() == ["paused", "paused"])
            await driven.press("t")
            assert driven.race.cards.target == 0
            await driven.press("full_stop")
            assert (race.asked("a")[1:], race.asked("b")[1:]) == (["advance"], [])
            await driven.press("t", "space")
            assert (race.asked("a")[2:], race.asked("b")[1:]) == ([], ["resume"])
            race.event("b", "resumed", "after step 10")
            await driven.until("B runs", lambda: states() == ["paused", "running"])
            await driven.press("t")
            assert driven.race.cards.target is None
            await driven.press("space")  # not all are paused: all are paused now
            assert (race.asked("a")[2:], race.asked("b")[2:]) == (["pause"], ["pause"])
            await driven.press("t")
            await driven.press("S")
            assert race.asked("a")[-1] == "stop"
            assert race.asked("b")[-1] == "pause"
            assert "stopping" in driven.said()[0]
            race.end("a", "stopped")
            await driven.until("A stopped", lambda: states()[0] == "stopped")
            await driven.press("space")
            assert driven.said() == ["run A is stopped: nothing to control; t chooses another"]
            race.end("b", "stopped")
            await driven.until("a verdict", lambda: "INCOMPLETE · equal up to step 10" in driven.text())

    drive(look())


@pytest.mark.slow
def test_a_divergence_is_shown_when_it_is_written_and_stops_the_race_where_asked(live: Any) -> None:
    race = live()
    race.write(part(0, 5))

    async def look() -> None:
        async with dashboard(race.path) as driven:
            table = driven.get(StepTable)
            await driven.press("B", "B")
            assert not driven.race.cards.stop_at_divergence
            await driven.press("B")
            steps = {step: leaves for step, leaves in steps_of(30).items() if step > 5}
            race.write(steps, "a")
            race.write(changed(steps, 17, "grads:grads/b", "params:params/w"), "b")
            await driven.until("the divergence", lambda: "DIVERGED at step 17 · grads" in driven.text())
            assert table.step == 17
            assert not table.follow
            assert (race.asked("a"), race.asked("b")) == (["stop"], ["stop"])
            await driven.until("its leaves", lambda: "DIVERGED at step 17 · grads · 1 leaf" in driven.text())
            assert "grads/b" in driven.text()
            await driven.press("g")
            race.write({31: steps_of(31)[31]}, "a", "b")
            await driven.until("one more step", lambda: driven.race.status.timeline.last == 31)
            assert table.step == 0  # shown once; afterwards the cursor stays where it was put

    drive(look())


@pytest.mark.slow
def test_the_dashboard_can_pause_at_the_divergence_too(live: Any) -> None:
    race = live()
    race.write(steps_of(9), "a")
    race.write(changed(steps_of(9), 3, "rng:rng"), "b")

    async def look() -> None:
        async with dashboard(race.path, at_divergence="pause") as driven:
            assert "pause was asked of all runs" in driven.said()[0]
        async with dashboard(race.path, settings=Settings(stop_at_divergence=True)) as driven:
            assert "stop was asked of all runs" in driven.said()[0]

    drive(look())
    assert race.asked("b") == ["pause", "stop"]


# What goes wrong


def test_a_runs_directory_that_vanishes_is_said_and_the_screen_stays(live: Any) -> None:
    race = live()
    race.write(part(0, 20))

    async def look() -> None:
        async with dashboard(race.path) as driven:
            shutil.rmtree(race.path)
            await driven.until("the loss of the directory", lambda: driven.text().count("does not exist any more") >= 2)
            assert [run.state for run in driven.race.status.runs] == ["gone", "gone"]
            assert driven.get(StepTable).count == 21
            await driven.press("g", "n", "enter")
            await driven.press("escape", "space", "L")
            assert driven.app.is_running

    drive(look())


@pytest.mark.slow
def test_damaged_and_newer_traces_are_named(sample: Any) -> None:
    import sqlite3
    from contextlib import closing

    damaged, newer, cut = sample("identical"), sample("bit-flip"), sample("batch-order")
    (damaged / "b" / "trace.db").write_bytes(b"no trace at all" * 500)
    with closing(sqlite3.connect(newer / "b" / "trace.db")) as connection:
        connection.execute("PRAGMA user_version=99")
    whole = (cut / "a" / "trace.db").read_bytes()
    (cut / "a" / "trace.db").write_bytes(whole[: len(whole) // 2])

    async def look() -> None:
        async with dashboard(damaged) as driven:
            assert "INCOMPARABLE" in driven.text()
            assert "is not a trace, or its beginning is damaged" in driven.text()
            assert [run.state for run in driven.race.status.runs] == ["finished", "finished"]
            assert driven.get(StepTable).count == 81  # A can be read
            await driven.press("enter")
            assert "is not a trace" in driven.text()
            await driven.press("escape")
        async with dashboard(newer) as driven:
            assert "INCOMPARABLE" in driven.text()
            assert "upgrade reprotui" in driven.text()
        async with dashboard(cut) as driven:
            assert "is damaged" in driven.text()
            for key in ("enter", "n", "right_square_bracket", "escape", "d", "G", "g", "e", "escape"):
                await driven.press(key)
            assert driven.app.is_running

    drive(look())


def test_a_race_whose_workers_all_fail_shows_what_they_said(live: Any) -> None:
    race = live()
    error = "WorkerFailedError: no space left\non device [/bold] [red]"
    for name in "ab":
        (race.path / name / "worker.log").write_text("Traceback\n\x1b[31mred\x1b[0m\x07 and loud\r\n\n")
    race.end("a", "failed", error=error)

    async def look() -> None:
        async with dashboard(race.path) as driven:
            assert driven.text().count("no space left on device [/bold] [red]") >= 1
            race.end("b", "failed", error=error)
            await driven.until("both failed", lambda: not driven.race.status.alive)
            await driven.settled()
            assert "INCOMPLETE · no common step yet" in driven.text()
            assert "STARTING" not in driven.text()
            assert "no step yet" in driven.text()
            await driven.press("5")
            assert r"\x1b[31mred\x1b[0m\x07 and loud" in driven.text()
            assert "\x1b" not in driven.text()
            for key in ("enter", "Y", "d", "n", "G", "plus", "L"):
                await driven.press(key)
                assert driven.app.is_running

    drive(look())


def test_a_killed_worker_has_its_last_words_on_its_card(live: Any) -> None:
    race = live()
    race.write(part(0, 8))
    race.end("a")
    (race.path / "b" / "worker.log").write_text("all is well\nBus error (core dumped)\n\n")
    manifest = json.loads((race.path / "b" / "run.json").read_text())
    manifest["process"]["started"] = "1"  # somebody else has this process id now
    (race.path / "b" / "run.json").write_text(json.dumps(manifest))

    async def look() -> None:
        async with dashboard(race.path) as driven:
            assert [run.state for run in driven.race.status.runs] == ["finished", "killed"]
            assert "B same config as A  killed" in driven.text()
            assert "all is well / Bus error (core dumped)" in driven.text()
            assert "INCOMPLETE · equal up to step 8" in driven.text()
        async with dashboard(race.path, size=(80, 24)) as driven:
            assert any(line.startswith(" B killed") and "Bus error" in line for line in driven.lines())

    drive(look())


# Terminals


@pytest.mark.slow
def test_themes_ascii_no_colour_and_own_keys(sample: Any, own_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sample("bit-flip")

    async def themes() -> None:
        async with dashboard(path) as driven:
            band, table = driven.get(VerdictBand), driven.get(StepTable)
            seen = []
            for name in ("dark", "light", "contrast", "dark"):
                assert driven.app.theme == name
                variables = driven.app.theme_variables
                assert band.styles.background.hex.lower() == variables["verdict-differs"].lower()
                for letter in "ab":
                    style = table.get_component_rich_style(f"rows--{letter}", partial=True)
                    assert style.color is not None
                    assert style.color.get_truecolor().hex.lower() == variables[f"run-{letter}"].lower()
                chart = driven.get(LossChart).get_component_rich_style("chart--differs", partial=True)
                assert chart.color is not None
                assert chart.color.get_truecolor().hex.lower() == variables["differs"].lower()
                seen.append(variables["run-a"])
                await driven.press("f2")
            assert len(set(seen)) == 3 - (seen[0] == seen[2])
        async with dashboard(path) as driven:
            assert driven.app.theme == "light"  # remembered

    async def ascii_only() -> None:
        async with dashboard(path, symbols="ascii", size=(140, 44)) as driven:
            for keys in (
                [], ["question_mark"], ["escape", "e"], ["escape", "enter"], ["asterisk", "slash"], ["escape", "question_mark"],
                ["escape", "escape", "ctrl+p"],
            ):  # fmt: skip
                await driven.press(*keys)
                strange = {character for character in driven.text() if not character.isascii()}
                assert not strange, (keys, strange)
        async with dashboard(sample("nan-loss"), symbols="ascii", size=(80, 24)) as driven:
            assert driven.text().isascii()

    async def no_colour() -> None:
        async with dashboard(path) as driven:
            assert driven.app.no_color
            strips = driven.app.screen._compositor.render_strips()
            colours = {
                colour.get_truecolor()
                for strip in strips for segment in strip if segment.style
                for colour in (segment.style.color, segment.style.bgcolor) if colour
            }  # fmt: skip
            assert all(colour.red == colour.green == colour.blue for colour in colours)
            assert "≠  DIVERGED" in driven.text()

    async def own_keys() -> None:
        settings = Settings(keys={"race.first_difference": "w", "everywhere.theme": "f9"})
        async with dashboard(path, settings=settings) as driven:
            await driven.press("g", "d")
            assert driven.get(StepTable).step == 0
            await driven.press("w")
            assert driven.get(StepTable).step == 50
            assert "w first ≠" in driven.lines()[-1]
            await driven.press("question_mark")
            assert "w           first ≠" in driven.text()

    drive(themes())
    drive(ascii_only())
    drive(own_keys())
    monkeypatch.setenv("NO_COLOR", "1")
    drive(no_colour())


@pytest.mark.slow
def test_terminals_of_every_size_and_a_resize_in_the_middle_of_it(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=(38, 10)) as driven:
            assert "38x10 is too small: at least 40x12" in driven.text()
            assert "DIVERGED" not in driven.text()
            for width, height in ((40, 12), (80, 24), (200, 60), (45, 13), (120, 32), (81, 60), (20, 5), (160, 12), (80, 24)):
                await driven.pilot.resize_terminal(width, height)
                told = "is too small" if width < 40 else "DIVERGED at step 50"
                await driven.until(f"a layout for {width}x{height}", lambda told=told: told in "".join(driven.lines()[:40]))
                lines = driven.lines()
                assert len(lines) == height
                assert all(len(line) <= width for line in lines)
                if width < 40:
                    assert f"{width}x{height}" in driven.text().replace("\n", "")
                    continue
                assert "quit" in lines[-1], (width, height)
                table = driven.get(StepTable)
                if height >= 24:
                    assert any("50 ≠" in line for line in lines), (width, height)
                    assert table.scroll_offset.y <= table.cursor < table.scroll_offset.y + table.page_rows
            await driven.press("enter")
            for width, height in ((40, 12), (200, 60), (30, 8), (80, 24)):
                await driven.pilot.resize_terminal(width, height)
                await driven.pilot.pause()
                assert ("step 50" in driven.text()) is (width >= 40)
            await driven.press("question_mark")
            await driven.pilot.resize_terminal(40, 12)
            await driven.press("escape", "escape")
            assert isinstance(driven.app.screen, RaceScreen)

    drive(look())


def test_what_stands_on_the_terminal_is_the_picture_when_the_verdict_grows_in_a_narrow_one(
    sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last news of a race: a verdict of more lines, and words for panes that a narrow terminal hides."""
    terminal = pyte.Screen(80, 24)
    stream = pyte.Stream(terminal)
    display = DashboardApp._display

    def drawn(app: DashboardApp, screen: Any, renderable: Any) -> None:
        if isinstance(renderable, CompositorUpdate):
            stream.feed(renderable.render_segments(app.console))
        display(app, screen, renderable)

    late = False
    check, update = VerdictBand._check_refresh, RaceScreen._on_timer_update

    def check_late(band: VerdictBand) -> None:
        if not late:
            check(band)

    def update_before(screen: RaceScreen) -> None:
        """Draw a frame between the band's wish for a new layout and its fulfilment, as happens where the cores are busy."""
        nonlocal late
        if late:
            late = False
            check(screen.query_one(VerdictBand))
        update(screen)

    monkeypatch.setattr(VerdictBand, "_check_refresh", check_late)
    monkeypatch.setattr(RaceScreen, "_on_timer_update", update_before)
    monkeypatch.setattr(DashboardApp, "_display", drawn)

    async def look() -> None:
        nonlocal late
        async with dashboard(sample("identical"), size=(80, 24)) as driven:
            ended = driven.race.status
            assert ended is not None
            for keys in ((), ("z",)):  # with z, the step table hides other panes
                await driven.press(*keys)
                runs = [replace(run, state=RunState.RUNNING, events=(), log=()) for run in ended.runs]
                driven.race.status = replace(ended, runs=tuple(runs), verdicts=(), judged=False)
                await driven.until("a race that runs", lambda: "RUNNING" in driven.text())
                late = True
                driven.race.status = ended
                await driven.until("its verdict", lambda: "digests of the" in driven.text())
                await driven.steady()
                assert [line.rstrip() for line in terminal.display] == driven.lines(), keys

    drive(look())


def test_escape_leaves_a_race_that_was_opened_first_for_home(sample: Any) -> None:
    async def look() -> None:
        path = sample("identical")
        async with dashboard(path, runs=path.parent) as driven:
            await driven.press("escape")
            assert type(driven.app.screen).__name__ == "HomeScreen"
            await driven.press("q")
        assert driven.app.return_value == 0

    drive(look())


@pytest.mark.slow
def test_a_run_that_cannot_be_opened_is_said_on_home(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    async def look() -> None:
        async with dashboard(runs=tmp_path) as driven:
            driven.app.open_runs([tmp_path / "empty"])
            await driven.pilot.pause()
            assert "is not a run directory" in driven.said()[0]

    drive(look())
    assert os.environ["REPROTUI_SETTINGS"].startswith(str(tmp_path))


# The step table


def _edit(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def _line(table: StepTable, index: int, width: int) -> str:
    return "".join(cell.text for cell in table.cells(index, width))


def test_the_table_shows_roots_of_gradients_and_parameters_and_a_mark_a_phase(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=(140, 40)) as driven:
            table = driven.get(StepTable)
            for width, digits in ((71, 6), (79, 7), (103, 13)):
                equal, first, after = (_line(table, index, width) for index in (49, 50, 51))
                assert equal.count("2a3c9c4773e48"[:digits]) == 2 and equal.count("3d2c6e3a3f407"[:digits]) == 2
                assert "580d4e7da7ccc"[:digits] in first and "57614bca711b9"[:digits] in first
                assert (first.endswith("·····p"), after.endswith("··fgop"), equal.strip().endswith("p")) == (True, True, False)
                assert max(map(len, (equal, first, after, "".join(cell.text for cell in table.heading(width))))) <= width
            # The first differing row stays on top where it is above what is seen.
            table.follow = False
            table.go_to_step(80)
            await driven.pilot.pause()
            assert table.scroll_offset.y > 50
            assert "".join(part.text for part in table.render_line(1)).split()[:2] == ["50", "≠"]
            table.go_to_step(40)
            table.scroll_to(y=30, animate=False)
            await driven.pilot.pause()
            assert "".join(part.text for part in table.render_line(1)).split()[0] != "50"

    drive(look())


def test_a_step_whose_loss_is_nan_in_both_runs_does_not_look_healthy(sample: Any) -> None:
    """Also in traces of before, which say nothing of what is not finite."""

    async def look() -> None:
        async with dashboard(sample("nan-loss"), size=(140, 40)) as driven:
            table = driven.get(StepTable)
            line = _line(table, 50, 71)
            assert line.endswith("··x···") and line.count("NaN") == 2 and " 0 " not in line
            assert table.cells(50, 71)[1].colour == "unknown"
            assert "x" not in _line(table, 0, 71)

    drive(look())


def test_an_edited_loss_is_not_shown_and_verify_finds_it(sample: Any) -> None:
    race = sample("identical")

    async def look(said: str) -> None:
        async with dashboard(race, size=(140, 40)) as driven:
            table = driven.get(StepTable)
            assert not re.search(r"\b9\b", _line(table, 7, 103).partition("=")[2])
            await driven.pilot.press("V")
            await driven.until("the answer", lambda: said in table.title)

    drive(look("verified: A 81 records, B 81 records"))
    _edit(race / "b" / "trace.db", "UPDATE steps SET loss = 9")
    drive(look("1 of 2 traces do not verify"))
