"""Draw all pictures again: `python screenshots/make.py [NAME …]`, from the sample runs and from a live race of its own.

`python screenshots/make.py --every FOLDER [NAME …]` draws every screen at 80x24, 120x36 and 200x60, dark and light, into a folder
to look at, with a page that shows all of them (`index.html`); nothing of it belongs to the repository.

Each picture is an SVG, as the terminal would show it. Where resvg-py is installed (`pip install resvg-py`) each is a PNG
too, in DejaVu Sans Mono or the font that stands first among those found. Nothing of this machine is in them: the work is
done in a folder of its own, in UTC, with the default settings. The live race differs a little each time.
"""

import argparse
import asyncio
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname

from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from reprotui.checkpoints.damage import damage
from reprotui.experiments.discovery import find_experiment
from reprotui.race.command import race_command
from reprotui.race.prepare import Member, Request
from reprotui.race.start import Started, start_race
from reprotui.run_directory import RunDirectory, read_json, write_json
from reprotui.schedule import Checkpointing
from reprotui.settings import SETTINGS_VARIABLE, Settings
from reprotui.tui.app import DashboardApp
from reprotui.tui.screens.fleet import FleetScreen
from reprotui.tui.screens.lesson import LessonScreen
from reprotui.tui.screens.metric import MetricScreen
from reprotui.tui.screens.new_race import NewRaceScreen
from reprotui.tui.screens.race import RaceScreen
from reprotui.tui.widgets.checkpoint_table import CheckpointTable
from reprotui.tui.widgets.lesson_rows import LessonRows

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "sample_runs"
FOLDER = Path(tempfile.gettempdir()) / "reprotui-screens"
USUAL, NARROW, WIDE = (140, 40), (80, 24), (200, 60)
EVERY_SIZE, EVERY_THEME = ((80, 24), (120, 36), (200, 60)), ("dark", "light")
PATIENCE = 120.0
LIVE_STEPS, LIVE_SEEN, LIVE_APART = 4000, 300, 10
"""Steps of the live race; how far both runs are when it is drawn, at least; how far they are apart then, at most."""
FLEET, HOSTS, FAULTY_HOST = 96, 12, "n07"
"""Pairs of the fleet, the hosts that each is tested on against `n00`, and the host that computes wrongly."""
KILLED_AT = 260
"""Last step of the run that was killed."""
PIXELS = 1380
"""Width of a PNG, at most: sharp on a slide, and 200 KB."""
ZOOM = 0.8
"""Pixels of a PNG for one of its SVG, at most."""
FONTS = ("DejaVu Sans Mono", "Menlo", "Consolas", "Liberation Mono", "monospace")

_BRAILLE = re.compile("[\u2800-\u28ff]")
_TEXT = re.compile('(<text [^>]*x=")([0-9.]+)("[^>]*textLength=")([0-9.]+)("[^>]*>)([^<]*)</text>')

Dashboard = Pilot[int]


@dataclass(frozen=True)
class Picture:
    """A picture: what is opened (names in the runs directory), and what is done there before it is drawn."""

    name: str
    open: tuple[str, ...] = ()
    act: Callable[[Dashboard], Awaitable[None]] | None = None
    size: tuple[int, int] = USUAL
    runs: str = "runs"


