"""Configs, discovery and data of experiments: what is refused with which words, and batches as functions of the step."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import MLP
from reprotui.errors import BadInputError
from reprotui.experiments.config import (
    CnnConfig,
    ExperimentConfig,
    MlpConfig,
    Perturbation,
    TransformerConfig,
    field_phases,
    make_config,
)
from reprotui.experiments.datasets import load_text
from reprotui.experiments.discovery import find_experiment, load_experiment_class, resolve_configs
from reprotui.experiments.registry import BUILT_IN
from reprotui.trace.phases import PHASES
from test_race import SEEDED


def refused(model: type[ExperimentConfig], **overrides: Any) -> str:
    """Return the words with which a config is refused."""
    with pytest.raises(BadInputError) as caught:
        make_config(model, overrides, "x")
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"stepz": "3"}, "unknown key 'stepz': did you mean steps?"),
        ({"qqqq": "3"}, "unknown key 'qqqq': it has batch_size, data,"),
        ({"steps": "many"}, "steps=many: input should be a valid integer"),
        ({"steps": "1.5"}, "steps=1.5: input should be a valid integer"),
        ({"steps": "0"}, "steps=0: input should be greater than or equal to 1"),
        ({"steps": ""}, "steps=: input should be a valid integer"),
        ({"seed": "-1"}, "seed=-1: input should be greater than or equal to 0"),
        ({"seed": str(2**32)}, "input should be less than 4294967296"),
        ({"batch_size": "0"}, "batch_size=0: input should be greater than or equal to 1"),
        ({"lr": "0"}, "lr=0: input should be greater than 0"),
        ({"lr": "nan"}, "lr=nan:"),
        ({"lr": "inf"}, "lr=inf:"),
        ({"optimizer": "lion"}, "optimizer=lion: input should be 'sgd', 'momentum', 'adam' or 'adamw'"),
        ({"data": "mnist"}, "data=mnist: input should be 'digits' or 'synthetic'"),
        ({"shuffle_from": "0"}, "shuffle_from=0: input should be greater than or equal to 1"),
        ({"perturb": "3"}, "expected STEP:LEAF:INDEX:BIT, for example"),
        ({"perturb": "-1:params/w:0:0"}, "expected STEP:LEAF:INDEX:BIT"),
        ({"perturb": "1:params/w:0"}, "expected STEP:LEAF:INDEX:BIT"),
        ({"xla_flags": "-O3"}, "'-O3' is not an XLA flag: each starts with --xla"),
    ],
    ids=lambda value: "-".join(f"{key}={item}" for key, item in value.items()) if isinstance(value, dict) else "",
)
def test_a_wrong_config_is_refused_in_words(overrides: dict[str, str], said: str) -> None:
    assert said in refused(MlpConfig, **overrides)


def test_all_wrong_entries_are_told_at_once() -> None:
    said = refused(MlpConfig, steps="0", sed="1", lr="fast")
    assert all(part in said for part in ("steps=0", "did you mean seed?", "lr=fast"))


def test_heads_must_divide_the_width() -> None:
    assert "width 16 is not divisible by 3 heads" in refused(TransformerConfig, width="16", heads="3")
    assert make_config(TransformerConfig, {"width": "16", "heads": "2"}, "x")


def test_none_and_an_empty_value_mean_none_where_that_is_possible() -> None:
    for value in ("", "none", "None", "null"):
        assert make_config(MlpConfig, {"shuffle_from": value, "perturb": value}, "x") == MlpConfig()


def test_a_leaf_with_colons_in_its_path_can_be_perturbed() -> None:
    assert Perturbation.parse("3:params/a:b:7:12") == (3, "params/a:b", 7, 12)


def test_a_config_survives_json() -> None:
    config = make_config(CnnConfig, {"seed": "3", "lr": "0.1"}, "x")
    assert make_config(CnnConfig, config.model_dump(mode="json"), "x") == config


def test_every_field_of_a_built_in_config_says_what_it_can_change() -> None:
    for built_in in BUILT_IN.values():
        for name, field in built_in.config.model_fields.items():
            assert field.description, name
            assert isinstance(field.json_schema_extra, dict), name
        assert field_phases(built_in.config)["lr"] == ["params"]


# Discovery


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digit-mlp", "there is no experiment 'digit-mlp': did you mean digits-mlp?"),
        ("zzz", "built in are digits-mlp, digits-cnn, transformer; or give the path of a .py file"),
        ("missing.py", "experiment file missing.py does not exist"),
        (".", "there is no experiment '.'"),
        ("./", "is not a file"),
    ],
)
def test_an_experiment_that_is_not_there_is_refused(name: str, said: str) -> None:
    with pytest.raises(BadInputError) as caught:
        find_experiment(name if name != "./" else "/")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = (\n", "mine.py:1 cannot be imported: SyntaxError"),
        ("a = 1\nb = a / 0\n", "mine.py:2 cannot be imported: ZeroDivisionError: division by zero"),
        ("import nothing_of_that_name\n", "mine.py:1 cannot be imported: ModuleNotFoundError"),
        ("", "lacks `class Experiment` with init, batch, train_step"),
        ("Experiment = 3\n", "lacks `class Experiment`"),
        ("from reprotui.experiments.protocol import Experiment\n", "lacks `class Experiment`"),
        ("class Experiment:\n    def init(self, key): ...\n", "lacks batch(self, step) -> pytree of arrays; train_step("),
        (SEEDED + "\n    class Config: ...\n", "Experiment.Config must inherit from reprotui.experiments.ExperimentConfig"),
        ("import sys\nsys.exit('bye')\n", "cannot be imported: bye"),
        ("import os\nos._exit(0)\n", "cannot be imported: it ended without a word"),
    ],
    ids=["syntax", "raises", "import", "empty", "no-class", "foreign-class", "methods", "config", "exit", "silent-exit"],
)
def test_a_file_that_is_no_experiment_is_refused_with_what_it_lacks(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(BadInputError) as caught:
        resolve_configs(find_experiment(str(path)), [{}])
    assert said in str(caught.value)


@pytest.mark.slow
def test_a_users_file_may_print_and_have_its_own_config(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    config = "\n    class Config(ExperimentConfig):\n        noise: float = 0.5\n"
    path.write_text("print('hello', '{not json')\n" + SEEDED + config)
    resolved = resolve_configs(find_experiment(str(path)), [{}, {"noise": "2"}])
    assert [item.values["noise"] for item in resolved] == [0.5, 2.0]
    assert tuple(resolved[0].phases["noise"]) == PHASES  # a field that does not say what it changes may change everything
    with pytest.raises(BadInputError, match="did you mean noise"):
        resolve_configs(find_experiment(str(path)), [{"nois": "1"}])


def test_resolving_a_config_loads_no_framework() -> None:
    code = (
        "import sys; from reprotui.experiments.discovery import *; resolve_configs(find_experiment(None), [{}]);"
        "sys.exit(any(name in sys.modules for name in ('jax', 'flax', 'optax', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_users_file_sees_its_own_folder(reprotui: Any) -> None:
    reprotui.write("lab/helper.py", "SCALE = 0.5\n")
    reprotui.write("lab/mine.py", "from helper import SCALE\n" + SEEDED.replace("batch @", "SCALE * batch @"))
    race = reprotui.race("lab/mine.py", "steps=3")
    assert race["verdicts"][0]["kind"] == "identical"


# Data


def experiment(name: str, **overrides: Any) -> Any:
    """Return a built-in experiment made from overrides."""
    config = make_config(BUILT_IN[name].config, overrides, name)
    return load_experiment_class(find_experiment(name))(config)


def arrays(batch: Any) -> list[np.ndarray]:
    """Return a batch's arrays on the host."""
    return [np.asarray(batch[key]) for key in sorted(batch)]


