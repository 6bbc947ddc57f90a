"""Races from the command line to the verdict: what is equal, what differs, where, and why."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import CNN, ENDLESS, MLP, PATIENCE, TRANSFORMER, edit_manifest, eventually, last_step, rows_of
from reprotui.experiments.config import make_config
from reprotui.experiments.discovery import ExperimentReference, load_experiment_class
from reprotui.experiments.registry import BUILT_IN
from reprotui.record.control import Control
from reprotui.schedule import Recording
from reprotui.trace import Trace, TraceWriter
from reprotui.worker.training import prepare, run_loop

DIGITS = ["digits-mlp", "digits-cnn", "transformer"]
OPTIMIZERS = ["sgd", "momentum", "adam", "adamw"]
SMALL = {
    "digits-mlp": {"width": 32, "depth": 1},
    "digits-cnn": {"width": 4, "depth": 1},
    "transformer": {"width": 16, "heads": 2, "depth": 1, "modulus": 11},
}

USER_EXPERIMENT = """
import jax
import jax.numpy as jnp
import numpy as np
from reprotui.experiments import ExperimentConfig, State, StepOutput


class Experiment:
    def __init__(self, config):
        self.config = config

    def init(self, key):
        return State({{"w": jax.random.normal(key, (4,))}}, ())

    def batch(self, step):
        {batch}

    def train_step(self, state, batch, key):
        loss, grads = jax.value_and_grad(lambda p: jnp.mean((batch @ p["w"] - 1.0) ** 2))(state.params)
        params = jax.tree.map(lambda p, g: p - self.config.lr * g, state.params, grads)
        return State(params, ()), StepOutput(loss, grads)
