"""Home and New race, driven by keys and mouse, on real run directories and with real workers."""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, Static

from reprotui import cli
from reprotui.cli import checkpointing, common, scripts
from reprotui.cli import race as race_command
from reprotui.errors import ReprotuiError
from reprotui.experiments.discovery import find_experiment, resolve_configs
from reprotui.experiments.registry import BUILT_IN
from reprotui.run_directory import RunDirectory, read_json, this_process
from reprotui.tui import form as forms
from reprotui.tui import form_check
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
    texts = [str(widget.render()) for widget in screen.query("Static, Tabs, VerdictBand")]
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
        invited = [line.split()[0] for line in said(pilot).splitlines() if re.match(r" +\S{1,3} +[\w-]+ \w+", line)]
        assert [key for key in invited if key in ("F", "a", "T", "tab")] == ["F", "a", "T", "tab"]
        await pilot.press("F")
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

    def open_runs(app: DashboardApp, paths: Any, processes: Any = None, at_divergence: Any = None) -> None:
        started.update(processes)
        opening(app, paths, processes, at_divergence)

    monkeypatch.setattr(DashboardApp, "open_runs", open_runs)
    drive(runs, story)


def test_the_list_shows_states_steps_losses_and_verdicts_at_every_width(runs: Path) -> None:
    fill(runs, "bit-flip", "identical", "nan-loss", "killed")
    shutil.copytree(SAMPLES / "identical" / "a", runs / "alone")

    wide = ["experiment", "steps", "NaN"]
    for width, more in ((80, []), (140, ["loss A", "0.090429", "NaN"]), (200, wide), (320, ["0.091104", "loss B"])):

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


@pytest.mark.slow
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


@pytest.mark.slow
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
        await pilot.press("D")
        await until(pilot, "the question", lambda: isinstance(pilot.app.screen, ConfirmScreen))
        assert str(runs / "bit-flip") in said(pilot)
        await pilot.press("escape")
        await pilot.press("D", "enter")  # the safe answer has the focus
        assert (runs / "bit-flip").exists()
        await pilot.press("D", "y")
        await until(pilot, "one is left", lambda: names(pilot) == ["identical"])
        assert [path.name for path in runs.iterdir()] == ["identical"]

    drive(runs, story)


def test_a_run_that_is_alive_is_not_deleted_and_a_link_loses_only_itself(runs: Path, tmp_path: Path) -> None:
    fill(runs, "bit-flip", "identical")
    manifest = json.loads((runs / "bit-flip" / "b" / "run.json").read_text())
    manifest |= {"result": None, "seal": None, "process": asdict(this_process())}
    (runs / "bit-flip" / "b" / "run.json").write_text(json.dumps(manifest))
    (runs / "identical").rename(tmp_path / "elsewhere")
    (runs / "identical").symlink_to(tmp_path / "elsewhere")

    async def story(pilot: Pilot[int]) -> None:
        await until(pilot, "the list", lambda: len(names(pilot)) == 2)
        await pilot.press("D")
        await until(pilot, "the refusal", lambda: "stop it first" in said(pilot))
        assert isinstance(pilot.app.screen, HomeScreen)
        await pilot.press("j", "D", "y")
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


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def story(pilot: Pilot[int]) -> None:
        await pilot.press("F")
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
    await pilot.press("a")
    await until(pilot, "the fields", lambda: isinstance(pilot.app.screen, NewRaceScreen) and form(pilot).form.fields)
    return form(pilot)


def command(pilot: Pilot[int]) -> str:
    return str(form(pilot).query_one("#command", Static).render())


@pytest.mark.slow
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
        await pilot.press("k", "backspace")
        assert "lr=" not in command(pilot)

    drive(runs, story)