@pytest.mark.slow
@pytest.mark.parametrize("data", ["digits", "synthetic"])
@pytest.mark.parametrize("shuffle", ["seeded", "sequential"])
def test_a_batch_depends_on_the_step_alone(data: str, shuffle: str) -> None:
    one, other = (experiment("digits-mlp", data=data, shuffle=shuffle, batch_size=16) for _ in range(2))
    forward = {step: arrays(one.batch(step)) for step in (1, 2, 3, 40)}
    backward = {step: arrays(other.batch(step)) for step in (40, 3, 1, 2, 1)}
    for step, batch in forward.items():
        assert all(np.array_equal(a, b) for a, b in zip(batch, backward[step], strict=True))
    assert not np.array_equal(forward[1][0], forward[2][0])


def test_sequential_batches_cover_the_data_in_order_and_start_again() -> None:
    made = experiment("digits-mlp", shuffle="sequential", batch_size=500)
    labels = np.concatenate([np.asarray(made.batch(step)["y"]) for step in range(1, 7)])
    once = np.asarray(made.train["y"])
    assert np.array_equal(labels, np.resize(once, len(labels)))


def test_sequential_batches_are_right_far_out() -> None:
    made = experiment("digits-mlp", shuffle="sequential", batch_size=1000)
    step, count = 10**9, 1437
    rows = ((step - 1) * 1000 + np.arange(1000)) % count
    assert np.array_equal(np.asarray(made.batch(step)["y"]), np.asarray(made.train["y"])[rows])


