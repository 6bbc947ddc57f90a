"""What the screens look like, as text, at three widths; see `tests/snapshots`.

`REPROTUI_UPDATE_SNAPSHOTS=1 pytest -m "" tests/test_tui_snapshots.py` writes them anew: read the difference before committing it.
"""

import difflib
import json
import os
import re
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
import pytest
from textual.widgets._markdown import MarkdownBulletList

from pilots import Dashboard, dashboard, drive
from reprotui.checksum import LeafSpec
from reprotui.integrity import content_to_json, digest_state, identity_of_run
from reprotui.integrity.formats.orbax import INTEGRITY_ITEM
from reprotui.run_directory import RunDirectory
from reprotui.tui.screens.new_race import NewRaceScreen
from reprotui.tui.widgets.lesson_rows import LessonRows

pytestmark = pytest.mark.usefixtures("own_settings")
SNAPSHOTS = Path(__file__).parent / "snapshots"
UPDATE = "REPROTUI_UPDATE_SNAPSHOTS"
SIZES = {80: (80, 24), 140: (140, 40), 200: (200, 60)}
STATES = {"identical": "identical", "diverged": "bit-flip", "nan": "nan-loss", "incomplete": "killed", "error": "identical"}


def frozen(text: str, directory: Path) -> str:
    """Return a screen without what varies: times of day and where the runs lie."""
    text = re.sub(r"\d\d:\d\d:\d\d", "hh:mm:ss", text)
    # A path is cut where the column ends, so only what is before it is the same everywhere.
    return re.sub(re.escape(str(directory)[:12]) + r".*", "<path>", text) + "\n"


