"""The monitor: states, rate, and verdicts from what is known so far to what is judged."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import edit_manifest
from pilots import LiveRace
from reprotui.errors import BadInputError
from reprotui.manifest import Process
from reprotui.race import watched as watching
from reprotui.race.launch import LocalWorker
from reprotui.race.monitor import Monitor, members
from reprotui.race.status import RaceStatus
from reprotui.run_directory import RunDirectory
from reprotui.tui import cores, live
from test_compare import changed, to_record
from test_compare import history as steps_of


@pytest.fixture
def race(sample: Any, tmp_path: Path) -> Any:
    made = LiveRace(sample("identical"), tmp_path / "live")
    yield made
    made.close()


def states(status: RaceStatus) -> list[str]:
    return [run.state for run in status.runs]


def look(monitor: Monitor) -> RaceStatus:
    """Look until all was read."""
    while not (status := monitor.look()).timeline.complete:
        pass
    return status


def test_the_loss_of_a_run_is_its_newest_one(race: LiveRace) -> None:
    monitor, run = Monitor(members([race.path])), race.names.index("a")

    def losses_after(step: int, *losses: float | None) -> list[float | None]:
        for number, loss in enumerate(losses, step):
            bits = None if loss is None else int(np.float32(loss).view(np.uint32))
            record = replace(to_record(number, steps_of(number)[number], True), loss=loss, loss_bits=bits)
            race.writers[run].put(lambda record=record: record)
        race.writers[run].flush()
        return [status.loss for status in look(monitor).runs]

    assert losses_after(0, None) == [None, None]  # the record before the first step has none
    assert losses_after(1, 4.0, 2.0, 3.0) == [3.0, None]
    assert losses_after(4, 8.0) == [8.0, None]
    assert losses_after(5, 0.5, 0.25) == [0.25, None]
    assert math.isnan(losses_after(7, float("nan"))[0] or 0)


def test_states_from_created_to_gone(race: LiveRace, tmp_path: Path) -> None:
    race.write(steps_of(3))
    monitor = Monitor(members([race.path]))
    assert states(look(monitor)) == ["running", "running"]
    race.event("a", "paused")
    race.end("b")
    status = look(monitor)
    assert states(status) == ["paused", "finished"]
    assert [run.alive for run in status.runs] == [True, False]
    assert status.runs[1].steps == 1000
    assert status.runs[1].loss == pytest.approx(7 * 2.0**-149)  # of the bits, which decide
    race.event("a", "resumed")
    assert states(look(monitor))[0] == "running"
    edit_manifest(race.path / "a", process=lambda process: {**process, "started": "1"})
    assert states(look(monitor))[0] == "killed"
    edit_manifest(race.path / "a", process=lambda process: {**process, "host": "elsewhere.example"})
    assert states(look(monitor))[0] == "elsewhere"
    edit_manifest(race.path / "a", result={"state": "failed", "error": "out of memory"})
    status = look(monitor)
    assert (status.runs[0].state, status.runs[0].problem) == ("failed", "out of memory")
    edit_manifest(race.path / "a", result={"state": "stopped"})
    assert states(look(monitor)) == ["stopped", "finished"]
    assert not look(monitor).alive
    edit_manifest(race.path / "a", result=None, process=None)
    assert states(look(monitor))[0] == "created"
    (race.path / "a" / "run.json").write_text("{")
    assert "is not valid JSON" in look(monitor).runs[0].problem
    shutil.rmtree(race.path / "a")
    status = look(monitor)
    assert states(status) == ["gone", "finished"]
    assert "does not exist any more" in status.runs[0].problem
    assert status.runs[0].step == 3  # what was read stays


def test_a_run_on_another_host_is_followed_while_it_writes(race: LiveRace, monkeypatch: pytest.MonkeyPatch) -> None:
    race.write(steps_of(3))
    edit_manifest(race.path / "a", process=lambda process: {**process, "host": "elsewhere.example"})
    assert states(look(Monitor(members([race.path])))) == ["elsewhere", "running"]  # these records are from 1970
    monkeypatch.setattr(watching, "ELSEWHERE_SECONDS", float("inf"))
    monitor = Monitor(members([race.path]))
    assert states(look(monitor)) == ["running", "running"]
    race.event("a", "paused")
    assert states(look(monitor)) == ["paused", "running"]


def test_a_run_is_starting_until_it_is_compiled_and_killed_where_its_process_ended_before(race: LiveRace) -> None:
    (race.path / "a" / "trace.db").unlink()
    assert states(look(Monitor(members([race.path]))))[0] == "starting"
    edit_manifest(race.path / "a", process=None)
    ended = LocalWorker([sys.executable, "-c", ""])
    ended.wait()
    assert states(look(Monitor(members([race.path]), {"A": ended})))[0] == "killed"
    assert states(look(Monitor(members([race.path]))))[0] == "created"


def test_rate_and_time_left(race: LiveRace, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    monitor = Monitor(members([race.path]))
    race.write({0: steps_of(0)[0]})
    assert look(monitor).runs[0].rate is None
    for step, moment in ((20, 101.0), (40, 102.0)):
        now[0] = moment
        race.write({step: steps_of(step)[step]})
        status = look(monitor)
    assert status.runs[0].rate == pytest.approx(20)
    assert status.runs[0].seconds_left == pytest.approx(960 / 20)
    now[0] = 110.0
    assert look(monitor).runs[0].rate is None  # it stands still
    assert look(monitor).runs[0].seconds_left is None


def test_reading_what_was_recorded_before_is_no_progress(race: LiveRace) -> None:
    race.write(steps_of(30))
    monitor = Monitor(members([race.path]))
    while not (status := monitor.look(records=10)).timeline.complete:
        assert status.runs[0].rate is None
    assert status.runs[0].step == 30
    assert status.runs[0].rate is None


def test_a_verdict_is_provisional_until_it_is_judged(race: LiveRace) -> None:
    monitor = Monitor(members([race.path]))
    status = look(monitor)
    assert status.headline == "STARTING · no common step yet"
    race.write(steps_of(5))
    status = look(monitor)
    assert status.headline == "IDENTICAL through step 5 · so far"
    assert not monitor.needs_judging(status)
    later = {step: leaves for step, leaves in steps_of(9).items() if step > 5}
    race.write(later, "a")
    race.write(changed(later, 7, "grads:grads/b"), "b")
    status = look(monitor)
    verdict = status.verdicts[0]
    assert (verdict.kind, verdict.step, verdict.phase, verdict.cause) == ("diverged", 7, "grads", None)
    assert not status.judged
    assert monitor.needs_judging(status)
    status = monitor.judge(status)
    assert status.judged
    assert [leaf.path for leaf in status.verdicts[0].leaves] == ["grads/b"]
    assert status.verdicts[0].cause is not None
    again = look(monitor)
    assert again.judged  # it holds: the first difference is the same
    assert again.verdicts == status.verdicts
    assert not monitor.needs_judging(again)


def test_an_end_is_judged_anew(race: LiveRace) -> None:
    race.write(steps_of(5))
    monitor = Monitor(members([race.path]))
    race.end("a")
    assert not monitor.needs_judging(look(monitor))
    race.end("b")
    status = look(monitor)
    assert status.headline.startswith("INCOMPLETE")
    assert monitor.needs_judging(status)
    assert monitor.judge(status).headline == "IDENTICAL through step 5"
    assert look(monitor).headline == "IDENTICAL through step 5"


def test_a_killed_run_is_in_the_headline_while_the_other_goes_on(race: LiveRace) -> None:
    race.write(steps_of(5))
    monitor = Monitor(members([race.path]))
    assert look(monitor).headline == "IDENTICAL through step 5 · so far"
    process = race.process("b")
    edit_manifest(race.path / "b", process={**process, "started": "1"})  # somebody else has this process id now
    assert look(monitor).headline == "IDENTICAL through step 5 · so far · B was killed after step 5"
    race.end("a")
    status = look(monitor)
    assert monitor.judge(status).headline.count("killed") == 1, "the verdict says it already"


def test_a_run_that_was_seen_to_be_killed_is_killed_on_every_host(race: LiveRace) -> None:
    run, process = RunDirectory(race.path / "b"), race.process("b")
    run.note_end()
    assert run.manifest().process == Process(**process), "it is alive: nothing to note"
    edit_manifest(run.path, process={**process, "started": "1"})
    edit_manifest(race.path / "a", process={**process, "started": "1", "host": "another"})
    run.note_end()
    noted = run.manifest().process
    assert noted is not None and noted.ended_ns is not None
    edit_manifest(run.path, process={**process, "host": "another", "ended_ns": noted.ended_ns})
    assert run.state() == "killed"
    assert RunDirectory(race.path / "a").state() == "elsewhere", "nobody noted its end"
    race.end("b")
    assert run.state() == "finished"
    run.note_end()
    assert run.state() == "finished"


def test_a_trace_that_cannot_be_read_keeps_the_state_of_its_run(sample: Any) -> None:
    path = sample("identical")
    (path / "b" / "trace.db").write_bytes(b"damaged" * 1000)
    monitor = Monitor(members([path]))
    status = look(monitor)
    assert states(status) == ["finished", "finished"]
    assert not status.alive
    assert "not a trace" in status.runs[1].problem
    assert monitor.judge(status).headline.startswith("INCOMPARABLE")


def test_names_labels_and_commands_of_what_is_opened(sample: Any) -> None:
    one, two = sample("identical"), sample("bit-flip")
    assert [label for label, _ in members([one])] == ["A", "B"]
    assert [label for label, _ in members([one, two / "b"])] == ["A", "B", "C"]
    whole = look(Monitor(members([one])))
    assert whole.name == "identical"
    assert whole.command[:2] == ("reprotui", "race")
    mixed = look(Monitor(members([one / "a", two / "b"])))
    assert mixed.name == "identical/a · bit-flip/b"
    assert mixed.command == ("reprotui", "open", str(one / "a"), str(two / "b"))
    assert mixed.runs[1].differs == ("perturb=50:params/dense_1/kernel:100:20",)
    with pytest.raises(BadInputError, match="at most 8"):
        members([one] * 5)
    with pytest.raises(BadInputError, match="not a run directory"):
        members([one.parent])
    (one / "race.json").write_text(json.dumps({"members": ["a", "gone"]}))
    with pytest.raises(BadInputError, match="not a run directory"):
        members([one])


@pytest.mark.parametrize(("busy", "shown"), [(1.0, [3, 9]), (0.2, [3, 6, 9])])
def test_where_runs_keep_the_cores_busy_mere_progress_is_drawn_less_often_and_a_divergence_at_once(
    race: LiveRace, monkeypatch: pytest.MonkeyPatch, busy: float, shown: list[int]
) -> None:
    now = 100.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    delivered: list[RaceStatus] = []
    race.write(steps_of(3))
    watch = live.Watch(Monitor(members([race.path])), delivered.append)
    monkeypatch.setattr(watch._cores, "busy", lambda: busy)

    def goes_on(first: int, last: int, seconds: float, b: Any = None) -> None:
        nonlocal now
        now += seconds
        history = steps_of(last)
        race.write({step: history[step] for step in range(first, last + 1)}, "a")
        race.write({step: (b or history)[step] for step in range(first, last + 1)}, "b")
        watch._look()

    watch._look()
    goes_on(4, 6, 0.6)
    goes_on(7, 9, 1.5)
    assert [status.timeline.last for status in delivered] == shown
    goes_on(10, 12, 0.1, changed(steps_of(12), 11, "batch:batch/x"))
    assert [(status.timeline.last, status.judged) for status in delivered[len(shown) :]] == [(12, False), (12, True)]
    assert [status.timeline.pairs[0].first for status in delivered[len(shown) :]] == [11, 11]


def test_how_busy_the_cores_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ticks(user: int, idle: int, waiting: int = 0) -> None:
        rows = [f"cpu{core} {user} 0 0 {idle} {waiting} 0 0 0 0 0" for core in range(os.cpu_count() or 1)]
        (tmp_path / "stat").write_text("\n".join(["cpu 9 9 9 9 9 9 9 9 9 9", *rows, "intr 1 2 3"]))

    monkeypatch.setattr(cores, "STAT", tmp_path / "stat")
    ticks(100, 100)
    meter = cores.Cores()
    ticks(190, 110)
    assert meter.busy() == pytest.approx(0.9)
    ticks(190, 110 + 50, 50)
    assert meter.busy() == 0
    assert meter.busy() == 0, "no time has passed"
    (tmp_path / "stat").unlink()
    monkeypatch.setattr(cores.os, "getloadavg", lambda: (10_000.0, 0.0, 0.0))
    assert meter.busy() == 1, "elsewhere the load of the last minute"


def test_whoever_only_looks_at_runs_waits_for_nothing_that_starts_them() -> None:
    source = "import sys, reprotui.race.monitor, reprotui.tui.screens.race; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0
