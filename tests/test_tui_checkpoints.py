"""The checkpoints of runs in the dashboard: listed, verified, compared, saved and gone on from, with real workers and Orbax."""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import ENDLESS, MLP, Cli, eventually, last_step
from pilots import Dashboard, dashboard, drive
from reprotui.run_directory import RunDirectory
from reprotui.tui.screens.ask import AskScreen
from reprotui.tui.screens.checkpoints import CheckpointsScreen
from reprotui.tui.screens.race import RaceScreen
from reprotui.tui.widgets.checkpoint_table import CheckpointTable

pytestmark = pytest.mark.usefixtures("own_settings")


@pytest.fixture(scope="session")
def raced_once(once: Any, environment: dict[str, str]) -> Path:
    """Return a runs directory with `same`, two equal runs that saved at 10 and 20, and `seeds`, two that differ. Only read it."""

    def build(path: Path) -> None:
        cli = Cli(path, environment)
        saving = ("--save-every", "10", "--headless")
        cli("race", *MLP, *saving, "--name", "same")
        cli("race", *MLP, *saving, "--name", "seeds", "--b", "seed=1", exit_code=1)

    return once("saved-races", build) / "runs"


@pytest.fixture
def raced(raced_once: Path, tmp_path: Path) -> Any:
    """Return a function that copies one of these races."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(raced_once / name, tmp_path / "runs" / name))

    return copy


async def listed(driven: Dashboard) -> CheckpointTable:
    """Open the checkpoints of the race on the screen, and wait for the list."""
    await driven.press("c")
    assert isinstance(driven.app.screen, CheckpointsScreen)
    await driven.until("the list", lambda: "checkpoints of" in driven.text())
    return driven.get(CheckpointTable)


async def done(driven: Dashboard) -> None:
    """Wait until nothing is being read."""
    await driven.until("the end of reading", lambda: not driven.app.screen._busy)


def statuses(table: CheckpointTable) -> list[tuple[str, int | None, str]]:
    return [(item.label, item.step, item.status) for item in table.items]


def damaged(checkpoint: Path) -> None:
    """Flip a bit of the largest file of a checkpoint."""
    file = max((path for path in (checkpoint / "state").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def test_checkpoints_are_listed_verified_and_compared(raced: Any) -> None:
    path = raced("same")

    async def look() -> None:
        async with dashboard(path) as driven:
            table = await listed(driven)
            assert "4 checkpoints of 2 runs" in driven.text()
            assert statuses(table) == [("A", 10, ""), ("B", 10, ""), ("A", 20, ""), ("B", 20, "")], "those of a step together"
            rows = [line for line in driven.lines() if re.match(r" [=≠?] [AB] +\d", line)]
            assert ["read back" in row for row in rows] == [False, False, True, True], "the last one of a run was"
            assert ["= A" in row for row in rows] == [False, True, False, True]
            assert "nobody has read it yet" in driven.text()
            assert "B not verified  content" in driven.text()
            await driven.press("G")
            assert "the run read it back when it had saved it, and found it VALID" in driven.text()
            assert str(path / "b" / "checkpoints" / "20") in driven.text()
            await driven.press("g", "enter")
            await done(driven)
            assert [status for *_, status in statuses(table)] == ["VALID", "", "", ""]
            assert "every file and every leaf is what was saved" in driven.text()
            await driven.press("v")
            await done(driven)
            assert "all leaves are equal to the bit" in driven.text()
            damaged(path / "b" / "checkpoints" / "20")
            await driven.press("A")
            await done(driven)
            assert [status for *_, status in statuses(table)] == ["VALID", "VALID", "VALID", "CORRUPT"]
            assert "verified 4: 1 not VALID" in driven.text()
            assert str(path / "a" / "checkpoints" / "10") in driven.text(), "the cursor is on it still"
            await driven.press("G")
            assert str(path / "b" / "checkpoints" / "20") in driven.text()
            assert "B CORRUPT" in driven.text(), "beside what A has at this step"
            assert "A VALID" in driven.text()
            await driven.press("r")
            await driven.until("the list", lambda: "4 checkpoints" in driven.text())
            assert [status for *_, status in statuses(table)][:3] == ["VALID"] * 3, "what was verified stays so"
            await driven.press("G", "enter")
            await done(driven)
            assert "B step 20: CORRUPT" in driven.text()
            await driven.press("y")
            assert str(path / "b" / "checkpoints" / "20") in driven.app.clipboard and "CORRUPT" in driven.app.clipboard
            await driven.press("escape")
            assert isinstance(driven.app.screen, RaceScreen)

    drive(look())


@pytest.mark.slow
@pytest.mark.parametrize(("size", "rows"), [((140, 40), 9), ((80, 24), 5)])
def test_what_differs_is_named_leaf_by_leaf(raced: Any, size: tuple[int, int], rows: int) -> None:
    async def look() -> None:
        async with dashboard(raced("seeds"), size=size) as driven:
            await listed(driven)
            await driven.press("v")
            await done(driven)
            assert "9 of 12 leaves differ" in driven.text()
            assert ("≠ params/dense_0/kernel" in driven.text()) == (rows == 9)
            differing = [line for line in driven.text().splitlines() if line.startswith(" ≠ ")]
            assert len(differing) == rows
            assert len({line.rindex("  ") for line in differing}) == 1, "in columns"
            assert ("and 4 more: reprotui checkpoint shows them all" in driven.text()) == (rows < 9), "what is cut is said"

    drive(look())


@pytest.mark.slow
def test_a_run_goes_on_from_a_checkpoint_and_a_damaged_one_is_refused(raced: Any) -> None:
    path = raced("same")

    async def go_on(driven: Dashboard, answer: str) -> None:
        await driven.press("R")
        assert isinstance(driven.app.screen, AskScreen)
        await driven.press(*answer, "enter")

    async def look() -> None:
        async with dashboard(path, runs=path.parent) as driven:
            await listed(driven)
            await go_on(driven, "nonsense=1")
            await driven.until("the refusal", lambda: "refused" in driven.text())
            assert "nonsense" in driven.text()
            damaged(path / "a" / "checkpoints" / "20")
            await driven.press("j", "j")
            await go_on(driven, "")
            await driven.until("the refusal", lambda: "restoring step 20 of A: refused" in driven.text())
            assert [each.name for each in path.parent.iterdir()] == ["same"], "nothing was begun"
            await driven.press("k", "k")
            await go_on(driven, "")
            await driven.until("both side by side", lambda: isinstance(driven.app.screen, RaceScreen) and driven.race.status)
            resumed = next(each for each in path.parent.iterdir() if each.name != "same")
            await driven.until("its end", lambda: RunDirectory(resumed).state() == "finished")
            await driven.until("the verdict", lambda: "IDENTICAL through step 20" in driven.text())
            screen = driven.app.screen
            assert isinstance(screen, RaceScreen)
            await asyncio.to_thread(screen.started["B"].wait)

    drive(look())


@pytest.mark.slow
def test_a_run_is_asked_to_save_now(reprotui: Cli) -> None:
    process = reprotui.start("race", *ENDLESS, "--name", "race", "--headless")
    path = reprotui.runs / "race"

    async def look() -> None:
        async with dashboard(path) as driven:
            await driven.press("c")
            table = driven.get(CheckpointTable)
            await driven.until("the list", lambda: "0 checkpoints of 2 runs: save with --save-every N" in driven.text())
            assert driven.app.screen.why_not("checkpoints.verify") == (
                "there is no checkpoint: save with --save-every N, or s while a run goes on"
            )
            await driven.press("s")
            assert "run A saves after its step" in driven.said()[0]
            await driven.until("the checkpoint in the list", lambda: table.count)
            assert [item.label for item in table.items] == ["A"]
            assert driven.app.screen.why_not("checkpoints.diff") == "no other run has a checkpoint at this step"
            for name in "ab":
                RunDirectory(path / name).send("stop")
            await asyncio.to_thread(process.communicate)
            assert driven.app.screen.why_not("checkpoints.save") == "run A does not run: there is nothing to save now"

    eventually("steps", lambda: min(last_step(path / name) for name in "ab") >= 5)
    drive(look())


@pytest.mark.slow
def test_reading_can_be_cancelled(raced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from reprotui.checkpoints import verify

    real = verify.verify_checkpoint

    def slowly(path: Path, level: str, progress: Any) -> Any:
        for _ in range(2000):
            asyncio.run(asyncio.sleep(0.005))
            progress(0)
        return real(path, level, progress=progress)

    monkeypatch.setattr(verify, "verify_checkpoint", slowly)

    async def look() -> None:
        async with dashboard(raced("same")) as driven:
            table = await listed(driven)
            await driven.press("A")
            assert driven.app.screen.why_not("checkpoints.verify") == "something is being read already: esc cancels it"
            await driven.press("escape")
            await done(driven)
            await driven.until("what it says", lambda: "cancelled" in driven.text())
            assert [status for *_, status in statuses(table)] == [""] * 4
            assert isinstance(driven.app.screen, CheckpointsScreen), "esc cancels first"

    drive(look())


def test_a_file_that_cannot_be_read_ends_a_comparison_and_nothing_else(raced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied", "leaf.bin")

    monkeypatch.setattr("reprotui.checkpoints.diff.diff_checkpoints", unreadable)

    async def look() -> None:
        async with dashboard(raced("same")) as driven:
            await listed(driven)
            await driven.press("v")
            await driven.until("what cannot be read", lambda: "cannot be read" in driven.text())
            assert "Permission denied: 'leaf.bin'" in driven.text()
            await done(driven)
            assert driven.app.screen.why_not("checkpoints.verify") is None

    drive(look())


@pytest.mark.slow
def test_the_panel_signs_and_takes_a_key(raced: Any, tmp_path: Path) -> None:
    import subprocess

    path = raced("same")
    for name in ("ours", "other"):
        command = ["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(tmp_path / name)]
        subprocess.run(command, check=True, capture_output=True)
        command = ["openssl", "ec", "-in", str(tmp_path / name), "-pubout", "-out", str(tmp_path / f"{name}.pub")]
        subprocess.run(command, check=True, capture_output=True)

    async def answer(driven: Dashboard, key: str, text: str) -> None:
        await driven.press(key)
        screen = driven.app.screen
        assert isinstance(screen, AskScreen)
        screen.query_one("Input").value = text  # type: ignore[attr-defined]
        await driven.press("enter")

    async def look() -> None:
        async with dashboard(path) as driven:
            table = await listed(driven)
            await answer(driven, "P", str(tmp_path / "ours.pub"))
            await done(driven)
            assert "signing A step 10: refused" in driven.text() and "not a private key" in driven.text()
            await answer(driven, "P", str(tmp_path / "ours"))
            await done(driven)
            assert "signing A step 10: signed" in driven.text() and "not signed: the time" in driven.text()
            assert (path / "a" / "checkpoints" / "10.sig.json").is_file()
            await driven.press("y")
            assert "signature: key " in driven.app.clipboard
            await answer(driven, "P", str(tmp_path / "other"))
            await done(driven)
            assert "another signer" in driven.text(), "it is not replaced"
            await answer(driven, "K", str(tmp_path / "nothing"))
            assert "cannot be read" in driven.said()[-1]
            await answer(driven, "K", str(tmp_path / "ours.pub"))
            await driven.until("the list", lambda: "signed" in table.items[0].signature)
            await driven.press("A")
            await done(driven)
            assert [status for *_, status in statuses(table)] == ["VALID", "TAMPERED", "TAMPERED", "TAMPERED"]
            assert "verified" in table.items[0].signature and "there is no signature" in table.items[1].message
            await driven.press("g", "enter")
            await done(driven)
            assert "signature: verified · key fingerprint " in driven.text()
            await answer(driven, "K", str(tmp_path / "other.pub"))
            await driven.until("the list", lambda: "refused" in table.items[0].signature)
            await driven.press("enter")
            await done(driven)
            assert table.items[0].status == "TAMPERED" and "another key" in driven.text()
            await answer(driven, "K", "")
            await driven.press("enter")
            await done(driven)
            assert table.items[0].status == "VALID"
            damaged(path / "a" / "checkpoints" / "20")
            await driven.press("j", "j")
            await answer(driven, "P", str(tmp_path / "ours"))
            await done(driven)
            assert "not signed, CORRUPT" in driven.text() and not (path / "a" / "checkpoints" / "20.sig.json").exists()

    drive(look())