"""
SEEDED = USER_EXPERIMENT.format(batch='return np.random.default_rng(step).normal(size=(8, 4)).astype("float32")')
UNSEEDED = USER_EXPERIMENT.format(batch='return np.random.default_rng().normal(size=(8, 4)).astype("float32")')


def verdict_of(race: dict[str, Any], label: str) -> dict[str, Any]:
    """Return the verdict of one run against the reference."""
    return next(verdict for verdict in race["verdicts"] if verdict["b"] == label.upper())


def place(verdict: dict[str, Any]) -> tuple[int, str]:
    """Return step and phase of the first difference."""
    return verdict["step"], verdict["phase"]


def paths(verdict: dict[str, Any]) -> list[str]:
    """Return the differing leaves."""
    return [leaf["path"] for leaf in verdict["leaves"]]


# The same config twice


@pytest.mark.slow(but="cnn")
@pytest.mark.parametrize(
    "arguments",
    [
        MLP,
        (*MLP, "data=synthetic"),
        CNN,
        TRANSFORMER,
        ("transformer", "width=16", "heads=2", "depth=1", "context=8", "text=t.txt", "steps=20"),
    ],
    ids=["mlp", "synthetic", "cnn", "modular", "text"],
)
def test_the_same_config_twice_is_identical(reprotui: Any, arguments: tuple[str, ...]) -> None:
    reprotui.write("t.txt", "the quick brown fox jumps over the lazy dog. äöü → ☃\n" * 4)
    if "text=t.txt" in arguments:
        reprotui("run", *arguments)  # so that one process compiles it, not both at once
    race = reprotui.race(*arguments)
    digests = [run["result"]["digests"] for run in race["runs"].values()]
    assert race["verdicts"][0]["kind"] == "identical"
    assert race["verdicts"][0]["equal_through"] == 20
    assert digests[0] == digests[1]
    assert race["groups"] == [["A", "B"]]
    assert all(run["state"] == "finished" for run in race["runs"].values())


@pytest.mark.slow
def test_three_runs_agree_and_print_who_agrees_with_whom(reprotui: Any) -> None:
    done = reprotui("race", *MLP, "--repeat", 3, "--headless", "--name", "three")
    assert done.stdout.count("IDENTICAL through step 20") == 3
    assert "IDENTICAL through step 20 · A = B = C" in done.stdout
    assert json.loads((reprotui.runs / "three" / "race.json").read_text())["groups"] == [["A", "B", "C"]]


@pytest.mark.slow
def test_nan_loss_in_both_runs_is_identical_because_the_bits_are(reprotui: Any) -> None:
    race = reprotui.race(*MLP, "lr=1e30")
    assert race["verdicts"][0]["kind"] == "identical"
    assert race["runs"]["a"]["result"]["final"]["loss"] == "nan"
    assert rows_of(reprotui.runs / "race" / "a")[-1].loss_bits is not None


# One difference each, told apart


@pytest.fixture
def model_race(race_once: Any) -> dict[str, Any]:
    """Return a race of one config against seven that differ in model, keys or optimizer."""
    return race_once(
        "models", *MLP, "--a", "--b", "seed=1", "--c", "lr=0.01", "--d", "shuffle_from=7", "--e", "prng=rbg",
        "--f", "optimizer=sgd", "--g", "dtype=bfloat16", "--h", "width=16", exit_code=1,
    )[1]  # fmt: skip


@pytest.fixture
def data_race(race_once: Any) -> dict[str, Any]:
    """Return a race of one config against six that differ in data or length, and one that does not."""
    return race_once(
        "data", *MLP, "--a", "--b", "batch_size=32", "--c", "data=synthetic", "--d", "shuffle=sequential", "--e", "lr=1e30",
        "--f", "steps=12", "--g", "seed=0", exit_code=1,
    )[1]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "where", "kind", "named"),
    [
        ("b", (0, "init"), "initialisation", "seed: 0 → 1"),
        ("c", (1, "params"), "optimizer", "lr: 0.05 → 0.01"),
        ("d", (7, "batch"), "data-order", "shuffle_from: none → 7"),
        ("e", (0, "init"), "initialisation", "prng: threefry2x32 → rbg"),
        ("f", (0, "init"), "config", "optimizer: momentum → sgd"),
        ("g", (0, "init"), "config", "dtype: float32 → bfloat16"),
        ("h", (0, "init"), "config", "width: 32 → 16"),
    ],
    ids=["seed", "lr", "shuffle_from", "prng", "optimizer", "dtype", "width"],
)
@pytest.mark.slow(but="seed")
def test_a_difference_of_model_keys_or_optimizer_is_placed_and_named(
    model_race: dict[str, Any], label: str, where: tuple[int, str], kind: str, named: str
) -> None:
    verdict = verdict_of(model_race, label)
    assert (verdict["kind"], place(verdict)) == ("diverged", where)
    assert (verdict["cause"]["kind"], verdict["cause"]["explained_by"]) == (kind, [named])
    assert named in verdict["cause"]["sentence"]
    assert verdict["equal_through"] == (where[0] - 1 if where[0] else None)


def test_trees_that_differ_are_told_leaf_by_leaf(model_race: dict[str, Any]) -> None:
    optimizer, dtype, width = (verdict_of(model_race, label) for label in "fgh")
    assert {leaf["kind"] for leaf in optimizer["leaves"]} == {"only in A"}
    assert all(path.startswith("opt_state/0/trace/") for path in paths(optimizer))
    assert {leaf["kind"] for leaf in dtype["leaves"]} == {"dtype"}
    assert dtype["leaves"][0]["b"]["dtype"] == "bfloat16"
    kernel = next(leaf for leaf in width["leaves"] if leaf["path"] == "params/dense_0/kernel")
    assert (kernel["kind"], kernel["a"]["shape"], kernel["b"]["shape"]) == ("shape", [64, 32], [64, 16])
    assert "params/dense_1/bias" not in paths(width)


def test_a_fresh_learning_rate_changes_neither_gradients_nor_loss(model_race: dict[str, Any]) -> None:
    verdict = verdict_of(model_race, "c")
    assert verdict["phases"] == ["params"]
    assert all(path.startswith("params/") for path in paths(verdict))


def test_every_run_of_a_wide_race_is_a_group_of_its_own(model_race: dict[str, Any]) -> None:
    assert model_race["groups"] == [[label] for label in "ABCDEFGH"]


@pytest.mark.parametrize(
    ("label", "where", "kind", "named"),
    [
        ("b", (1, "batch"), "data-order", "batch_size: 64 → 32"),
        ("c", (1, "batch"), "data", "data: digits → synthetic"),
        ("d", (1, "batch"), "data-order", "shuffle: seeded → sequential"),
        ("e", (1, "params"), "optimizer", "lr: 0.05 → 1e+30"),
    ],
    ids=["batch_size", "data", "shuffle", "nan-in-one"],
)
def test_a_difference_of_data_is_placed_and_named(
    data_race: dict[str, Any], label: str, where: tuple[int, str], kind: str, named: str
) -> None:
    verdict = verdict_of(data_race, label)
    assert (verdict["kind"], place(verdict)) == ("diverged", where)
    assert (verdict["cause"]["kind"], verdict["cause"]["explained_by"]) == (kind, [named])


def test_unequal_lengths_are_never_called_equal(data_race: dict[str, Any]) -> None:
    verdict = verdict_of(data_race, "f")
    assert verdict["kind"] == "incomplete"
    assert verdict["equal_through"] == 12
    assert "F stops there, A goes on to step 20" in verdict["headline"]


def test_the_twin_among_different_runs_is_identical_and_in_one_group(data_race: dict[str, Any]) -> None:
    assert verdict_of(data_race, "g")["kind"] == "identical"
    assert ["A", "F", "G"] in data_race["groups"]
    assert data_race["runs"]["e"]["result"]["final"]["loss"] == "nan"


def test_race_json_has_its_schema(data_race: dict[str, Any]) -> None:
    assert set(data_race) == {"race", "exit_code", "verdicts", "agreement", "groups", "chance", "runs"}
    assert data_race["exit_code"] == 1
    assert list(data_race["runs"]) == list("abcdefg")
    for run in data_race["runs"].values():
        assert set(run) == {"path", "state", "why", "config", "recorded_with", "result", "ranks"}
        assert set(run["result"]) == {"state", "last_step", "final", "digests", "torn", "ended_ns"}
    fields = {"headline", "a", "b", "kind", "equal_through", "step", "phase", "phases", "leaves", "cause", "records", "reason"}
    cause = {"kind", "sentence", "explained_by", "evidence", "unrelated", "advice"}
    for verdict in data_race["verdicts"]:
        assert set(verdict) == fields | {"notes", "not_finite", "distance", "ends_equal", "torn", "ranks"}
        assert verdict["a"] == "A"
        assert verdict["cause"] is None or set(verdict["cause"]) == cause
        for leaf in verdict["leaves"]:
            assert set(leaf) == {"phase", "path", "kind", "a", "b"}


@pytest.mark.slow
def test_one_thread_against_two_differs_in_gradients_with_the_count_named(
    reprotui: Any, bare_environment: dict[str, str]
) -> None:
    arguments = ("width=512", "depth=2", "batch_size=256", "steps=3", "--a", "threads=1", "--b", "threads=2")
    race = reprotui.race(*arguments, exit_code=1, env=bare_environment)
    verdict = race["verdicts"][0]
    assert place(verdict) == (1, "grads")
    assert verdict["cause"]["kind"] == "computation"
    assert verdict["cause"]["explained_by"][0] == "threads: 1 → 2"
    assert "traced program (jaxpr): equal" in verdict["cause"]["evidence"]


# Silent data corruption


@pytest.fixture
def flipped_mlp(race_once: Any) -> tuple[Path, dict[str, Any]]:
    """Return a race with bit flips in parameters and optimizer state, and a run without."""
    params, moments = "params/dense_0/kernel:7:12", "opt_state/0/trace/dense_1/bias:3:0"
    return race_once(
        "flips-mlp", *MLP, "--a", "--b", f"perturb=0:{params}", "--c", f"perturb=10:{params}", "--d", f"perturb=20:{params}",
        "--e", f"perturb=0:{moments}", "--f", f"perturb=10:{moments}", "--g", f"perturb=20:{moments}", "--h", exit_code=1,
    )  # fmt: skip


@pytest.fixture
def flipped_cnn(race_once: Any) -> tuple[Path, dict[str, Any]]:
    """Return a race with bit flips in batch statistics, and a run without."""
    leaf = "extra/norm_0/mean:2:31"
    return race_once(
        "flips-cnn", *CNN, "--a", "--b", f"perturb=0:{leaf}", "--c", f"perturb=10:{leaf}", "--d", f"perturb=20:{leaf}", "--e",
        exit_code=1,
    )  # fmt: skip


FLIPS = [
    ("mlp", "b", (0, "init"), "params/dense_0/kernel"),
    ("mlp", "c", (10, "params"), "params/dense_0/kernel"),
    ("mlp", "d", (20, "params"), "params/dense_0/kernel"),
    ("mlp", "e", (0, "init"), "opt_state/0/trace/dense_1/bias"),
    ("mlp", "f", (10, "optimizer"), "opt_state/0/trace/dense_1/bias"),
    ("mlp", "g", (20, "optimizer"), "opt_state/0/trace/dense_1/bias"),
    ("cnn", "b", (0, "init"), "extra/norm_0/mean"),
    ("cnn", "c", (10, "forward"), "extra/norm_0/mean"),
    ("cnn", "d", (20, "forward"), "extra/norm_0/mean"),
]


@pytest.fixture
def flipped(flipped_mlp: Any, flipped_cnn: Any) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return both races by experiment."""
    return {"mlp": flipped_mlp, "cnn": flipped_cnn}


