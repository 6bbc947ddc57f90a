"""What the chart of a race shows by keys, what is found in events and logs, and the files that are written from it."""

import csv
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pilots import Dashboard, dashboard, drive
from reprotui.tui.widgets.chart import LossChart
from reprotui.tui.widgets.strip import LABEL, DivergenceStrip

pytestmark = pytest.mark.usefixtures("own_settings")


def chart_of(driven: Dashboard) -> list[str]:
    chart = driven.get(LossChart)
    return ["".join(segment.text for segment in chart.render_line(y)) for y in range(chart.size.height)]


def title(driven: Dashboard) -> str:
    return next(line for line in driven.lines() if line[1:3] == "1 ")


def test_m_shows_every_metric_and_esc_leaves_it_as_it_is(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("nan-loss"), size=(140, 40)) as driven:
            await driven.press("m")
            await driven.until("the list of metrics", lambda: "metric of the chart" in driven.text())
            assert all(name in driven.text() for name in ("loss", "accuracy", "grad-norm", "param-norm", "steps-per-second"))
            await driven.press("j", "j", "enter")
            await driven.until("norms", lambda: "1 grad-norm, log" in title(driven))
            await driven.press("m")
            await driven.until("the list of metrics", lambda: "▸ grad-norm" in driven.text())
            await driven.press("home", "j", "enter")
            await driven.until("accuracies", lambda: "1 accuracy, linear · step 80  A=B 0.09375" in driven.text())
            assert any("⠤" in line or "⡇" in line for line in chart_of(driven))
            await driven.press("m")
            await driven.until("the list of metrics", lambda: "metric of the chart" in driven.text())
            await driven.press("escape")
            assert title(driven).startswith("─1 accuracy")

    drive(look())


def test_apart_shows_how_far_b_is_from_a_and_equal_steps_at_the_bottom(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=(140, 40)) as driven:
            assert "A=B 0.43413" in title(driven)  # at step 50 the loss still is the same
            await driven.press("vertical_line")
            assert "1 |Δ loss|, log · step 50  B 0" in title(driven)
            bottom = chart_of(driven)[-2]
            assert bottom.count("=") > 20
            assert "=" not in bottom[bottom.rindex("=") + 1 :]
            await driven.press("n", "n")
            assert "step 52  B 5.82" in title(driven)
            await driven.press("vertical_line")
            assert "1 loss, log · step 52  A 0.53" in title(driven)
            assert not any("=" in line for line in chart_of(driven)[:-1])

    drive(look())


