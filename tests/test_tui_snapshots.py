"""What race and step screens look like, as text, at three widths; see `tests/snapshots`.

`REPROTUI_UPDATE_SNAPSHOTS=1 pytest tests/test_tui_snapshots.py` writes them anew: read the difference before committing it.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pilots import dashboard, drive

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
        pytest.fail("\n".join([*lines, f"where this is meant: {UPDATE}=1 pytest {Path(__file__).name}"]), pytrace=False)


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
