"""Scripts in styles that are not ours, not changed: a race finds what is planted in them, and leaves their bits alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE, Cli, events_of, eventually, last_step, rows_of
from reprotui.commands import arguments_as_config
from reprotui.race.certify import median_interval
from reprotui.race.scripts import is_command, observed, parse_command
from reprotui.run_directory import RunDirectory

SCRIPTS = Path(__file__).parent / "scripts"
PLANTED = {
    "raw_jax": (6, "batch"),
    "flax_linen": (0, "init"),
    "flax_nnx": (5, "batch"),
    "equinox_text": (1, "batch"),
    "haiku_dropout": (5, "rng"),
    "optax_resume": (7, "optimizer"),
    "torch_plain": (None, "batch"),
    "torch_amp": (None, "forward"),
}
"""Step and phase at which the fault of a script shows. None: where its threads put it; see the tests."""


def race(reprotui: Cli, *arguments: object, exit_code: int, name: str = "race") -> dict[str, Any]:
    """Race with `--json`; what stands behind `--` comes last."""
    return json.loads(reprotui("race", "--json", "--name", name, *arguments, exit_code=exit_code).stdout)


def command(script: str, *arguments: str) -> str:
    """Return a script's command line as one word."""
    return " ".join([sys.executable, str(SCRIPTS / f"{script}.py"), *arguments])


def printed(text: str, name: str) -> list[str]:
    """Return the words that a script printed behind a name."""
    return next(line.split()[1:] for line in text.splitlines() if line.startswith(f"{name} "))


def first_difference(a: list[str], b: list[str]) -> int:
    """Return the number, from 1, of the first entry that differs."""
    return next(number for number, pair in enumerate(zip(a, b, strict=True), 1) if pair[0] != pair[1])


def python(reprotui: Cli, *arguments: str) -> str:
    """Run Python as a person would, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=reprotui.directory, env=reprotui.environment, capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# Eight scripts


@pytest.mark.slow(but="raw_jax")
@pytest.mark.parametrize("script", PLANTED)
def test_a_planted_fault_is_found_the_repaired_script_is_identical_and_no_bit_changes(reprotui: Cli, script: str) -> None:
    good, bad = command(script), command(script, "--fault")
    repaired, faulty = race(reprotui, "--a", good, "--b", good, "--c", bad, exit_code=1)["verdicts"]
    runs = [reprotui.runs / "race" / label for label in "abc"]
    logs = [(run / "worker.log").read_text() for run in runs]

    assert repaired["kind"] == "identical"
    rows = rows_of(runs[0])
    assert [row.step for row in rows] == list(range(len(rows))), "a record for every step, and the state before the first"
    assert all(row.loss is not None for row in rows[1:])

    step, phase = PLANTED[script]
    if script == "torch_plain":
        step = first_difference(printed(logs[0], "order"), printed(logs[2], "order"))
    assert faulty["phase"] == phase
    assert step is None or faulty["step"] == step

    plain = printed(python(reprotui, *good.split()[1:]), "digest")
    assert printed(logs[0], "digest") == printed(logs[1], "digest") == plain


@pytest.mark.slow
@pytest.mark.parametrize("script", ["raw_jax", "torch_plain"])
def test_a_script_against_itself_names_the_step(reprotui: Cli, script: str) -> None:
    verdict = race(reprotui, "--", *command(script, "--fault").split(), exit_code=1)["verdicts"][0]
    orders = [(reprotui.runs / "race" / label / "worker.log").read_text() for label in "ab"]
    step = PLANTED[script][0] or first_difference(*(printed(text, "order") for text in orders))
    assert (verdict["step"], verdict["phase"]) == (step, "batch")


# Which function is the train step

TWO = """
import jax, jax.numpy as jnp

@jax.jit
def train(w, x):
    return w - 0.1 * x, jnp.sum(w), jnp.max(w)

@jax.jit
def average(mean, w):
    return 0.9 * mean + 0.1 * w

w, mean = jnp.ones(4), jnp.zeros(4)
for step in range(8):
    w, total, largest = train(w, jnp.float32(step))
    mean = average(mean, w)
