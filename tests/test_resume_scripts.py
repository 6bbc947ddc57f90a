"""Resumed scripts against their uninterrupted runs: what was forgotten is named, and where nothing was they are equal."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from conftest import Cli
from pilots import WIDE, Dashboard, drive
from reprotui.cli import main
from reprotui.errors import BadInputError
from reprotui.reproduce import verify_resume
from reprotui.settings import Settings
from reprotui.tui.app import DashboardApp
from reprotui.tui.screens.race import RaceScreen

SCRIPTS = Path(__file__).resolve().parent / "scripts" / "resume"
LOOP = (SCRIPTS / "numpy_loop.py").read_text()

TORCH = {
    "model": "not restored: params, batch statistics",
    "optimizer": "not restored: optimizer (it began without any), schedule (another learning rate)",
    "generator": "not restored: rng/torch",
    "position": "not restored: batch (that of step 5: place 1 of the epoch instead of 3)",
    "epoch": "not restored: batch (of epoch 1 instead of 2: that of step 3)",
    "schedule": "not restored: schedule (another learning rate)",
    "scaler": "not restored: loss scale: the loss of step 7 is 0.25 times the uninterrupted run's",
    "ema": "not restored: average of the parameters",
    "statistics": "not restored: batch statistics",
}
"""What is said where `torch_parts.py` forgets something."""
TORCH_HALF = {"gradients": "not restored: accumulated gradients: step 7 was made from 2 of 4 inputs, the last ones"}
"""The same for a checkpoint in the middle of a step."""
JAX = {
    "params": "not restored: params",
    "opt_state": "not restored: optimizer, accumulated gradients",
    "key": "not restored: key (that of the start)",
    "place": "not restored: batch (that of step 5, 3 back: its epoch or the place in it)",
    "epoch": "not restored: batch (that of step 4, 4 back: its epoch or the place in it)",
    "schedule": "not restored: schedule (inner_opt_state/1/count)",
    "accumulation": "not restored: accumulated gradients (mini_step, acc_grads/b, acc_grads/w)",
    "scale": "not restored: loss scale",
    "ema": "not restored: average of the parameters",
    "batch_stats": "not restored: batch statistics",
}
"""The same for `jax_parts.py`."""


@pytest.fixture(scope="session")
def recorded(once: Any, environment: dict[str, str]) -> Callable[..., Path]:
    """Return a function that runs a script several times, once in a session, and gives the runs directory. Only read it."""

    def record(script: str, imports: list[str], runs: dict[str, list[str]]) -> Path:
        def build(path: Path) -> None:
            asked = json.dumps({"imports": imports, "script": str(SCRIPTS / script), "runs": runs})
            command = [sys.executable, str(SCRIPTS / "several.py"), asked]
            done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            assert done.returncode == 0, done.stdout + done.stderr

        return once(f"resumed-{script}", build) / "runs"

    return record


@pytest.fixture(scope="session")
def torch_runs(recorded: Callable[..., Path]) -> Path:
    runs = {"full": ["--steps", "12"], "first": ["--steps", "6", "--save", "ck"]}
    runs["half"] = ["--steps", "6", "--half", "--save", "half.ck"]
    runs |= {name: ["--steps", "12", "--resume", "ck", "--forget", name] for name in ("nothing", *TORCH)}
    runs |= {f"half-{name}": ["--steps", "12", "--resume", "half.ck", "--forget", name] for name in ("nothing", *TORCH_HALF)}
    return recorded("torch_parts.py", ["torch", "torch._dynamo", "reprotui.observe.torch_observer"], runs)


@pytest.fixture(scope="session")
def trainer_runs(recorded: Callable[..., Path]) -> Path:
    pytest.importorskip("transformers")
    runs = {"full": ["12", "whole"], "first": ["6", "parts"], "nothing": ["12", "parts", "--resume"]}
    runs["all"] = ["12", "parts", "--resume", "--forget", "all"]
    imports = ["torch", "torch._dynamo", "transformers.trainer", "accelerate", "reprotui.observe.torch_observer"]
    return recorded("trainer.py", imports, runs)


@pytest.fixture(scope="session")
def fit_runs(recorded: Callable[..., Path]) -> Path:
    pytest.importorskip("lightning")
    runs = {"full": ["4", "whole"], "first": ["2", "parts"], "nothing": ["4", "parts", "--resume"]}
    runs |= {name: ["4", "parts", "--resume", "--forget", name] for name in ("generator", "all")}
    return recorded("fit.py", ["torch", "torch._dynamo", "lightning", "reprotui.observe.torch_observer"], runs)


@pytest.fixture(scope="session")
def jax_runs(recorded: Callable[..., Path]) -> Path:
    runs = {"full": ["--steps", "12"], "first": ["--steps", "7", "--save", "ck"]}
    runs |= {name: ["--steps", "12", "--resume", "ck", "--forget", name] for name in ("nothing", *JAX)}
    return recorded("jax_parts.py", ["jax", "optax", "reprotui.observe.jax_observer"], runs)


def compare(capsys: pytest.CaptureFixture[str], runs: Path, *arguments: str, exit_code: int) -> dict[str, Any]:
    """Compare runs by the command line, in this process, and return the JSON."""
    capsys.readouterr()
    code = main(["compare", *arguments, "--resumed", "--json", "--verify", "--runs-dir", str(runs)])
    said = capsys.readouterr()
    assert code == exit_code, said
    return json.loads(said.out)["verdicts"][0]


@pytest.mark.slow
@pytest.mark.parametrize("forgotten", TORCH)
def test_what_a_torch_script_forgets_is_named(torch_runs: Path, capsys: pytest.CaptureFixture[str], forgotten: str) -> None:
    found = compare(capsys, torch_runs, "full", "first", forgotten, exit_code=1)
    assert TORCH[forgotten] in found["cause"]["sentence"]
    assert found["step"] == 7
    assert f"{forgotten} goes on after step 6: restored: " in found["cause"]["evidence"][0]
    assert found["cause"]["advice"]


@pytest.mark.slow
def test_a_torch_script_that_forgets_nothing_is_the_uninterrupted_run(
    torch_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare(capsys, torch_runs, "full", "first", "nothing", exit_code=0)
    assert found["equal_through"] == 12
    inputs = "params, optimizer, schedule, batch statistics, batch, rng/torch"
    assert found["notes"] == [f"nothing goes on after step 6: restored: {inputs}"]


@pytest.mark.slow
@pytest.mark.parametrize("forgotten", TORCH_HALF)
def test_gradients_that_were_accumulated_are_missed(torch_runs: Path, capsys: pytest.CaptureFixture[str], forgotten: str) -> None:
    found = compare(capsys, torch_runs, "full", "half", f"half-{forgotten}", exit_code=1)
    assert TORCH_HALF[forgotten] in found["cause"]["sentence"]
    assert compare(capsys, torch_runs, "full", "half", "half-nothing", exit_code=0)["equal_through"] == 12


LIBRARIES = {
    "all": "not restored: rng/torch (that of the start), optimizer (it began without any), schedule (another learning rate)",
    "generator": "not restored: rng/torch (that of the start)",
}
"""What is said where Lightning or the Trainer is given the weights alone, or Lightning is not helped with the generator."""


@pytest.mark.slow
@pytest.mark.parametrize("forgotten", LIBRARIES)
def test_what_lightning_does_not_restore_is_named(fit_runs: Path, capsys: pytest.CaptureFixture[str], forgotten: str) -> None:
    found = compare(capsys, fit_runs, "full", "first", forgotten, exit_code=1)
    assert found["cause"]["sentence"] == LIBRARIES[forgotten]
    assert "Lightning saves no generator" in found["cause"]["advice"]


@pytest.mark.slow
def test_lightning_restored_with_the_generator_is_the_uninterrupted_run(
    fit_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(capsys, fit_runs, "full", "first", "nothing", exit_code=0)["equal_through"] == 16


@pytest.mark.slow
def test_the_trainer_restores_all_and_its_weights_alone_do_not(trainer_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(capsys, trainer_runs, "full", "first", "nothing", exit_code=0)["equal_through"] == 12
    found = compare(capsys, trainer_runs, "full", "first", "all", exit_code=1)
    assert found["cause"]["sentence"] == f"{LIBRARIES['all']}, batch (that of step 1: it began anew)"
    assert "resume_from_checkpoint" in found["cause"]["advice"]


@pytest.mark.parametrize("forgotten", JAX)
def test_what_a_jax_script_forgets_is_named(jax_runs: Path, capsys: pytest.CaptureFixture[str], forgotten: str) -> None:
    found = compare(capsys, jax_runs, "full", "first", forgotten, exit_code=1)
    assert found["cause"]["sentence"] == JAX[forgotten]
    assert found["step"] == 8


def test_a_jax_script_that_forgets_nothing_is_the_uninterrupted_run(jax_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(capsys, jax_runs, "full", "first", "nothing", exit_code=0)["equal_through"] == 12


def test_a_run_that_began_anew_was_not_resumed(jax_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(capsys, jax_runs, "full", "first", "full", exit_code=3)
    assert "full began anew" in found["reason"]


def test_where_it_goes_on_may_be_said(jax_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(capsys, jax_runs, "full", "first", "nothing", "--offset", "6", exit_code=1)
    assert "batch (that of step 8, 1 ahead: its epoch or the place in it), key (that of step 8)" in found["cause"]["sentence"]
    assert main(["compare", "full", "first", "nothing", "--resumed", "--offset", "9", "--runs-dir", str(jax_runs)]) == 2
    assert "first ends at step 7" in capsys.readouterr().err


@pytest.mark.slow
def test_what_cannot_be_put_together_is_said(jax_runs: Path, torch_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "full", "first", "--resumed", "--runs-dir", str(jax_runs)]) == 2
    assert "three run directories" in capsys.readouterr().err
    assert main(["compare", "full", "first", "--offset", "3", "--runs-dir", str(jax_runs)]) == 2
    assert "give --resumed with it" in capsys.readouterr().err
    foreign = str(torch_runs / "nothing")
    assert main(["compare", "full", "first", foreign, "--resumed", "--runs-dir", str(jax_runs)]) == 3
    assert "of no recorded step" in capsys.readouterr().err


def check(reprotui: Cli, *arguments: str, exit_code: int) -> dict[str, Any]:
    """Run a check of `numpy_loop.py` and return its JSON."""
    reprotui.write("loop.py", LOOP)
    return json.loads(reprotui("resume-check", "--json", *arguments, exit_code=exit_code).stdout)


def loop(*arguments: str) -> tuple[str, ...]:
    return "--", sys.executable, "loop.py", *arguments


@pytest.mark.slow
def test_a_script_that_saves_when_it_is_told_to_end_goes_on_where_it_was(reprotui: Cli) -> None:
    found = check(reprotui, "--interrupt-at", "3", "--times", "2", *loop("{dir}"), exit_code=0)
    assert found["verdict"] == "equivalent"
    assert found["goes_on_after"] == [3, 6]
    assert found["restored"] == ["params", "optimizer", "batch"]
    assert not found["not_restored"]


@pytest.mark.slow
def test_a_crash_goes_back_to_the_last_checkpoint(reprotui: Cli) -> None:
    found = check(reprotui, "--interrupt-at", "5", "--times", "2", "--signal", "KILL", *loop("{dir}"), exit_code=0)
    assert found["goes_on_after"] == [4, 8]
    assert found["comparison"]["equal_through"] == 12


@pytest.mark.slow
def test_a_script_without_a_handler_dies_as_it_does_unobserved(reprotui: Cli) -> None:
    """It names no folder: each run gets a place of its own, with the working directory in it."""
    found = check(reprotui, "--name", "check", "--interrupt-at", "6", *loop(".", "crash", "momentum"), exit_code=1)
    assert found["goes_on_after"] == [4]
    assert found["not_restored"] == [{"what": "optimizer", "detail": ""}]
    assert found["comparison"]["cause"]["sentence"] == "not restored: optimizer"
    assert not (reprotui.directory / "state.npz").exists()
    listed = json.loads(reprotui("runs", "--json").stdout)["runs"]
    assert [run["name"] for run in listed] == ["check/full", "check/resumed", "check/first"]
    assert [run["state"] for run in listed] == ["finished", "finished", "killed"]
    verdicts = reprotui.compare("check", exit_code=1)["verdicts"]
    assert [verdict["kind"] for verdict in verdicts] == ["diverged", "identical"]
    assert "not restored: optimizer" in verdicts[0]["cause"]["sentence"]
    assert verdicts[1]["notes"] == ["it was meant to end there: what went on from it is compared as a run of its own"]


@pytest.mark.slow
def test_three_commands(reprotui: Cli) -> None:
    reprotui.write("loop.py", LOOP.replace("step < 12", "step < int(sys.argv[2])"))
    commands = [f"{sys.executable} loop.py {place} {steps}" for place, steps in (("whole", 12), ("parts", 8), ("parts", 12))]
    for place in ("whole", "parts"):
        (reprotui.directory / place).mkdir()
    full, first, then = commands
    done = reprotui("resume-check", "--full", full, "--first", first, "--then", then)
    assert done.stdout.startswith("EQUIVALENT  resumed after step 8\nIDENTICAL through step 12\n")
    # What the first part left is there: the whole run goes on from it too, and nothing is left to resume.
    done = reprotui("resume-check", "--full", full, "--first", full, "--then", full, exit_code=2)
    assert "nothing is left to resume" in done.stderr


@pytest.mark.slow
def test_a_state_that_no_step_had_cannot_be_placed(reprotui: Cli) -> None:
    loop_text = LOOP.replace('saved["params"], int', 'saved["params"] + 1, int').replace(
        'mean if "momentum"', 'mean + 1 if "momentum"'
    )
    reprotui.write("loop.py", loop_text)
    done = reprotui("resume-check", "--name", "check", "--interrupt-at", "3", *loop("{dir}", "momentum"), exit_code=3)
    assert "is that of no recorded step of the run before" in done.stdout
    assert "is that of no recorded step" in reprotui("compare", "check/full", "check/resumed", exit_code=3).stdout


@pytest.mark.slow
def test_a_first_part_that_is_another_run_is_not_blamed_on_resuming(reprotui: Cli) -> None:
    reprotui.write("loop.py", LOOP.replace("np.ones(4, np.float32)", "np.full(4, float(sys.argv[2]), np.float32)"))
    for place in ("whole", "parts"):
        (reprotui.directory / place).mkdir()
    full, first = (f"{sys.executable} loop.py {place} {start}" for place, start in (("whole", 1), ("parts", 2)))
    first = f"{first} short"
    reprotui.write(
        "loop.py", (reprotui.directory / "loop.py").read_text().replace("step < 12", 'step < (8 if "short" in faults else 12)')
    )
    done = reprotui(
        "resume-check", "--json", "--full", full, "--first", first, "--then", first.removesuffix(" short"), exit_code=1
    )
    found = json.loads(done.stdout)["comparison"]
    assert (found["step"], found["phase"]) == (0, "init")
    assert "argument_2: 1 → 2" in found["cause"]["sentence"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--full", "python loop.py"), "--first is missing"),
        (("--interrupt-at", "3"), "--interrupt-at needs the command"),
        (loop("."), "say after which step it is stopped"),
        (("--interrupt-at", "3", "--full", "x y", *loop(".")), "--full and a command behind --"),
        (("--at", "3", *loop(".")), "--at is for experiments"),
        (("digits-mlp", "--interrupt-at", "3", *loop(".")), "stands before a script's command"),
        (("digits-mlp",), "--at N"),
        (("--interrupt-at", "30", *loop("{dir}")), "before it could be interrupted after step 30"),
    ],
)
def test_what_cannot_be_checked(reprotui: Cli, arguments: tuple[str, ...], said: str) -> None:
    reprotui.write("loop.py", LOOP)
    assert said in reprotui("resume-check", *arguments, exit_code=2).stderr


@pytest.mark.slow
def test_a_part_that_fails(reprotui: Cli) -> None:
    reprotui.write("loop.py", LOOP.replace("    saved = np.load(place)", '    raise ValueError("a bad checkpoint")'))
    done = reprotui("resume-check", "--interrupt-at", "6", "--signal", "KILL", *loop("{dir}"), exit_code=4)
    assert "then failed: ValueError: a bad checkpoint" in done.stderr


@pytest.mark.slow
def test_the_library_asks_the_same(reprotui: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    reprotui.write("loop.py", LOOP)
    monkeypatch.chdir(reprotui.directory)
    report = verify_resume([sys.executable, "loop.py", ".", "momentum"], interrupt_at=3, runs=reprotui.runs)
    assert not report
    assert (report.step, report.goes_on_after, report.not_restored) == (4, (3,), ("optimizer",))
    assert "not restored: optimizer" in str(report)
    assert report.runs.parent == reprotui.runs
    assert verify_resume([sys.executable, "loop.py", "{dir}"], interrupt_at=3, runs=reprotui.runs, name="equal")
    with pytest.raises(BadInputError, match="say how it is resumed"):
        verify_resume("python loop.py .")
    with pytest.raises(BadInputError, match="does not exist"):
        verify_resume("python other.py", "python other.py", "python other.py", runs=reprotui.runs)


@pytest.mark.slow
def test_the_dashboard_asks_for_a_check_and_shows_its_three_runs(
    reprotui: Cli, own_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reprotui.write("loop.py", LOOP)
    monkeypatch.chdir(reprotui.directory)

    async def ask() -> None:
        app = DashboardApp(reprotui.runs, settings=Settings())
        async with app.run_test(size=WIDE) as pilot:
            dashboard = Dashboard(app, pilot)
            await dashboard.press("U")
            await dashboard.press(*"nothing")
            assert "give both parts, or the step after which it is interrupted" in dashboard.text()
            dashboard.get("#full", Input).value = f"{sys.executable} loop.py . momentum"
            dashboard.get("#at", Input).value = "3"
            await pilot.pause()
            await dashboard.press("ctrl+s")
            await dashboard.until("the race", lambda: any(isinstance(screen, RaceScreen) for screen in app.screen_stack))
            await dashboard.until("the verdict", lambda: "not restored: optimizer" in dashboard.text())
            for label in ("FULL", "FIRST", "RESUMED"):
                assert label in dashboard.text()

    drive(ask())