async def until(pilot: Dashboard, condition: Callable[[], object], settle: float = 0.5) -> None:
    """Wait for something, and then for what it leads to."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"never came: {condition}")
        await pilot.pause(0.02)
    await pilot.pause(settle)


async def opened(pilot: Dashboard) -> RaceScreen:
    """Return the race screen when it has its verdict."""
    screen = pilot.app.screen
    assert isinstance(screen, RaceScreen)
    await until(pilot, lambda: screen.status is not None and (screen.status.judged or len(screen.status.runs) < 2))
    return screen


async def home(pilot: Dashboard) -> None:
    await until(pilot, lambda: getattr(pilot.app.screen, "entries", None))
    await pilot.press("down", "down", "down")
    await pilot.pause(0.2)


async def fleet(pilot: Dashboard) -> None:
    await pilot.press("Z")
    await until(pilot, lambda: isinstance(pilot.app.screen, FleetScreen) and pilot.app.screen.rows.count)


async def ready_made(pilot: Dashboard) -> None:
    await until(pilot, lambda: getattr(pilot.app.screen, "entries", None))
    await pilot.press("tab", "down", "down", "down")


async def lesson(pilot: Dashboard) -> None:
    await pilot.press("T")
    await until(pilot, lambda: pilot.app.screen.query_one(LessonRows).count)  # they are read after the first frame
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, LessonScreen))


async def new_race(pilot: Dashboard) -> None:
    await pilot.press("a")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewRaceScreen) and pilot.app.screen.form.fields)
    screen = pilot.app.screen
    assert isinstance(screen, NewRaceScreen)
    for name, keys in (("lr", ("0", "full_stop", "1")), ("shuffle_from", ("3", "7"))):
        screen.grid.go_to(next(index for index, row in enumerate(screen.grid.rows) if row.name == name))
        screen.grid.go_to_column(1)
        await pilot.press(*keys, "enter")
    await until(pilot, lambda: not screen.problems.first)


async def race(pilot: Dashboard) -> None:
    await opened(pilot)


async def killed(pilot: Dashboard) -> None:
    screen = await opened(pilot)
    screen.go_to_step(KILLED_AT)
    await pilot.pause(0.5)


async def live(pilot: Dashboard) -> None:
    screen = pilot.app.screen
    assert isinstance(screen, RaceScreen)

    def close() -> bool:
        """Say whether both are well under way and side by side: the table's end then shows steps of both."""
        steps = [run.step or 0 for run in screen.status.runs] if screen.status else [0]
        return min(steps) >= LIVE_SEEN and max(steps) - min(steps) <= LIVE_APART

    await until(pilot, close, settle=0)


async def step(pilot: Dashboard) -> None:
    await opened(pilot)
    await pilot.press("d", "enter")
    await pilot.pause(0.5)


async def after(pilot: Dashboard, *keys: str) -> None:
    await opened(pilot)
    await pilot.press(*keys)
    await pilot.pause(0.5)


async def checkpoints(pilot: Dashboard) -> None:
    await opened(pilot)
    await pilot.press("c")
    await until(pilot, lambda: pilot.app.screen.query_one(CheckpointTable).count)
    await pilot.press("j", "A")
    await until(pilot, lambda: not pilot.app.screen.why_not("checkpoints.verify"))  # ty: ignore[unresolved-attribute]
    await pilot.press("v")
    await until(pilot, lambda: not pilot.app.screen.why_not("checkpoints.verify"))  # ty: ignore[unresolved-attribute]


async def search(pilot: Dashboard) -> None:
    await after(pilot, "ctrl+p", *"step")
    await pilot.pause(1.0)


async def keys(pilot: Dashboard, *names: str) -> None:
    """Press keys on Home once it lists something."""
    await until(pilot, lambda: getattr(pilot.app.screen, "entries", None))
    await pilot.press(*names)
    await pilot.pause(0.5)


async def scripts(pilot: Dashboard) -> None:
    await pilot.press("a")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewRaceScreen) and pilot.app.screen.form.fields)
    screen = pilot.app.screen
    assert isinstance(screen, NewRaceScreen)
    screen.grid.go_to(next(index for index, row in enumerate(screen.grid.rows) if row.name == "experiment"))
    await pilot.press("space", "space", "space")
    await until(pilot, lambda: any(field.name == "command" for field in screen.form.fields))
    for column, text in enumerate(("python train.py", "python train.py --compile")):
        screen.grid.go_to(next(index for index, row in enumerate(screen.grid.rows) if row.name == "command"))
        screen.grid.go_to_column(column)
        screen.grid.post_message(events.Paste(text))
        await until(pilot, lambda text=text: text in screen.form.commands)
        await pilot.press("enter")
    await pilot.pause(0.5)


