"""Runs that are led: to one step, on together, and up to their first difference; by keys, by commands, and by real workers."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE
from pilots import LiveRace, dashboard, drive
from reprotui.race import lockstep
from reprotui.race.lockstep import Leader, position
from reprotui.race.monitor import Monitor, members
from reprotui.race.status import RaceStatus
from reprotui.record import control
from reprotui.record.control import Control
from reprotui.run_directory import RunDirectory
from test_compare import changed, history
from test_race import ENDLESS, eventually, last_step

pytestmark = pytest.mark.usefixtures("own_settings")


def part(first: int, last: int) -> Any:
    return {step: leaves for step, leaves in history(last).items() if first <= step}


@pytest.fixture
def three(sample: Any, tmp_path: Path) -> Iterator[LiveRace]:
    race = LiveRace(sample("identical"), tmp_path / "live", "abc")
    yield race
    race.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockstep, "SETTLE_SECONDS", 0.0)


def look(monitor: Monitor) -> RaceStatus:
    while not (status := monitor.look()).timeline.complete:
        pass
    return status


def pause(race: LiveRace, **steps: int) -> None:
    """Say of runs that they are paused after a step."""
    for name, step in steps.items():
        race.event(name, "paused", f"after step {step}")


# The process that is led


class Worker:
    """A loop that asks `Control` as workers, observers and Recorders do."""

    def __init__(self, path: Path) -> None:
        self.run = RunDirectory(path)
        self.control = Control(self.run.commands_path)
        self.step = 0
        self.said: list[str] = []

    def goes(self, steps: int = 99, during: Callable[[], None] = lambda: None) -> int:
        """Take steps until it waits, `steps` at most; return the last one."""
        for _ in range(steps):
            if self.control.stands(self.step):
                during()
                self.control.request_stop("the test ends here")
                assert not self.control.may_step(self.step, self.said.append)
                self.control = Control(self.run.commands_path)
                break
            assert self.control.may_step(self.step, self.said.append)
            self.step += 1
        return self.step


def test_a_process_goes_on_to_the_step_it_is_asked_for_and_no_further(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.run.send("advance", to=7)
    assert worker.goes() == 7
    worker.run.send("advance", to=5)
    assert worker.goes() == 7, "it is further already"
    worker.run.send("advance")
    assert worker.goes() == 8
    worker.run.send("lead", to=20)
    worker.run.send("lead", to=12)
    assert worker.goes() == 12, "the last word counts"
    worker.run.send("resume")
    assert worker.goes(5) == 17


def test_a_led_process_waits_without_a_word_unless_nobody_leads_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = RunDirectory(tmp_path), []
    for patience, expected in ((60.0, []), (0.0, ["paused"])):
        monkeypatch.setattr(control, "LED_SECONDS", patience)
        waits: list[float] = []

        def tick(seconds: float, waits: list[float] = waits) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                run.send("stop")

        monkeypatch.setattr(control.time, "sleep", tick)
        run.commands_path.unlink(missing_ok=True)
        run.send("lead", to=3)
        said.clear()
        assert not Control(run.commands_path).may_step(3, said.append)
        assert said == expected


# Whoever leads


def test_pause_brings_those_behind_to_the_step_of_the_furthest(three: LiveRace) -> None:
    three.write(part(0, 10))
    said: list[str] = []
    runs = members([three.path])
    monitor, leader = Monitor(runs), Leader(runs, said.append)
    leader.pause(look(monitor))
    assert [three.asked(name) for name in "abc"] == [["pause"]] * 3
    three.write(part(11, 14), "c")
    pause(three, a=10, c=14)
    leader.look(look(monitor))
    assert three.asked("a") == ["pause"], "B is still on its way"
    pause(three, b=12)  # records every other step only: what it says counts
    leader.look(look(monitor))
    assert [three.asked(name)[1:] for name in "abc"] == [["advance 14"], ["advance 14"], []]
    for name in "ab":
        three.event(name, "resumed", "")
    three.write(part(11, 14), "a", "b")
    leader.look(look(monitor))
    assert leader.leads
    pause(three, a=14, b=14)
    leader.look(look(monitor))
    assert said == ["all 3 runs are paused after step 14"]
    assert not leader.leads


def test_a_run_that_ends_meanwhile_is_waited_for_no_more(three: LiveRace) -> None:
    three.write(part(0, 10), "a", "c")
    three.write(part(0, 9), "b")
    said: list[str] = []
    runs = members([three.path])
    monitor, leader = Monitor(runs), Leader(runs, said.append)
    leader.pause(look(monitor))
    pause(three, a=10, b=9)
    three.end("c")
    leader.look(look(monitor))
    assert three.asked("b") == ["pause", "advance 10"]
    three.end("b")
    leader.look(look(monitor))
    assert not leader.leads


def test_one_key_goes_to_the_step_after_the_slowest_and_pressed_twice_one_further(three: LiveRace) -> None:
    three.write(part(0, 10))
    runs = members([three.path])
    monitor, leader = Monitor(runs), Leader(runs, lambda _: None)
    assert leader.advance(look(monitor)) is None, "none is paused"
    pause(three, a=10, b=10, c=12)
    status = look(monitor)
    assert [position(run) for run in status.runs] == [10, 10, 12]
    assert leader.advance(status) == 11
    assert [three.asked(name) for name in "abc"] == [["advance 11"], ["advance 11"], []]
    assert leader.advance(status) == 12
    assert leader.advance(status) == 13
    assert [three.asked(name)[1:] for name in "abc"] == [["advance 12", "advance 13"]] * 2 + [["advance 13"][1:]]
    assert three.asked("c") == ["advance 13"]


def test_runs_are_led_to_the_first_difference_and_none_runs_away(three: LiveRace) -> None:
    three.write(part(0, 10), "a", "c")
    three.write(part(0, 4), "b")
    said: list[str] = []
    runs = members([three.path])
    monitor, leader = Monitor(runs), Leader(runs, said.append)
    leader.lead(look(monitor))
    leader.look(look(monitor))
    assert [three.asked(name) for name in "abc"] == [["lead 5"]] * 3, "not further than the slowest, whose pace nobody knows"
    leader.look(look(monitor))
    assert three.asked("a") == ["lead 5"], "said once"
    three.write(changed(part(5, 9), 7, "grads:grads/w"), "b")
    leader.look(look(monitor))
    assert said == ["first difference: pause was asked of all runs"]
    assert [three.asked(name)[1:] for name in "abc"] == [["pause"]] * 3
    pause(three, a=10, b=9, c=10)
    leader.look(look(monitor))
    assert [three.asked(name)[2:] for name in "abc"] == [[], ["advance 10"], []]
    pause(three, b=10)
    leader.look(look(monitor))
    assert said[1:] == ["all 3 runs are paused after step 10"]
    # What differed when they were led on again does not stop them.
    leader.lead(look(monitor))
    leader.look(look(monitor))
    assert not three.asked("c")[-1].startswith("pause")
    leader.let_go(look(monitor))
    assert [three.asked(name)[-1] for name in "abc"] == ["resume"] * 3


# Keys


@pytest.mark.slow
def test_keys_pause_at_one_step_advance_and_hold(three: LiveRace) -> None:
    three.write(part(0, 10), "a", "c")
    three.write(part(0, 8), "b")

    async def look_on() -> None:
        async with dashboard(three.path) as driven:
            await driven.press("space")
            pause(three, a=10, b=8, c=10)
            await driven.until("B is brought on", lambda: three.asked("b") == ["pause", "advance 10"])
            three.write(part(9, 10), "b")
            pause(three, b=10)
            await driven.until("all at one step", lambda: "all 3 runs are paused after step 10" in driven.said())
            await driven.press("full_stop")
            assert [three.asked(name)[-1] for name in "abc"] == ["advance 11"] * 3
            three.write(part(11, 11))
            pause(three, a=11, b=11, c=11)
            await driven.press("b")
            await driven.until("led", lambda: three.asked("c")[-1].startswith("lead "))
            for name in "abc":
                three.event(name, "resumed", "")
            three.write(changed(part(12, 13), 13, "grads:grads/w"), "b")
            three.write(part(12, 13), "a", "c")
            await driven.until("held", lambda: three.asked("a")[-1] == "pause")
            assert three.asked("b")[-1] == "pause"
            await driven.until("said", lambda: "B differs from step 13" in driven.text())
            three.write(changed(part(14, 15), 14, "grads:grads/w", until=15), "c")
            three.write(part(14, 15), "a", "b")
            await driven.until("both differ", lambda: "C from 14" in driven.text())
            await driven.press("b")
            assert driven.said() == ["the first difference is there already: d goes to it"]

    drive(look_on())


def test_who_leaves_the_dashboard_leaves_no_run_waiting(three: LiveRace) -> None:
    three.write(part(0, 10))

    async def look_on() -> None:
        async with dashboard(three.path) as driven:
            await driven.press("b")
            await driven.until("led", lambda: three.asked("a") and three.asked("a")[-1] == "lead 11")
            await driven.press("q")

    drive(look_on())
    assert [three.asked(name)[-1] for name in "abc"] == ["resume"] * 3


# Real workers


@pytest.mark.slow
def test_workers_are_paused_at_one_step_and_held_at_their_first_difference(reprotui: Any) -> None:
    process = reprotui.start("race", *ENDLESS, "--a", "--b", "shuffle_from=100000", "--name", "race", "--headless")
    paths = [reprotui.runs / "race" / label for label in "ab"]
    eventually("both take steps", lambda: all(last_step(path) > 0 for path in paths))
    said = reprotui("control", "race", "pause").stdout
    steps = [last_step(path) for path in paths]
    assert steps[0] == steps[1], said
    assert f"all 2 runs are paused after step {steps[0]}" in said
    reprotui("control", "race", "advance")
    eventually("both took one", lambda: [last_step(path) for path in paths] == [steps[0] + 1] * 2)
    assert "advance to step" in reprotui("control", "race", "advance", "--to", steps[0] + 5).stdout
    eventually("both took four", lambda: [last_step(path) for path in paths] == [steps[0] + 5] * 2)
    time.sleep(0.2)
    assert [last_step(path) for path in paths] == [steps[0] + 5] * 2
    reprotui("control", "race", "resume")
    done = reprotui("control", "race", "advance", "--to", 9, exit_code=2)
    assert "is not paused: --to goes from paused runs" in done.stderr
    assert "takes none" in reprotui("control", "race", "pause", "--to", 9, exit_code=2).stderr
    reprotui("control", "race", "stop")
    process.communicate(timeout=PATIENCE)


@pytest.mark.slow
def test_hold_stays_until_the_runs_differ(reprotui: Any) -> None:
    process = reprotui.start("race", *ENDLESS, "--a", "--b", "shuffle_from=60", "--pause-at-divergence", "--name", "race")
    paths = [reprotui.runs / "race" / label for label in "ab"]
    eventually("both take steps", lambda: all(last_step(path) >= 0 for path in paths))
    done = reprotui("control", "race", "hold", exit_code=None)  # 3 where they came there before it was asked
    assert done.returncode in (1, 3), done.stderr
    if done.returncode == 1:
        assert "DIVERGED at step 60 · batch" in done.stdout
    eventually("both stand after one step", lambda: last_step(paths[0]) == last_step(paths[1]) >= 60)
    assert "the first difference is there already, at step 60" in reprotui("control", "race", "hold", exit_code=3).stderr
    reprotui("control", "race", "stop")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "first difference: pause was asked of all runs" in err
    assert "all 2 runs are paused after step" in err
