"""Home's list and preview, and what is done to many runs at once; each with its twin on the command line."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Static

from conftest import SAMPLES, edit_manifest
from pilots import Dashboard, dashboard, drive
from reprotui.cli import main
from reprotui.cli import runs as runs_command
from reprotui.race import entries as race_entries
from reprotui.race import preview
from reprotui.race.listing import Listing
from reprotui.run_directory import this_process
from reprotui.tui import home_data
from reprotui.tui.listing_watch import Listed
from reprotui.tui.screens.confirm import ConfirmScreen
from reprotui.tui.screens.home import HomeScreen
from reprotui.tui.symbols import ASCII, UNICODE
from reprotui.tui.text import spark
from reprotui.tui.widgets.entries import EntryRows

pytestmark = pytest.mark.usefixtures("own_settings")


def fill(*samples: str) -> Path:
    """Copy samples into `runs`; the first is the newest."""
    for age, name in enumerate(samples):
        shutil.copytree(SAMPLES / name, Path("runs") / name)
        race = Path("runs") / name / "race.json"
        race.write_text(json.dumps({**json.loads(race.read_text()), "created_ns": (1000 - age) * 10**9}))
    return Path("runs")


def at_home(story: Callable[[Dashboard], Awaitable[None]], size: tuple[int, int] = (120, 36)) -> None:
    async def go() -> None:
        async with dashboard(size=size, runs=Path("runs")) as driven:
            await driven.until("the list", lambda: rows(driven).count)
            await story(driven)

    drive(go())


def rows(driven: Dashboard) -> EntryRows:
    return driven.app.screen.query_one("#runs", EntryRows)


def names(driven: Dashboard) -> list[str]:
    return [entry.name for entry in rows(driven).entries]


def detail(driven: Dashboard) -> str:
    return str(driven.app.screen.query_one("#detail", Static).render())


def test_orders_are_the_same_everywhere() -> None:
    assert home_data.ORDERS == runs_command.ORDERS == race_entries.ORDERS == tuple(race_entries._KEYS)


def test_the_preview_says_cause_losses_what_differs_checkpoints_and_size() -> None:
    path = fill("bit-flip", "identical")
    (path / "bit-flip" / "b" / "checkpoints" / "40" / "state").mkdir(parents=True)
    race = path / "bit-flip" / "race.json"
    race.write_text(json.dumps({**json.loads(race.read_text()), "at_divergence": "stop", "tolerance": ["ulp=4"]}))

    async def story(driven: Dashboard) -> None:
        await driven.until("the preview", lambda: "on disk" in detail(driven))
        said = detail(driven)
        for text in (
            "DIVERGED at step 50", "a bit was flipped on purpose", "perturb=50:params/dense_1/kernel:100:20", "loss 0.090429",
            "loss 0.091104", "█", "checkpoint 40", "tolerance ulp=4 · stop at the first difference", "$ reprotui race digits-mlp",
        ):  # fmt: skip
            assert text in said, (text, said)
        pane, listed = driven.get("#detail").region, rows(driven).region
        assert pane.x >= listed.right and pane.y == listed.y, "beside the list"
        await driven.press("p")
        assert not driven.get("#detail").display and rows(driven).region.width == 120
        await driven.press("p", "down")
        await driven.until("the other's", lambda: "IDENTICAL" in detail(driven) and "on disk" in detail(driven))
        assert "flipped" not in detail(driven)
        await driven.pilot.resize_terminal(80, 24)
        await driven.until("below the list", lambda: driven.get("#detail").region.y > rows(driven).region.y)
        await driven.until("on few lines", lambda: "finished  step 80 " in detail(driven))
        low = driven.get("#detail").region.height
        await driven.press("p")
        await driven.until("more room", lambda: driven.get("#detail").region.height > low)

    at_home(story)


@pytest.mark.slow
def test_the_list_is_sorted_by_key_and_by_a_click_on_a_heading() -> None:
    fill("identical", "bit-flip", "two-seeds")

    async def story(driven: Dashboard) -> None:
        assert names(driven) == ["identical", "bit-flip", "two-seeds"], "the newest first"
        await driven.press("greater_than_sign")
        assert names(driven) == ["bit-flip", "identical", "two-seeds"]
        await driven.press("exclamation_mark")
        assert names(driven) == ["two-seeds", "identical", "bit-flip"]
        heading = driven.lines()[1]
        await driven.pilot.click("#runs", offset=(heading.index("verdict") + 2, 0))
        await driven.until("by verdict", lambda: names(driven) == ["two-seeds", "bit-flip", "identical"])
        assert f"verdict{UNICODE.open}" in driven.lines()[1] or f"verdict{ASCII.open}" in driven.lines()[1]

    at_home(story)
    at_home(lambda driven: expect(driven, ["two-seeds", "bit-flip", "identical"]))  # it is remembered


async def expect(driven: Dashboard, found: list[str]) -> None:
    assert names(driven) == found


def test_what_is_typed_into_a_resume_check_is_seen() -> None:
    fill("identical")

    async def story(driven: Dashboard) -> None:
        await driven.press("U")
        for example in ("python train.py --steps 50 --save ck", "python train.py --steps 100 --resume ck"):
            assert example in driven.text()
        await driven.press(*"sh a.sh", "down", *"sh b.sh")
        assert {line.strip("│ ") for line in driven.lines()} >= {"uninterrupted", "sh a.sh", "first part", "sh b.sh"}

    at_home(story, (80, 24))


def test_the_cursor_follows_what_is_renamed() -> None:
    fill("identical", "bit-flip", "two-seeds")

    async def story(driven: Dashboard) -> None:
        home = driven.app.screen
        assert isinstance(home, HomeScreen)
        whole = home.listed
        assert whole is not None
        home.listing.stop()  # the test lists by itself: a list that was made during the renaming, and the one after it
        await asyncio.to_thread(home.listing.join)
        await driven.press("ctrl+r")
        driven.get("Input", Input).value = "night"
        await driven.press("enter")
        await driven.until("the new name", lambda: Path("runs/night").exists() and "renamed: night" in driven.said())
        moved = replace(whole.entries[0], name="night", path=Path("runs/night"))
        home.listed = Listed(whole.entries[1:])
        assert rows(driven).current == whole.entries[1]
        home.listed = Listed((moved, *whole.entries[1:]))
        assert rows(driven).current == moved
        await driven.press("down")
        home.listed = Listed((*whole.entries[1:], moved))
        assert rows(driven).current == whole.entries[1], "it is followed once"

    at_home(story)


def test_a_run_is_renamed_and_noted_down_upon() -> None:
    fill("identical", "bit-flip")

    async def story(driven: Dashboard) -> None:
        await driven.press("ctrl+r")
        driven.get("Input", Input).value = "bit-flip"
        await driven.press("enter")
        await driven.until("the refusal", lambda: any("exists already" in n.message for n in driven.app._notifications))
        await driven.press("ctrl+r")
        assert driven.get("Input", Input).value == "identical"
        driven.get("Input", Input).value = "night"
        await driven.press("enter")
        await driven.until("the new name", lambda: names(driven) == ["night", "bit-flip"])
        await driven.press("W")
        driven.get("Input", Input).value = "before the driver"
        await driven.press("enter")
        await driven.until("the note", lambda: "note: before the driver" in detail(driven))
        assert "before the driver" in driven.text()
        await driven.press("slash", *"driver")
        assert names(driven) == ["night"], "the filter knows notes"

    at_home(story)
    assert (Path("runs/night/race.json").exists(), Path("runs/night/note.txt").read_text()) == (True, "before the driver\n")


@pytest.mark.slow
def test_many_are_marked_counted_and_deleted() -> None:
    path = fill("identical")
    for number in range(11):
        shutil.copytree(path / "identical", path / f"copy-{number:02}")

    async def story(driven: Dashboard) -> None:
        await driven.until("all of them", lambda: len(names(driven)) == 12)
        await driven.press("slash", *"copy", "enter", "ctrl+a")
        await driven.until("the count", lambda: "11 marked" in driven.lines()[0])
        await driven.press("enter")
        refusals = [notice.message for notice in driven.app._notifications]
        assert any("22 runs are marked, at most 8 are compared" in text for text in refusals)
        await driven.press("D")
        assert isinstance(driven.app.screen, ConfirmScreen)
        assert "Delete 11 entries" in driven.text()
        await driven.press("y")
        await driven.until("they are gone", lambda: "11 runs and races" in "".join(n.message for n in driven.app._notifications))
        await driven.press("escape")
        await driven.until("one is left", lambda: names(driven) == ["identical"])

    at_home(story)
    assert [entry.name for entry in Path("runs").iterdir()] == ["identical"]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["runs", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_line_does_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    path = fill("identical", "bit-flip", "two-seeds")
    assert told(capsys, "rename", "bit-flip", "flipped")[0] == 0
    assert told(capsys, "note", "flipped", "the  driver\n changed")[0] == 0
    assert told(capsys, "note", "flipped")[1] == "the driver changed\n"
    code, out, _ = told(capsys, "show", "flipped")
    assert code == 0 and "a bit was flipped on purpose" in out and "on disk" in out and "the driver changed" in out
    shown = json.loads(told(capsys, "show", "flipped", "--json")[1])
    assert shown["note"] == "the driver changed" and shown["bytes"] > 0 and shown["checkpoints"] == [[], []]
    listed = json.loads(told(capsys, "--json", "--sort", "verdict")[1])["runs"]
    assert [run["name"] for run in listed][::2] == ["two-seeds/a", "flipped/a", "identical/a"]
    assert listed[2]["note"] == "the driver changed"
    assert "the driver changed" in told(capsys)[1]
    code, out, err = told(capsys, "delete", "flipped", "identical")
    assert (code, out.split()) == (2, ["runs/flipped", "runs/identical"]) and "--yes" in err
    assert told(capsys, "delete", "flipped", "identical", "--yes")[0] == 0
    assert [entry.name for entry in path.iterdir()] == ["two-seeds"]
    assert told(capsys, "note", "two-seeds", "")[0] == 0 and not (path / "two-seeds" / "note.txt").exists()


def test_what_must_not_be_renamed_noted_or_deleted_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    path = fill("identical", "bit-flip")
    for label in "ab":
        edit_manifest(path / "bit-flip" / label, result=None, seal=None, process=asdict(this_process()))
    for arguments, said in (
        (("rename", "bit-flip", "other"), "is still running: stop it first"),
        (("rename", "identical", "bit-flip"), "exists already"),
        (("rename", "identical", "../outside"), "cannot be a name"),
        (("rename", "absent", "x"), "absent does not exist"),
        (("note", "runs", "x"), "neither a run nor a race"),
        (("note", "identical", "x" * 2001), "is too long"),
        (("show", "runs"), "neither a run nor a race"),
        (("delete", "identical", "bit-flip", "--yes"), "is still running: stop it first"),
    ):
        code, _, err = told(capsys, *arguments)
        assert code == 2 and said in err, (arguments, err)
    assert sorted(entry.name for entry in path.iterdir()) == ["bit-flip", "identical"]
    assert told(capsys, "note", "bit-flip", "is running")[0] == 0, "a note disturbs nobody"


def test_a_line_of_bars_shows_what_it_is_given() -> None:
    assert spark([1.0, 2.0, 3.0, 4.0], 4, (1.0, 4.0), UNICODE) == "▁▃▆█"
    assert spark([1.0, None, 3.0, 4.0], 4, (1.0, 4.0), ASCII) == "_ *@"
    assert spark([1.0, 10.0, 100.0, 1000.0], 4, (1.0, 1000.0), UNICODE) == "▁▃▆█", "a wide range is logarithmic"
    assert spark([2.0] * 4, 4, (2.0, 2.0), UNICODE) == "▁▁▁▁"
    assert spark([-1e308, 0.0, 1e308, 1e308], 4, (-1e308, 1e308), UNICODE) == "▁▅██"
    assert spark([], 10, None, UNICODE) == ""


def test_a_preview_of_what_is_damaged_leaves_out_what_it_cannot_read() -> None:
    path = fill("bit-flip")
    (path / "bit-flip" / "b" / "trace.db").write_bytes(b"no trace at all" * 500)
    (path / "bit-flip" / "a" / "run.json").write_text("{")
    [entry] = Listing(path).read()
    seen = preview.look(entry)
    assert (len(seen.losses), seen.losses[1]) == (2, ()) and seen.size > 0


def test_a_preview_waits_for_nothing_while_a_key_is_held_down() -> None:
    fill("identical", "bit-flip", "two-seeds", "batch-order")
    asked: list[str] = []

    async def story(driven: Dashboard) -> None:
        real = preview.look
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(preview, "look", lambda entry: (asked.append(entry.name), real(entry))[1])
            await driven.until("the first", lambda: "on disk" in detail(driven))
            home: Any = driven.app.screen
            for _ in range(3):
                home.rows.action_move(1)
            await driven.until("the last", lambda: "the batch differs" in detail(driven))
            await asyncio.sleep(0.3)

    at_home(story)
    assert "batch-order" in asked and not {"bit-flip", "two-seeds"} & set(asked)


@pytest.mark.slow
def test_an_open_race_says_what_was_asked_of_it() -> None:
    path = fill("bit-flip", "identical") / "bit-flip"
    for label in "ab":
        edit_manifest(path / label, recording={"every": 4, "stop_at_nan": True}, checkpointing={"every": 50, "at": [7]})
    (path / "race.json").write_text(json.dumps({**json.loads((path / "race.json").read_text()), "at_divergence": "pause"}))

    async def story(race: Path, said: tuple[str, ...]) -> None:
        async with dashboard(race) as driven:
            await driven.press("I")
            await driven.until("what was asked", lambda: said[0] in driven.text())
            assert all(text in driven.text() for text in said), driven.text()
            await driven.press("I")
            assert driven.app.screen is driven.race

    asked = (
        "pause at the first difference",
        "every 4 steps",
        "stop at NaN",
        "save every 50",
        "save at 7",
        "width=32",
        "$ reprotui race",
    )
    drive(story(path, asked))
    drive(story(path.parent / "identical", ("nothing but the defaults",)))