async def metric(pilot: Dashboard) -> None:
    await after(pilot, "m")
    await until(pilot, lambda: isinstance(pilot.app.screen, MetricScreen))


MORE = (
    Picture("samples", act=lambda pilot: keys(pilot, "tab", "tab")),
    Picture("lessons", act=lambda pilot: keys(pilot, "T")),
    Picture("home-filter", act=lambda pilot: keys(pilot, "slash", "b")),
    Picture("home-help", act=lambda pilot: keys(pilot, "question_mark")),
    Picture("delete", act=lambda pilot: keys(pilot, "D")),
    Picture("new-scripts", act=scripts),
    Picture("legend", ("bit-flip",), lambda pilot: after(pilot, "i")),
    Picture("race-single", ("bit-flip/a",), race),
    Picture("race-three", ("identical", "two-seeds/b"), race),
    Picture("race-eight", ("identical", "bit-flip", "two-seeds", "learning-rate"), race),
    Picture("asked", ("batch-order",), lambda pilot: after(pilot, "I")),
    Picture("ranks", ("bit-flip",), lambda pilot: after(pilot, "H")),
    Picture("resume-check", act=lambda pilot: keys(pilot, "U")),
    Picture("diagnosis", ("bit-flip",), lambda pilot: after(pilot, "J")),
    Picture("chart-apart", ("bit-flip",), lambda pilot: after(pilot, "1", "z", "vertical_line")),
    Picture("chart-zoomed", ("bit-flip",), lambda pilot: after(pilot, "plus", "plus")),
    Picture("chart-clock", ("batch-order",), lambda pilot: after(pilot, "w", "M")),
    Picture("metric", ("nan-loss",), metric),
    Picture("search", ("bit-flip",), lambda pilot: after(pilot, "slash", "f", "i", "n")),
    Picture("chance", ("bit-flip",), lambda pilot: after(pilot, "C")),
    Picture("step-nan", ("nan-loss",), lambda pilot: after(pilot, "g", "j", "j", "enter")),
    Picture("step-help", ("bit-flip",), lambda pilot: after(pilot, "d", "enter", "question_mark")),
)
"""Screens that the README does not show: with `--every` alone."""
PICTURES = (
    Picture("home", act=home),
    Picture("home-empty", runs="empty"),
    Picture("ready-made", act=ready_made),
    Picture("fleet", act=fleet, runs="fleet"),
    Picture("lesson", act=lesson),
    Picture("new-race", act=new_race),
    Picture("race-identical", ("identical",), race),
    Picture("race-diverged", ("batch-order",), race),
    Picture("race-diverged-80x24", ("batch-order",), race, NARROW),
    Picture("race-diverged-200x60", ("batch-order",), race, WIDE),
    Picture("race-nan", ("nan-loss",), race),
    Picture("race-incomplete", ("killed",), killed),
    Picture("race-live", ("live",), live),
    Picture("step", ("bit-flip",), step),
    Picture("checkpoints", ("saved",), checkpoints),
    Picture("export", ("bit-flip",), lambda pilot: after(pilot, "e")),
    Picture("help", ("bit-flip",), lambda pilot: after(pilot, "question_mark")),
    Picture("palette", ("batch-order",), search),
)


async def draw(picture: Picture, theme: str = "dark") -> str:
    """Return a picture as SVG."""
    app = DashboardApp(
        Path(picture.runs), [Path(picture.runs) / name for name in picture.open], settings=Settings(), symbols="unicode"
    )
    async with app.run_test(size=picture.size, notifications=True) as pilot:
        app.theme = theme
        await pilot.pause(0.5)
        if picture.act:
            await picture.act(pilot)
        for field in app.screen.query(Input):
            field.cursor_blink = False
        svg = app.export_screenshot(title="reprotui", simplify=True)
    host = gethostname()
    # As wide as before, with spaces that SVG keeps: what stands behind it must not move.
    svg = svg.replace(host, ("lab" if len(host) > 2 else "pc")[: len(host)].ljust(len(host), "\xa0"))
    if str(Path.home()) in svg or str(HERE.parent) in svg:
        raise SystemExit(f"{picture.name} shows something of this machine")
    return with_fonts_at_hand(svg)


