"""Many runs and races on one screen, with its twin on the command line: conditions, groups, the host that stands out."""

import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import SAMPLES, Cli, edit_manifest
from pilots import Dashboard, dashboard, drive
from reprotui.manifest import RunState
from reprotui.race import fleet
from reprotui.race.entries import Condition, Entry, Outcome, RunEntry
from reprotui.race.fleet import FleetListing
from reprotui.race.listing import Listing
from reprotui.run_directory import this_process
from reprotui.tui import opening
from reprotui.tui.screens.fleet import FleetScreen
from reprotui.tui.screens.home import HomeScreen
from reprotui.tui.screens.race import RaceScreen
from reprotui.tui.widgets.fleet_rows import COLOURS, GroupMap

pytestmark = pytest.mark.usefixtures("own_settings")

IDENTICAL = Outcome("identical", None, "IDENTICAL through step 9")
DIVERGED = Outcome("diverged", 5, "DIVERGED at step 5 · params")


def run(label: str, *hosts: str, **entries: Any) -> RunEntry:
    told = {"state": RunState.FINISHED, "step": 9, "loss": 0.5, "experiment": "mlp"} | entries
    return RunEntry(label, Path(f"x/{label}"), hosts=hosts, **told)


def pair(name: str, outcome: Outcome | None = IDENTICAL, hosts: str = "n1 n2", created_ns: int = 0, **entries: Any) -> Entry:
    """Return a race of two runs on two hosts; `entries` are of the second run."""
    a, b = hosts.split()
    return Entry(name, Path(f"runs/{name}"), True, created_ns, (run("a", a), run("b", b, **entries)), (outcome,))


@pytest.mark.parametrize(
    ("entry", "condition"),
    [
        (pair("x"), Condition.EQUAL),
        (pair("x", DIVERGED), Condition.DIFFERS),
        (pair("x", replace(DIVERGED, within=True)), Condition.EQUAL),
        (pair("x", replace(IDENTICAL, torn=("A: TORN at step 3",))), Condition.TORN),
        (pair("x", torn=("TORN at step 3 · params/w",)), Condition.TORN),
        (pair("x", DIVERGED, torn=("CORRUPT at step 3",)), Condition.TORN),
        (pair("x", replace(IDENTICAL, broken=True)), Condition.NOT_FINITE),
        (pair("x", loss=float("nan")), Condition.NOT_FINITE),
        (pair("x", None, state=RunState.FAILED), Condition.FAILED),
        (pair("x", Outcome("incomplete", None, "INCOMPLETE"), state=RunState.KILLED), Condition.FAILED),
        (pair("x", Outcome("incomplete", None, "IDENTICAL so far"), state=RunState.RUNNING), Condition.ALIVE),
        (pair("x", DIVERGED, state=RunState.RUNNING), Condition.DIFFERS),
        (pair("x", Outcome("incomparable", None, "INCOMPARABLE")), Condition.UNKNOWN),
        (pair("x", None), Condition.UNKNOWN),
        (pair("x", IDENTICAL, problem="x/b is damaged"), Condition.UNKNOWN),
        (replace(pair("x"), problem="race.json is damaged", members=(), outcomes=()), Condition.UNKNOWN),
        (Entry("x", Path("x"), False, 0, (run("", "n1"),)), Condition.ALONE),
        (Entry("x", Path("x"), False, 0, (run("", "n1", torn=("TORN at step 3",)),)), Condition.TORN),
        (Entry("x", Path("x"), False, 0, (run("", "n1", state=RunState.ELSEWHERE),)), Condition.UNKNOWN),
    ],
)  # fmt: skip
def test_the_worst_about_an_entry_is_its_condition(entry: Entry, condition: Condition) -> None:
    assert entry.condition is condition


def test_each_condition_has_a_sign_and_a_colour_of_its_own() -> None:
    assert set(fleet.SIGNS) == set(Condition) and len(set(fleet.SIGNS.values())) == len(Condition)
    assert set(COLOURS) == {condition.value for condition in Condition}


