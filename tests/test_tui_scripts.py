"""Training scripts that are not ours in the dashboard: started by hand or raced, watched while they train, controlled."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE, Cli, events_of, eventually, last_step
from pilots import dashboard, drive
from reprotui.run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("own_settings")

SCRIPT = """
import pathlib, sys, time
import jax, jax.numpy as jnp

@jax.jit
def train(w, x):
    return w - 0.1 * x, jnp.sum(w)

w = jnp.ones(4)
for step in range(1, 13):
    while step == 6 and not pathlib.Path("go").exists():
        time.sleep(0.02)
    w, loss = train(w, jnp.float32(step + (0.5 if step >= 9 and "--fault" in sys.argv else 0)))
"""
"""Waits before its sixth step; with `--fault` its batches differ from the ninth on."""


@contextlib.contextmanager
def by_hand(reprotui: Cli, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the script as a person does in a terminal."""
    command = [sys.executable, "-m", "reprotui.observe", "--name", name, "train.py", *arguments]
    process = subprocess.Popen(command, cwd=reprotui.directory, env=reprotui.environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_records(*runs: Path) -> None:
    for run in runs:
        # The fifth step's record is put together when the sixth call shows what became of its state.
        eventually("records", lambda run=run: RunDirectory(run).trace_path.exists() and last_step(run) >= 4)


@pytest.mark.slow
def test_two_scripts_started_by_hand_are_compared_while_they_train(reprotui: Cli) -> None:
    reprotui.write("train.py", SCRIPT)
    one, two = reprotui.runs / "one", reprotui.runs / "two"

    async def look(processes: list[subprocess.Popen[bytes]]) -> None:
        async with dashboard(one, two) as driven:
            assert [run.state for run in driven.race.status.runs] == ["running", "running"]
            assert "IDENTICAL through step 5 · so far" in driven.text()
            reprotui.write("go", "")
            await driven.until("the divergence", lambda: "DIVERGED at step 9 · batch" in driven.text())
            await driven.until("both ended", lambda: [run.state for run in driven.race.status.runs] == ["finished", "finished"])
            await driven.settled()
            await driven.press("d", "enter")
            await driven.until("the leaves of that step", lambda: driven.step and "batch/x" in driven.text())
        assert [process.wait(PATIENCE) for process in processes] == [0, 0]

    with ExitStack() as stack:
        processes = [stack.enter_context(by_hand(reprotui, "one")), stack.enter_context(by_hand(reprotui, "two", "--fault"))]
        wait_for_records(one, two)
        eventually("five steps", lambda: (last_step(one), last_step(two)) == (5, 5))
        assert "IDENTICAL through step 5 · so far" in reprotui("open", "one", "two", "--once", exit_code=3).stdout
        drive(look(processes))


@pytest.mark.slow
def test_a_race_of_scripts_is_watched_and_controlled(reprotui: Cli) -> None:
    reprotui.write("train.py", SCRIPT)
    command = f"{sys.executable} train.py"
    process = reprotui.start(
        "race", "--name", "race", "--headless", "--replicas", "first", "--a", command, "--b", f"{command} --fault"
    )
    path = reprotui.runs / "race"
    runs = [path / "a", path / "b"]
    wait_for_records(*runs)

    async def look() -> None:
        async with dashboard(path) as driven:

            def states() -> list[str]:
                return [run.state for run in driven.race.status.runs]

            assert states() == ["running", "running"]
            assert driven.text().count("--replicas first") == 2
            await driven.press("space")
            reprotui.write("go", "")
            await driven.until("both paused", lambda: states() == ["paused", "paused"])
            before = [last_step(run) for run in runs]
            await driven.press("full_stop")
            await driven.until("one step more", lambda: [last_step(run) for run in runs] == [step + 1 for step in before])
            await driven.press("space")
            await driven.until("the divergence", lambda: "DIVERGED at step 9 · batch" in driven.text())
            await driven.until("both ended", lambda: states() == ["finished", "finished"])
            await driven.settled()
            assert "the batch differs, because of fault: none → True" in driven.text()

    drive(look())
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert {"paused", "resumed"} <= {kind for run in runs for kind, _ in events_of(run)}


@pytest.mark.slow
@pytest.mark.parametrize("fault", [False, True])
def test_torch_in_the_dashboard(reprotui: Cli, fault: bool) -> None:
    pytest.importorskip("torch")
    words = f"{sys.executable} {Path(__file__).parent / 'scripts' / 'torch_plain.py'}"
    arguments: list[Any] = ["race", "--name", "race", "--a", words, "--b", f"{words} --fault" if fault else words]
    reprotui(*arguments, exit_code=None)

    async def look() -> None:
        async with dashboard(reprotui.runs / "race") as driven:
            expected = "· batch ·" if fault else "IDENTICAL through step 12"
            assert expected in driven.text()
            assert "torch cpu" in driven.text()

    drive(look())
