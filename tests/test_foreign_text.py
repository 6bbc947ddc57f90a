"""Foreign text is data: names, configs, logs and file names that hold markup, escapes and tricks, through every command."""

import html
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Cli
from pilots import dashboard, drive
from reprotui.foreign import json_text, plain, unseen, visible
from reprotui.tui.screens.checkpoints import CheckpointsScreen

HOSTILE = (
    "[/w]", "blocks[i]", "[red]x", "esc\x1b]0;title\x07\x1b[31m", "new\nline", "turned\u202eback", "<script>alert(1)</script>",
    "pipe|`x`:bug:",
)  # fmt: skip
"""Names of leaves: as many as the command line shows."""
VALUE = "norm=[none] [/b] \x1b[2J\u2066 <b>|"
SCRIPT = f"""
import sys
import numpy as np
from reprotui import Recorder

names = {HOSTILE!r}
with Recorder(config={{"norm": {VALUE!r} + str(len(sys.argv)), "[/k]\\x1b[1m": 1}}, steps=4) as rec:
    rec.event("note", "event [/e] \\x1b[3m")
    for step in range(1, 5):
        value = step + (1 if step == 3 and "--fault" in sys.argv else 0)
        rec.step(step, loss=np.float32(1 / step), params={{name: np.full(3, value, np.float32) for name in names}},
                 metrics={{"[/m]\\x1b[4m": 0.5}})
    print("log [/l] \\x1b[5m\\rover", flush=True)
    if "--fail" in sys.argv:
        raise RuntimeError("error [/r] \\x1b[6m")
"""
NAME = "[w] blocks[i] \x1b[31m\u202e|<b>"
"""Of a directory."""


@pytest.fixture(scope="session")
def raced(once: Any, bare_environment: dict[str, str]) -> Path:
    """Return a race of two scripts with such names whose third step differs. Only read it."""

    def build(path: Path) -> None:
        cli = Cli(path, bare_environment)
        cli.write("train.py", SCRIPT)
        command = f"{sys.executable} train.py"
        cli("race", "--name", "race", "--headless", "--a", command, "--b", f"{command} --fault", exit_code=1)

    return once("hostile-race", build) / "runs" / "race"


@pytest.fixture
def cli(tmp_path: Path, bare_environment: dict[str, str]) -> Cli:
    """Return the command line, without the compilation cache that nothing here needs."""
    return Cli(tmp_path, bare_environment)


@pytest.fixture
def race(raced: Path, tmp_path: Path) -> Path:
    """Return a copy of that race in a directory with such a name."""
    return Path(shutil.copytree(raced, tmp_path / "runs" / NAME))


def tame(text: str) -> str:
    """Return a text in which nothing is left that a terminal obeys or a reader does not see."""
    assert not [character for character in text if character != "\n" and unseen(character)]
    return text


@pytest.mark.parametrize("text", ["plain", "größe ≠ 漢字 🙂", "a b", "back\\slash"])
def test_what_is_seen_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"), ("a\nb\tc", r"a\nb\tc"), ("\u202ex\u2066", r"\u202ex\u2066"), ("\x9b\x7f", r"\x9b\x7f"),
        ("\udc80", r"\udc80"), ("\U000e0041\u2028", r"\U000e0041\u2028"), ("zero\u200bwidth", r"zero\u200bwidth"),
    ],
)  # fmt: skip
def test_what_is_obeyed_or_not_seen_is_written_as_its_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_json_holds_the_very_text_and_escapes_what_a_terminal_obeys() -> None:
    value = {name + "\x9b\U000e0041": [name, float("nan"), Path("x")] for name in HOSTILE}
    text = json_text(value)
    assert json.loads(text) == plain(value)
    tame(text)


COMMANDS = {
    "compare": (["compare", "{race}"], 1),
    "compare the runs": (["compare", "{race}/a", "{race}/b", "--metrics"], 1),
    "open --once": (["open", "{race}", "--once"], 1),
    "open --once --json": (["open", "{race}", "--once", "--json"], 1),
    "report": (["report", "{race}"], 1),
    "report --json": (["report", "{race}", "--json"], 1),
    "report html": (["report", "{race}", "--format", "html"], 1),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_every_command_that_prints_leaves_shows_them_as_they_are(cli: Cli, race: Path, what: str) -> None:
    arguments, code = COMMANDS[what]
    done = cli(*(argument.format(race=race) for argument in arguments), exit_code=code)
    out = tame(done.stdout)
    tame(done.stderr)
    if what == "report":  # Markdown has escapes of its own
        out = html.unescape(re.sub(r"\\([\\`*_\[\]|~$<>#+=.:-])", r"\1", out))
        assert r"new\nline" in out or "new line" in out
        names = [name for name in HOSTILE if "\n" not in name]
    elif what == "report html":
        assert "<script" not in out
        out, names = html.unescape(out), HOSTILE
    elif "json" in what:
        found = json.dumps(json.loads(out), ensure_ascii=False)
        assert all(json.dumps(name, ensure_ascii=False)[1:-1] in found for name in HOSTILE)
        return
    else:
        names = HOSTILE
    assert [name for name in names if visible(name) not in out] == []
    if what != "open --once":
        assert "[none]" in out and r"\x1b[2J\u2066" in out


def test_a_report_in_markdown_keeps_its_tables(cli: Cli, race: Path) -> None:
    text = cli("report", race, exit_code=1).stdout
    prose = re.sub(r"^(`{3,})text\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", prose, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "<script" not in re.sub(r"`[^`\n]*`", "", prose)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["runs"], 0),
        (["replay", "{race}/a", "--step", "1"], 3),
        (["control", "{race}", "pause"], 3),
        (["checkpoint", "list", "{race}/a"], 0),
        (["checkpoint", "verify", "{race}/a"], 3),
        (["run", "x\x1b[31m"], 2),
        (["run", "digits-mlp", "[/w]\x1b[31m=1"], 2),
        (["race", "--name", "[/w]\x1b[31m"], 2),
        (["compare", "a", "b", "--\x1b[31m"], 2),
        (["env"], 0),
        (["config"], 0),
    ],
    ids=lambda value: visible(" ".join(value)) if isinstance(value, list) else None,
)
def test_every_other_command_is_not_led_astray(cli: Cli, race: Path, arguments: list[str], code: int) -> None:
    settings = str(race / "settings.toml")
    environment = cli.environment | {"REPROTUI_SETTINGS": settings, "XLA_FLAGS": "[/x]\x1b[31m"}
    done = cli(*(argument.format(race=race) for argument in arguments), exit_code=None, env=environment)
    assert done.returncode == code, done
    text = tame(done.stdout) + tame(done.stderr)
    assert r"\x1b[31m" in text