def test_the_worst_comes_first_and_of_differences_the_earliest() -> None:
    entries = [
        pair("fine"), pair("late", replace(DIVERGED, step=8)), pair("early", DIVERGED), pair("nan", loss=float("inf")),
        pair("torn", torn=("TORN at step 1",)), pair("newer", created_ns=5),
    ]  # fmt: skip
    assert [entry.name for entry in fleet.worst_first(entries)] == ["torn", "early", "late", "nan", "newer", "fine"]
    assert fleet.counted(entries) == {"torn": 1, "differ": 2, "not finite": 1, "identical": 2}
    assert list(fleet.counted(entries)) == ["torn", "differ", "not finite", "identical"], "the worst first"


def test_hosts_are_counted_in_all_their_pairs() -> None:
    entries = [
        pair("1", DIVERGED, "n1 n3"), pair("2", DIVERGED, "n2 n3"), pair("3", hosts="n1 n2"),
        pair("4", None, "n1 n3", state=RunState.FAILED),
    ]  # fmt: skip
    groups = fleet.grouped(entries, "host")
    assert [(group.name, group.said, len(group.entries)) for group in groups] == [
        ("n3", "2/2", 3),
        ("n1", "1/2", 3),
        ("n2", "1/2", 2),
    ]
    assert fleet.standing_out(entries) == "n3 is in all 2 that differ, and in 1 of the 2 others"


@pytest.mark.parametrize(
    "entries",
    [
        [pair("1", DIVERGED, "n1 n3"), pair("2"), pair("3")],
        [pair("1", DIVERGED, "n1 n2"), pair("2", DIVERGED, "n3 n4"), pair("3")],
        [pair("1", DIVERGED, "n1 n1"), pair("2", DIVERGED, "n1 n1")],
        [pair("1", hosts="n1 n3"), pair("2")],
    ],
    ids=["one difference", "half of them each", "every pair is there", "no difference"],
)
def test_no_host_is_named_that_does_not_stand_out(entries: list[Entry]) -> None:
    assert fleet.standing_out(entries) == ""


def test_groups_by_config_name_what_varies() -> None:
    def at(name: str, **config: Any) -> Entry:
        entry = pair(name)
        return replace(entry, members=(replace(entry.members[0], config={"steps": 9, **config}), entry.members[1]))

    entries = [at("1", seed=0, lr=0.1), at("2", seed=1, lr=0.1), at("3", seed=0, lr=0.1, wide=True)]
    assert {group.name for group in fleet.grouped(entries, "config")} == {"mlp seed=0", "mlp seed=1", "mlp seed=0 wide=true"}
    assert [group.name for group in fleet.grouped(entries, "experiment")] == ["mlp"]
    assert [group.name for group in fleet.grouped(entries[:1], "config")] == ["mlp"]


# Recorded runs


def recorded(folder: Path, **samples: str) -> Path:
    """Copy samples into a runs directory: by their name there, the sample and the host of its second run, as `bit-flip@n3`."""
    for age, (name, told) in enumerate(samples.items()):
        sample, _, host = told.partition("@")
        shutil.copytree(SAMPLES / sample, folder / name)
        race = folder / name / "race.json"
        race.write_text(json.dumps({**json.loads(race.read_text()), "created_ns": (1000 - age) * 10**9}))
        for label, at in (("a", "n0"), ("b", host or "n0")):
            process = json.loads((folder / name / label / "run.json").read_text())["process"]
            edit_manifest(folder / name / label, process={**process, "host": at, "ended_ns": 1})
    return folder


def some(folder: Path) -> Path:
    return recorded(
        folder, good="identical@n1", bad="bit-flip@n3", worse="batch-order@n3", broken="nan-loss@n2", dead="killed@n1"
    )