def check(name: str, text: str) -> None:
    """Compare a screen with its snapshot, or write it."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get(UPDATE):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    assert path.exists(), f"{path} does not exist: {UPDATE}=1 pytest {Path(__file__).name} writes it"
    expected = path.read_text(encoding="utf-8")
    if text != expected:
        lines = difflib.unified_diff(expected.splitlines(), text.splitlines(), str(path), "the screen", lineterm="")
        pytest.fail("\n".join([*lines, f'where this is meant: {UPDATE}=1 pytest -m "" {Path(__file__).name}']), pytrace=False)


@pytest.mark.parametrize("state", [*STATES, "single"])
def test_screens_look_as_they_did(sample: Any, tmp_path: Path, state: str) -> None:
    # Relative, because paths stand in messages, and are cut and wrapped where they end.
    path = sample(STATES.get(state, "bit-flip")).relative_to(Path.cwd())
    if state == "error":
        (path / "b" / "trace.db").write_bytes(b"no trace at all" * 500)
    opened = path / "a" if state == "single" else path

    async def look() -> None:
        async with dashboard(opened, size=SIZES[200]) as driven:
            for width, size in SIZES.items():
                await driven.pilot.resize_terminal(*size)
                await driven.until("the layout", lambda size=size: driven.app.screen.size == size)
                check(f"race-{state}-{width}", frozen(await driven.steady(), tmp_path))
                await driven.press("enter")
                check(f"step-{state}-{width}", frozen(await driven.steady(), tmp_path))
                await driven.press("escape")
                assert driven.app.screen is driven.race

    drive(look())


async def nothing(driven: Dashboard) -> None:
    """Leave the screen as it opens."""


async def listed(driven: Dashboard) -> None:
    await driven.until("the runs", lambda: getattr(driven.app.screen, "entries", None))


async def filled_in(driven: Dashboard) -> None:
    """Fill in a form whose second run has another seed and a learning rate that cannot be."""
    await driven.press("a")
    await driven.until("the fields", lambda: isinstance(driven.app.screen, NewRaceScreen) and driven.app.screen.form.fields)
    screen = driven.app.screen
    assert isinstance(screen, NewRaceScreen)
    for field, value in (("seed", "1"), ("lr", "-1")):
        screen.grid.go_to(next(index for index, row in enumerate(screen.grid.rows) if row.name == field))
        screen.grid.go_to_column(1)
        await driven.press(*value, "enter")
    await driven.until("the problem", lambda: screen.problems.first)


async def verified(driven: Dashboard) -> None:
    await driven.press("c")
    await driven.until("the checkpoints", lambda: "checkpoints of" in driven.text())
    await driven.press("A")
    await driven.until("all verified", lambda: "verified 3: 1 not VALID" in driven.text())


async def exporting(driven: Dashboard) -> None:
    await driven.press("e")
    driven.get("#export-path").value = "out/report"


async def lessons(driven: Dashboard) -> None:
    await driven.press("T")
    await driven.until("the lessons", lambda: driven.app.screen.query_one(LessonRows).count)


async def in_a_lesson(driven: Dashboard) -> None:
    """Plant the fault of the first lesson, and predict."""
    await lessons(driven)
    await driven.press("enter")
    await driven.until("the text", lambda: driven.app.screen.query(MarkdownBulletList))
    await driven.press("x", "4")


def pressed(*keys: str) -> Any:
    async def act(driven: Dashboard) -> None:
        await driven.press(*keys)

    return act


OTHERS: dict[str, tuple[str | None, Any]] = {
    "home": (None, listed), "home-empty": (None, nothing), "home-error": (None, listed),
    "home-ready-made": (None, pressed("tab")), "new": (None, filled_in),
    "lessons": (None, lessons), "lesson": (None, in_a_lesson),
    "checkpoints": ("bit-flip", verified), "checkpoints-empty": ("bit-flip", pressed("c")),
    "help": ("bit-flip", pressed("question_mark")), "export": ("bit-flip", exporting), "delete": (None, pressed("delete")),
}  # fmt: skip
"""What is opened (None: Home), and what is done there."""


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_screens_look_as_they_did(sample: Any, name: str) -> None:
    opened, act = OTHERS[name]
    if name != "home-empty":
        for race in ("bit-flip", "identical", "killed", "nan-loss"):
            manifest = sample(race) / "race.json"
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "created_ns": 10**18}))
    if name == "home-error":
        Path("identical/a/run.json").write_text("{")
        Path("killed/b/trace.db").write_bytes(b"no trace at all" * 500)
    if name == "checkpoints":
        saved(Path("bit-flip"))

    async def look() -> None:
        paths = [Path(opened)] if opened else []
        runs = Path("nothing") if name == "home-empty" else Path()
        async with dashboard(*paths, size=SIZES[200], runs=runs) as driven:
            if act is not verified:
                await listed(driven) if opened is None and name != "home-empty" else None
            await act(driven)
            for width, size in SIZES.items():
                await driven.pilot.resize_terminal(*size)
                await driven.until("the layout", lambda size=size: driven.app.screen.size == size)
                text = await driven.steady()
                check(f"{name}-{width}", f"{text}\n" if name == "lesson" else frozen_home(text))

    drive(look())


def frozen_home(text: str) -> str:
    """Return a screen without ages, sizes and the name of the machine."""
    text = re.sub(r"\d\d:\d\d:\d\d", "hh:mm:ss", text).replace(gethostname(), "<host>")
    text = re.sub(r"[0-9.]+ (KB|MB)\b", lambda found: "size".rjust(len(found[0])), text)
    text = re.sub(r"(SHA-256|content) is [0-9a-f]+.*", r"\1 is <digest>", text)
    return re.sub(r"(?<= )[0-9,.]+ (s|min|h|d|y)(?= )", lambda found: "age".rjust(len(found[0])), text) + "\n"


def saved(race: Path) -> None:
    """Give runs checkpoints: A two, of which one is damaged, B one."""
    from reprotui.checkpoints.orbax_v0 import write
    from reprotui.checkpoints.register import register
    from reprotui.checkpoints.save import nested

    for label, step, seed in (("a", 40, 0), ("a", 80, 1), ("b", 80, 2)):
        leaves = {"params/dense_0/kernel": np.random.default_rng(seed).random((64, 32), np.float32)}
        content = digest_state((LeafSpec(name, array.dtype.name, array.shape), array) for name, array in leaves.items())
        path = race / label / "checkpoints" / str(step)
        write(path, nested(leaves), {INTEGRITY_ITEM: content_to_json(content)})
        register(path, identity_of_run(RunDirectory(race / label).manifest(), step), content)
    file = max(
        (path for path in (race / "a/checkpoints/80/state").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def test_a_snapshot_that_differs_is_shown_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_tui_snapshots.SNAPSHOTS", tmp_path)
    monkeypatch.delenv(UPDATE, raising=False)
    with pytest.raises(AssertionError, match="does not exist"):
        check("race", "one\ntwo\n")
    (tmp_path / "race.txt").write_text("one\n2\n")
    with pytest.raises(pytest.fail.Exception, match="-2\n\\+two"):
        check("race", "one\ntwo\n")
    monkeypatch.setenv(UPDATE, "1")
    check("race", "one\ntwo\n")
    monkeypatch.delenv(UPDATE)
    check("race", "one\ntwo\n")