"""


@pytest.mark.slow
def test_several_candidates_are_listed_and_one_can_be_chosen(reprotui: Cli) -> None:
    reprotui.write("two.py", TWO)
    race(reprotui, "--", sys.executable, "two.py", exit_code=0, name="default")
    race(reprotui, "--step-function", "average", "--", sys.executable, "two.py", exit_code=0, name="chosen")
    default, chosen = (dict(events_of(reprotui.runs / name / "a")) for name in ("default", "chosen"))
    assert default["compiled"] == "train step: train"
    assert "average" in default["candidates"] and "--step-function NAME" in default["candidates"]
    assert chosen["compiled"] == "train step: average"
    assert rows_of(reprotui.runs / "default" / "a")[1].loss == 4.0
    assert json.loads(rows_of(reprotui.runs / "default" / "a")[1].metrics or "{}") == {"2": 1.0}


@pytest.mark.slow
def test_a_step_function_that_is_not_there_is_said_with_those_that_are(reprotui: Cli) -> None:
    reprotui.write("two.py", TWO)
    race(reprotui, "--step-function", "nothing", "--", sys.executable, "two.py", exit_code=3)
    assert "called were: train, average" in dict(events_of(reprotui.runs / "race" / "a"))["no-step-function"]


@pytest.mark.slow
def test_a_loop_inside_one_function_is_said_and_what_goes_in_and_out_is_observed(reprotui: Cli) -> None:
    script = """
import jax, jax.numpy as jnp, sys
def body(w, x):
    return w - 0.1 * x, jnp.sum(w)
w, losses = jax.jit(lambda w, xs: jax.lax.scan(body, w, xs))(jnp.ones(3), jnp.arange(18.0).reshape(6, 3) + (len(sys.argv) > 1))
"""
    reprotui.write("scan.py", script)
    found = race(
        reprotui, "--a", f"{sys.executable} scan.py", "--b", f"{sys.executable} scan.py", "--c", f"{sys.executable} scan.py x",
        exit_code=1,
    )  # fmt: skip
    assert "scan, fori_loop" in dict(events_of(reprotui.runs / "race" / "a"))["loop-hidden"]
    same, other = found["verdicts"]
    assert same["kind"] == "identical"
    assert (other["step"], other["phase"], other["leaves"][0]["path"]) == (1, "batch", "batch/xs")


@pytest.mark.slow
def test_a_script_without_a_step_is_not_called_identical(reprotui: Cli) -> None:
    reprotui.write("nothing.py", "print('no training here')\n")
    found = race(reprotui, "--", sys.executable, "nothing.py", exit_code=3)
    assert found["verdicts"][0]["kind"] != "identical"
    assert "nothing-observed" in dict(events_of(reprotui.runs / "race" / "a"))
    assert "no step in common. A and B: no step was found: neither jax nor torch was imported" in found["verdicts"][0]["reason"]


@pytest.mark.slow
def test_without_a_step_the_script_hears_what_was_seen_and_what_to_put_into_its_loop(reprotui: Cli) -> None:
    script = """
import jax, jax.numpy as jnp
never = jax.jit(lambda w: w)
@jax.jit
def describe(weights, opt_state, x, y, key):
    return ()
for step in range(4):
    describe(jnp.ones(3), jnp.zeros(3), jnp.ones(4), jnp.ones(2), jax.random.key(0))
"""
    reprotui.write("described.py", script)
    found = race(reprotui, "--", sys.executable, "described.py", exit_code=3)["verdicts"][0]
    assert (
        "describe (4 calls): it gave no array" in found["reason"] and "<lambda> (0 calls): it was not called" in found["reason"]
    )
    log = (reprotui.runs / "race" / "a" / "worker.log").read_text()
    assert "--step-function describe" in log
    line = "rec.step(step, loss=loss, params=weights, opt_state=opt_state, batch=(x, y), rng=key)"
    assert line in log and "from reprotui import Recorder" in log


@pytest.mark.slow
def test_what_jitted_functions_make_before_the_step_is_told_apart(reprotui: Cli) -> None:
    script = """