def test_a_listing_of_several_directories_has_each_entry_once() -> None:
    first, second = some(Path("one")), recorded(Path("two"), good="identical@n5")
    listing = FleetListing([first, second, first / "bad", Path("nothing")])
    entries = listing.read()
    assert len(entries) == 6 and set(fleet.names_of(entries).values()) >= {"one/good", "two/good"}
    assert {entry.name: entry.condition.value for entry in entries if entry.path.parent.name == "one"} == {
        "good": "identical", "bad": "differ", "worse": "differ", "broken": "not finite", "dead": "failed",
    }  # fmt: skip
    assert FleetListing([first / "bad"]).read() == tuple(entry for entry in entries if entry.name == "bad")
    good = next(entry for entry in entries if entry.path == (second / "good").absolute())
    assert fleet.hosts_of(good) == ("n0", "n5") and (fleet.rate_of(good) or 0) > 0


def test_ranks_are_on_their_hosts_and_a_torn_run_says_so_without_a_partner() -> None:
    recorded(Path("runs"), alone="identical@n1")
    path = Path("runs/alone")
    (path / "race.json").unlink()
    path.joinpath("b").rename(Path("runs/single"))
    edit_manifest(Path("runs/single"), rank=0, world_size=2)
    shutil.copytree(Path("runs/single"), Path("runs/single/ranks/0001"))
    edit_manifest(Path("runs/single/ranks/0001"), rank=1, host="n7")
    entry = Listing(Path("runs").absolute()).entry(Path("runs/single").absolute())
    assert entry is not None and fleet.hosts_of(entry) == ("n1", "n7")


def test_the_command_prints_the_fleet_once_and_ends_with_the_worst(reprotui: Cli) -> None:
    some(reprotui.runs)
    printed = reprotui("fleet", "--once", exit_code=1).stdout
    lines = [line.split()[0] for line in printed.splitlines() if line.strip()]
    assert lines[:6] == ["name", "worse", "bad", "broken", "dead", "good"], printed
    assert "2 differ, 1 not finite, 1 failed, 1 identical" in printed
    assert "n3 is in all 2 that differ, and in 0 of the 3 others" in printed
    told = json.loads(reprotui("fleet", reprotui.runs, "--json", "--group", "experiment", "--filter", "n1", exit_code=3).stdout)
    assert [entry["name"] for entry in told["entries"]] == ["dead", "good"] and told["counts"] == {"failed": 1, "identical": 1}
    assert told["entries"][1]["hosts"] == ["n0", "n1"] and told["standing_out"] == "" and told["exit_code"] == 3
    assert reprotui("fleet", reprotui.runs / "good", "--once").stdout.count("IDENTICAL") == 1
    assert "nothing matches in" in reprotui("fleet", "--once", "--filter", "zebra").stdout


@pytest.mark.parametrize("name", ["nowhere", "good/race.json"])
def test_a_directory_that_is_none_is_bad_input(reprotui: Cli, name: str) -> None:
    recorded(reprotui.runs, good="identical")
    assert "is no directory" in (said := reprotui("fleet", reprotui.runs / name, exit_code=2).stderr) or "does not exist" in said
    assert "--once" in reprotui("fleet", reprotui.runs, exit_code=2).stderr, "there is no terminal"


# The screen


def on_screen(story: Callable[[Dashboard], Awaitable[None]], size: tuple[int, int] = (120, 36), group: str = "host") -> None:
    async def go() -> None:
        runs = Path("runs").absolute()
        start = partial(opening.fleet, runs, [runs], group, "")
        async with dashboard(size=size, runs=runs, opening=start) as driven:
            await driven.until("the fleet", lambda: "fleet 5" in driven.text() and screen(driven).rows.count)
            await story(driven)

    drive(go())


def screen(driven: Dashboard) -> FleetScreen:
    assert isinstance(driven.app.screen, FleetScreen)
    return driven.app.screen