def test_seeded_batches_are_drawn_by_seed() -> None:
    tokens = [
        np.asarray(experiment("transformer", modulus=11, batch_size=64, seed=seed).batch(5)["tokens"]) for seed in (0, 0, 1)
    ]
    assert np.array_equal(tokens[0], tokens[1])
    assert not np.array_equal(tokens[0], tokens[2])


def test_shuffle_from_changes_batches_from_its_step_on() -> None:
    plain, changed = (experiment("digits-mlp", shuffle_from=value) for value in (None, 5))
    same = [np.array_equal(np.asarray(plain.batch(step)["x"]), np.asarray(changed.batch(step)["x"])) for step in range(1, 8)]
    assert same == [True] * 4 + [False] * 3


def test_digits_are_the_published_ones() -> None:
    made = experiment("digits-mlp")
    assert made.train["x"].shape == (1437, 8, 8)
    assert len(made.test.y) == 360
    assert np.asarray(made.train["y"])[:10].tolist() == list(range(10))
    assert (float(made.train["x"].min()), float(made.train["x"].max())) == (0.0, 1.0)


def test_the_data_digest_tells_contents_apart() -> None:
    digests = [experiment("digits-mlp", **overrides).data_digest for overrides in ({}, {"seed": 1}, {"data": "synthetic"})]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
def test_a_batch_larger_than_the_data_is_bad_input(reprotui: Any) -> None:
    done = reprotui("run", *MLP, "batch_size=1438", exit_code=2)
    assert "batch_size=1438 is larger than the data: 1437 training digits" in done.stderr


# Text files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"abc\xff\xfe", "is not UTF-8: byte 3 cannot be decoded"),
    ],
    ids=["missing", "empty", "not-utf-8"],
)
def test_a_text_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "t.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInputError) as caught:
        load_text(str(path))
    assert said in str(caught.value)


def test_a_folder_is_not_a_text(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="it is a directory, expected a file"):
        load_text(str(tmp_path))


def test_a_text_too_short_for_its_context_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("abcdefgh")
    with pytest.raises(BadInputError, match="has 8 characters: context=8 needs at least 9"):
        experiment("transformer", text=str(path), context=8)
    assert experiment("transformer", text=str(path), context=7, batch_size=1).batch(1)


def test_text_windows_predict_the_next_character(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("äbcäbdéz")
    made = experiment("transformer", text=str(path), context=4, shuffle="sequential", batch_size=2)
    batch = made.batch(1)
    assert np.asarray(batch["tokens"])[0, 1:].tolist() == np.asarray(batch["answer"])[0, :-1].tolist()
    assert np.array_equal(np.asarray(batch["tokens"])[1], np.asarray(batch["answer"])[0])


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, b"", b"\xff"], ids=["missing", "empty", "not-utf-8"])
def test_a_race_on_a_bad_text_is_bad_input(reprotui: Any, content: bytes | None) -> None:
    if content is not None:
        (reprotui.directory / "t.txt").write_bytes(content)
    done = reprotui("race", "transformer", "text=t.txt", exit_code=2)
    assert "reprotui: text=t.txt" in done.stderr
    assert list(reprotui.runs.iterdir()) == []
