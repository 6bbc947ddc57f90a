"""The whole story with real workers in a pseudo-terminal, by keyboard and by mouse, in a small terminal and in a usual one."""

import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Cli, eventually
from reprotui.checkpoints.damage import damage
from test_tui_terminal import Terminal, terminal  # noqa: F401 - a fixture

SIZES = [(80, 24), (120, 36)]
FIELDS = {"steps": ("12", "12"), "shuffle_from": ("none", "5"), "width": ("32", "32"), "depth": ("1", "1"), "save-every": ("6",)}
"""What is set, a value a run: the smallest program that has a first difference, and checkpoints before and after it."""
FOUND = "DIVERGED at step 5 · batch · 2 leaves"
UP, DOWN = 64, 65
"""The wheel, as buttons of a mouse."""


class Hand:
    """Somebody in front of a terminal: what they see, and how they do each thing."""

    def __init__(self, shown: Terminal) -> None:
        self.shown = shown

    def lines(self) -> list[str]:
        return self.shown.read().split("\n")

    def steady(self) -> list[str]:
        """Return the screen once nothing moves on it: whoever aims waits."""
        seen = [""]

        def same() -> bool:
            time.sleep(0.1)
            seen.append(self.shown.read())
            return len(seen) > 3 and len(set(seen[-3:])) == 1

        eventually("a screen that stays", same)
        return seen[-1].split("\n")

    def described(self) -> str:
        """Return the field below the table: the one under the cursor."""
        lines = self.lines()
        rules = [number for number, line in enumerate(lines) if line.startswith("─" * 40)]
        return (lines[rules[-1] + 1].split() or [""])[0] if rules else ""

    def press(self, keys: str, *texts: str, gone: str | None = None) -> str:
        """Press keys, and return the screen that they lead to."""
        self.shown.press(keys)
        return self.shown.until(*texts, gone=gone)

    def set(self, name: str, values: tuple[str, ...]) -> None:
        """Give a field of the form its values."""
        raise NotImplementedError

    def do(self, key: str, text: str) -> None:
        """Do what the footer offers."""
        raise NotImplementedError

    def open_difference(self) -> None:
        """Open the first diverging step."""
        raise NotImplementedError

    def write_report(self) -> None:
        """Say yes to what the dialog proposes."""
        raise NotImplementedError


class Keyboard(Hand):
    def set(self, name: str, values: tuple[str, ...]) -> None:
        self.press("g")
        eventually("the first field", lambda: self.described() == "experiment")
        while (before := self.described()) != name:
            self.press("j")
            eventually("the next field", lambda before=before: self.described() != before)
        # In one burst, as a paste or a quick hand has it: enter goes down one field.
        self.press("h" + "kl".join(f"{value}\r" if value != "none" else "j" for value in values) + "h")

    def do(self, key: str, text: str) -> None:
        self.press(key)

    def open_difference(self) -> None:
        self.press("d\r")

    def write_report(self) -> None:
        self.press("\r")


class Mouse(Hand):
    """Types values alone."""

    def click(self, x: int, y: int) -> None:
        self.shown.press(f"\x1b[<0;{x + 1};{y + 1}M\x1b[<0;{x + 1};{y + 1}m")

    def find(self, text: str, below: int = 0) -> tuple[int, int] | None:
        """Return where a text stands first, from a line on."""
        for y, line in enumerate(self.lines()):
            if y >= below and text in line:
                return line.index(text), y
        return None

    def set(self, name: str, values: tuple[str, ...]) -> None:
        def seen() -> bool:
            return any(line.split()[:1] == [name] or line.split()[:2] == ["≠", name] for line in self.lines())

        for button in (UP, DOWN):
            for _ in range(40):
                if seen():
                    break
                self.shown.press(f"\x1b[<{button};10;8M" * 3)
                self.shown.read()
        assert seen(), self.shown.read()
        heading = self.lines()[1]
        for column, value in zip((heading.index("A reference"), heading.index(" B") + 1), values, strict=False):
            if value != "none":
                eventually(f"the cursor on {name}", lambda x=column + 1: self._aim(x, name))
                self.press(f"{value}\r", value)

    def _aim(self, x: int, name: str) -> bool:
        """Click into a field's row; say whether it was hit: a list may still be scrolling."""
        self.click(x, next(y for y, line in enumerate(self.steady()) if name in line.split()[:2]))
        waited = time.monotonic() + 10  # a second click on the cell that was hit would open it
        while self.described() != name and time.monotonic() < waited:
            time.sleep(0.05)
        return self.described() == name

    def do(self, key: str, text: str) -> None:
        place = eventually(text, lambda: next((p for y in (-2, -1) if (p := self.find(text, len(self.lines()) + y))), None))
        self.click(*place)

    def open_difference(self) -> None:
        self.shown.until("step 5  A")  # the cursor stands there already: one click opens
        self.click(*eventually("the first difference", lambda: self.find("    5 ≠")))

    def write_report(self) -> None:
        self.click(*eventually("the button", lambda: self.find(" Write ")))


@pytest.mark.slow
@pytest.mark.parametrize("hand", [Keyboard, Mouse])
@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x36"])
def test_from_the_form_to_the_report(reprotui: Cli, terminal: Callable[..., Any], size: tuple[int, int], hand: Any) -> None:  # noqa: F811
    person: Hand = hand(terminal(size=size))
    shown = person.shown
    shown.until("start the first race")
    person.do("a", "new")
    shown.until("seed of initialisatio", "$ reprotui race digits-mlp")
    for name, values in FIELDS.items():
        person.set(name, values)
    shown.until("steps=12 width=32 depth=1 --b shuffle_from=5", "--save-every 6")
    person.do("\x13", "start")

    shown.until(FOUND, "because of shuffle_from: none → 5", "A reference", "B shuffle_from=5")
    (race,) = reprotui.runs.iterdir()
    eventually("the end", lambda: all(json.loads((race / name / "run.json").read_text()).get("result") for name in "ab"))
    shown.until("finished", gone="running")
    person.open_difference()
    shown.until("step 5 · B against A · first in batch · the first diverging step", "batch ≠", "forward ≠", "params ≠")
    person.do("x", "exact")
    shown.until("exact: 16 of 17 leaves differ", "max |Δ|", "max ulp", "2407/4096")
    person.do("\x1b", "esc")
    shown.until(FOUND, gone="the first diverging step")

    damage(race / "b" / "checkpoints" / "12", "flip", random.Random(0))
    person.do("c", "checkpoints" if size[0] > 100 else "saved")
    shown.until("4 checkpoints of 2 runs")
    person.do("A", "verify all" if size[0] > 100 else "all")
    screen = shown.until("verified 4", "CORRUPT")
    assert [line.split()[1:3] for line in screen.split("\n") if " CORRUPT" in line][:1] == [["B", "12"]]
    assert screen.count(" VALID ") >= 3
    person.do("\x1b", "esc")
    shown.until(FOUND, gone="verified 4")
    person.do("e", "report")
    shown.until("Verdict, cause, evidence", "4 checkpoints were verified before")
    person.write_report()
    report = eventually("the report", lambda: next(iter(reprotui.directory.glob("*.md")), None))
    text = report.read_text()
    assert "DIVERGED at step 5" in text and "shuffle_from" in text and "CORRUPT" in text
    shown.until(FOUND)
    person.do("q", "quit")
    assert shown.end() == 0
    assert b"Traceback" not in shown.bytes
