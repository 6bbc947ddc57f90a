"""A trace that grows on a disk of its host and is copied to where it is read: the same records, whatever ends the run."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import ENDLESS, MLP, Cli, events_of, eventually, last_step, rows_of
from reprotui.run_directory import RunDirectory
from reprotui.trace import Follower, Local, TraceWriter, courier, verify_trace
from reprotui.trace.courier import Courier, path_of
from test_trace import put, record

SLOW = """
import time
import numpy as np
from reprotui import Recorder
with Recorder() as recorder:
    for step in range(1, 6):
        recorder.step(step, batch=np.ones(3, np.float32), params=np.full(3, step, np.float32), loss=1.0)
    time.sleep(600)
    recorder.step(6, batch=np.ones(3, np.float32), params=np.ones(3, np.float32), loss=1.0)
"""


@pytest.fixture
def local(reprotui: Cli) -> Cli:
    """Return the command line with a disk of its own for traces."""
    (reprotui.directory / "disk").mkdir()
    reprotui.environment = {**reprotui.environment, "TMPDIR": str(reprotui.directory / "disk")}
    return reprotui


def manifest(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def test_the_trace_is_the_one_that_would_have_been_written_at_once(local: Cli) -> None:
    local.race(*MLP, "--local-trace", "0.2")
    local("run", *MLP, "--name", "at-once")
    found = local.compare("race/a", "race/b", "at-once", "--verify")
    assert {verdict["kind"] for verdict in found["verdicts"]} == {"identical"}
    here, there = manifest(local.runs / "race/a"), manifest(local.runs / "at-once")
    assert here["seal"] == there["seal"] and here["recording"]["local_seconds"] == 0.2
    assert here["local_trace"].startswith(str(local.directory / "disk")) and "local_trace" not in there
    assert not list((local.directory / "disk").glob("reprotui-trace-*"))
    assert [kind for kind, _ in events_of(local.runs / "race/a")] == [kind for kind, _ in events_of(local.runs / "at-once")]


def test_a_killed_worker_loses_what_came_after_the_last_copy_and_the_run_says_so(local: Cli) -> None:
    process = local.start("run", *ENDLESS, "--local-trace", "0.5", "--name", "x")
    run = local.runs / "x"
    eventually("copied steps", lambda: last_step(run) > 20)
    os.kill(manifest(run)["process"]["pid"], signal.SIGKILL)
    out, said = process.communicate(timeout=60)
    folder = manifest(run)["local_trace"]
    told = f"its trace ends with the last copy, and one is made every 0.5 s; later records may still be in {folder} on "
    assert process.returncode == 4 and told in " ".join(out.split()), (out, said)
    with contextlib.closing(sqlite3.connect(Path(folder) / "trace.db")) as grown:
        assert grown.execute("SELECT max(step) FROM steps").fetchone()[0] >= last_step(run)
    assert verify_trace(run / "trace.db", None).problem is None
    assert "the last copy" in local("runs").stdout


def test_at_a_stop_all_is_there_with_a_seal(local: Cli) -> None:
    process = local.start("run", *ENDLESS, "--local-trace", "3600", "--name", "x")
    run = local.runs / "x"
    eventually("local steps", lambda: _grown(run) > 20)
    assert last_step(run) == -1 and events_of(run) == []
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert RunDirectory(run).state() == "stopped" and last_step(run) > 20
    assert verify_trace(run / "trace.db", manifest(run)["seal"]).problem is None
    assert not list((local.directory / "disk").glob("reprotui-trace-*"))


def test_at_sigterm_what_there_is_is_copied_although_the_step_goes_on(local: Cli) -> None:
    local.write("slow.py", SLOW)
    process = local.start("race", "--local-trace", "3600", "--headless", "--name", "race", "--", "python", "slow.py")
    run = local.runs / "race/a"
    eventually("local steps", lambda: _grown(run) == 5)
    assert last_step(run) == -1
    os.kill(manifest(run)["process"]["pid"], signal.SIGTERM)
    eventually("the copy", lambda: last_step(run) == 5)
    assert RunDirectory(run).state() == "running"
    for label in "ab":
        os.kill(manifest(local.runs / "race" / label)["process"]["pid"], signal.SIGKILL)
    process.communicate(timeout=60)


@pytest.mark.slow
def test_a_resumed_run_has_its_history(local: Cli) -> None:
    local("run", *MLP, "--save-at", "12", "--name", "saved")
    local("run", "--restore-from", "saved:12", "--local-trace", "--name", "on")
    assert [row.step for row in rows_of(local.runs / "on")] == list(range(21))
    local.compare("saved", "on", "--verify")


@pytest.mark.parametrize("text", ["soon", "0", "-5", "nan", "digits-mlp"])
def test_no_time_is_said(reprotui: Cli, text: str) -> None:
    done = reprotui("race", f"--local-trace={text}", exit_code=2)
    assert f"'{text}' is no number of seconds from 0.1 on; what is trained stands before --local-trace" in done.stderr
    assert not reprotui.runs.exists()


def _grown(run: Path) -> int:
    folder = manifest(run).get("local_trace") if (run / "run.json").is_file() else None
    if folder is None or not (Path(folder) / "trace.db").is_file():
        return -1
    with contextlib.closing(sqlite3.connect(Path(folder) / "trace.db")) as grown, contextlib.suppress(sqlite3.Error):
        return grown.execute("SELECT coalesce(max(step), -1) FROM steps").fetchone()[0]
    return -1


# The copies themselves


def test_a_follower_sees_each_record_once_while_they_are_copied(tmp_path: Path) -> None:
    path, folder = tmp_path / "trace.db", tmp_path / "disk"
    folder.mkdir()
    writer = TraceWriter(path, local=Local(folder, 0.1))
    follower, seen, over = Follower(path), list[int](), threading.Event()

    def follow() -> None:
        while not over.is_set():
            seen.extend(row.step for row in follower.poll().rows)

    thread = threading.Thread(target=follow)
    thread.start()
    for step in range(400):
        put(writer, record(step))
        time.sleep(0.002)
    seal = writer.seal()
    over.set()
    thread.join()
    seen.extend(row.step for row in follower.poll().rows)
    assert seen == list(range(400)) and verify_trace(path, seal).problem is None and not folder.exists()
    assert seal["journal"] == "delete" and sorted(file.name for file in tmp_path.iterdir()) == ["trace.db"]


def test_a_copy_writes_what_is_new_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    writer = TraceWriter(tmp_path / "trace.db", local=Local(folder, 3600.0))
    put(writer, *(record(step) for step in range(1000)))
    writer.flush()
    own = writer._courier
    assert own is not None
    changes = []
    for step in (1000, 1001):
        before = own._connection.total_changes
        own.copy()
        changes.append(own._connection.total_changes - before)
        put(writer, record(step))
        writer.flush()
    assert changes[0] > 3000 and changes[1] == 3  # a record, its leaf checksums and its statistics
    writer.seal()


def test_a_copy_that_fails_is_made_up_for_and_what_never_comes_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, path = tmp_path / "disk", tmp_path / "trace.db"
    folder.mkdir()
    monkeypatch.setattr(courier.time, "sleep", lambda seconds: None)
    writer = TraceWriter(path, local=Local(folder, 3600.0))
    put(writer, record(0), record(1))
    fails, copy = [True, True, False], Courier.copy

    def sometimes(self: Courier) -> None:
        if fails.pop(0):
            raise sqlite3.OperationalError("disk I/O error")
        copy(self)

    monkeypatch.setattr(Courier, "copy", sometimes)
    seal = writer.seal()
    assert verify_trace(path, seal).problem is None and not fails
    folder.mkdir()
    path.rename(tmp_path / "first.db")
    fails[:] = [False, *[True] * courier.TRIES]
    writer = TraceWriter(path, local=Local(folder, 3600.0))
    put(writer, record(0))
    with pytest.raises(Exception, match=r"trace\.db cannot be written: disk I/O error"):
        writer.seal()
    assert path_of(Local(folder, 1.0)).is_file(), "the only copy of the last records"
    writer.close()
    shutil.rmtree(folder)