def test_keys_of_one_burst_and_a_paste_are_taken_whole(runs: Path) -> None:
    """A terminal hands over what is typed quickly, or repeated over a slow line, in one piece."""

    def burst(pilot: Pilot[int], *keys: str) -> None:
        named = {".": "full_stop", "\r": "enter"}
        for key in keys:
            pilot.app.post_message(events.Key(named.get(key, key), key if len(key) == 1 else None))

    async def story(pilot: Pilot[int]) -> None:
        screen = await open_form(pilot)
        await go_to(pilot, "lr", 1)
        burst(pilot, *"0.0125\r")
        await until(pilot, "the whole number", lambda: "--b lr=0.0125" in command(pilot) and not screen.editing)
        await pilot.press("up", "left")
        burst(pilot, *"0.25")
        await pilot.press("down", "7")
        await until(pilot, "another one", lambda: "--a lr=0.25 --b lr=0.0125" in command(pilot) and not screen.editing)
        assert screen.grid.row and screen.grid.row.name == "optimizer", "a word takes no number"
        await go_to(pilot, "steps", 0)
        burst(pilot, *"12\rkl13\rjjh0.5\rj")
        whole = "--a lr=0.25 steps=12 momentum=0.5 --b lr=0.0125 steps=13"
        await until(pilot, "each in its cell", lambda: whole in command(pilot) and not screen.editing)
        assert screen.grid.row.name == "batch_size", "the key behind the last one that ended typing moves the cursor"
        await go_to(pilot, "save-every", 0)
        burst(pilot, *"6\r")
        await until(pilot, "an option that counts", lambda: "--save-every 6" in command(pilot) and not screen.editing)
        await go_to(pilot, "seed", 0)
        await pilot.press("1")
        for key in ("2", "enter"):  # both are here before the input says that it has changed
            screen.editor.post_message(events.Key(key, key if len(key) == 1 else None))
        await until(pilot, "the last key before the end", lambda: "seed=12 " in command(pilot) and not screen.editing)
        await go_to(pilot, "name", 0)
        screen.grid.post_message(events.Paste("night run\n"))
        await until(pilot, "the name", lambda: "--name 'night run'" in command(pilot))
        await pilot.press("escape")
        await until(pilot, "no name", lambda: "--name" not in command(pilot))

    drive(runs, story)


def test_choices_columns_groups_and_differing_fields(runs: Path) -> None:
    async def story(pilot: Pilot[int]) -> None:
        screen = await open_form(pilot)
        grid = screen.query_one(FormGrid)
        assert [row.name for row in grid.rows if row.heading] == [
            "training",
            "data",
            "model",
            "execution",
            "race",
            "recording",
            "checkpoints",
        ]
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    members = race_command.members_asked(parsed, shared)
    resolved = resolve_configs(find_experiment(name), [member.overrides for member in members])
    manifests = [read_json(runs / "mine" / label / "run.json") for label in "ab"]
    assert [item.values for item in resolved] == [manifest["config"] for manifest in manifests]
    assert [manifest["recording"]["every"] for manifest in manifests] == [parsed.every] * 2


def test_a_form_is_a_value() -> None:
    fields = form_check.describe("digits-mlp")
    lr = next(field for field in fields if field.name == "lr")
    empty = forms.RaceForm("digits-mlp", fields=fields)
    changed = empty.with_text(1, lr, "0.1")
    assert changed.differs(lr)
    assert not empty.differs(lr)
    assert changed.with_text(1, lr, "0.05") == empty, "the default is no override"
    assert not changed.with_text(0, lr, "0.1").differs(lr)
    assert form_check.check(changed, Path("runs")).first == ""
    assert "lr" in form_check.check(empty.with_text(0, lr, "zero"), Path("runs")).first


def filled(experiment: str, runs: list[dict[str, str]], **options: str) -> forms.RaceForm:
    """Return a form that was filled in."""
    given = {name.replace("_", "-"): text for name, text in options.items()}
    return forms.RaceForm(experiment, "race", form_check.describe(experiment), tuple(runs), given)


def parsed_again(form: forms.RaceForm, runs: Path) -> Any:
    """Return what the command line makes of the form's command."""
    words = form.command(runs)
    parsed = cli.build_parser().parse_args(words[1:])
    parsed.command_line = words
    return parsed