@pytest.mark.parametrize(("experiment", "label", "where", "leaf"), FLIPS, ids=lambda value: str(value))
def test_a_flipped_bit_is_found_at_its_step_and_leaf(
    flipped: Any, experiment: str, label: str, where: tuple[int, str], leaf: str
) -> None:
    verdict = verdict_of(flipped[experiment][1], label)
    assert (place(verdict), paths(verdict)) == (where, [leaf])
    assert verdict["cause"]["kind"] == "corruption"
    assert "simulated" in verdict["cause"]["sentence"]
    assert verdict["leaves"][0]["kind"] == "bits"


@pytest.mark.parametrize(("experiment", "label", "where", "leaf"), FLIPS, ids=lambda value: str(value))
def test_a_flipped_bit_that_no_config_explains_is_called_what_it_is(
    reprotui: Any, flipped: Any, experiment: str, label: str, where: tuple[int, str], leaf: str
) -> None:
    path = shutil.copytree(flipped[experiment][0], reprotui.directory / "copy")
    edit_manifest(path / label, config=lambda config: {**config, "perturb": None})
    verdict = reprotui.compare(path / "a", path / label, exit_code=1)["verdicts"][0]
    assert (place(verdict), paths(verdict)) == (where, [leaf])
    assert verdict["cause"]["explained_by"] == []
    assert verdict["cause"]["unrelated"] == []
    if where[0]:
        assert verdict["cause"]["kind"] == "corruption"
        assert f"the state changed in {leaf} while all inputs of the step are equal" in verdict["cause"]["sentence"]
    else:
        assert verdict["cause"]["kind"] == "nondeterminism"
    assert "--repeat 3" in verdict["cause"]["advice"]