def with_fonts_at_hand(svg: str) -> str:
    """Take the fonts of an SVG from the machine that shows it, not from the network."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    families = ", ".join(name if " " not in name else f"'{name}'" for name in FONTS)
    svg = re.sub(r"font-family: [^;]+;", f"font-family: {families};", svg)
    svg = _TEXT.sub(_braille_alone, svg)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def _braille_alone(found: re.Match[str]) -> str:
    """Give every run of braille a text of its own: it comes from another font, whose cells have another width."""
    before, x, between, width, after, text = found.groups()
    text = text.replace("&#160;", "\xa0")
    if not _BRAILLE.search(text) or "&" in text:
        return found[0]
    cell = float(width) / len(text)
    return "".join(
        f"{before}{float(x) + run.start() * cell:.1f}{between}{len(run[0]) * cell:.1f}{after}{run[0]}</text>"
        for run in re.finditer("[\u2800-\u28ff]+|[^\xa0\u2800-\u28ff]+", text)
    )


def to_png(svg: str) -> bytes | None:
    """Return a picture as PNG, None where resvg-py is not installed."""
    try:
        import resvg_py
    except ImportError:
        return None
    width = float(re.search(r'viewBox="0 0 ([0-9.]+)', svg)[1])  # ty: ignore[not-subscriptable]
    zoom = min(ZOOM, PIXELS / width)
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=zoom, font_family=FONTS[0], monospace_family=FONTS[0]))


def copy_samples(runs: Path) -> None:
    """Copy the sample runs as if they had been made here, some minutes ago: ages and states are then the same each time."""
    shutil.copytree(SAMPLES, runs, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
    for number, file in enumerate(sorted(runs.glob("*/race.json"), key=lambda path: read_json(path)["created_ns"], reverse=True)):
        created_ns = time.time_ns() - (7 * number + 5) * 60 * 10**9
        write_json(file, {**read_json(file), "created_ns": created_ns})
        for manifest in file.parent.glob("*/run.json"):
            values = read_json(manifest)
            write_json(manifest, {**values, "created_ns": created_ns, "process": {**values["process"], "host": gethostname()}})


def make_fleet(runs: Path) -> None:
    """Spread recorded pairs over hosts, as if a partition had been tested: those of one host differ."""
    for number in range(FLEET):
        host = f"n{number % HOSTS + 1:02d}"
        sample = {3: "nan-loss", 34: "killed", 51: "batch-order"}.get(number, "bit-flip" if host == FAULTY_HOST else "identical")
        path = runs / f"burn-in-{number:03d}"
        shutil.copytree(SAMPLES / sample, path)
        write_json(path / "race.json", {**read_json(path / "race.json"), "created_ns": time.time_ns() - number * 10**9})
        for label, at in (("a", "n00"), ("b", host)):
            values = read_json(path / label / "run.json")
            process = {**values["process"], "host": at, "ended_ns": time.time_ns()}
            write_json(path / label / "run.json", {**values, "process": process})


def start_live_race() -> Started:
    """Start the race that is drawn while it runs; its steps outlast the picture."""
    overrides = [{"steps": LIVE_STEPS}] * 2
    members = [Member(label, item) for label, item in zip("ab", overrides, strict=True)]
    command = race_command("digits-mlp", overrides, options=("--name", "live"))
    return start_race(Request(Path("runs"), "live", command), find_experiment("digits-mlp"), members)


def start_saved_race() -> Started:
    """Race two learning rates that save, and wait for both; one checkpoint is damaged then."""
    overrides = [{"steps": 60}, {"steps": 60, "lr": 0.1}]
    members = [Member(label, item) for label, item in zip("ab", overrides, strict=True)]
    command = race_command("digits-mlp", overrides, options=("--name", "saved"))
    request = Request(Path("runs"), "saved", command, checkpointing=Checkpointing(every=20))
    started = start_race(request, find_experiment("digits-mlp"), members)
    for process in started.processes.values():
        process.wait(PATIENCE)
    damage(started.path / "b" / "checkpoints" / "60", "flip", random.Random(0))
    return started


STARTED = {"live": start_live_race, "saved": start_saved_race}
"""Races that are made for a picture, by the name that it opens."""


def end(started: Started) -> None:
    for label, process in started.processes.items():
        if process.poll() is None:
            RunDirectory(started.path / label.lower()).send("stop")
    for process in started.processes.values():
        process.wait(PATIENCE)


def begin() -> None:
    """Make the folder of the pictures' runs, in UTC and with the default settings."""
    os.environ.update(TZ="UTC", **{SETTINGS_VARIABLE: str(FOLDER / "settings" / "settings.toml")})
    os.environ.pop("NO_COLOR", None)
    time.tzset()
    shutil.rmtree(FOLDER, ignore_errors=True)
    copy_samples(FOLDER / "runs")
    make_fleet(FOLDER / "fleet")


