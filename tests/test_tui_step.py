"""The step screen and the export of a report, by keys and mouse."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Checkbox, Input, Static

from pilots import Dashboard, dashboard, drive
from reprotui.tui.leaf_tree import Branch
from reprotui.tui.leaves import Leaf
from reprotui.tui.screens.export import ExportScreen
from reprotui.tui.screens.race import RaceScreen
from reprotui.tui.widgets.leaf_pane import LeafPane
from reprotui.tui.widgets.leaf_table import LeafTable
from reprotui.tui.widgets.steps import StepTable

pytestmark = pytest.mark.usefixtures("own_settings")


def under_cursor(driven: Dashboard) -> str:
    node = driven.get(LeafTable).node
    return node.path if isinstance(node, Leaf) else f"{node.name}/" if isinstance(node, Branch) else ""


def place(driven: Dashboard) -> str:
    return " ".join(str(driven.get("#place").render()).split())


def test_a_step_is_read_leaf_by_leaf(sample: Any, own_settings: Path) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip")) as driven:
            await driven.press("enter")
            table = driven.get(LeafTable)
            assert place(driven).startswith("≠ step 50 · B against A · first in params · the first diverging step")
            assert "batch = → rng = → forward = → grads = → optimizer = → params ≠ 1/6" in place(driven)
            assert driven.get("#place").has_class("-diverged")
            assert under_cursor(driven) == "params/dense_1/kernel"
            detail = str(driven.get("#detail").render())
            assert "2ac1328817b2188e" in detail
            assert "f6d0641e44b7bb03" in detail
            assert "norm and max were taken last at step 40" in detail
            assert "norm A" not in driven.text()  # those of step 40 say nothing of step 50
            assert [line.split()[:2] for line in detail.splitlines() if line.split()[1:2] == ["="]][-1] == ["49", "="]
            assert "▸      50 ≠" in detail

            # Steps
            await driven.press("n")
            assert driven.step._step == 51
            assert "first in forward" in place(driven)
            assert "first diverging" not in place(driven)
            assert under_cursor(driven).startswith(("loss", "metrics", "forward"))
            await driven.press("N", "left_square_bracket")
            assert driven.step._step == 49
            assert place(driven).startswith("= step 49 · B against A · all phases equal")
            assert driven.get("#place").has_class("-identical")
            await driven.press("N")
            assert driven.said() == ["no difference before step 49"]
            await driven.press("d")
            assert driven.step._step == 50
            await driven.press("right_square_bracket", "right_square_bracket")
            assert driven.step._step == 52
            assert driven.race.query_one(StepTable).step == 52  # the race's cursor goes along
            driven.step.go_to_step(0)
            await driven.pilot.pause()
            await driven.press("left_square_bracket")
            assert driven.said() == ["this is the first step"]
            driven.step.go_to_step(99)
            await driven.press("right_square_bracket")
            assert driven.step._step == 80
            assert driven.said() == ["this is the newest step"]
            await driven.press("n")
            assert driven.said() == ["no difference behind step 80"]

            # The tree
            await driven.press("d")
            count = table.count
            await driven.press("o")
            assert "only differing leaves" in place(driven)
            assert table.count < count
            assert under_cursor(driven) == "params/dense_1/kernel"
            await driven.press("escape")
            assert table.count == count
            assert "only differing" not in place(driven)
            await driven.press("g")
            assert under_cursor(driven) == "batch/"
            await driven.press("space")
            assert table.count == count - 2
            await driven.press("space")
            assert table.count == count
            await driven.press("asterisk")
            assert table.count == 6
            await driven.press("asterisk")
            assert table.count == count

            # The filter
            await driven.press("slash")
            await driven.press(*"bias")
            assert "filter: bias" in place(driven)
            leaves = [node.path for _, node in table._tree.rows if isinstance(node, Leaf)]
            assert leaves
            assert all("bias" in path for path in leaves)
            await driven.press("enter")
            assert driven.app.focused is table
            assert not driven.get("#leaf-filter").display
            await driven.press("slash", *"[(")
            assert table.count == 0
            assert driven.app.is_running
            await driven.press("escape")
            assert table.count == count
            assert driven.app.focused is table

            # Copying
            await driven.press("g", "y")
            assert driven.said() == ["put the cursor on a leaf first"]
            await driven.press("d", "y")
            copied = (own_settings.parent / "reprotui-copied.txt").read_text().splitlines()
            assert copied == ["step 50 params params/dense_1/kernel float32[32, 32]", "A 2ac1328817b2188e", "B f6d0641e44b7bb03"]
            await driven.press("escape")
            assert isinstance(driven.app.screen, RaceScreen)

    drive(look())


@pytest.mark.slow
def test_leaves_and_detail_by_mouse_and_palette(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=(200, 60)) as driven:
            await driven.press("enter")
            table = driven.get(LeafTable)
            await driven.pilot.click(table, offset=(6, 1))
            assert under_cursor(driven) == "batch/"
            before = table.count
            await driven.pilot.click(table, offset=(6, 1))  # a click where it stood folds
            assert table.count == before - 2
            await driven.press("ctrl+p")
            await driven.pilot.press(*"step 7")
            await driven.until("the step in the palette", lambda: "Go to step 7" in driven.text())
            await driven.press("enter")
            await driven.until("step 7", lambda: driven.app.screen.NAME == "step" and driven.step._step == 7)  # ty: ignore
            assert place(driven).startswith("= step 7")

    drive(look())


@pytest.mark.slow
def test_one_run_alone_and_a_step_that_one_run_lacks(sample: Any) -> None:
    seeds = sample("two-seeds")

    async def look() -> None:
        async with dashboard(seeds / "a") as driven:
            await driven.press("g", "enter")
            assert place(driven).startswith("step 0")
            assert "init 12" in place(driven)
            assert "checksum A" in driven.text()
            assert "checksum B" not in driven.text()
            for key in ("n", "N", "d", "o"):
                await driven.press(key)
                assert driven.said() == ["one run alone has nothing to differ from"], key
            await driven.press("e")
            assert driven.said() == ["a report compares runs: open two, or a race"]
        async with dashboard(seeds) as driven:
            await driven.press("enter")
            assert "init ≠ 3/" in place(driven)
            assert under_cursor(driven) == "params/dense_0/kernel"
        async with dashboard(sample("killed")) as driven:
            await driven.press("G", "enter")
            assert place(driven).startswith("? step 1000 · B against A · not recorded in both runs")
            assert "params ?" in place(driven)
            assert not driven.get("#place").has_class("-diverged")
            assert not driven.get("#place").has_class("-identical")
            assert "only in A" not in driven.text()
            await driven.press("asterisk", "G", "g", "down", "d")
            assert driven.said() == ["the runs do not differ at any step so far"]

    drive(look())


def visible_rows(driven: Dashboard) -> list[str]:
    table = driven.get(LeafTable)
    top = table.region.y
    return [line[: table.region.width] for line in driven.lines()[top : top + table.region.height]]


@pytest.mark.slow
def test_norms_are_those_of_the_step_or_not_there(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=(200, 60)) as driven:
            await driven.press("enter")
            driven.step.go_to_step(60)
            await driven.press("greater_than_sign")  # at a step with norms these can be sorted by
            assert "norm A" in driven.text()
            assert "sorted by |Δ norm|" in place(driven)
            rows = [line.split() for line in visible_rows(driven)[1:] if "≠" in line]
            deltas = [abs(float(row[7])) for row in rows]
            assert deltas == sorted(deltas, reverse=True)
            assert deltas[0] > 0
            await driven.press("right_square_bracket")
            assert "norm A" not in driven.text()
            assert "sorted by" not in place(driven)
            await driven.press("greater_than_sign")
            assert driven.said() == ["nothing to sort by: x replays the step, and counts elements that differ"]

    drive(look())


@pytest.mark.slow
def test_the_phase_stays_in_sight(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=(80, 24)) as driven:
            await driven.press("enter")
            table = driven.get(LeafTable)
            assert under_cursor(driven) == "params/dense_1/kernel"
            for _ in range(table.count):
                await driven.press("k")
                first, row = visible_rows(driven)[1], table.cursor - table.scroll_offset.y
                phase = next(
                    node.name for _, node in table._tree.rows[table.cursor :: -1] if isinstance(node, Branch) and not node.depth
                )
                top = table._tree.phase_row(table.scroll_offset.y)
                assert table._tree.rows[top][1].name in first
                assert row > 0 or table.scroll_offset.y == top, phase  # the cursor is never beneath it
            assert table.cursor == 0
            # A click on the phase goes to it.
            await driven.press("G")
            top = table._tree.phase_row(table.scroll_offset.y)
            assert top < table.scroll_offset.y
            await driven.pilot.click(table, offset=(6, 1))
            assert table.cursor == top

    drive(look())


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)])
def test_the_detail_is_reached_by_keyboard_at_every_size(sample: Any, size: tuple[int, int]) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=size) as driven:
            await driven.press("enter")
            table, pane = driven.get(LeafTable), driven.get(LeafPane)
            await driven.press("tab")
            assert driven.app.focused is pane
            before = pane.scroll_offset.y
            await driven.press("j", "j")
            assert pane.scroll_offset.y == min(2, pane.max_scroll_y) >= before
            await driven.press("tab")
            assert driven.app.focused is table
            await driven.press("enter")
            assert driven.app.focused is pane
            assert not table.display
            assert pane.region.height > size[1] - 8
            assert "▸      50 ≠ 2ac1328817b2188e f6d0641e44b7bb03" in driven.text()
            assert "52 ≠" in driven.text()
            await driven.press("z")
            assert table.display
            await driven.press("z")
            assert not table.display
            await driven.press("tab")
            assert driven.app.focused is table
            assert not pane.display
            await driven.press("escape")
            assert table.display
            assert pane.display
            await driven.press("g", "enter")  # a branch is folded
            assert "▸ batch" in driven.text()

    drive(look())


def test_leaves_that_hold_nan_are_marked(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("nan-loss"), size=(120, 36)) as driven:
            since = next(line.nan_since for line in driven.race.timeline.runs if line.nan_since is not None)
            driven.race.go_to_step(since)
            await driven.press("enter")
            assert "not finite: first" in place(driven)
            assert not driven.get("#place").has_class("-identical")
            marked = [line for line in visible_rows(driven) if line[1:2] == "!"]
            assert marked
            assert "not finite" in driven.text()
            table = driven.get(LeafTable)
            table.go_to(next(at for at, (_, node) in enumerate(table._tree.rows) if isinstance(node, Leaf) and node.not_finite))
            await driven.pilot.pause()
            assert under_cursor(driven) == "loss"
            assert "! holds NaN or infinity" in str(driven.get("#detail").render())
            driven.step.go_to_step(0)  # the twin: nothing is broken yet
            await driven.pilot.pause()
            assert "not finite" not in driven.text()
            assert not [line for line in visible_rows(driven) if line[1:2] == "!"]

    drive(look())


# Reports


def message(driven: Dashboard) -> str:
    return " ".join(str(driven.app.screen.query_one("#export-message", Static).render()).split())


async def said(driven: Dashboard, text: str) -> None:
    await driven.until(text, lambda: text in message(driven))


@pytest.mark.slow
def test_a_report_is_written_asked_about_and_refused(sample: Any, tmp_path: Path) -> None:
    race = sample("bit-flip")
    shutil.move(race, race := tmp_path / "race [b]")
    out = tmp_path / "out [bold] [x"
    out.mkdir()
    kinds = [".html", ".json", ".md"]

    def written() -> list[str]:
        return sorted(path.name for path in out.iterdir())

    async def look() -> None:
        async with dashboard(race) as driven:

            async def to(place: str) -> None:
                driven.app.screen.query_one(Input).value = place
                await driven.press("enter")

            await driven.press("e")
            assert isinstance(driven.app.screen, ExportScreen)
            assert driven.app.screen.query_one(Input).value == str(tmp_path / "report-bit-flip")
            await to(str(out / "first.v1"))
            await driven.until("three files", lambda: written() == [f"first.v1{kind}" for kind in kinds])
            await driven.until("the race again", lambda: isinstance(driven.app.screen, RaceScreen))
            assert "written" in driven.said()[0]
            assert "DIVERGED at step 50 · params · 1 leaf" in json.dumps(
                json.loads((out / "first.v1.json").read_text()), ensure_ascii=False
            )
            assert "DIVERGED at step 50" in (out / "first.v1.md").read_text()

            # It exists: asked once, written when asked again; another name is another question.
            before = (out / "first.v1.md").stat().st_mtime_ns
            await driven.press("e")
            await to(str(out / "first.v1"))
            await said(driven, "would be overwritten")
            assert (out / "first.v1.md").stat().st_mtime_ns == before
            await to(str(out / "first.v1.md"))
            await said(driven, "would be overwritten")
            await to(str(out / "first.v1.md"))
            await driven.until("the race again", lambda: isinstance(driven.app.screen, RaceScreen))
            assert (out / "first.v1.md").stat().st_mtime_ns > before

            # One form alone, none, and no name
            await driven.press("e")
            for name in ("markdown", "html"):
                driven.app.screen.query_one(f"#export-{name}", Checkbox).value = False
            await to(str(out / "second"))
            await driven.until("one file", lambda: "second.json" in written())
            assert len(written()) == 4
            await driven.until("the race again", lambda: isinstance(driven.app.screen, RaceScreen))
            await driven.press("e")
            for name in ("markdown", "json", "html"):
                driven.app.screen.query_one(f"#export-{name}", Checkbox).value = False
            await to(str(out / "third"))
            await said(driven, "choose at least one form")
            driven.app.screen.query_one("#export-json", Checkbox).value = True
            await to(" ")
            await said(driven, "a path is missing")
            await to("/")
            await said(driven, "a name is missing")
            await to("~nobody-of-this-name/x")
            await said(driven, "nobody-of-this-name")

            # Places that cannot be written
            (out / "file").write_text("")
            await to(str(out / "file" / "report"))
            await said(driven, "file")
            assert isinstance(driven.app.screen, ExportScreen)
            await to("/proc/report")
            await said(driven, "/proc/report.json cannot be written")
            assert isinstance(driven.app.screen, ExportScreen)
            await driven.press("escape")
            assert isinstance(driven.app.screen, RaceScreen)
            assert written() == sorted([*(f"first.v1{kind}" for kind in kinds), "second.json", "file"])

            # From a step, and by mouse
            await driven.press("enter", "e")
            await driven.pilot.click("#export-cancel")
            assert driven.step

    drive(look())
    assert os.environ["REPROTUI_SETTINGS"].startswith(str(tmp_path))
