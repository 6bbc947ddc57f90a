"""Causes proved by intervention: real scripts with a planted cause, from the command line, the dashboard and the report."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import Cli, edit_manifest, parsed
from pilots import dashboard, drive
from reprotui.chance import Chance
from reprotui.cli import main
from reprotui.compare import Verdict, search
from reprotui.observation import Options
from reprotui.observe.interventions import ACTIONS
from reprotui.race.interventions import FOR_SCRIPTS, First, as_change, by_name, changed_script, interventions_for
from reprotui.race.scripts import Command
from reprotui.tui.screens.confirm import ConfirmScreen
from reprotui.tui.screens.diagnosis import DiagnosisScreen
from test_report import schema

SCRIPTS = Path(__file__).resolve().parent / "scripts" / "diagnose"
LOOP = SCRIPTS / "numpy_loop.py"


@pytest.fixture(scope="session")
def diagnosed(once: Any, environment: dict[str, str]) -> Path:
    """Return a runs directory with `found`, a race whose cause was proved, and what was printed of it. Only read it."""

    def build(path: Path) -> None:
        done = Cli(path, environment)("diagnose", "--name", "found", "--json", "--", "python", LOOP, "hash", exit_code=1)
        (path / "said.json").write_text(done.stdout)
        (path / "narrated").write_text(done.stderr)

    return once("diagnosed", build) / "runs"


@pytest.fixture
def race(diagnosed: Path, reprotui: Cli) -> Path:
    """Return that race, to be changed, without what was searched."""
    shutil.copytree(diagnosed / "found", reprotui.runs / "found", ignore=shutil.ignore_patterns("diagnosis.json", "pairs"))
    return reprotui.runs / "found"


def test_a_planted_cause_is_proved_and_said_line_by_line(diagnosed: Path) -> None:
    found = json.loads((diagnosed.parent / "said.json").read_text())
    assert (found["verdict"], found["cause"], found["exit_code"]) == ("proved", ["hash-seed"], 1)
    assert found["headline"] == (
        "PROVED: with PYTHONHASHSEED=0 the runs are identical to their end, step 40 (3 of 3 pairs); "
        "without, they differ at step 1 · batch (3 of 3)"
    )
    assert [pair["outcome"] for pair in found["pairs"]] == ["differs"] * 3 + ["equal"] * 3
    assert "pair 4  PYTHONHASHSEED=0: identical" in (diagnosed.parent / "narrated").read_text()
    for pair in found["pairs"][1:]:  # each is a race of its own, with what was changed in its manifest
        manifest = json.loads((diagnosed / "found" / pair["path"] / "b" / "run.json").read_text())
        assert manifest["launch"]["variables"] == ({"PYTHONHASHSEED": "0"} if pair["changes"] else {})


@pytest.mark.slow
def test_runs_that_are_the_same_have_nothing_to_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "RARE_PAIRS", 2)
    code = main(["diagnose", "--pairs", "1", "--name", "same", "--", "python", str(LOOP)])
    said = capsys.readouterr()
    assert code == 0, said
    assert "NOTHING TO FIND: the runs are identical to their end, step 40 in 2 of 2 pairs" in said.out
    assert "a difference that shows in 78% of pairs or more would have been seen (95 %)" in said.out


@pytest.mark.slow
def test_a_search_that_its_budget_ends_says_what_is_left_and_goes_on_from_there(race: Path, reprotui: Cli) -> None:
    done = reprotui("diagnose", "found", "--budget", "0.001s", exit_code=3)
    assert "UNFINISHED: no difference yet" in done.stdout and "the budget is spent; not tried: PYTHONHASHSEED=0" in done.stdout
    assert "go on: reprotui diagnose runs/found" in done.stdout
    kept = json.loads((race / "diagnosis.json").read_text())
    assert (kept["pairs"], kept["ended"], kept["running"]) == ([], "the budget is spent", None)
    # What was proved meanwhile stands: the search is over, and says it again without a run.
    proved = {"outcome": "equal", "through": 40, "changes": ["hash-seed"]}
    differs = {"outcome": "differs", "step": 1, "phase": "batch", "changes": []}
    (race / "diagnosis.json").write_text(json.dumps({**kept, "pairs": [differs] * 3 + [proved] * 3}))
    assert "PROVED: with PYTHONHASHSEED=0" in reprotui("diagnose", race, exit_code=1).stdout
    assert not (race / "pairs").exists()
    (race / "diagnosis.json").write_text('{"changes": 1}')
    assert "is damaged" in reprotui("diagnose", race, exit_code=2).stderr


@pytest.mark.slow
def test_what_cannot_be_diagnosed_is_refused_in_a_sentence(race: Path, reprotui: Cli) -> None:
    def refused(*arguments: object, code: int = 2) -> str:
        return reprotui("diagnose", *arguments, exit_code=code).stderr

    assert "is no time: expected 90s, 10m or 2h" in refused("--budget", "soon", race)
    assert "stands before a script's command" in refused(race, "--", "python", LOOP)
    assert "--inside needs a script" in refused("--inside", race)
    assert "is there already" in refused(race, "--name", "other")
    assert "is not a race" in refused(race / "a") or "does not exist" in refused(race / "a")
    assert "there is no experiment" in refused("no-such-thing")
    fails = reprotui.write("fails.py", "raise SystemExit('no data')\n")
    assert "a run failed, there is nothing to compare: exit code no data" in refused("--", "python", fails, code=4)
    edit_manifest(race / "b", launch=lambda launch: {**launch, "words": ["python", str(fails)]})
    assert "are different commands" in refused(race, "--trust")
    edit_manifest(race / "b", launch=lambda launch: {**launch, "directory": str(race / "gone")})
    assert "which is gone" in refused(race)
    assert not (race / "pairs").exists()


@pytest.mark.slow
def test_a_command_that_somebody_else_recorded_is_run_only_where_that_is_said(race: Path, reprotui: Cli) -> None:
    reprotui("diagnose", race, "--budget", "0.001s", exit_code=3)  # recorded here: nobody asks
    for label in "ab":  # the same mark, another command
        edit_manifest(race / label, launch=lambda launch: {**launch, "words": [*launch["words"], "--other"]})
    done = reprotui("diagnose", race, exit_code=3)
    assert "was not recorded here, and this would run the command python" in done.stderr and "--trust" in done.stderr
    assert not (race / "pairs").exists()
    assert "UNFINISHED" in reprotui("diagnose", race, "--trust", "--budget", "0.001s", exit_code=3).stdout

    async def opened() -> None:
        async with dashboard(race) as driven:
            await driven.press("J")
            await driven.press("enter")
            await driven.until("the question", lambda: isinstance(driven.app.screen, ConfirmScreen))
            assert "--other" in driven.text()
            await driven.press("escape")

    drive(opened())
    assert not (race / "pairs").exists()


@pytest.mark.slow
def test_the_report_has_the_table_and_its_json_keeps_to_the_schema(diagnosed: Path, reprotui: Cli, tmp_path: Path) -> None:
    shutil.copytree(diagnosed / "found", reprotui.runs / "found")
    report = json.loads(reprotui("report", "found", "--json", exit_code=1).stdout)
    jsonschema.validate(report, schema(strict=False))
    assert report["diagnosis"]["cause"] == ["hash-seed"]
    text = reprotui("report", "found", "--out", "-", exit_code=None).stdout or ""
    if not text:
        reprotui("report", "found", "--out", "found.md", exit_code=1)
        text = (reprotui.directory / "found.md").read_text()
    assert "## Diagnosis" in text and "PROVED: with PYTHONHASHSEED=0" in text and "Python's generator seeded" in text


@pytest.mark.slow
def test_the_dashboard_shows_what_was_found(diagnosed: Path, tmp_path: Path) -> None:
    shutil.copytree(diagnosed / "found", tmp_path / "found")

    async def looked() -> None:
        async with dashboard(tmp_path / "found") as driven:
            await driven.press("J")
            assert isinstance(driven.app.screen, DiagnosisScreen)
            text = await driven.steady()
            assert "PROVED: with PYTHONHASHSEED=0" in text and "≠ as it is" in text and "= PYTHONHASHSEED=0" in text
            await driven.press("enter")
            assert driven.said() == ["the search is over: it has its answer"]
            await driven.press("escape")
            assert driven.app.screen is driven.race

    drive(looked())


@pytest.mark.slow
def test_a_search_is_begun_in_the_dashboard_and_ended_with_what_is_known(race: Path, environment: dict[str, str]) -> None:
    async def searched() -> None:
        async with dashboard(race) as driven:
            await driven.press("J")
            assert "Nothing was searched yet" in driven.text()
            await driven.press("S")
            assert driven.said() == ["nothing is searched here"]
            await driven.press("enter")
            screen = driven.app.screen
            assert isinstance(screen, DiagnosisScreen)
            await driven.until("the first pair", lambda: screen.found is not None and screen.found.pairs)
            assert "as it is" in driven.text() and "differs at step 1 · batch" in driven.text()
            await driven.press("S")
            await driven.until("the end of the search", lambda: not screen.searching)
            await driven.until("what is said of it", lambda: "it was interrupted; not tried" in driven.text())

    drive(searched())
    kept = json.loads((race / "diagnosis.json").read_text())
    assert kept["ended"] == "it was interrupted" and kept["running"] is None
    assert len(list((race / "pairs").iterdir())) == len(kept["pairs"])  # the pair that was cut off is gone


def test_every_change_of_the_plan_is_known_to_the_observers() -> None:
    assert {name for item in FOR_SCRIPTS for name in item.inside} == set(ACTIONS)


def first(backend: str, phase: str, *chance: Chance) -> First:
    launch = {"words": ["python", "x.py"], "variables": {"NPROC": "1"}, "directory": ".", "options": "{}"}
    run = parsed({"kind": "script", "launch": launch, "devices": {"backend": backend}})
    return First(run, run, Verdict("A", "B", "diverged", 0, 1, phase), (chance, chance))


def names(found: First) -> list[str]:
    return [item.name for item in interventions_for(found)]


def test_the_plan_begins_with_what_the_ledger_names_then_what_the_phase_suggests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    drawn = Chance(0, "draw", "numpy.random.normal", "x.py", 7, "noise = normal()", None)
    assert names(first("torch cpu", "batch", drawn))[0] == "numpy"
    numpy = next(item for item in FOR_SCRIPTS if item.name == "numpy")
    assert as_change(numpy, first("torch cpu", "batch", drawn)).where == (
        "numpy.random.normal at x.py:7 draws from NumPy's generator, which nothing seeded",
    )
    assert as_change(numpy, first("torch cpu", "batch")).where == ()
    assert names(first("torch cpu", "grads"))[:2] == ["one-thread", "deterministic-torch"]
    assert names(first("torch cpu", "batch"))[:3] == ["hash-seed", "clock", "no-workers"]
    assert not {"no-donation", "deterministic-xla"} & set(names(first("torch cpu", "grads")))
    assert {"no-donation", "no-async"} < set(names(first("cpu", "grads"))) and "torch" not in names(first("cpu", "grads"))
    assert "deterministic-xla" in names(first("gpu", "grads"))
    assert names(first("numpy", "batch")) == ["hash-seed", "python", "numpy", "entropy", "clock", "one-thread"]
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert "hash-seed" not in names(first("cpu", "batch"))  # it is set already


def test_of_an_experiment_the_settings_that_differ_are_the_changes() -> None:
    config = {"lr": 0.1, "steps": 20, "threads": None, "deterministic": False}
    told = {"kind": "experiment", "config_phases": {"lr": ["optimizer"]}, "devices": {"backend": "cpu"}}
    a, b = parsed({**told, "config": config}), parsed({**told, "config": {**config, "lr": 0.2}})
    plan = interventions_for(First(a, b, Verdict("A", "B", "diverged", 0, 1, "params")))
    assert {item.name: dict(item.fields) for item in plan} == {"lr": {"lr": 0.1}, "threads": {"threads": 1}}
    assert by_name("lr", a).fields == {"lr": 0.1} and by_name("lr", a).text == "lr=0.1 as in A"


def test_changes_are_added_to_what_a_command_sets_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--a=1")
    found = {item.name: item for item in FOR_SCRIPTS}
    chosen = [found[name] for name in ("deterministic-xla", "no-autotuning", "numpy", "hash-seed")]
    command, options = changed_script(Command(("python", "x.py"), {"SIZE": "3"}), Options(loss="loss"), chosen)
    flags = "--a=1 --xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
    assert command.variables == {"SIZE": "3", "XLA_FLAGS": flags, "PYTHONHASHSEED": "0"}
    assert Options.from_text(options.to_text()).loss == "loss"
    assert tuple(Options.from_text(options.to_text()).interventions) == ("numpy",)


DRAWS = """
import json, os, random, sys, time
from reprotui.observe import interventions
interventions.apply(json.loads(sys.argv[1]))
import numpy, secrets, uuid
print(json.dumps({
    "python": random.random(), "numpy": float(numpy.random.normal()), "clock": [time.time(), time.time_ns()],
    "entropy": [float(numpy.random.default_rng().normal()), random.Random().random(), secrets.randbits(64), str(uuid.uuid4())],
}))
"""


def draws_with(changes: list[str], environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-c", DRAWS, json.dumps(changes)]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def test_changes_that_are_made_together_leave_each_other_whole(environment: dict[str, str]) -> None:
    # In the order of the plan, where generators without a seed come behind the seed of NumPy's own.
    changes = ["python", "numpy", "entropy", "clock"]
    assert draws_with(changes, environment) == draws_with(changes, environment)


@pytest.mark.parametrize("name", ["python", "numpy", "clock", "entropy"])
def test_a_change_fixes_its_own_source_of_chance_and_no_other(name: str, environment: dict[str, str]) -> None:
    one, other = (draws_with([name], environment) for _ in range(2))
    assert [source for source in one if one[source] == other[source]] == [name]
    values = [one[name], other[name]] if isinstance(one[name], float) else one[name]
    assert name in ("python", "numpy") or len(set(map(str, values))) == len(values)  # fixed, and not always the same


FRAMEWORKS = """
import os
from reprotui.observe import interventions
interventions.apply(["torch", "no-workers", "deterministic-torch", "one-thread", "no-donation"])
import torch
from torch.utils.data import DataLoader
drawn = torch.rand(1)
torch.manual_seed(0)
assert drawn == torch.rand(1)
loader = DataLoader(range(4), 2, num_workers=2, prefetch_factor=3, persistent_workers=True)
assert (loader.num_workers, loader.persistent_workers, loader.prefetch_factor) == (0, False, None), vars(loader)
assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
torch.set_num_threads(3)
assert torch.get_num_threads() == 1
import jax, jax.numpy as jnp
x = jnp.ones(3)
jax.jit(lambda x: x + 1, donate_argnums=0)(x)
assert not x.is_deleted()
"""


@pytest.mark.slow
def test_frameworks_are_switched_right_after_the_script_has_imported_them(environment: dict[str, str]) -> None:
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", FRAMEWORKS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "could not be changed" not in done.stderr