def test_runs_without_a_flip_beside_flipped_ones_are_identical(flipped: Any) -> None:
    assert verdict_of(flipped["mlp"][1], "h")["kind"] == "identical"
    assert verdict_of(flipped["cnn"][1], "e")["kind"] == "identical"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("perturb", "said"),
    [
        ("21:params/dense_0/kernel:0:0", "step 21 is after the last one, 20"),
        ("1:params/dense_0/kernal:0:0", "there is no leaf 'params/dense_0/kernal'; there is params/dense_0/kernel"),
        ("1:params/dense_0/bias:32:0", "params/dense_0/bias has 32 elements"),
        ("1:params/dense_0/bias:0:32", "there is no bit 32"),
    ],
    ids=["step", "leaf", "index", "bit"],
)
def test_a_flip_of_something_that_does_not_exist_is_bad_input(reprotui: Any, perturb: str, said: str) -> None:
    done = reprotui("run", *MLP, f"perturb={perturb}", exit_code=2)
    assert said in done.stderr
    assert list(reprotui.runs.iterdir()) == []


# What is recorded


@pytest.mark.slow
def test_every_tenth_step_brackets_the_difference(reprotui: Any) -> None:
    flip = "perturb=15:params/dense_1/bias:0:28"
    race = reprotui.race(*MLP, "--every", 10, "--a", "--b", "shuffle_from=7", "--c", "lr=0.01", "--d", flip, "--e", exit_code=1)
    assert [row.step for row in rows_of(reprotui.runs / "race" / "a")] == [0, 10, 20]
    order, rate, flipped = (verdict_of(race, label) for label in "bcd")
    assert (place(order), order["equal_through"]) == ((10, "batch"), 0)
    assert "steps between 0 and 10 were not recorded: it began in one of them or here" in order["cause"]["evidence"]
    assert order["cause"]["explained_by"] == ["shuffle_from: none → 7"]
    assert (place(rate), rate["equal_through"]) == ((10, "forward"), 0)
    assert rate["cause"]["explained_by"] == ["lr: 0.05 → 0.01"]
    assert rate["cause"]["unrelated"] == []
    assert (place(flipped), flipped["equal_through"]) == ((20, "forward"), 10)
    assert flipped["cause"]["kind"] == "corruption"
    assert verdict_of(race, "e")["kind"] == "identical"