def drawn(picture: Picture, ways: Sequence[tuple[tuple[int, int], str]]) -> Iterator[str]:
    """Yield a picture as SVG, once for each size and theme; a race that it needs runs meanwhile."""
    started = STARTED[picture.open[0]]() if picture.open and picture.open[0] in STARTED else None
    try:
        for size, theme in ways:
            yield asyncio.run(draw(replace(picture, size=size), theme))
    finally:
        if started:
            end(started)
            shutil.rmtree(started.path)


def every(folder: Path, names: Sequence[str]) -> None:
    """Draw every screen in all sizes and themes into a folder."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ways = [(size, theme) for size in EVERY_SIZE for theme in EVERY_THEME]
    begin()
    page = []
    with chdir(FOLDER):
        for picture in chosen(names, [picture for picture in (*PICTURES, *MORE) if picture.size == USUAL]):
            for (size, theme), svg in zip(ways, drawn(picture, ways), strict=True):
                stem = f"{picture.name}-{size[0]}x{size[1]}-{theme}"
                (folder / f"{stem}.svg").write_text(svg, encoding="utf-8")
                if (png := to_png(svg)) is not None:
                    (folder / f"{stem}.png").write_bytes(png)
                page.append(f"<h2>{stem}</h2><img src='{stem}.svg' alt='{stem}'>")
            print(picture.name, flush=True)
    (folder / "index.html").write_text("<!doctype html><title>reprotui</title>" + "\n".join(page), encoding="utf-8")
    shutil.rmtree(FOLDER)


def chosen(names: Sequence[str], pictures: Sequence[Picture]) -> list[Picture]:
    """Return the pictures with these names, or all."""
    unknown = set(names) - {picture.name for picture in pictures}
    if unknown:
        raise SystemExit(f"no such picture: {', '.join(sorted(unknown))}; there are {', '.join(p.name for p in pictures)}")
    return [picture for picture in pictures if not names or picture.name in names]


def main(names: Sequence[str]) -> None:
    """Draw the pictures with these names, or all."""
    begin()
    with chdir(FOLDER):
        for picture in chosen(names, PICTURES):
            (svg,) = drawn(picture, [(picture.size, "dark")])
            (HERE / f"{picture.name}.svg").write_text(svg, encoding="utf-8")
            png = to_png(svg)
            if png is not None:
                (HERE / f"{picture.name}.png").write_bytes(png)
            print(f"{picture.name}: {len(svg) // 1024} KB as SVG, {len(png or b'') // 1024} KB as PNG")
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the pictures of the README, or every screen in every size.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="pictures; all, unless some are named")
    parser.add_argument("--every", type=Path, metavar="FOLDER", help="every screen, in three sizes and two themes, into a folder")
    parsed = parser.parse_args()
    every(parsed.every, parsed.names) if parsed.every else main(parsed.names)