@pytest.mark.slow
def test_a_script_that_fails_in_a_race_is_shown_as_it_ended(cli: Cli) -> None:
    cli.write("train.py", SCRIPT)
    command = f"{sys.executable} train.py"
    done = cli("race", "--name", "r", "--headless", "--a", command, "--b", f"{command} --fail", exit_code=4)
    out = tame(done.stdout)
    tame(done.stderr)
    assert r"error [/r] \x1b[6m" in out and r"log [/l] \x1b[5m" in out


def test_a_terminal_gets_no_escape_of_others(cli: Cli, race: Path) -> None:
    leader, follower = os.openpty()
    process = cli.start("compare", str(race), stdout=follower, stderr=follower, env=cli.environment | {"TERM": "xterm-256color"})
    os.close(follower)
    output = b""
    try:
        while chunk := os.read(leader, 65536):
            output += chunk
    except OSError:  # Linux's way of saying that the other end is closed
        pass
    os.close(leader)
    assert process.wait(60) == 1
    text = output.decode().replace("\r\n", "\n")
    assert "\x1b[" in text  # colours of our own
    tame(re.sub(r"\x1b\[[0-9;]*m", "", text))
    assert "\x1b[31m" not in text and r"\x1b]0;title\x07" in text


@pytest.mark.slow
def test_checkpoints_with_such_leaves_are_listed_verified_and_compared(cli: Cli, tmp_path: Path) -> None:
    # A zip has no names with a NUL; everything else may stand in one.
    names = [name.replace("<script>alert(1)</script>", "<script>") for name in HOSTILE]
    for file, value in (("a [i] \x1b[31m.npz", 0), ("b.npz", 1)):
        np.savez(tmp_path / file, **{name: np.full(3, value) for name in names})
    done = cli("checkpoint", "diff", "a [i] \x1b[31m.npz", "b.npz", exit_code=1)
    assert [name for name in names if visible(name) not in tame(done.stdout)] == []
    done = cli("checkpoint", "register", "b.npz")
    assert "VALID" in tame(cli("checkpoint", "verify", "b.npz").stdout)
    done = cli("checkpoint", "verify", "a [i] \x1b[31m.npz", exit_code=3)
    assert r"a [i] \x1b[31m.npz" in tame(done.stdout)


@pytest.mark.slow
@pytest.mark.usefixtures("own_settings")
def test_every_screen_shows_names_as_they_are(race: Path) -> None:
    async def look() -> None:
        async with dashboard(race) as driven:
            text = tame(driven.text())
            assert r"norm=[none] [/b] \x1b[2J\u2066 <b>|"[:12] in text
            driven.app.notify("[/w] \x1b[31m")
            await driven.pilot.pause()
            assert driven.said()[-1] == r"[/w] \x1b[31m"
            await driven.until("the cause", lambda: "norm=" in driven.text())
            await driven.press("d", "enter")
            text = tame(await driven.steady())
            for name in ("[/w]", "blocks[i]", "[red]x", r"esc\x1b]0;title\x07\x1b[31m", r"turned\u202eback", r"new\nline"):
                assert name in text, text
            for _ in HOSTILE:
                await driven.press("down")
                tame(driven.text())
            await driven.press("escape", "5")
            assert r"log [/l] \x1b[5m" in tame(driven.text())
            await driven.press("e")
            tame(await driven.steady())
            await driven.press("escape", "c")
            assert isinstance(driven.app.screen, CheckpointsScreen)
            tame(await driven.steady())
            await driven.press("escape", "question_mark")
            tame(driven.text())
            await driven.press("escape")
            assert driven.app.is_running

    drive(look())


@pytest.mark.usefixtures("own_settings")
def test_home_shows_names_as_they_are_and_asks_about_them(race: Path) -> None:
    async def look() -> None:
        async with dashboard(runs=race.parent) as driven:
            await driven.until("the list", lambda: visible(NAME)[:12] in driven.text())
            text = tame(await driven.steady())
            assert "[w] blocks[i]" in text
            await driven.press("delete")
            assert "[w] blocks[i]" in tame(await driven.steady())
            await driven.press("escape", "a")
            tame(await driven.steady())

    drive(look())


@pytest.mark.usefixtures("own_settings")
def test_a_symbol_that_is_pasted_into_a_field_does_not_reach_the_terminal(race: Path) -> None:
    async def look() -> None:
        async with dashboard(race) as driven:
            await driven.press("d", "enter", "slash")
            driven.get("#leaf-filter").value = "paste\x1b[31md\u202e"
            text = tame(await driven.steady())
            assert "paste[31md" in text

    drive(look())
