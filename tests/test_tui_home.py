"""Home and New race, driven by keys and mouse, on real run directories and with real workers."""

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from reprotui import cli
from reprotui.cli import common
from reprotui.cli import race as race_command
from reprotui.errors import ReprotuiError
from reprotui.experiments.discovery import find_experiment, resolve_configs
from reprotui.experiments.registry import BUILT_IN
from reprotui.run_directory import RunDirectory, read_json, this_process
from reprotui.tui import form as forms
from reprotui.tui.app import DashboardApp
from reprotui.tui.screens.confirm import ConfirmScreen
from reprotui.tui.screens.home import HomeScreen
from reprotui.tui.screens.new_race import BUILT_IN as OFFERED
from reprotui.tui.screens.new_race import NewRaceScreen
from reprotui.tui.screens.race import RaceScreen
from reprotui.tui.widgets.entries import EntryRows
from reprotui.tui.widgets.form_grid import FormGrid
from reprotui.tui.widgets.rows import Rows

PATIENCE = 60.0
SAMPLES = Path(__file__).resolve().parent.parent / "sample_runs"


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Keep the user's settings out, and give workers the warm compilation cache."""
    monkeypatch.setenv("REPROTUI_SETTINGS", str(tmp_path / "settings" / "settings.toml"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """Return a runs directory that does not exist yet; workers in it are stopped in the end."""
    path = tmp_path / "runs"
    yield path
    for manifest in path.glob("*/*/run.json"):
        with suppress(ReprotuiError, ProcessLookupError, KeyError, AttributeError):
            process = read_json(manifest)["process"]
            if RunDirectory(manifest.parent).state() == "running" and process["pid"] != os.getpid():
                os.kill(process["pid"], 9)


def drive(runs: Path, story: Callable[[Pilot[int]], Awaitable[None]], size: tuple[int, int] = (120, 40)) -> DashboardApp:
    """Run a story in the dashboard."""
    app = DashboardApp(runs)

    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            await story(pilot)

    asyncio.run(go())
    return app


async def until(pilot: Pilot[int], what: str, condition: Callable[[], Any]) -> Any:
    """Wait for a true value."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        await pilot.pause(0.02)
    raise AssertionError(f"never came: {what}; the screen says: {said(pilot)}")


def said(pilot: Pilot[int]) -> str:
    """Return all texts of the screen, its notices, and the lines of its lists."""
    screen = pilot.app.screen
    texts = [str(widget.render()) for widget in screen.query("Static, Tabs")]
    for rows in screen.query(Rows):
        if rows.display:
            texts += [rows.render_line(y).text for y in range(rows.size.height)]
    texts += [notice.message for notice in pilot.app._notifications]
    return "\n".join(texts)


def home(pilot: Pilot[int]) -> HomeScreen:
    screen = pilot.app.screen
    assert isinstance(screen, HomeScreen)
    return screen


def names(pilot: Pilot[int]) -> list[str]:
    rows = pilot.app.screen.query_one(f"#{home(pilot).tab}", EntryRows)
    return [entry.name for entry in rows.entries]


def fill(runs: Path, *samples: str) -> None:
    """Copy samples into a runs directory; the first is the newest."""
    for age, name in enumerate(samples):
        shutil.copytree(SAMPLES / name, runs / name)
        race = json.loads((runs / name / "race.json").read_text())
        (runs / name / "race.json").write_text(json.dumps({**race, "created_ns": (1000 - age) * 10**9}))


def test_the_first_frame_needs_neither_numpy_nor_pydantic_nor_jax(runs: Path) -> None:
    fill(runs, "bit-flip")
    code = """
import asyncio, sys
from pathlib import Path
from reprotui.tui.app import DashboardApp
from reprotui.tui.listing_watch import ListingWatch
ListingWatch.start = lambda self: None
app = DashboardApp(Path(sys.argv[1]))
async def go():
    async with app.run_test(size=(120, 40)):
        loaded = [name for name in ("numpy", "pydantic", "jax", "flax", "optax", "orbax", "torch") if name in sys.modules]
        assert not loaded, loaded
        assert app.screen.query_one("#tabs").render().plain.strip().startswith("runs")
asyncio.run(go())
"""
    done = subprocess.run([sys.executable, "-c", code, str(runs)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_directory_invites_and_one_key_starts_the_first_race(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(pilot: Pilot[int]) -> None:
        await until(pilot, "the invitation", lambda: "No runs yet" in said(pilot))
        assert home(pilot).query_one("#empty").display
        assert not runs.exists()
        await pilot.press("f")
        await until(pilot, "the race screen", lambda: isinstance(pilot.app.screen, RaceScreen))
        race = next(path for path in runs.iterdir() if not path.name.startswith("."))
        assert read_json(race / "race.json")["members"] == ["a", "b"]
        assert read_json(race / "race.json")["command"][:3] == ["reprotui", "race", "digits-mlp"]
        await pilot.press("escape")
        await until(pilot, "the race in the list", lambda: names(pilot) == [race.name])
        assert not home(pilot).query_one("#empty").display
        assert home(pilot).why_not("home.delete")
        assert sorted(started) == ["A", "B"]
        for process in started.values():
            process.kill()

    started: dict[str, subprocess.Popen[bytes]] = {}
    opening = DashboardApp.open_runs

    def open_runs(app: DashboardApp, paths: Any, processes: Any = None) -> None:
        started.update(processes)
        opening(app, paths, processes)

    monkeypatch.setattr(DashboardApp, "open_runs", open_runs)
    drive(runs, story)


def test_the_list_shows_states_steps_losses_and_verdicts_at_every_width(runs: Path) -> None:
    fill(runs, "bit-flip", "identical", "nan-loss", "killed")
    shutil.copytree(SAMPLES / "identical" / "a", runs / "alone")

    for width, more in ((80, []), (140, ["digits-mlp", "0.090429", "NaN"]), (200, ["0.091104", "loss B"])):

        async def story(pilot: Pilot[int], more: list[str] = more) -> None:
            await until(pilot, "the list", lambda: len(names(pilot)) == 5)
            text = await until(pilot, "its lines", lambda: "alone" in said(pilot) and said(pilot))
            for expected in ("≠ DIVERGED at step 50", "= IDENTICAL through step 80", "? INCOMPLETE", "finished", "alone", *more):
                assert expected in text
            lines = [pilot.app.screen.query_one("#runs", EntryRows).render_line(y) for y in range(6)]
            assert {line.cell_length for line in lines} == {lines[0].cell_length}

        drive(runs, story, size=(width, 30))


def test_verdicts_are_taken_where_none_is_stored_and_again_where_the_files_change(runs: Path) -> None:
    fill(runs, "bit-flip")
    race = json.loads((runs / "bit-flip" / "race.json").read_text())
    (runs / "bit-flip" / "race.json").write_text(json.dumps({**race, "verdicts": None}))

    async def story(pilot: Pilot[int]) -> None:
        await until(pilot, "the verdict", lambda: "DIVERGED at step 50" in said(pilot))
        shutil.copy(runs / "bit-flip" / "a" / "trace.db", runs / "bit-flip" / "b" / "trace.db")
        manifest = json.loads((runs / "bit-flip" / "a" / "run.json").read_text())
        (runs / "bit-flip" / "b" / "run.json").write_text(json.dumps(manifest))
        (runs / "bit-flip" / "race.json").write_text(json.dumps({**race, "verdicts": None, "created_ns": 1}))
        await until(pilot, "another verdict", lambda: "IDENTICAL through step 80" in said(pilot))

    drive(runs, story)


def test_filter_mark_and_open_as_one_comparison(runs: Path) -> None:
    fill(runs, "bit-flip", "identical", "two-seeds")
    opened: list[list[str]] = []

    async def story(pilot: Pilot[int]) -> None:
        pilot.app.open_runs = lambda paths, processes=None: opened.append([path.name for path in paths])  # ty: ignore
        await until(pilot, "the list", lambda: len(names(pilot)) == 3)
        await pilot.press("slash", *"diverged step")
        assert names(pilot) == ["bit-flip", "two-seeds"]
        await pilot.press("escape")
        assert names(pilot) == ["bit-flip", "identical", "two-seeds"]
        await pilot.press("slash", *"nothing like it", "enter")
        await until(pilot, "nothing found", lambda: "nothing contains" in said(pilot))
        await pilot.press("escape", "G", "space", "g", "space")
        rows = pilot.app.screen.query_one("#runs", EntryRows)
        assert [rows.marks[runs / name] for name in ("two-seeds", "bit-flip")] == ["AB", "CD"]
        await pilot.press("enter")
        await pilot.press("escape", "enter")
        await pilot.click("#runs", offset=(10, 3))
        await pilot.click("#runs", offset=(10, 3))

    drive(runs, story)
    assert opened == [["two-seeds", "bit-flip"], ["identical"], ["two-seeds"]]


def test_opening_a_race_shows_it(runs: Path) -> None:
    fill(runs, "bit-flip")

    async def story(pilot: Pilot[int]) -> None:
        await until(pilot, "the list", lambda: names(pilot))
        await pilot.press("enter")
        await until(pilot, "the verdict", lambda: "DIVERGED at step 50" in said(pilot) and "perturb" in said(pilot))
        assert isinstance(pilot.app.screen, RaceScreen)

    drive(runs, story)


def test_samples_and_ready_made_races_are_listed_and_a_sample_opens(runs: Path) -> None:
    async def story(pilot: Pilot[int]) -> None:
        await until(pilot, "the samples", lambda: "sample runs 7" in said(pilot) and "ready-made races 6" in said(pilot))
        await pilot.press("tab")
        assert home(pilot).tab == "presets"
        assert "$ reprotui race digits-mlp" in said(pilot)
        assert home(pilot).why_not("home.delete")
        await pilot.click("#tabs", offset=(35, 0))
        assert home(pilot).tab == "samples"
        assert "bit-flip" in names(pilot)
        assert home(pilot).why_not("home.delete")
        await pilot.press("enter")
        await until(pilot, "the race screen", lambda: isinstance(pilot.app.screen, RaceScreen))

    drive(runs, story)


def test_delete_asks_names_what_goes_and_leaves_the_rest(runs: Path) -> None:
    fill(runs, "bit-flip", "identical")

    async def story(pilot: Pilot[int]) -> None:
        await until(pilot, "the list", lambda: len(names(pilot)) == 2)
        await pilot.press("d")
        await until(pilot, "the question", lambda: isinstance(pilot.app.screen, ConfirmScreen))
        assert str(runs / "bit-flip") in said(pilot)
        await pilot.press("escape")
        await pilot.press("d", "enter")  # the safe answer has the focus
        assert (runs / "bit-flip").exists()
        await pilot.press("d", "y")
        await until(pilot, "one is left", lambda: names(pilot) == ["identical"])
        assert [path.name for path in runs.iterdir()] == ["identical"]

    drive(runs, story)


def test_a_run_that_is_alive_is_not_deleted_and_a_link_loses_only_itself(runs: Path, tmp_path: Path) -> None:
    fill(runs, "bit-flip", "identical")
    manifest = json.loads((runs / "bit-flip" / "b" / "run.json").read_text())
    manifest |= {"result": None, "seal": None, "process": this_process()}
    (runs / "bit-flip" / "b" / "run.json").write_text(json.dumps(manifest))
    (runs / "identical").rename(tmp_path / "elsewhere")
    (runs / "identical").symlink_to(tmp_path / "elsewhere")

    async def story(pilot: Pilot[int]) -> None:
        await until(pilot, "the list", lambda: len(names(pilot)) == 2)
        await pilot.press("d")
        await until(pilot, "the refusal", lambda: "stop it first" in said(pilot))
        assert isinstance(pilot.app.screen, HomeScreen)
        await pilot.press("j", "d", "y")
        await until(pilot, "the link is gone", lambda: names(pilot) == ["bit-flip"])

    drive(runs, story)
    assert (tmp_path / "elsewhere" / "a" / "trace.db").exists()
    assert not (runs / "identical").is_symlink()


def test_what_is_damaged_says_why_and_the_rest_is_shown(runs: Path) -> None:
    fill(runs, "bit-flip", "identical")
    (runs / "identical" / "b" / "run.json").write_text('{"manifest_version": 1, "config": 3}')
    (runs / "torn").mkdir()
    (runs / "torn" / "run.json").write_text('{"manifest_ver')

    async def story(pilot: Pilot[int]) -> None:
        await until(pilot, "the list", lambda: len(names(pilot)) == 3)
        await until(pilot, "why", lambda: "is not valid JSON" in said(pilot))
        assert "b/run.json is damaged" in said(pilot)
        assert "DIVERGED at step 50" in said(pilot)
        await pilot.press("G", "enter")
        assert "it cannot be read" in said(pilot)
        assert isinstance(pilot.app.screen, HomeScreen)

    drive(runs, story, size=(200, 40))


def test_a_directory_that_vanishes_and_comes_back(runs: Path) -> None:
    fill(runs, "bit-flip")

    async def story(pilot: Pilot[int]) -> None:
        await until(pilot, "the list", lambda: names(pilot))
        shutil.rmtree(runs)
        await until(pilot, "the invitation", lambda: "No runs yet" in said(pilot))
        fill(runs, "two-seeds")
        await until(pilot, "the list again", lambda: names(pilot) == ["two-seeds"])

    drive(runs, story)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def story(pilot: Pilot[int]) -> None:
        await pilot.press("f")
        await until(pilot, "the error", lambda: "cannot be written" in said(pilot))
        assert isinstance(pilot.app.screen, HomeScreen)
        assert not home(pilot).starting

    drive(tmp_path / "file" / "runs", story)


def form(pilot: Pilot[int]) -> NewRaceScreen:
    screen = pilot.app.screen
    assert isinstance(screen, NewRaceScreen)
    return screen


async def go_to(pilot: Pilot[int], field: str, column: int) -> None:
    grid = form(pilot).query_one(FormGrid)
    grid.go_to(next(index for index, row in enumerate(grid.rows) if row.name == field))
    grid.go_to_column(column)
    await pilot.pause()


async def open_form(pilot: Pilot[int]) -> NewRaceScreen:
    await pilot.press("n")
    await until(pilot, "the fields", lambda: isinstance(pilot.app.screen, NewRaceScreen) and form(pilot).form.fields)
    return form(pilot)


def command(pilot: Pilot[int]) -> str:
    return str(form(pilot).query_one("#command", Static).render())


def test_the_form_checks_what_is_typed_and_refuses_to_start(runs: Path) -> None:
    async def story(pilot: Pilot[int]) -> None:
        screen = await open_form(pilot)
        assert tuple(BUILT_IN) == OFFERED
        await go_to(pilot, "lr", 1)
        await pilot.press(*"-1")
        await until(pilot, "the error beside the field", lambda: "greater than 0" in said(pilot))
        assert screen.query_one("#editor", Input).display, "it is checked while it is typed"
        await pilot.press("enter", "ctrl+s")
        await until(pilot, "the refusal", lambda: any("B: lr" in notice.message for notice in pilot.app._notifications))
        assert not runs.exists()
        await go_to(pilot, "lr", 1)
        await pilot.press("enter", *"0.1", "enter")
        await until(pilot, "no error", lambda: not screen.problems.first)
        assert screen.why_not("new.start") is None
        assert "--b lr=0.1" in command(pilot)
        await pilot.press("k", "x")
        assert "lr=" not in command(pilot)

    drive(runs, story)


def test_choices_columns_groups_and_differing_fields(runs: Path) -> None:
    async def story(pilot: Pilot[int]) -> None:
        screen = await open_form(pilot)
        grid = screen.query_one(FormGrid)
        assert [row.name for row in grid.rows if row.heading] == ["training", "data", "model", "execution", "recording"]
        await go_to(pilot, "optimizer", 1)
        await pilot.press("space")
        assert "--b optimizer=adam" in command(pilot)
        await pilot.press("ctrl+n")
        assert "--a --b optimizer=adam --c optimizer=adam" in command(pilot)
        line = next(grid.render_line(y).text for y in range(30) if "optimizer" in grid.render_line(y).text)
        assert "≠" in line
        await pilot.press("ctrl+o")
        assert [row.name for row in grid.rows] == ["experiment", "name", "training", "optimizer"]
        await pilot.press("ctrl+o", "ctrl+d")
        assert len(screen.form.runs) == 2
        assert screen.why_not("new.remove")
        await go_to(pilot, "experiment", 0)
        await pilot.press("space", "space")
        await until(pilot, "the transformer's fields", lambda: any(field.name == "heads" for field in screen.form.fields))
        assert "transformer --b optimizer=adam" in command(pilot)
        await go_to(pilot, "heads", 0)
        await pilot.press("3", "enter")
        await until(pilot, "fields are checked together", lambda: "width 128 is not" in said(pilot))
        assert screen.problems.first == "A: heads: width 128 is not divisible by 3 heads"

    drive(runs, story, size=(80, 24))


def test_a_file_is_an_experiment_of_the_form(runs: Path, tmp_path: Path) -> None:
    methods = "".join(f"    def {name}: ...\n" for name in ("init(self, key)", "batch(self, step)", "train_step(self, s, b, k)"))
    (tmp_path / "mine.py").write_text(
        "from reprotui.experiments import ExperimentConfig, phase_field\n"
        "class Experiment:\n    class Config(ExperimentConfig):\n"
        "        noise: float = phase_field(0.5, ('init',), 'how noisy', le=1)\n"
        f"    def __init__(self, config): ...\n{methods}"
    )

    async def story(pilot: Pilot[int]) -> None:
        screen = await open_form(pilot)
        await go_to(pilot, "experiment", 0)
        await pilot.press("enter", *"nowhere.py")
        await until(pilot, "the error", lambda: "nowhere.py does not exist" in said(pilot))
        await pilot.press("escape")
        assert screen.form.experiment == "digits-mlp"
        await pilot.press("enter", *"mine.py", "enter")
        await until(pilot, "its field", lambda: any(field.name == "noise" for field in screen.form.fields))
        await go_to(pilot, "noise", 1)
        await pilot.press("2", "enter")
        await until(pilot, "its bound", lambda: "less than or equal to 1" in said(pilot))

    drive(runs, story)


def test_a_race_starts_from_the_form_and_its_command_gives_the_same_configs(runs: Path, tmp_path: Path) -> None:
    shown: list[str] = []

    async def story(pilot: Pilot[int]) -> None:
        screen = await open_form(pilot)
        for field, value, columns in (("width", "32", 2), ("depth", "1", 2), ("steps", "20", 2), ("seed", "1", 1)):
            for column in range(2 - columns, 2):
                await go_to(pilot, field, column)
                await pilot.press("enter", *value, "enter")
        await go_to(pilot, "name", 0)
        await pilot.press("enter", *"mine", "enter")
        await go_to(pilot, "every", 0)
        await pilot.press("enter", "0", "enter")
        await until(pilot, "the problem", lambda: screen.problems.first == "every: a whole number from 1 on")
        await go_to(pilot, "every", 0)
        await pilot.press("enter", "4", "enter")
        await until(pilot, "it is checked", lambda: not screen.why_not("new.start") and screen.form.name == "mine")
        await pilot.press("ctrl+y")
        shown.append((tmp_path / "settings" / "reprotui-copied.txt").read_text())
        await pilot.press("ctrl+s")
        await until(pilot, "the race screen", lambda: isinstance(pilot.app.screen, RaceScreen))
        await until(pilot, "both runs", lambda: "DIVERGED at step 0" in said(pilot))
        ended = [RunDirectory(runs / "mine" / label) for label in "ab"]
        await until(pilot, "the runs have ended", lambda: all(run.state() == "finished" for run in ended))
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, HomeScreen)

    drive(runs, story)
    words = shlex.split(shown[0])
    assert words[1:] == [
        "race",
        "digits-mlp",
        "width=32",
        "depth=1",
        "steps=20",
        "--b",
        "seed=1",
        "--name",
        "mine",
        "--every",
        "4",
    ]
    parsed = cli.build_parser().parse_args(words[1:])
    name, shared = common.experiment_and_overrides(parsed.experiment)
    members = race_command._members(parsed, shared)
    resolved = resolve_configs(find_experiment(name), [member.overrides for member in members])
    manifests = [read_json(runs / "mine" / label / "run.json") for label in "ab"]
    assert [item.values for item in resolved] == [manifest["config"] for manifest in manifests]
    assert [manifest["recording"]["every"] for manifest in manifests] == [parsed.every] * 2


def test_a_form_is_a_value() -> None:
    fields = forms.describe("digits-mlp")
    lr = next(field for field in fields if field.name == "lr")
    empty = forms.RaceForm("digits-mlp", fields=fields)
    changed = empty.with_text(1, lr, "0.1")
    assert changed.differs(lr)
    assert not empty.differs(lr)
    assert changed.with_text(1, lr, "0.05") == empty, "the default is no override"
    assert not changed.with_text(0, lr, "0.1").differs(lr)
    assert forms.check(changed, Path("runs")).first == ""
    assert "lr" in forms.check(empty.with_text(0, lr, "zero"), Path("runs")).first