def test_one_run_alone_has_nothing_to_be_apart_from(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip") / "a") as driven:
            await driven.press("vertical_line")
            assert driven.said() == ["one run alone has nothing to be apart from"]
            await driven.press("M")
            assert "mean of 10" in title(driven)

    drive(look())


@pytest.mark.slow
def test_means_and_time_below(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=(140, 40)) as driven:
            before = chart_of(driven)
            await driven.press("M")
            assert "1 loss, mean of 10, log" in title(driven)
            assert chart_of(driven) != before
            await driven.press("M", "M")
            assert "mean of 1,000" in title(driven)
            await driven.press("M")
            assert chart_of(driven) == before
            await driven.press("w")
            await driven.until("times below", lambda: "0.2 s" in chart_of(driven)[-1])
            assert "≠50" in chart_of(driven)[-1]
            await driven.press("plus", "plus")
            strip = driven.get(DivergenceStrip)
            assert strip.part is not None
            assert strip.part[0] <= 50 <= strip.part[1]
            await driven.press("w")
            assert chart_of(driven) == before, "another axis begins with all of it"

    drive(look())


def test_the_strip_maps_what_the_chart_shows(sample: Any) -> None:
    async def look() -> None:
        async with dashboard(sample("bit-flip"), size=(140, 40)) as driven:
            strip, chart = driven.get(DivergenceStrip), driven.get(LossChart)

            def all_phases() -> str:
                return "".join(segment.text for segment in strip.render_line(0))[LABEL:].rstrip()

            whole = all_phases()
            assert whole.index("≠") == pytest.approx(50 / 81 * strip._width, abs=1)
            assert set(whole[whole.index("≠") :]) == {"≠"}
            await driven.press("plus", "plus")
            first, last = chart.window
            assert (first, last) == (37.5, 57.5)
            assert strip.part == (38, 57)
            assert all_phases().index("≠") == pytest.approx(12 / 20 * strip._width, abs=1)
            await driven.pilot.click(strip, offset=(LABEL + strip._width - 1, 1))
            assert driven.race.table.step == 57
            await driven.press("0")
            assert all_phases() == whole

    drive(look())


@pytest.mark.slow
def test_slash_finds_events_and_lines_of_the_logs(sample: Any) -> None:
    path = sample("bit-flip")
    (path / "b" / "worker.log").write_text("first line\nWARNING: [bold]odd[/bold] value\nlast line\n")

    async def look(size: tuple[int, int]) -> None:
        async with dashboard(path, size=size) as driven:
            await driven.press("5", "slash", *"ODD")
            assert "5 log · 1 of 3 with ODD" in driven.text()
            assert "WARNING: [bold]odd[/bold] value" in driven.text()
            assert "last line" not in driven.text()
            await driven.press("enter")
            assert driven.app.focused is driven.get("#log")
            await driven.press("escape")
            assert "last line" in driven.text()
            assert "with ODD" not in driven.text()
            await driven.press("4", "slash", *"finished [")
            assert "4 events · 0 of 6 with finished [" in driven.text()
            await driven.press("escape")
            assert driven.app.focused is driven.get("#events")
            assert driven.get("#events").count == 6

    for size in ((140, 40), (80, 24)):
        drive(look(size))


@pytest.mark.slow
def test_chart_and_numbers_are_written_beside_each_other_and_over_nothing(
    sample: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sample("bit-flip")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)  # last: the sample is copied into the folder of before
    (folder / "bit-flip.csv").write_text("mine")

    async def look() -> None:
        async with dashboard(path) as driven:
            await driven.press("E")
            await driven.until("the files", driven.said)
            assert driven.said() == ["bit-flip-loss.svg and bit-flip-1.csv were written here: all steps"]
            await driven.press("plus", "plus", "vertical_line", "E")
            await driven.until("the files", driven.said)

    drive(look())
    assert (folder / "bit-flip.csv").read_text() == "mine"
    rows = list(csv.DictReader((folder / "bit-flip-1.csv").read_text().splitlines()))
    assert [row["run"] for row in rows] == ["A"] * 81 + ["B"] * 81
    assert {int(row["step"]) for row in csv.DictReader((folder / "bit-flip-2.csv").read_text().splitlines())} == set(
        range(38, 58)
    )
    picture = ElementTree.parse(folder / "bit-flip-loss-1.svg").getroot()
    assert "|Δ loss|" in "".join(picture.itertext())


def test_a_folder_that_cannot_be_written_is_said(sample: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)  # last: the sample is copied into the folder of before

    async def look() -> None:
        async with dashboard(sample("bit-flip")) as driven:
            shutil.rmtree(folder)
            await driven.press("E")
            await driven.until("the reason", driven.said)
            assert "cannot be written" in driven.said()[0]

    drive(look())


def test_a_metric_of_a_damaged_trace_leaves_that_run_without_values(sample: Any) -> None:
    path = sample("bit-flip")
    (path / "b" / "trace.db").write_bytes(b"no trace at all" * 500)

    async def look() -> None:
        async with dashboard(path) as driven:
            await driven.press("m")
            await driven.until("the list of metrics", lambda: "metric of the chart" in driven.text())
            await driven.press("j", "enter")
            await driven.until("A alone", lambda: "A 0." in title(driven) and "B –" in title(driven))

    drive(look())
