"""The dashboard without a terminal: screens that are driven by keys and mouse, and read as text."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from textual._context import visible_screen_stack
from textual.pilot import Pilot

from conftest import PATIENCE, edit_manifest
from reprotui.run_directory import this_process
from reprotui.settings import Settings
from reprotui.trace import TraceWriter
from reprotui.tui.app import DashboardApp
from reprotui.tui.screens.race import RaceScreen
from reprotui.tui.screens.step import StepScreen
from test_compare import History, to_record

WIDE = (160, 48)


def drive(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a pilot's work to its end."""
    return asyncio.run(work)


class Dashboard:
    """An application that runs, its pilot, and what its screen says."""

    def __init__(self, app: DashboardApp, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def race(self) -> RaceScreen:
        """Return the race screen, wherever it is in the stack."""
        return next(screen for screen in self.app.screen_stack if isinstance(screen, RaceScreen))

    @property
    def step(self) -> StepScreen:
        screen = self.app.screen
        assert isinstance(screen, StepScreen), screen
        return screen

    def get(self, name: str, kind: type | None = None) -> Any:
        """Return a widget of the screen on top."""
        return self.app.screen.query_one(name, kind) if kind else self.app.screen.query_one(name)

    def lines(self) -> list[str]:
        """Return the lines of the screen on top, and of those that show through around a box, without trailing blanks."""
        # Without it, what is around a box is blank where the terminal did not draw it yet, and drawn where it did.
        visible_screen_stack.set(self.app._background_screens)
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    def text(self) -> str:
        """Return the screen on top as text."""
        return "\n".join(self.lines())

    def said(self) -> list[str]:
        """Return the notifications that stand now, the newest last."""
        return [notification.message for notification in self.app._notifications]

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until what they start is done."""
        self.app.clear_notifications()
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, what: str, condition: Callable[[], Any]) -> Any:
        """Return the first true value of a condition; fail where there is none within `PATIENCE`."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if value := condition():
                await self.pilot.pause()
                return value
            await self.pilot.pause(0.01)
        raise AssertionError(f"never came: {what}\n{self.text()}")

    async def steady(self) -> str:
        """Return the screen as text once a layout that is under way has ended."""
        seen = [""]

        def same() -> bool:
            seen.append(self.text())
            return len(seen) > 4 and len(set(seen[-4:])) == 1

        await self.until("a screen that stays", same)
        return seen[-1]

    async def settled(self) -> None:
        """Wait until the runs that are open were read and judged."""

        def judged() -> bool:
            status = self.race.status
            if status is None or not status.timeline.complete:
                return False
            return status.judged or len(status.runs) < 2 or status.alive

        await self.until("a race that is read and judged", judged)


@asynccontextmanager
async def dashboard(
    *paths: Path, size: tuple[int, int] = WIDE, settings: Settings | None = None, runs: Path | None = None, **options: Any
) -> AsyncIterator[Dashboard]:
    """Open runs or a race; yield once they are read. With no path, Home opens."""
    options = {"symbols": "unicode"} | options
    home = runs or (paths[0].parent if paths else Path("runs"))
    app = DashboardApp(home, list(paths), settings=settings or Settings(), **options)
    async with app.run_test(size=size) as pilot:
        driven = Dashboard(app, pilot)
        await pilot.pause()
        if paths:
            await driven.settled()
        yield driven


class LiveRace:
    """A race whose runs this process writes: alive, because it is, and as far as a test says.

    Args:
        template: a recorded race whose manifests it takes.
        directory: where it is made.
        names: its members.
    """

    def __init__(self, template: Path, directory: Path, names: str = "ab") -> None:
        self.path = directory
        self.names = names
        self.writers: list[TraceWriter] = []
        for name in names:
            run = directory / name
            run.mkdir(parents=True)
            manifest = json.loads((template / "a" / "run.json").read_text())
            manifest |= {
                "result": None,
                "seal": None,
                "process": asdict(this_process()),
                "race": {"name": directory.name, "label": name},
            }
            manifest["config"]["steps"] = 1000
            (run / "run.json").write_text(json.dumps(manifest))
            self.writers.append(TraceWriter(run / "trace.db"))
            self.event(name, "compiled", "in no time")
        race = json.loads((template / "race.json").read_text())
        (directory / "race.json").write_text(json.dumps({**race, "name": directory.name, "members": list(names)}))

    def event(self, name: str, kind: str, text: str = "") -> None:
        """Write an event of a run."""
        writer = self.writers[self.names.index(name)]
        writer.event(kind, text)
        writer.flush()

    def write(self, steps: History, *names: str) -> None:
        """Write records of some runs, of all where none is named."""
        for name in names or self.names:
            writer = self.writers[self.names.index(name)]
            for step, leaves in steps.items():
                writer.put(lambda step=step, leaves=leaves: to_record(step, leaves, True))
            writer.flush()

    def asked(self, name: str) -> list[str]:
        """Return what was asked of a run, with the step that it named."""
        path = self.path / name / "commands.jsonl"
        asked = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [" ".join(str(line[key]) for key in ("command", "to") if key in line) for line in asked]

    def process(self, name: str) -> dict[str, Any]:
        """Return the process that a run names as its own: this one."""
        return json.loads((self.path / name / "run.json").read_text())["process"]

    def end(self, name: str, state: str = "finished", **result: Any) -> None:
        """Seal a run."""
        seal = self.writers[self.names.index(name)].seal()
        result = {"state": state, "last_step": seal["last_step"], "digests": {"state": "0"}, **result}
        edit_manifest(self.path / name, result=result, seal=seal)

    def close(self) -> None:
        """Close what is open still; the runs look killed afterwards."""
        for writer in self.writers:
            writer.close()