def names(driven: Dashboard) -> list[str]:
    return [entry.name for entry in screen(driven).rows.entries]


def test_the_screen_lists_the_worst_first_and_groups_alone() -> None:
    some(Path("runs"))

    async def story(driven: Dashboard) -> None:
        assert names(driven) == ["worse", "bad", "broken", "dead", "good"]
        text = driven.text()
        assert "2 differ  1 not finite  1 failed  1 identical" in text
        assert "n3 is in all 2 that differ, and in 0 of the 3 others" in text
        assert any(line.split() == ["n3", "2/2", "≠≠"] for line in driven.lines()), text
        await driven.press("right_square_bracket")
        assert names(driven) == ["worse", "bad"] and "n3: 2 differ" in driven.text()
        await driven.press("left_square_bracket", "left_square_bracket")
        assert names(driven) == ["broken"] and "n2: 1 not finite" in driven.text()
        await driven.press("escape")
        assert len(names(driven)) == 5
        await driven.press("u")
        assert "experiment" in driven.lines()[2] and "stands" not in driven.text()
        await driven.press("slash", *"killed")
        assert names(driven) == ["dead"]
        await driven.press("enter", "escape", "enter")
        assert isinstance(driven.app.screen, RaceScreen)
        await driven.press("escape")
        await driven.until("the fleet again", lambda: isinstance(driven.app.screen, FleetScreen))

    on_screen(story)


def test_a_click_on_a_group_lists_it_and_once_more_all() -> None:
    some(Path("runs"))

    async def story(driven: Dashboard) -> None:
        row = next(y for y, line in enumerate(driven.lines()) if line.split()[:2] == ["n1", "0/1"])
        box = driven.get("#groups", GroupMap).region
        for expected in (["dead", "good"], ["worse", "bad", "broken", "dead", "good"]):
            await driven.pilot.click("#groups", offset=(4, row - box.y))
            await driven.until("the group", lambda expected=expected: names(driven) == expected)

    on_screen(story)


def test_home_below_the_fleet_reads_nothing_before_somebody_goes_there() -> None:
    some(Path("runs"))

    async def story(driven: Dashboard) -> None:
        home = driven.app.screen_stack[-2]
        assert isinstance(home, HomeScreen)
        await driven.until("the listing's thread", home.listing.is_alive)
        await driven.pilot.pause(0.3)
        assert home.listing._last is None
        await driven.press("escape")
        await driven.until("the runs", lambda: "good" in driven.text() and home.listing._last is not None)

    on_screen(story)


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
def test_the_fleet_follows_and_leads_to_home_and_back(size: tuple[int, int]) -> None:
    some(Path("runs"))
    shutil.move("runs/good", "aside")

    async def story(driven: Dashboard) -> None:
        assert names(driven) == ["worse", "bad", "broken", "dead", "more"]
        shutil.move("aside", "runs/good")
        await driven.until("the sixth", lambda: "fleet 6" in driven.text() and "good" in names(driven))
        edit_manifest(Path("runs/good/b"), process=asdict(this_process()), result=None)
        await driven.until("what goes on", lambda: "1 going on" in driven.text())
        await driven.press("tab")
        await driven.until("the runs", lambda: isinstance(driven.app.screen, HomeScreen) and driven.app.screen.tab == "runs")
        await driven.press("Z")
        await driven.until("the fleet", lambda: isinstance(driven.app.screen, FleetScreen) and names(driven))
        await driven.press("shift+tab")
        await driven.until(
            "the lessons", lambda: isinstance(driven.app.screen, HomeScreen) and driven.app.screen.tab == "lessons"
        )
        await driven.press("tab")
        await driven.until("the fleet", lambda: isinstance(driven.app.screen, FleetScreen))
        await driven.press("escape")
        assert isinstance(driven.app.screen, HomeScreen)

    recorded(Path("runs"), more="identical")
    on_screen(story, size)
