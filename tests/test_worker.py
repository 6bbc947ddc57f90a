"""Worker processes: commands, signals, kills and crashes, and what they leave behind."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import ENDLESS, MLP, PATIENCE, events_of, eventually, last_step, rows_of
from reprotui.experiments.discovery import find_experiment
from reprotui.race.monitor import Monitor
from reprotui.race.prepare import Member, Request, prepare_race
from reprotui.race.start import labelled, running
from reprotui.run_directory import RunDirectory
from reprotui.trace import verify_trace
from test_race import SEEDED, USER_EXPERIMENT

CRASHING = USER_EXPERIMENT.format(
    batch='if step == 5: raise RuntimeError("no batch today")\n        return np.ones((8, 4), np.float32) * step'
)


def manifest(path: Path) -> dict[str, Any]:
    """Return a run's manifest."""
    return json.loads((path / "run.json").read_text())


def state(path: Path) -> str:
    """Return a run's state."""
    return RunDirectory(path).state()


def pid(path: Path) -> int:
    """Return the process id of a run's worker."""
    return int(manifest(path)["process"]["pid"])


def assert_sealed(path: Path) -> None:
    """Check that a run's trace is one whole file whose end is the sealed one."""
    seal = manifest(path)["seal"]
    assert verify_trace(path / "trace.db", seal).problem is None
    assert not (path / "trace.db-wal").exists()
    assert [row.step for row in rows_of(path)] == list(range(seal["last_step"] + 1))