@pytest.mark.slow
def test_an_odd_last_step_is_recorded_whatever_every_says(reprotui: Any) -> None:
    reprotui.race(*MLP, "steps=7", "--every", 5)
    assert [row.step for row in rows_of(reprotui.runs / "race" / "a")] == [0, 5, 7]


@pytest.mark.slow
def test_runs_of_other_paces_open_together_and_are_reported_on(reprotui: Any) -> None:
    reprotui("run", *MLP, "--name", "e1")
    reprotui("run", *MLP, "--every", 7, "--name", "e7")
    reprotui("run", *MLP, "perturb=9:params/dense_1/bias:0:28", "--every", 7, "--name", "flipped")
    assert [row.step for row in rows_of(reprotui.runs / "e7")] == [0, 7, 14, 20]
    for pair in (("e1", "e7"), ("e7", "e1")):
        assert "IDENTICAL in 4 recorded steps through step 20" in reprotui("open", *pair, "--once").stdout
        assert "IDENTICAL in 4 recorded steps through step 20" in reprotui("report", *pair).stdout
    for pair in (("e1", "flipped"), ("flipped", "e1")):
        assert "DIVERGED at step 14" in reprotui("open", *pair, "--once", exit_code=1).stdout
        assert "DIVERGED at step 14" in reprotui("report", *pair, exit_code=1).stdout


@pytest.mark.slow
def test_a_difference_where_leaf_rows_are_not_stored_says_so(reprotui: Any) -> None:
    arguments = (*MLP, "--leaves-every", 5, "--a", "--b", "perturb=7:params/dense_0/kernel:0:3")
    verdict = reprotui.race(*arguments, "--c", "perturb=10:params/dense_0/kernel:0:3", exit_code=1)["verdicts"]
    assert (place(verdict[0]), verdict[0]["leaves"]) == ((7, "params"), [])
    assert "leaf rows are not stored at this step" in verdict[0]["cause"]["evidence"]
    assert (place(verdict[1]), paths(verdict[1])) == ((10, "params"), ["params/dense_0/kernel"])


@pytest.mark.slow
@pytest.mark.parametrize("experiment", DIGITS)
def test_recording_does_not_perturb_a_run(reprotui: Any, experiment: str) -> None:
    config = [f"{key}={value}" for key, value in SMALL[experiment].items()]
    for out, flags in (("recorded.json", []), ("bare.json", ["--no-record"])):
        reprotui("run", experiment, *config, "steps=20", "--out", out, *flags, "--name", out)
    assert not rows_of(reprotui.runs / "bare.json")
    assert len(rows_of(reprotui.runs / "recorded.json")) == 21
    assert "✅ MATCH" in reprotui("compare", "recorded.json", "bare.json", "--metrics").stdout


@pytest.mark.slow(but="digits-mlp-adamw")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("experiment", DIGITS)
def test_recording_changes_no_bit_under_any_optimizer(tmp_path: Path, experiment: str, optimizer: str) -> None:
    """One compiled program, its loop with and without the recorder, and with a flip that must change the digest."""
    overrides = {**SMALL[experiment], "optimizer": optimizer, "steps": 12}
    config = make_config(BUILT_IN[experiment].config, overrides, experiment)
    program = prepare(load_experiment_class(ExperimentReference(experiment, None)), config)
    leaf = next(path for path in program.order["init"] if path.startswith("params/"))
    flipped = config.model_copy(update={"perturb": f"12:{leaf}:0:0"})
    digests = []
    loops = [(config, False), (config, True), *([(flipped, False)] if optimizer == "sgd" else [])]
    for number, (config, enabled) in enumerate(loops):
        writer = TraceWriter(tmp_path / f"{number}.db")
        recording = Recording(enabled=enabled, statistics_every=1)
        result = run_loop(program, config, recording, writer, Control(tmp_path / "commands.jsonl"))
        assert writer.seal()["records"] == (13 if enabled else 0)
        digests.append(result["digests"])
    assert digests[0] == digests[1]
    assert digests[0] not in digests[2:]