@pytest.mark.parametrize(
    "form",
    [
        filled("digits-mlp", [{}, {}]),
        filled("digits-mlp", [{"lr": "0.1"}, {"lr": "0.1"}, {"lr": "0.1"}], repeat="2", save_every="5", stop_at_nan="yes"),
        filled("digits-mlp", [{}, {"seed": "1"}], repeat="3", save_at="3 7", replicas="first", tolerance="ulp=4 params:rel=1e-3"),
        filled("digits-mlp", [{"seed": "2"}, {"seed": "1"}, {}], at_divergence="pause", stats_every="7", leaves_every="2"),
    ],
)
def test_the_command_of_a_form_asks_for_the_same_runs(form: forms.RaceForm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("reprotui.race.start.start_race", lambda *arguments: asked.append(arguments))
    form.start(runs)
    [(request, reference, members, tolerance, at_divergence)] = asked
    parsed = parsed_again(form, runs)
    name, overrides = common.experiment_and_overrides(parsed.experiment)
    told = common.request(parsed, checkpointing.schedule(parsed))
    assert (name, told.name, told.runs.absolute()) == (reference.name, request.name, request.runs)
    assert (told.recording, told.checkpointing) == (request.recording, request.checkpointing)
    assert (parsed.tolerance or [], race_command._at_divergence(parsed)) == (tolerance, at_divergence)
    typed = race_command.members_asked(parsed, overrides)
    assert [member.label for member in typed] == [member.label for member in members]
    resolved = [resolve_configs(reference, [member.overrides for member in found]) for found in (typed, members)]
    assert resolved[0] == resolved[1]


@pytest.mark.parametrize(
    "columns",
    [
        [{"command": "python train.py"}, {}],
        [{"command": "LEVEL=2 python train.py --name 'a b'"}, {}, {}],
        [{"command": "python train.py"}, {"command": "python train.py --fault"}],
        [{"command": "./one"}, {"command": "./two"}, {}],
        [{"command": "python train.py", "revision": "main"}, {"revision": "HEAD"}],
        [{"command": "python train.py"}, {}, {"folder": "other"}],
        [{"command": "python train.py", "folder": "one"}, {"command": "python new.py", "revision": "HEAD~1"}],
    ],
)
@pytest.mark.parametrize("repeat", ["1", "2"])
def test_the_command_of_a_form_of_scripts_asks_for_the_same_runs(
    columns: list[dict[str, str]], repeat: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = filled("script", columns, repeat=repeat, inside="yes", step_function="train", every="3", at_divergence="stop")
    asked: list[Any] = []
    monkeypatch.setattr("reprotui.race.start.start_scripts", lambda *arguments: asked.append(arguments))
    form.start(runs)
    [(request, race, _, at_divergence)] = asked
    parsed = parsed_again(form, runs)
    typed = scripts.preparation(parsed, "abcdefgh")
    assert typed is not None
    assert typed._commands == race._commands
    assert (typed._options, typed._sources) == (race._options, race._sources)
    assert common.request(parsed).recording == request.recording
    assert race_command._at_divergence(parsed) == at_divergence == "stop"


def test_what_is_wrong_is_said_at_its_cell(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    wrong = [{"command": "python absent.py"}, {"command": "python train.py", "folder": "nowhere", "revision": "main"}, {}, {}]
    wrong += [{"command": "python 'train.py"}, {"command": "python train.py", "revision": "HEAD"}]
    found = form_check.check(filled("script", wrong, repeat="2", every="0", tolerance="ulp=many"), runs)
    assert "absent.py does not exist" in found.runs[0]["command"]
    assert found.runs[1] == {"revision": "folder and revision both say where it comes from: give one"}
    assert found.runs[2] == {}, "A's command is wrong, and said there"
    assert "cannot be read as a command" in found.runs[4]["command"]
    assert found.runs[5]["revision"].startswith("git rev-parse")
    assert "12 runs: a race has at most 8" in found.options["repeat"]
    assert found.options["every"] == "a whole number from 1 on"
    assert "'many' is no number" in found.options["tolerance"]
    fit = filled("script", [{"command": "python train.py"}, {"command": f"{sys.executable} train.py", "folder": "."}])
    assert form_check.check(fit, runs).first == ""
    late = form_check.check(filled("digits-mlp", [{}, {}], save_at="7 201"), runs)
    assert late.first == "save-at: --save-at 201: this run trains steps 1 to 200"
    assert form_check.check(filled("digits-mlp", [{}, {}], save_at="7 200"), runs).first == ""


TRAINING = """
import sys
import jax, jax.numpy as jnp

@jax.jit
def train(w, x):
    return w - 0.1 * x, jnp.sum(w)

w = jnp.ones(4)
for step in range(1, 9):
    w, loss = train(w, jnp.float32(step + (0.5 if step >= 6 and "--fault" in sys.argv else 0)))
"""


@pytest.mark.slow
def test_the_form_races_scripts_and_the_race_remembers_what_was_asked(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINING)
    python = shlex.quote(sys.executable)

    async def story(pilot: Pilot[int]) -> None:
        screen = await open_form(pilot)
        await go_to(pilot, "experiment", 0)
        await pilot.press("space", "space", "space")
        await until(pilot, "the fields of scripts", lambda: any(field.name == "command" for field in screen.form.fields))
        assert "such as python train.py" in str(screen.why_not("new.start"))
        for column, text in enumerate((f"{python} train.py", f"{python} train.py --fault")):
            await go_to(pilot, "command", column)
            screen.grid.post_message(events.Paste(text))
            await until(pilot, "the command", lambda text=text: text in screen.form.commands)
            await pilot.press("enter")
        for option in ("at-divergence", "stop-at-nan"):
            await go_to(pilot, option, 0)
            await pilot.press("space")
        assert "--stop-at-divergence --stop-at-nan" in command(pilot)
        await go_to(pilot, "name", 0)
        await pilot.press("enter", *"mine", "enter")
        await until(pilot, "it is checked", lambda: screen.form.name == "mine" and not screen.why_not("new.start"))
        await pilot.press("ctrl+s")
        await until(pilot, "the race screen", lambda: isinstance(pilot.app.screen, RaceScreen))
        ended = [RunDirectory(runs / "mine" / label) for label in "ab"]
        await until(pilot, "the verdict", lambda: "DIVERGED at step 6" in said(pilot))
        await until(pilot, "the runs have ended", lambda: not any(run.state().alive for run in ended))

    drive(runs, story, size=(140, 40))
    assert read_json(runs / "mine" / "race.json")["at_divergence"] == "stop"
    manifests = [RunDirectory(runs / "mine" / label).manifest() for label in "ab"]
    assert [manifest.launch.words[1:] for manifest in manifests if manifest.launch] == [("train.py",), ("train.py", "--fault")]
    assert all(manifest.recording.stop_at_nan for manifest in manifests)


def test_a_revision_is_checked_out_for_the_race_and_removed_when_nobody_needs_it(runs: Path, tmp_path: Path) -> None:
    wait = "import pathlib, time\nwhile not pathlib.Path('{}').exists():\n    time.sleep(0.02)\n"
    (tmp_path / "train.py").write_text(wait.format(tmp_path / "go"))
    for words in (("init", "-q"), ("add", "train.py"), ("-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "one")):
        subprocess.run(["git", *words], check=True, capture_output=True)
    form = filled("script", [{"command": f"{shlex.quote(sys.executable)} train.py", "revision": "HEAD"}, {}])
    assert form_check.check(form, runs).first == ""
    started = form.start(runs)
    assert started.finish is not None
    [left] = started.finish()
    assert (left / "train.py").is_file(), "a run goes on in it"
    (tmp_path / "go").touch()
    for process in started.processes.values():
        process.wait(PATIENCE)
    assert list(started.finish()) == [] and not left.exists()