import jax, jax.numpy as jnp, sys
init = jax.jit(lambda key: {"w": jax.random.normal(key, (3,))})
augment = jax.jit(lambda x, key: x + 0.1 * jax.random.normal(key, x.shape))
train = jax.jit(lambda params, x: (jax.tree.map(lambda p: p - 0.1 * x.mean(0), params), jnp.sum(x)), donate_argnums=0)
params = init(jax.random.key(sys.argv.count("seed")))
for step in range(6):
    x = augment(jnp.full((4, 3), float(step)), jax.random.key(step + (step == 3) * 9 * sys.argv.count("key")))
    params, loss = train(params, x)
"""
    reprotui.write("made.py", script)
    words = f"{sys.executable} made.py"
    verdicts = race(reprotui, "--a", words, "--b", f"{words} seed", "--c", f"{words} key", exit_code=1)["verdicts"]
    seed, key = ((item["step"], item["phase"], item["leaves"][0]["path"]) for item in verdicts)
    # What augmentation gives is the batch, and stands before the key that went into it.
    assert seed == (0, "init", "params/w")
    assert key == (4, "batch", "batch/result")


@pytest.mark.slow
def test_a_computation_that_no_input_explains_is_called_so_with_what_to_look_for(reprotui: Cli) -> None:
    script = """
import os, jax, jax.numpy as jnp, numpy as np
def train(w, x):
    drawn = jax.pure_callback(lambda: np.float32(os.getpid()), jax.ShapeDtypeStruct((), jnp.float32))
    return w - x.mean(0), jnp.sum(w * x) + drawn
train = jax.jit(train)
w = jnp.ones(3)
for step in range(6):
    w, loss = train(w, np.ones((4, 3), np.float32))
"""
    reprotui.write("drawn.py", script)
    found = race(reprotui, "--", sys.executable, "drawn.py", exit_code=1)["verdicts"][0]
    assert (found["step"], found["phase"], found["cause"]["kind"]) == (1, "forward", "nondeterminism")
    assert "a batch overwritten while it is still read" in found["cause"]["advice"]


@pytest.mark.slow
def test_state_that_is_replaced_between_steps_is_said(reprotui: Cli) -> None:
    reprotui.write("two.py", TWO.replace("    mean = ", "    if step == 5:\n        w = w + 0\n    mean = "))
    race(reprotui, "--", sys.executable, "two.py", exit_code=0)
    assert dict(events_of(reprotui.runs / "race" / "a"))["state-replaced"] == "step 7 does not start from what step 6 gave: w"


# How runs end, and what they obey


@pytest.mark.slow
def test_an_error_of_the_script_is_the_run_s_and_the_traceback_is_the_script_s(reprotui: Cli) -> None:
    reprotui.write("two.py", TWO.replace("    mean = ", "    assert step < 5, 'too far'\n    mean = "))
    found = race(reprotui, "--", sys.executable, "two.py", exit_code=4)
    result = found["runs"]["a"]["result"]
    assert (result["state"], result["error"]) == ("failed", "AssertionError: too far")
    assert last_step(reprotui.runs / "race" / "a") == 6
    log = (reprotui.runs / "race" / "a" / "worker.log").read_text()
    assert "AssertionError: too far" in log and "bootstrap" not in log


@pytest.mark.slow
def test_a_disk_that_is_full_ends_the_observation_and_not_the_training(reprotui: Cli) -> None:
    # More steps than records can wait for the writer: it meets the full disk before the last of them.
    script = """
import jax, jax.numpy as jnp, numpy as np
train = jax.jit(lambda w, x: (jax.tree.map(lambda v: v - 0.1 * x.mean(), w), x.sum()))
w = [jnp.ones(3)] * 40
for step in range(3000):
    w, loss = train(w, np.full((4, 3), step, np.float32))