class Endless:
    """A run that trains until it is ended."""

    def __init__(self, cli: Any, *arguments: str) -> None:
        self.cli, self.path = cli, cli.runs / "endless"
        self.process: subprocess.Popen[str] = cli.start("run", *ENDLESS, *arguments, "--name", "endless")
        eventually("the run takes steps", lambda: last_step(self.path) > 5)

    def control(self, command: str) -> None:
        """Ask something by the command line."""
        assert f"{command}: runs/endless" in self.cli("control", "endless", command).stdout

    def pause(self) -> int:
        """Pause, and return the step at which it stands."""
        before = self.count("paused")
        self.control("pause")
        eventually("the run is paused", lambda: self.count("paused") > before)
        return last_step(self.path)

    def count(self, kind: str) -> int:
        """Return how many events of a kind there are."""
        return sum(event == kind for event, _ in events_of(self.path))

    def end(self) -> tuple[int, str, str]:
        """Wait for the command; return its exit code and output."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@pytest.fixture
def endless(reprotui: Any) -> Endless:
    """Return a run that takes steps."""
    return Endless(reprotui)


# Commands


def test_pause_advance_resume_and_stop_are_obeyed(endless: Endless) -> None:
    step = endless.pause()
    assert ("paused", f"after step {step}") in events_of(endless.path)
    for number in (1, 2):
        endless.control("advance")
        eventually("one more step is recorded", lambda number=number: last_step(endless.path) == step + number)
    # Paused again after exactly that: an event says so before anything else can happen.
    eventually("it is paused again", lambda: ("paused", f"after step {step + 2}") in events_of(endless.path))
    assert last_step(endless.path) == step + 2
    endless.control("resume")
    eventually("it goes on", lambda: last_step(endless.path) > step + 10)
    endless.control("stop")
    code, out, _ = endless.end()
    assert code == 0
    assert out.startswith("stopped  step ")
    assert_sealed(endless.path)
    assert events_of(endless.path)[-1] == ("stopped", "stop command")
    assert manifest(endless.path)["result"]["state"] == "stopped"


@pytest.mark.slow
def test_a_paused_run_can_be_stopped(endless: Endless) -> None:
    step = endless.pause()
    endless.control("stop")
    assert endless.end()[0] == 0
    assert manifest(endless.path)["seal"]["last_step"] == step
    assert_sealed(endless.path)


@pytest.mark.slow
def test_pausing_changes_no_bit(reprotui: Any, endless: Endless) -> None:
    endless.pause()
    endless.control("advance")
    endless.control("resume")
    endless.control("stop")
    endless.end()
    steps = manifest(endless.path)["result"]["last_step"]
    reprotui("run", *MLP, f"steps={steps}", "--name", "straight", "--stats-every", 1000)
    assert manifest(reprotui.runs / "straight")["result"]["digests"] == manifest(endless.path)["result"]["digests"]


@pytest.mark.slow
def test_commands_are_obeyed_when_the_supervisor_is_gone(endless: Endless) -> None:
    endless.process.kill()
    endless.end()
    step = endless.pause()
    endless.control("resume")
    eventually("it goes on", lambda: last_step(endless.path) > step)
    # Not by the command line alone: whoever can append a line can ask. What cannot be read is passed over.
    with (endless.path / "commands.jsonl").open("a") as file:
        file.write('{"command": "explode"}\nnot json\n[]\n{"command": "stop"}\n')
    eventually("it is stopped", lambda: state(endless.path) == "stopped")
    assert_sealed(endless.path)


# Signals and kills


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_stops_a_worker_cleanly(endless: Endless, name: str) -> None:
    os.kill(pid(endless.path), getattr(signal, name))
    assert endless.end()[0] == 0
    assert state(endless.path) == "stopped"
    assert events_of(endless.path)[-1] == ("stopped", name)
    assert_sealed(endless.path)


def test_a_killed_worker_leaves_its_steps_and_the_verdict_incomplete(reprotui: Any, endless: Endless) -> None:
    acknowledged = last_step(endless.path)
    os.kill(pid(endless.path), signal.SIGKILL)
    code, out, _ = endless.end()
    assert code == 4
    assert "killed" in out
    assert state(endless.path) == "killed"
    rows = rows_of(endless.path)
    assert rows[-1].step >= acknowledged
    assert verify_trace(endless.path / "trace.db").problem is None
    reprotui("run", *MLP, f"steps={rows[-1].step + 5}", "--name", "whole", "--stats-every", 1000)
    found = reprotui.compare("whole", "endless", exit_code=3)["verdicts"][0]
    assert (found["kind"], found["equal_through"]) == ("incomplete", rows[-1].step)
    assert found["reason"] == "endless was killed and left no seal"
    assert "killed" in reprotui("runs").stdout
    assert "no run is alive" in reprotui("control", "endless", "stop", exit_code=3).stderr


@pytest.mark.slow
def test_one_killed_worker_of_a_race_does_not_take_the_other_along(reprotui: Any) -> None:
    process = reprotui.start("race", *ENDLESS, "--name", "race")
    a, b = (reprotui.runs / "race" / label for label in "ab")
    eventually("both take steps", lambda: min(last_step(a), last_step(b)) > 5)
    os.kill(pid(b), signal.SIGKILL)
    eventually("the killed one is noticed", lambda: state(b) == "killed")
    step = last_step(a)
    eventually("the other goes on", lambda: last_step(a) > step)
    reprotui("control", "race", "stop")
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4
    assert "INCOMPLETE · equal up to step" in out
    assert "B was killed and left no seal" in out
    assert_sealed(a)


def test_ctrl_c_stops_the_workers_of_a_race_and_seals(reprotui: Any) -> None:
    process = reprotui.start("race", *ENDLESS, "--name", "race")
    members = [reprotui.runs / "race" / label for label in "ab"]
    eventually("both take steps", lambda: all(last_step(member) > 5 for member in members))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "stopping: each run finishes its step and seals its trace" in err
    for member in members:
        with pytest.raises(ProcessLookupError):
            os.kill(pid(member), 0)
        assert state(member) == "stopped"
        assert_sealed(member)


# Crashes, and workers that cannot start


@pytest.mark.slow
def test_a_crash_in_user_code_is_told_with_its_traceback_and_keeps_earlier_steps(reprotui: Any) -> None:
    reprotui.write("mine.py", CRASHING)
    done = reprotui("race", "mine.py", "steps=9", "--name", "race", exit_code=4)
    assert "A failed: RuntimeError: no batch today" in done.stdout
    for label in "ab":
        run = reprotui.runs / "race" / label
        assert [row.step for row in rows_of(run)] == [0, 1, 2, 3, 4]
        assert events_of(run)[-1] == ("failed", "RuntimeError: no batch today")
        log = (run / "worker.log").read_text()
        assert "Traceback" in log
        assert "mine.py" in log
        assert state(run) == "failed"
        assert_sealed(run)
    assert "incomplete" in reprotui.compare("race", exit_code=3)["verdicts"][0]["kind"]


@pytest.mark.slow
def test_without_the_crash_the_same_file_is_identical(reprotui: Any) -> None:
    reprotui.write("mine.py", CRASHING)
    assert reprotui.race("mine.py", "steps=4")["verdicts"][0]["kind"] == "identical"


@pytest.mark.slow
def test_one_worker_that_cannot_start_is_told_and_the_others_agree(reprotui: Any) -> None:
    """The first worker to import the file takes the token; the last one finds none left and dies."""
    take = "import os, sys\nif sys.argv[0].endswith('worker/__main__.py') and sys.argv[1].endswith('b'):\n    os._exit(9)\n"
    reprotui.write("mine.py", take + SEEDED)
    race = reprotui.race("mine.py", "steps=5", "--repeat", 3, exit_code=4)
    assert [verdict["kind"] for verdict in race["verdicts"]] == ["incomplete", "identical"]
    assert race["runs"]["b"]["state"] == "killed"
    assert race["groups"] == [["A", "C"], ["B"]]


@pytest.mark.slow
def test_a_file_that_only_workers_cannot_import_is_told(reprotui: Any) -> None:
    guard = "import sys\nif sys.argv[0].endswith('worker/__main__.py'):\n    raise OSError('no licence')\n"
    reprotui.write("mine.py", guard + SEEDED)
    done = reprotui("race", "mine.py", "steps=5", exit_code=2)
    assert "mine.py:3 cannot be imported: OSError: no licence" in done.stderr


@pytest.mark.slow
def test_a_file_that_vanishes_before_the_start_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(SEEDED)
    members = [Member("a", {}), Member("b", {})]
    race, runs = prepare_race(Request(tmp_path / "runs", "race", ["reprotui"]), find_experiment(str(path)), members)
    path.unlink()
    with running(labelled(runs)) as processes:
        status = list(Monitor(labelled(runs), processes, columns=False).follow(race))[-1]
    assert [run.state for run in status.runs] == ["failed", "failed"]
    assert [process.wait() for process in processes.values()] == [2, 2]
    assert "mine.py" in manifest(race / "a")["result"]["error"]


def test_a_directory_that_is_gone_fails_the_worker(reprotui: Any) -> None:
    import sys

    command = [sys.executable, "-m", "reprotui.worker", str(reprotui.directory / "nothing")]
    done = subprocess.run(command, env=reprotui.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr


# The manifest


@pytest.mark.slow
def test_the_manifest_says_all_that_a_run_was(reprotui: Any) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=reprotui.directory, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    reprotui.write("notes.txt", "1")
    git("add", "notes.txt")
    git("commit", "-q", "-m", "one")
    reprotui("race", *MLP, "--name", "race", "--a", "--b", "seed=0", "--every", "2")
    a, b = (manifest(reprotui.runs / "race" / label) for label in "ab")
    assert a["manifest_version"] == 1
    assert a["name"] == "race/a"
    assert a["race"] == {"name": "race", "label": "a"}
    assert a["command"][:3] == ["reprotui", "race", "digits-mlp"]
    assert a["working_directory"] == str(reprotui.directory)
    assert a["experiment"]["name"] == "digits-mlp"
    assert len(a["experiment"]["source_digest"]) == 64
    assert (a["config"]["seed"], a["config"]["width"], a["config"]["batch_size"]) == (0, 32, 64)
    assert (a["recording"]["enabled"], a["recording"]["every"]) == (True, 2)
    assert set(a["config_phases"]) == set(a["config"])
    environment = a["environment"]
    about = {"python", "executable", "platform", "os", "packages", "builds", "cpu", "gpus", "host", "variables", "git"}
    assert set(environment) == about
    assert {"jax", "jaxlib", "flax", "optax", "numpy", "reprotui"} <= set(environment["packages"])
    assert set(environment["cpu"]) == {"model", "count", "affinity"}
    assert "--xla_gpu_deterministic_ops=true" in environment["variables"]["XLA_FLAGS"]
    assert environment["git"]["commit"] == git("rev-parse", "HEAD")
    assert environment["git"]["dirty"] is True  # the runs directory itself is untracked there
    assert set(a["devices"]) == {"backend", "kinds", "count", "processes", "cpu_threads"}
    assert a["devices"]["backend"] == "cpu"
    for part in ("init", "step"):
        assert {name: len(value) for name, value in a["program"][part].items()} == {
            "jaxpr": 64,
            "stablehlo": 64,
            "optimized_hlo": 64,
        }
    # Two processes, one program.
    assert a["program"] == b["program"]
    assert a["data_digest"] == b["data_digest"]
    assert a["result"]["state"] == "finished"
    assert a["seal"]["last_step"] == 20
    assert [kind for kind, _ in events_of(reprotui.runs / "race" / "a")] == ["started", "compiled", "finished"]


@pytest.mark.slow
def test_the_second_time_a_program_is_loaded_from_the_cache(reprotui: Any) -> None:
    environment = reprotui.environment | {"JAX_COMPILATION_CACHE_DIR": str(reprotui.directory / "fresh")}
    for name in ("first", "second"):
        reprotui("run", *MLP, "steps=2", "--name", name, env=environment)
    first, second = (manifest(reprotui.runs / name)["program"] for name in ("first", "second"))
    assert (first["compilation"], second["compilation"]) == ("compiled", "loaded from cache")
    assert first["step"] == second["step"]
    assert ("compiled", "loaded from cache") in events_of(reprotui.runs / "second")


@pytest.mark.slow
def test_another_program_has_other_hashes(reprotui: Any) -> None:
    for width in (32, 16):
        reprotui("run", *MLP, "steps=1", f"width={width}", "--name", f"width-{width}")
    hashes = [manifest(reprotui.runs / f"width-{width}")["program"]["step"] for width in (32, 16)]
    assert all(hashes[0][name] != hashes[1][name] for name in hashes[0])
