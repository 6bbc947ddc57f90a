"""The installed command in a pseudo-terminal: what a person sees, what is left behind, and what survives a kill."""

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyte
import pytest

from conftest import ENDLESS, SAMPLES, Cli, eventually, last_step
from pilots import dashboard, drive
from reprotui.errors import USAGE
from reprotui.experiments.discovery import find_experiment
from reprotui.race.prepare import Member, Request
from reprotui.race.start import start_race
from reprotui.run_directory import RunDirectory
from reprotui.tui.screens.race import RaceScreen
from reprotui.tui.widgets.steps import StepTable

BROKEN = """
class Experiment:
    def __init__(self, config):
        raise MemoryError("none [left]")

    def init(self, key): ...
    def batch(self, step): ...
    def train_step(self, state, batch, key): ...
"""
CONTROLLING = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
COMMAND = Path(sys.executable).with_name("reprotui")


class Terminal:
    """A command on a terminal of its own, and the screen that it draws."""

    def __init__(self, cli: Cli, *arguments: object, size: tuple[int, int] = (120, 40), **environment: str) -> None:
        width, height = size
        settings = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "REPROTUI_SETTINGS": str(cli.directory / "settings.toml")}
        # These would win over the size of the terminal.
        inherited = {name: value for name, value in cli.environment.items() if name not in ("LINES", "COLUMNS")}
        self._master, self._slave = os.openpty()
        self.resize(width, height)
        # Started through a process of its own: forking this one, once jax has threads in it, would be an error.
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLING, str(COMMAND), *map(str, arguments)], cwd=cli.directory,
            stdin=self._slave, stdout=self._slave, stderr=self._slave, start_new_session=True,
            env={**inherited, **settings, **environment},
        )  # fmt: skip
        self.before = termios.tcgetattr(self._master)
        self.after: Any = None
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)
        self.bytes = b""

    def read(self) -> str:
        """Take what was drawn, and return the screen."""
        while select.select([self._master], [], [], 0.02)[0]:
            data = os.read(self._master, 1 << 16)
            self.bytes += data
            self._stream.feed(data)
        return "\n".join(line.rstrip() for line in self.screen.display)

    def until(self, *texts: str, gone: str | None = None) -> str:
        """Return the screen once all texts stand on it, and one does not any more."""

        def shown() -> str | None:
            screen = self.read()
            return screen if all(text in screen for text in texts) and (gone is None or gone not in screen) else None

        try:
            return eventually(f"{texts}", shown)
        except AssertionError:
            raise AssertionError(f"never came: {texts}\n{self.read()}") from None

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, width: int, height: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def end(self) -> int:
        """Return the exit code."""

        def ended() -> bool:
            self.read()
            return self.process.poll() is not None

        eventually("the end of the command", ended)
        self.read()
        self.after = termios.tcgetattr(self._master)
        return int(self.process.returncode)

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def terminal(reprotui: Cli) -> Any:
    """Return a function that starts a command on a terminal."""
    made: list[Terminal] = []

    def start(*arguments: object, **options: Any) -> Terminal:
        made.append(Terminal(reprotui, *arguments, **options))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_open_draws_obeys_and_leaves_the_terminal_as_it_was(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("open", SAMPLES / "bit-flip")
    shown.until("DIVERGED at step 50 · params · 1 leaf", "perturb=50", "q quit", "50 ≠")
    shown.press("\r")
    shown.until("the first diverging step", "params/dense_1/kernel")
    shown.press("\x1b")
    shown.until("5 log")
    shown.resize(80, 24)
    shown.screen.resize(24, 80)
    shown.until("A finished", "B finished")
    shown.press("?")
    shown.until("esc closes")
    shown.press("\x1b")
    shown.until("DIVERGED", gone="esc closes")  # a key right behind escape would be taken for alt and that key
    shown.press("q")
    assert shown.end() == 0
    assert b"\x1b[?1049h" in shown.bytes
    assert shown.bytes.rindex(b"\x1b[?1049l") > shown.bytes.rindex(b"\x1b[?1049h")
    assert shown.bytes.rindex(b"\x1b[?25h") > shown.bytes.rindex(b"\x1b[?25l")
    for mouse in (b"1000", b"1003", b"1006"):
        assert shown.bytes.rindex(b"\x1b[?" + mouse + b"l") > shown.bytes.rindex(b"\x1b[?" + mouse + b"h")
    assert shown.after[:4] == shown.before[:4]


@pytest.mark.slow
def test_the_c_locale_draws_ascii(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("open", SAMPLES / "batch-order", LC_ALL="C")
    screen = shown.until("DIVERGED at step 37 - batch - 2 leaves", "quit", "37 #")
    assert screen.isascii(), {sign for sign in screen if not sign.isascii()}
    shown.press("q")
    assert shown.end() == 0
    assert shown.bytes.isascii()
    shown = terminal("--symbols", "ascii", "open", SAMPLES / "batch-order")
    shown.until("DIVERGED at step 37 - batch - 2 leaves", "37 #")
    shown.press("qq?j")  # whoever leaves in a hurry
    assert shown.end() == 0
    assert b"Traceback" not in shown.bytes


def test_without_a_terminal_there_is_a_sentence_and_exit_code_2(reprotui: Cli, terminal: Callable[..., Terminal]) -> None:
    for arguments in ((), ("open", SAMPLES / "identical")):
        done = reprotui(*arguments, exit_code=USAGE)
        assert done.stdout == ""
        assert "the dashboard needs a terminal, and this is none" in done.stderr
        dumb = terminal(*arguments, TERM="dumb")
        assert dumb.end() == USAGE
        assert b"TERM='dumb'" in dumb.bytes
        assert b"\x1b[?1049h" not in dumb.bytes


@pytest.mark.slow
def test_runs_outlive_the_dashboard_and_a_killed_worker_is_named(reprotui: Cli, terminal: Callable[..., Terminal]) -> None:
    first = terminal("race", *ENDLESS, "--name", "long")
    first.until("IDENTICAL through step", "so far", "running")
    first.press("q")
    assert first.end() == 3  # nobody can tell yet
    assert b"open again: reprotui open runs/long" in first.bytes
    runs = {name: RunDirectory(reprotui.runs / "long" / name) for name in "ab"}

    def go_on() -> None:
        before = {name: last_step(run.path) for name, run in runs.items()}
        eventually("further steps", lambda: all(last_step(run.path) > before[name] for name, run in runs.items()))
        assert {run.state() for run in runs.values()} == {"running"}

    go_on()
    second = terminal("open", "long")
    second.until("IDENTICAL through step", "so far", "running")
    second.process.kill()
    assert second.end() == -signal.SIGKILL
    go_on()

    third = terminal("open", "long")
    third.until("so far", "following")
    with runs["b"].log_path.open("a") as log:
        log.write("Fatal Python error: Bus error\n")
    os.kill(runs["b"].manifest().process.pid, signal.SIGKILL)
    third.until("killed", "Fatal Python error: Bus error")
    third.press("S")
    third.until("INCOMPLETE", "stopped")
    assert runs["a"].state() == "stopped"
    third.press("q")
    assert third.end() == 0


@pytest.mark.slow
def test_a_race_whose_workers_fail_ends_with_their_exit_code(reprotui: Cli, terminal: Callable[..., Terminal]) -> None:
    file = reprotui.write("broken.py", BROKEN)
    shown = terminal("race", file, "--repeat", "2", "--name", "broken")
    shown.until("INCOMPLETE", "no common step yet", "none [left]")
    shown.press("q")
    assert shown.end() == 4


@pytest.mark.slow
def test_the_whole_story_of_a_race(
    reprotui: Cli, own_settings: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    """Start, see the divergence, open the step, export the report, pause, go on step by step, stop."""
    for name in [name for name in os.environ if name.startswith(("XLA_", "JAX_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    overrides: dict[str, Any] = {"width": 32, "depth": 1, "steps": 100_000_000}
    members = [Member("a", overrides), Member("b", overrides | {"shuffle_from": 5})]
    started = start_race(Request(reprotui.runs, "story", ["reprotui", "race"]), find_experiment("digits-mlp"), members)
    a, b = (RunDirectory(started.path / name) for name in "ab")

    async def story() -> None:
        async with dashboard(started.path, processes=started.processes) as driven:
            await driven.until("the divergence", lambda: "DIVERGED at step 5 · batch · 2 leaves" in driven.text())
            assert "because of shuffle_from: none → 5" in driven.text()
            table = driven.get(StepTable)
            assert table.step == 5
            assert table.emphasis(table.cursor) == "first"

            await driven.press("enter")
            assert "the first diverging step" in driven.text()
            assert "batch ≠ 2/2" in driven.text()
            await driven.press("e")
            await driven.press("enter")
            html = own_settings.parent.parent / "report-story.html"
            await driven.until("the report", lambda: html.exists() and "DIVERGED at step 5" in html.read_text())
            await driven.until("the race", lambda: driven.app.screen is driven.step)
            await driven.press("escape")
            assert isinstance(driven.app.screen, RaceScreen)

            def states() -> list[str]:
                return [run.state for run in driven.race.status.runs]

            await driven.press("space")
            # Both are brought to the step of the one that is ahead.
            together = lambda: states() == ["paused", "paused"] and last_step(a.path) == last_step(b.path)  # noqa: E731
            await driven.until("both paused", together)
            at = [last_step(run.path) for run in (a, b)]
            await driven.press("full_stop")
            await driven.until("one step", lambda: [last_step(run.path) for run in (a, b)] == [at[0] + 1, at[1] + 1])
            await driven.press("t", "t", "space")  # B alone
            await driven.until("B goes on", lambda: states() == ["paused", "running"] and last_step(b.path) > at[1] + 20)
            assert last_step(a.path) == at[0] + 1
            await driven.press("t", "S")
            await driven.until("both stopped", lambda: states() == ["stopped", "stopped"])
            await driven.settled()
            assert "DIVERGED at step 5 · batch · 2 leaves" in driven.text()
            await driven.press("space")
            assert "no run is alive" in driven.said()[0]

    drive(story())
    for process in started.processes.values():
        assert process.wait() == 0
    assert json.loads((a.path / "run.json").read_text())["seal"]["last_step"] == last_step(a.path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="niceness belongs to threads on Linux only")
def test_the_dashboard_gives_way_to_the_runs_that_it_starts(tmp_path: Path, environment: dict[str, str]) -> None:
    code = """
import os, subprocess, sys
from reprotui.race.priority import at_full_priority, give_way
ask = [sys.executable, "-c", "import os; print(os.nice(0))"]
give_way()
at_its_own = at_full_priority(lambda: subprocess.run(ask, capture_output=True, text=True).stdout)
print(os.nice(0), at_its_own.strip(), subprocess.run(ask, capture_output=True, text=True).stdout.strip())
"""
    before = os.nice(0)
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    watching, started, inherited = map(int, ran.stdout.split())
    assert (started, watching) == (before, min(19, before + 10))
    assert inherited == watching  # what would happen without the thread of before