print("trained to the end", w[0])
"""
    reprotui.write("long.py", script)
    words = [sys.executable, "long.py"]
    found = json.loads(reprotui("race", "--json", "--name", "race", "--", *words, exit_code=4, file_size=150_000).stdout)
    assert all("cannot be written" in run["result"]["error"] and "digests" not in run["result"] for run in found["runs"].values())
    log = (reprotui.runs / "race" / "a" / "worker.log").read_text()
    assert "observing ended: WorkerFailedError" in log and "trained to the end" in log
    assert 0 < last_step(reprotui.runs / "race" / "a") < 3000


@pytest.mark.slow
def test_an_observed_script_pauses_and_stops(reprotui: Cli) -> None:
    reprotui.write("two.py", TWO.replace("range(8)", "range(10**9)"))
    process = reprotui.start("race", "--name", "race", "--headless", "--", sys.executable, "two.py")
    runs = [reprotui.runs / "race" / label for label in "ab"]
    for run in runs:
        eventually("a record", lambda run=run: last_step(run) >= 5)
    reprotui("control", "race", "pause")
    for run in runs:
        eventually("paused", lambda run=run: "paused" in dict(events_of(run)))
    reprotui("control", "race", "stop")
    process.communicate(timeout=PATIENCE)
    assert [RunDirectory(run).state() for run in runs] == ["stopped", "stopped"]


@pytest.mark.slow
def test_another_command_than_python_is_observed_below_it(reprotui: Cli) -> None:
    reprotui.write("two.py", TWO)
    reprotui.write("train.sh", f"#!/bin/sh\n{sys.executable} -c 'import jax'\nexec {sys.executable} two.py\n")
    found = race(reprotui, "--", "sh", "train.sh", exit_code=0)
    assert found["verdicts"][0]["equal_through"] == 8
    assert found["runs"]["a"]["config"] == {"command": "sh train.sh"}


@pytest.mark.slow
def test_a_module_and_variables_before_a_command(reprotui: Cli) -> None:
    reprotui.write("package/__init__.py", "")
    check = "import os, sys\nassert sys.argv[1:] == ['--lr', '0.1'], sys.argv\nprint(os.environ['W'])\n"
    reprotui.write("package/train.py", TWO + check)
    words = f"{sys.executable} -m package.train --lr 0.1"
    found = race(reprotui, "--a", f"W=1 {words}", "--b", f"W=2 {words}", exit_code=0)
    assert found["runs"]["b"]["config"] == {"lr": 0.1, "W": "2"}
    assert (reprotui.runs / "race" / "b" / "worker.log").read_text().endswith("2\n")


@pytest.mark.slow
def test_two_scripts_by_hand_open_together(reprotui: Cli) -> None:
    reprotui.write("two.py", TWO)
    for name in ("one", "two"):
        python(reprotui, "-m", "reprotui.observe", "--name", name, "two.py")
    assert "IDENTICAL through step 8" in reprotui("open", "one", "two", "--once").stdout


# Versions


@pytest.mark.slow
def test_two_revisions_race_and_the_difference_of_the_sources_is_the_evidence(reprotui: Cli) -> None:
    def git(*arguments: str) -> str:
        settings = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", *settings, *arguments], cwd=reprotui.directory, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    reprotui.write(".gitignore", "runs\n")
    reprotui.write("two.py", TWO)
    git("add", ".")
    git("commit", "-q", "-m", "one")
    reprotui.write("two.py", TWO.replace("w - 0.1 * x", "w - x * 0.1"))
    git("commit", "-q", "-a", "-m", "a refactoring that changes no bit")
    reprotui.write("two.py", TWO.replace("w - 0.1 * x", "w - 0.1 * x * (1 + 1e-6)"))
    git("commit", "-q", "-a", "-m", "one that does")
    script = ("--", sys.executable, "two.py")
    same = race(reprotui, "--a-rev", "HEAD~2", "--b-rev", "HEAD~1", *script, exit_code=0, name="same")
    assert same["verdicts"][0]["kind"] == "identical"
    other = race(reprotui, "--a-rev", "HEAD~2", "--b-rev", "HEAD", *script, exit_code=1, name="other")
    verdict = other["verdicts"][0]
    assert (verdict["step"], verdict["phase"]) == (2, "params")
    assert "(two.py)" in verdict["cause"]["sentence"]
    manifest = RunDirectory(reprotui.runs / "other" / "b").manifest().document
    assert manifest["source_difference"]["changed"] == ["two.py"]
    assert manifest["version"]["commit"] == git("rev-parse", "HEAD")
    assert "+    return w - 0.1 * x * (1 + 1e-6)" in (reprotui.runs / "other" / "sources.diff").read_text()
    assert len(git("worktree", "list").splitlines()) == 1


@pytest.mark.slow
def test_two_folders_race(reprotui: Cli) -> None:
    reprotui.write("one/two.py", TWO)
    reprotui.write("other/two.py", TWO.replace("0.1 * x", "0.2 * x"))
    arguments = ("--a-dir", "one", "--b-dir", "other", "--", sys.executable, "two.py")
    assert "(two.py)" in race(reprotui, *arguments, exit_code=1)["verdicts"][0]["cause"]["sentence"]


# The certificate


def certificate(reprotui: Cli, *arguments: str, exit_code: int) -> dict[str, Any]:
    """Certify with `--json`."""
    return json.loads(reprotui("certify", "--json", *arguments, exit_code=exit_code).stdout)


def test_a_script_is_certified(reprotui: Cli) -> None:
    reprotui.write("two.py", TWO)
    found = certificate(reprotui, "--", sys.executable, "two.py", exit_code=0)
    assert found["kind"] == "unchanged"
    assert [trial["observed"] for trial in found["trials"]] == [False, True, False, True]
    assert len({trial["state"] for trial in found["trials"]}) == 1 and found["trials"][0]["state"]
    assert found["overhead"] > 0 and found["overhead_run"] > 0
    assert len(found["overheads"]) == 2 and min(found["overheads"]) <= found["overhead"] <= max(found["overheads"])


@pytest.mark.slow
def test_observation_that_changes_something_is_reported_and_so_is_a_script_that_never_repeats_itself(reprotui: Cli) -> None:
    save = "import numpy as np, os, sys\n{how}\nnp.save('out.npy', np.asarray(w))\n"
    touched = "if 'reprotui.record.lanes' in sys.modules:\n    w = w + 1"
    reprotui.write("touched.py", TWO + save.format(how=touched))
    found = certificate(reprotui, "--file", "*.npy", "--", sys.executable, "touched.py", exit_code=1)
    assert (found["kind"], found["changed"]) == ("changed", ["out.npy"])
    assert all(trial["state"] is None for trial in found["trials"] if not trial["observed"])
    reprotui.write("changing.py", TWO + save.format(how="w = w + os.urandom(1)[0] + os.getpid()"))
    found = certificate(reprotui, "--file", "out.npy", "--", sys.executable, "changing.py", exit_code=3)
    assert found["kind"] == "irreproducible"


def test_the_overhead_has_an_interval_where_there_are_pairs_enough() -> None:
    # The ranks of the sign test's interval, as tables give them: six values are the fewest that reach 95 %.
    assert median_interval([1.0] * 5) is None
    for count, low, high in ((6, 1, 6), (12, 3, 10), (30, 10, 21)):
        values = [float(value) for value in range(count, 0, -1)]
        assert median_interval(values) == (low, high)


def test_a_script_that_fails_is_not_certified(reprotui: Cli) -> None:
    reprotui.write("bad.py", "raise SystemExit(7)\n")
    assert certificate(reprotui, "--", sys.executable, "bad.py", exit_code=4)["trials"][0]["exit_code"] == 7


# The command line


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, problem",
    [
        (("--", "python", "absent.py"), "absent.py does not exist"),
        (("--", "no-such-command-anywhere"), "there is no command no-such-command-anywhere"),
        (("--a", "python x.py"), "one command leaves nothing to compare"),
        (("--a", "python x.py", "--b", "seed=1"), "each of --a, --b … is one command in quotes"),
        (("digits-mlp", "--", "python", "x.py"), "'digits-mlp' stands before a script's command"),
        (("--a-dir", "."), "--a-dir needs a script"),
        (("--loss", "x"), "--loss needs a script"),
        (("--a-dir", "absent", "--", "python", "x.py"), "absent does not exist"),
        (("--a-rev", "HEAD", "--", "python", "x.py"), "git rev-parse"),
        (("--a", "python 'x.py", "--b", "python x.py"), "cannot be read as a command"),
    ],
)  # fmt: skip
def test_what_cannot_be_raced_is_said_and_leaves_nothing_behind(reprotui: Cli, arguments: tuple[str, ...], problem: str) -> None:
    reprotui.write("x.py", "")
    done = reprotui("race", *arguments, exit_code=2)
    assert problem in done.stderr
    assert not list(reprotui.runs.glob("*"))


def test_what_is_a_command_and_how_it_is_observed() -> None:
    assert is_command(["python train.py"]) and is_command(["NPROC=1 python train.py"])
    assert not is_command(["text=my file.txt"]) and not is_command(["seed=0"]) and not is_command(["seed=0", "lr=1"])
    assert observed(["python", "-u", "-W", "error", "t.py", "-x"])[0][1:] == [
        "-u",
        "-W",
        "error",
        "-m",
        "reprotui.observe",
        "t.py",
        "-x",
    ]
    assert observed(["python3", "-m", "pkg", "a"])[0][1:] == ["-m", "reprotui.observe", "-m", "pkg", "a"]
    words, variables = observed(["python", "-c", "import train"])
    assert words == ["python", "-c", "import train"] and (Path(variables["PYTHONPATH"]) / "sitecustomize.py").is_file()
    assert str(parse_command("A=1 python t.py --name 'x y'")) == "A=1 python t.py --name 'x y'"
    assert arguments_as_config(["--lr=1e-3", "--seed", "-1", "data", "--fast", "--name", "x"]) == {
        "lr": 1e-3, "seed": -1, "argument_1": "data", "fast": True, "name": "x",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_library_that_asks_whether_a_framework_is_there_does_not_hide_it(reprotui: Cli, framework: str) -> None:
    training = {
        "jax": "import jax\ntrain = jax.jit(lambda w: (w - 0.1 * w, (w * w).sum()))\nw = jax.numpy.ones(3)\n"
        "for _ in range(5):\n    w, loss = train(w)\n",
        "torch": "import torch\nmodel = torch.nn.Linear(2, 1)\noptimizer = torch.optim.SGD(model.parameters(), 0.1)\n"
        "for _ in range(5):\n    optimizer.zero_grad(), model(torch.ones(1, 2)).sum().backward(), optimizer.step()\n",
    }
    asked = f"import importlib.util\nassert importlib.util.find_spec({framework!r}) is not None\n"
    reprotui.write("asked.py", asked + training[framework])
    python(reprotui, "-m", "reprotui.observe", "--name", "asked", "asked.py")
    assert last_step(reprotui.runs / "asked") == 5


@pytest.mark.slow
def test_what_a_script_does_after_its_last_step_is_waited_for(reprotui: Cli) -> None:
    reprotui.write(
        "late.py",
        "import atexit, sys, time, jax\nfrom pathlib import Path\n"
        "def save(path=Path(f'{sys.argv[1]}.txt')):\n    time.sleep(3)\n    path.write_text('saved')\n    print('saved')\n"
        "atexit.register(save)\ntrain = jax.jit(lambda w: (w - 0.1 * w, (w * w).sum()))\nw = jax.numpy.ones(3)\n"
        "for _ in range(5):\n    w, loss = train(w)\n",
    )
    race(reprotui, "--a", f"{sys.executable} late.py a", "--b", f"{sys.executable} late.py b", exit_code=0)
    for label in ("a", "b"):
        assert (reprotui.directory / f"{label}.txt").read_text() == "saved"
        assert RunDirectory(reprotui.runs / "race" / label).log_tail(1) == ["saved"]
