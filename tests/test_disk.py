"""Full disks: which one, how far the trace goes, and the same words from everybody who looks at the run from outside."""

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ENDLESS, MLP, Cli, eventually, last_step
from reprotui.disk import ROOM, full_disk, mount_of, with_disk
from reprotui.race.monitor import Monitor, members
from reprotui.run_directory import RunDirectory
from reprotui.trace.writer import RESERVE_SUFFIX

Disk = Callable[..., Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a function that mounts a small file system of its own, where this machine allows that."""
    mounted: list[Path] = []

    def mount(options: str = "size=2m") -> Path:
        place = tmp_path / f"small-{len(mounted)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Take all the room that a disk has left; return the file that has it."""
    status = os.statvfs(place)
    file = place / "filler"
    file.write_bytes(os.urandom(status.f_bavail * status.f_frsize))
    return file


def everything_said(cli: Cli, runs: Path, name: str) -> list[str]:
    """Return what the list, the one look, the dashboard's card and a comparison say about a run that ended badly."""
    card = Monitor(members([runs / name])).look().runs[0]
    return [
        cli("runs", "--runs-dir", runs).stdout,
        cli("open", name, "--once", "--runs-dir", runs, exit_code=None).stdout,
        card.problem,
        cli.compare(runs / name, runs / name, exit_code=3)["verdicts"][0]["reason"],
    ]


@pytest.mark.slow
def test_a_run_that_fills_its_disk_says_which_one_and_how_far_its_trace_goes(disk: Disk, reprotui: Cli) -> None:
    runs = disk()
    done = reprotui("run", *ENDLESS, "--name", "full", "--runs-dir", runs, exit_code=4)
    last = last_step(runs / "full")
    assert last > 10
    assert f"the disk at {runs} (tmpfs, 2.1 MB) is full; its trace goes to step {last}" in done.stdout
    # Kept, not looked up: the disk may have been cleaned when somebody asks.
    fill(runs).unlink()
    said = everything_said(reprotui, runs, "full")
    assert [text for text in said if f"the disk at {runs} (tmpfs, 2.1 MB) is full" not in text] == []
    assert f"the disk at {runs}" in (runs / "full" / "worker.log").read_text()
    assert not (runs / "full" / f"trace.db{RESERVE_SUFFIX}").exists()


@pytest.mark.slow
def test_a_run_that_died_silently_on_a_disk_that_is_full_is_explained_from_outside(disk: Disk, reprotui: Cli) -> None:
    runs = disk("size=20m")
    process = reprotui.start("run", *ENDLESS, "--name", "dead", "--runs-dir", runs)
    eventually("the run takes steps", lambda: last_step(runs / "dead") > 5)
    worker = json.loads((runs / "dead" / "run.json").read_text())["process"]["pid"]
    os.kill(worker, signal.SIGSTOP)
    file = fill(runs)
    os.kill(worker, signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == 4
    assert f"dead killed: the disk at {runs} (tmpfs, 21 MB) is full; its trace goes to step {last_step(runs / 'dead')}" in out
    said = everything_said(reprotui, runs, "dead")
    assert [text for text in said if f"the disk at {runs} (tmpfs, 21 MB) is full" not in text] == []
    # With room on the disk nobody can say why it died, and nothing is made up.
    file.unlink()
    assert [text for text in everything_said(reprotui, runs, "dead") if "disk" in text] == []


@pytest.mark.slow
def test_a_race_on_a_full_disk_says_so_of_each_run(disk: Disk, reprotui: Cli) -> None:
    runs = disk()
    found = reprotui.race(*ENDLESS, "--runs-dir", runs, exit_code=4)
    assert all(f"the disk at {runs}" in run["why"] for run in found["runs"].values())


@pytest.mark.slow
def test_a_save_onto_a_full_disk_names_the_disk_of_the_checkpoints(disk: Disk, reprotui: Cli) -> None:
    place = disk() / "saved"
    done = reprotui(
        "run", "digits-mlp", "width=512", "steps=20", "--every", 10, "--save-at", 10, "--checkpoint-dir", place, "--name", "full",
        exit_code=4,
    )  # fmt: skip
    assert "the checkpoint of step 10 was not saved" in done.stdout
    assert f"the disk at {place.parent} (tmpfs, 2.1 MB) is full" in done.stdout
    assert "terminate" not in (reprotui.runs / "full" / "worker.log").read_text()


@pytest.mark.slow
def test_a_file_that_may_grow_no_further_is_no_full_disk(reprotui: Cli) -> None:
    done = reprotui("run", *ENDLESS, "--name", "limited", exit_code=4, file_size=1 << 18)
    assert "trace.db cannot be written" in done.stdout
    assert "the disk at" not in done.stdout


def test_a_script_that_fills_the_disk_of_its_trace_trains_on_and_the_run_says_which_disk(disk: Disk, reprotui: Cli) -> None:
    runs = disk("size=600k")
    reprotui.write(
        "long.py",
        """
import jax, jax.numpy as jnp, numpy as np
train = jax.jit(lambda w, x: (jax.tree.map(lambda v: v - 0.1 * x.mean(), w), x.sum()))
w = [jnp.ones(3)] * 40
for step in range(3000):
    w, loss = train(w, np.full((4, 3), step, np.float32))
print("trained to the end", w[0])
""",
    )
    command = ("race", "--json", "--name", "race", "--runs-dir", runs, "--", sys.executable, "long.py")
    found = json.loads(reprotui(*command, exit_code=4).stdout)
    assert all(f"the disk at {runs}" in run["why"] for run in found["runs"].values())


def test_a_journal_whose_index_finds_no_room_names_the_disk_though_sqlite_speaks_of_input_and_output(
    disk: Disk, tmp_path: Path
) -> None:
    place = disk()
    with sqlite3.connect(place / "trace.db", isolation_level=None) as database:
        database.execute("pragma journal_mode=wal")
        database.execute("create table steps (step)")
    database.close()
    file = fill(place)
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error") as raised:
        sqlite3.connect(place / "trace.db").execute("insert into steps values (1)")
    file.unlink()
    assert f"disk I/O error; the disk at {place} (tmpfs, 2.1 MB) is full" in with_disk(raised.value, place / "trace.db")
    # The same words for another reason say nothing of a disk.
    assert with_disk(sqlite3.OperationalError("disk I/O error"), tmp_path) == "disk I/O error"


@pytest.mark.slow
def test_a_script_that_finds_no_room_elsewhere_is_told_which_disk_if_that_one_is_full(disk: Disk, reprotui: Cli) -> None:
    data = disk()
    reprotui.write(
        "saves.py",
        """
import sys
import jax, jax.numpy as jnp
train = jax.jit(lambda w, x: (w - 0.1 * x, x.sum()))
w = jnp.ones(3)
for step in range(5):
    w, loss = train(w, jnp.full(3, step, jnp.float32))
raise OSError(28, "No space left on device", sys.argv[1])
""",
    )
    command = ("--runs-dir", reprotui.runs, "--", sys.executable, "saves.py", data / "ck")
    room = reprotui("race", "--json", "--name", "room", *command, exit_code=4).stdout
    assert [run["why"] for run in json.loads(room)["runs"].values()] == [
        f"OSError: [Errno 28] No space left on device: '{data}/ck'"
    ] * 2
    fill(data)
    full = reprotui("race", "--json", "--name", "full", *command, exit_code=4).stdout
    assert all(run["why"].endswith(f"; the disk at {data} (tmpfs, 2.1 MB) is full") for run in json.loads(full)["runs"].values())


BROKEN = """
import atexit, os, signal
import numpy as np, jax.numpy as jnp
from reprotui.experiments import State, StepOutput

class Experiment:
    def __init__(self, config):
        # What a thread of C++ does to a process whose interpreter is being taken down.
        atexit.register(os.kill, os.getpid(), signal.SIGABRT)

    def init(self, key):
        return State({"w": jnp.zeros(3)}, ())

    def batch(self, step):
        assert step < 3, "the data end here"
        return np.zeros(3, np.float32)

    def train_step(self, state, batch, key):
        return State(state.params, ()), StepOutput(jnp.sum(batch), {"w": batch})
"""


@pytest.mark.slow
def test_a_worker_that_failed_does_not_take_its_interpreter_down(reprotui: Cli) -> None:
    reprotui.write("broken.py", BROKEN)
    reprotui("run", "broken.py", "steps=9", "--name", "broken", exit_code=4)
    run = RunDirectory(reprotui.runs / "broken")
    for file in ("trace.db", "worker.log"):
        (run.path / file).unlink()
    done = subprocess.run([sys.executable, "-m", "reprotui.worker", str(run.path)], env=reprotui.environment, capture_output=True)
    assert done.returncode == 4
    assert b"the data end here" in done.stderr


@pytest.mark.slow
def test_the_reserve_lies_beside_a_trace_only_while_it_is_written(reprotui: Cli) -> None:
    process = reprotui.start("run", *ENDLESS, "--name", "endless")
    reserve = reprotui.runs / "endless" / f"trace.db{RESERVE_SUFFIX}"
    eventually("the trace is begun", lambda: last_step(reprotui.runs / "endless") > 0)
    assert reserve.stat().st_size == ROOM
    reprotui("control", "endless", "stop")
    process.communicate()
    assert not reserve.exists()


def test_a_disk_without_room_or_without_files_is_full_and_no_other(disk: Disk, tmp_path: Path) -> None:
    assert full_disk(tmp_path / "not" / "there") is None
    assert full_disk(disk()) is None
    place = disk("size=1m")
    fill(place)
    assert full_disk(place / "x") == f"the disk at {place} (tmpfs, 1.05 MB) is full"
    assert mount_of(place / "x").kind == "tmpfs"
    few = disk("size=9m,nr_inodes=4")
    for number in range(3):
        (few / str(number)).touch()
    assert full_disk(few) == f"the disk at {few} (tmpfs, 9.44 MB) is full: it takes no further file"


@pytest.mark.parametrize(
    ("error", "of_the_disk"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), True),
        (ValueError("RESOURCE_EXHAUSTED: Failed to write 9 bytes: No space left on device [os_error_code='28']"), True),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), False),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), False),
    ],
)
def test_only_an_error_that_speaks_of_room_is_laid_to_the_disk(tmp_path: Path, error: Exception, of_the_disk: bool) -> None:
    assert ("is full" in with_disk(error, tmp_path)) is of_the_disk


@pytest.mark.slow
def test_a_run_on_a_disk_with_room_says_nothing_of_disks(reprotui: Cli) -> None:
    done = reprotui("run", *MLP, "--name", "well")
    assert "disk" not in done.stdout + reprotui("runs").stdout