# A user's file


@pytest.mark.slow
def test_a_users_file_with_seeded_batches_is_identical(reprotui: Any) -> None:
    reprotui.write("mine.py", SEEDED)
    race = reprotui.race("mine.py", "steps=5")
    assert race["verdicts"][0]["kind"] == "identical"
    manifest = json.loads((reprotui.runs / "race" / "a" / "run.json").read_text())
    assert manifest["experiment"]["path"] == str(reprotui.directory / "mine.py")


@pytest.mark.slow
def test_a_users_file_with_unseeded_batches_is_found_out(reprotui: Any) -> None:
    reprotui.write("mine.py", UNSEEDED)
    verdict = reprotui.race("mine.py", "steps=5", exit_code=1)["verdicts"][0]
    assert place(verdict) == (1, "batch")
    assert verdict["cause"]["explained_by"] == []
    assert "what made it is not the same each time" in verdict["cause"]["sentence"]
    assert "unseeded NumPy" in verdict["cause"]["advice"]


# While it runs


@pytest.mark.slow
def test_stop_at_divergence_stops_all_runs(reprotui: Any) -> None:
    arguments = (*ENDLESS, "--a", "--b", "shuffle_from=30", "--stop-at-divergence")
    race = reprotui.race(*arguments, exit_code=1)
    assert place(race["verdicts"][0]) == (30, "batch")
    assert [run["state"] for run in race["runs"].values()] == ["stopped", "stopped"]


@pytest.mark.slow
def test_without_a_divergence_nothing_is_stopped(reprotui: Any) -> None:
    race = reprotui.race(*MLP, "--stop-at-divergence")
    assert [run["result"]["last_step"] for run in race["runs"].values()] == [20, 20]


@pytest.mark.slow
def test_pause_at_divergence_waits_for_a_command(reprotui: Any) -> None:
    arguments = ("race", *ENDLESS, "--a", "--b", "seed=1", "--pause-at-divergence", "--name", "race")
    process = reprotui.start(*arguments)
    members = [reprotui.runs / "race" / label for label in "ab"]
    eventually("both are paused", lambda: all(_paused(member) for member in members))
    before = [last_step(member) for member in members]
    assert len(reprotui("control", "race", "advance").stdout.splitlines()) == 2
    eventually("both took a step", lambda: [last_step(member) for member in members] == [step + 1 for step in before])
    reprotui("control", "race", "stop")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, err
    assert "DIVERGED at step 0 · init" in out
    assert "first difference at step 0 · init" in err


def _paused(path: Path) -> bool:
    if last_step(path) < 0:
        return False
    with Trace(path / "trace.db") as trace:
        return any(event.kind == "paused" for event in trace.events())


# Arguments


def test_two_races_cannot_have_the_same_name(reprotui: Any) -> None:
    (reprotui.runs / "mine").mkdir(parents=True)
    done = reprotui("race", *MLP, "--name", "mine", exit_code=2)
    assert "exists already: choose another --name" in done.stderr
    assert list((reprotui.runs / "mine").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "../out"], "cannot be a name"),
        (["--name", ".hidden"], "cannot be a name"),
        (["--repeat", "1"], "at least two runs"),
        (["--repeat", "9"], "at most 8 runs"),
        (["--repeat", "0"], "not at least 1"),
        (["--every", "0"], "not at least 1"),
        (["--a", "digits-cnn", "--b"], "the experiment stands before --a"),
        (["digits-mlp", "digits-cnn"], "is neither key=value nor the only experiment"),
        (["=3"], "'=3' is not key=value"),
        (["--a", "sed=1", "--b"], "unknown key 'sed': did you mean seed?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_bad_input_and_leave_nothing_behind(reprotui: Any, arguments: list[str], said: str) -> None:
    done = reprotui("race", *arguments, exit_code=2)
    assert said in done.stderr
    assert not reprotui.runs.exists()


@pytest.mark.slow
def test_one_config_alone_races_against_the_experiment_without_it(reprotui: Any) -> None:
    race = reprotui.race(*MLP, "steps=5", "--b", "seed=0")
    assert list(race["runs"]) == ["a", "b"]
