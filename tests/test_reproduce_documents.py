"""Calls as documents on reproducibility show them: names, keywords, what they return, and what that says in a condition."""

import argparse
import dataclasses
import enum
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import ml_collections
import numpy as np
import omegaconf
import pydantic
import pytest
import torch

import reprotui.reproduce as r
from conftest import Cli
from reprotui.errors import BadInputError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reproduce.md"


@pytest.fixture(autouse=True)
def unchanged(tmp_path, monkeypatch):
    """Work in a directory of the test's own, and leave generators and settings as they were."""
    monkeypatch.chdir(tmp_path)
    state = r.get_seed_state()
    with r.DeterministicContext(xla_gpu_deterministic_ops=None):
        yield
    r.restore_seed_state(state)


# Seeds


def test_seed_information_is_a_mapping_with_the_documented_entries():
    info = r.set_seed(42, deterministic=True, benchmark=False)
    assert info["seed"] == info.seed == 42
    assert dict(info) == {
        "seed": 42, "deterministic": True, "benchmark": False, "seeded": ["python", "numpy", "torch", "jax"],
        "notes": list(info.notes), "cuda_available": torch.cuda.is_available(), "cuda_device_count": torch.cuda.device_count(),
        "cudnn_deterministic": True, "cudnn_benchmark": False, "use_deterministic_algorithms": True,
    }  # fmt: skip
    assert json.loads(json.dumps(dict(info))) == dict(info)
    assert "seed" in info and len(info) == len(dict(info)) and next(iter(info)) == "seed"
    with pytest.raises(KeyError):
        _ = info["jax_key"]


def test_the_entries_are_what_is_in_force_and_unknown_without_torch():
    assert r.set_seed(1, deterministic=False, benchmark=True)["cudnn_benchmark"] is True
    assert r.set_seed(1, deterministic=False)["cudnn_deterministic"] is False
    only = r.set_seed(1, deterministic=False, frameworks="numpy")
    assert only["cudnn_deterministic"] is None and only["use_deterministic_algorithms"] is None


@pytest.mark.parametrize("name", ["set_seed", "set_global_seed", "set_global_seeds"])
def test_the_names_of_seeding_mean_one_thing(name):
    getattr(r, name)(7, deterministic=False)
    first = random.random(), np.random.random(), torch.rand(1).item()
    r.set_global_seed(7, deterministic=False)
    assert (random.random(), np.random.random(), torch.rand(1).item()) == first
    assert getattr(r, name)(deterministic=False).seed == 42


def test_seeds_of_workers_go_by_both_names_and_a_contradiction_names_them():
    seeds = r.generate_deterministic_seeds(base_seed=42, num_workers=4)
    assert seeds == r.generate_deterministic_seeds(42, 4) == r.generate_deterministic_seeds(42, count=4, num_workers=4)
    with pytest.raises(BadInputError, match="count=4 contradicts num_workers=3"):
        r.generate_deterministic_seeds(42, 4, num_workers=3)
    with pytest.raises(BadInputError, match="count is not given"):
        r.generate_deterministic_seeds(42)


# Deterministic mode


def test_deterministic_settings_go_by_both_names():
    config = r.DeterministicConfig(torch_deterministic=False, torch_benchmark=True, torch_use_deterministic_algorithms=None)
    assert config == r.DeterministicConfig(cudnn_deterministic=False, cudnn_benchmark=True, torch_deterministic_algorithms=None)
    assert (config.torch_deterministic, config.torch_benchmark, config.torch_use_deterministic_algorithms) == (False, True, None)
    default = r.DeterministicConfig()
    assert (default.torch_deterministic, default.torch_benchmark, default.torch_use_deterministic_algorithms) == (
        True,
        False,
        True,
    )
    assert dataclasses.replace(config, torch_benchmark=False).torch_deterministic is False


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("torch_deterministic", "cudnn_deterministic"),
        ("torch_benchmark", "cudnn_benchmark"),
        ("torch_use_deterministic_algorithms", "torch_deterministic_algorithms"),
    ],
)
def test_contradicting_settings_are_an_error_that_names_both(name, other):
    said = f"{name}=True contradicts {other}=False"
    with pytest.raises(BadInputError, match=said):
        r.DeterministicConfig(**{name: True, other: False})
    with pytest.raises(BadInputError, match=said):
        r.enable_deterministic_mode(**{name: True, other: False})
    with r.DeterministicContext(r.DeterministicConfig(**{name: True}).without_xla(), **{other: False}):
        pass  # a setting that replaces that of a config contradicts nothing


def test_a_config_is_applied_warns_where_asked_to_and_a_context_puts_it_back():
    config = r.DeterministicConfig(torch_deterministic=True, torch_benchmark=False, warn_performance=True).without_xla()
    torch.use_deterministic_algorithms(False)
    with pytest.warns(UserWarning, match="may be slower"), r.DeterministicContext(config):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    strict = r.DeterministicConfig(torch_deterministic=True, torch_use_deterministic_algorithms=True, torch_warn_only=False)
    strict.without_xla().apply()
    assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()


def test_the_cost_of_deterministic_mode_is_measured_against_its_absence():
    modes = []
    assert torch.are_deterministic_algorithms_enabled()
    impact = r.benchmark_deterministic_impact(lambda: modes.append(torch.are_deterministic_algorithms_enabled()), runs=2)
    assert modes == [False, True] * 3
    assert f"{impact['slowdown_factor']:.2f}x {impact['absolute_difference']:.3f}s"
    assert impact["slowdown_factor"] == impact.slowdown_factor and json.dumps(dict(impact))


# Proofs


def test_a_report_is_true_only_where_the_runs_are_identical():
    assert r.verify_reproducibility(num_iterations=10)
    assert r.verify_reproducibility(2).runs == 2
    model = torch.nn.Linear(4, 2)
    assert r.verify_deterministic_execution(model, torch.ones(3, 4))
    numbers = iter(range(100))
    report = r.verify_deterministic_execution(lambda: min(2, next(numbers)), runs=4)
    assert not report
    assert (report.identical, report.runs, len(report.differences)) == (1, 4, 3)
    assert "1 of 4 runs gave the bits of the first" in str(report)
    assert not r.verify_reproducibility(lambda: next(numbers), num_iterations=2)
    assert r.run_gate(["echo", "same"], 2)
    assert not r.run_gate([sys.executable, "-c", "import os; print(os.getpid())"], 2)


def test_keyword_arguments_reach_the_function_here_and_in_fresh_processes(tmp_path):
    assert r.verify_deterministic_execution(sorted, [1, 2], reverse=True)
    Path("project.py").write_text("def scaled(x, *, by=1): return x * by\n")
    digest = r.verify_deterministic_execution("project.py:scaled", 2, by=3, in_processes=2).digest
    assert digest == r.verify_deterministic_execution(lambda: 6).digest


def test_draws_are_repeated_after_a_seed_and_only_from_what_was_seeded():
    r.restore_seed_state(dataclasses.replace(r.get_seed_state(), seeded=()))
    assert not r.verify_deterministic_execution(lambda: torch.randn(4).sum().item()), "nobody seeded"
    r.set_global_seed(42, deterministic=False, frameworks=("torch", "numpy"))
    expected = torch.randn(4)
    r.set_global_seed(42, deterministic=False, frameworks=("torch", "numpy"))
    report = r.verify_deterministic_execution(lambda: torch.randn(4))
    assert report and report.seeded == ("numpy", "torch")
    assert "from the seeded state of numpy, torch" in str(report)
    assert torch.equal(torch.randn(4), expected), "the generators are where they were"
    assert not r.verify_deterministic_execution(random.random), "not seeded"
    assert not r.verify_deterministic_execution(lambda: np.random.default_rng().random()), "a generator of its own"


def test_what_was_seeded_is_part_of_the_state(tmp_path):
    r.restore_seed_state(dataclasses.replace(r.get_seed_state(), seeded=()))
    with r.SeedContext(1):
        assert r.get_seed_state().seeded == ("numpy", "python", "torch")
        r.save_seed_state("state.json")
    assert r.get_seed_state().seeded == ()
    former = json.loads(Path("state.json").read_text())
    del former["seeded"]
    assert r.load_seed_state("state.json").seeded == r.get_seed_state().seeded == ("numpy", "python", "torch")
    Path("former.json").write_text(json.dumps(former))
    r.load_seed_state("former.json")
    assert r.get_seed_state().seeded == (), "former files do not say"


@pytest.mark.slow
def test_seed_check_counts_identical_iterations(tmp_path, bare_environment):
    command = Cli(tmp_path, bare_environment)
    said = command("seed-check", "--seed", 42, "--verify", "-n", 2, "--frameworks", "numpy").stdout
    assert said.startswith("seed 42: 2 of 2 iterations identical\n")
    command.write("project.py", "import os\ndef pid():\n    return {'pid': os.getpid(), 'x': 1}\n")
    lines = command("seed-check", "project.py:pid", "-n", 3, "--frameworks", "python", exit_code=1).stdout.splitlines()
    assert lines[0] == "seed 42: 1 of 3 iterations identical"
    assert len(lines) == 4 and lines[2].startswith("  pid: 1 of 1 elements differ")
    found = json.loads(command("seed-check", "project.py:pid", "-n", 2, "--json", exit_code=1).stdout)
    assert found["identical"] == 1 and found["differences"][0]["elements"]["different"] == 1


# Checkpoints

RICH = {
    "experiment_id": "exp_001", "epoch": 10, "accuracy": 0.95, "step": 100, "description": "",
    "performance_metrics": {"accuracy": 0.95, "per_class": [0.9, 1.0]}, "hardware": {"gpu_type": "A100", "num_gpus": 8},
}  # fmt: skip


def test_a_verifier_makes_its_directory_and_registers_with_any_metadata():
    verifier = r.CheckpointVerifier("runs/experiments/")
    torch.save(torch.nn.Linear(10, 1).state_dict(), "runs/experiments/model.pth")
    digest = verifier.register_checkpoint("model.pth", metadata=RICH)
    assert digest == r.compute_checkpoint_hash("runs/experiments/model.pth")
    assert r.verify_checkpoint_integrity("runs/experiments/model.pth", digest)
    found = verifier.verify_checkpoint("model.pth")
    assert found
    assert found.metadata == RICH and dict(found.metadata) == RICH
    assert found.metadata.step == found.step == 100 and found.metadata["hardware"]["num_gpus"] == 8
    assert all(verifier.verify_all_checkpoints().values())
    raw = bytearray(Path("runs/experiments/model.pth").read_bytes())
    raw[-30] ^= 1
    Path("runs/experiments/model.pth").write_bytes(raw)
    assert not verifier.verify_checkpoint("model.pth")
    assert not all(verifier.verify_all_checkpoints().values())


def test_the_hash_of_a_directory_is_returned_too(tmp_path):
    (tmp_path / "100").mkdir()
    (tmp_path / "100" / "a").write_bytes(b"a")
    (tmp_path / "100" / "b").write_bytes(b"b")
    assert r.CheckpointVerifier(tmp_path).register_checkpoint("100") == r.compute_checkpoint_hash(tmp_path / "100")


def test_metadata_can_be_said_anew_and_a_changed_checkpoint_is_registered_anew_only_where_asked():
    verifier = r.CheckpointVerifier("c")
    np.savez("c/model.npz", w=np.arange(3))
    first = verifier.register_checkpoint("model.npz", {"epoch": 1})
    assert verifier.register_checkpoint("model.npz", {"epoch": 2}) == first
    assert verifier.verify_checkpoint("model.npz").metadata == {"epoch": 2}
    assert verifier.register_checkpoint("model.npz", {"epoch": 2, "step": 20}) == first
    assert verifier.verify_checkpoint("model.npz") and verifier.verify_checkpoint("model.npz").step == 20
    Path("c/model.npz.metadata.json").write_text('{"manifest": "", "metadata": [1]}')
    assert verifier.verify_checkpoint("model.npz").status == "CORRUPT"
    np.savez("c/model.npz", w=np.arange(4))
    with pytest.raises(BadInputError, match="has changed since"):
        verifier.register_checkpoint("model.npz", {"epoch": 3})
    assert not verifier.verify_checkpoint("model.npz")
    assert verifier.register_checkpoint("model.npz", {"epoch": 3}, replace=True) != first
    assert verifier.verify_checkpoint("model.npz").metadata == {"epoch": 3}


def test_the_report_prints_metadata_and_what_is_wrong():
    verifier = r.CheckpointVerifier("c")
    torch.save({"w": torch.ones(4)}, "c/model.pth")
    torch.save({"w": torch.ones(4)}, "c/other_*.pth")
    verifier.register_checkpoint("model.pth", metadata={**RICH, "note": "a|b\n```\x1b[31m"})
    report = verifier.export_verification_report("reports/report.md")
    text = Path("reports/report.md").read_text()
    assert not report["valid"] and "1 of 2 are VALID" in text
    assert "## model.pth: VALID" in text and '"num_gpus": 8' in text and '"experiment_id": "exp_001"' in text
    assert "## other\\_\\*.pth: UNREGISTERED" in text
    assert "\x1b" not in text and not any(line.startswith("```") for line in text.splitlines())
    assert verifier.export_verification_report("report.json")["checkpoints"]["model.pth"]["metadata"]["epoch"] == 10
    assert json.loads(Path("report.json").read_text())["valid"] is False


def test_a_leaf_of_a_damaged_checkpoint_is_named():
    verifier = r.CheckpointVerifier("c")
    torch.save({"w": torch.arange(4.0), "b": torch.ones(2)}, "c/model.pth")
    verifier.register_checkpoint("model.pth")
    torch.save({"w": torch.arange(4.0), "b": torch.zeros(2)}, "c/model.pth")
    found = verifier.verify_checkpoint("model.pth")
    assert {finding.leaf for finding in found.findings} == {None, "b"}


def test_what_is_no_file_is_not_opened():
    verifier = r.CheckpointVerifier("c")
    for name in ("link.npz", "fifo.npz"):
        np.savez(f"c/{name}", w=np.arange(3))
        verifier.register_checkpoint(name, {"loss": np.float32(0.5)})
        Path(f"c/{name}").rename(f"c/{name}.moved")
    Path("c/link.npz").symlink_to("link.npz.moved")
    os.mkfifo("c/fifo.npz")
    assert {name: str(found.status) for name, found in verifier.verify_all_checkpoints().items()} == {
        "link.npz": "CORRUPT", "fifo.npz": "UNREADABLE",
    }  # fmt: skip


def test_seed_and_streams_travel_in_a_checkpoint_that_a_plain_load_reads():
    info = r.set_seed(42, deterministic=False)
    random.gauss(0, 1)
    checkpoint = {"model_state_dict": torch.nn.Linear(2, 2).state_dict(), "epoch": 10, "loss": 0.1}
    r.add_seed_to_checkpoint(checkpoint, info)
    expected = [random.gauss(0, 1), np.random.standard_normal(), torch.rand(2).tolist()]
    torch.save(checkpoint, "model.pt")
    loaded = torch.load("model.pt")
    assert loaded["seed_info"] == dict(info) and loaded["seed_info"]["seed"] == 42
    assert r.validate_checkpoint_seed(loaded, expected_seed=42) is True
    assert r.validate_checkpoint_seed(loaded, expected_seed=43) is False
    r.set_seed(1, deterministic=False)
    r.restore_seed_state(loaded["rng_state"])
    assert [random.gauss(0, 1), np.random.standard_normal(), torch.rand(2).tolist()] == expected
    with pytest.raises(BadInputError, match="is not a seed state"):
        r.restore_seed_state({"random_state": 1})


def test_seed_information_may_be_any_mapping_with_a_seed_in_it():
    stored = r.add_seed_to_checkpoint({}, {"seed": 3, "deterministic": True})["seed_info"]
    assert stored == {"seed": 3, "deterministic": True}
    with pytest.raises(BadInputError, match="a seed is a whole number"):
        r.add_seed_to_checkpoint({}, {"deterministic": True})


def test_an_old_checkpoint_gives_a_warning_and_a_former_one_its_state():
    with pytest.warns(UserWarning, match="records no seed .* seed 42"):
        assert not r.validate_checkpoint_seed({"epoch": 1}, expected_seed=42)
    state = r.get_seed_state()
    expected = random.random()
    r.restore_seed_from_checkpoint({"seed_state": state.to_json()})
    assert random.random() == expected


# Templates


def test_the_whole_flow_of_a_project():
    config = r.TemplateConfig(project_name="demo_experiment", frameworks=["pytorch"])
    assert r.create_reproducible_template("demo_experiment", config)
    assert Path("demo_experiment/README.md").read_text().startswith("# demo_experiment\n")
    assert json.loads(Path("demo_experiment/config.json").read_text())["project"] == "demo_experiment"
    assert Path("demo_experiment/checkpoints").is_dir() and Path("demo_experiment/train_torch.py").is_file()
    found = r.validate_template_structure("demo_experiment/")
    assert f"{found['score']:.2f}" == "100.00" and found["valid"] and not found["errors"] and not found["warnings"]
    verifier = r.CheckpointVerifier("demo_experiment/checkpoints/")
    torch.save(torch.nn.Linear(10, 1).state_dict(), "demo_experiment/checkpoints/model.pth")
    verifier.register_checkpoint("model.pth", metadata={"parameters": 11})
    assert all(verifier.verify_all_checkpoints().values()) and len(verifier.verify_all_checkpoints()) == 1
    verifier.export_verification_report("demo_experiment/verification_report.md")
    assert '"parameters": 11' in Path("demo_experiment/verification_report.md").read_text()


def test_templates_go_by_both_names_and_a_contradiction_names_them():
    both = r.TemplateConfig("p", ["pytorch", "jax"])
    assert both == r.TemplateConfig(name="p", framework="both") == r.TemplateConfig(project_name="p", frameworks="both", name="p")
    assert r.TemplateConfig("p").frameworks == ("jax",)
    with pytest.raises(BadInputError, match="project_name='p' contradicts name='q'"):
        r.TemplateConfig("p", name="q")
    with pytest.raises(BadInputError, match=r"frameworks=\('jax',\) contradicts framework=\('pytorch',\)"):
        r.TemplateConfig("p", frameworks=["jax"], framework="pytorch")
    r.create_reproducible_template("named_after_its_directory")
    assert Path("named_after_its_directory/README.md").read_text().startswith("# named_after_its_directory\n")
    for impossible in ([], ["caffe"], ["jax", "caffe"]):
        with pytest.raises(BadInputError, match="framework"):
            r.create_reproducible_template("q", r.TemplateConfig("q", impossible))


# Configs


class Kind(enum.Enum):
    ADAMW = "adamw"


@dataclasses.dataclass
class Optimizer:
    learning_rate: float = 1e-3
    kind: Kind = Kind.ADAMW
    betas: tuple[float, float] = (0.9, 0.999)


@dataclasses.dataclass
class Experiment:
    seed: int
    optimizer: Optimizer
    data: Path = Path("data/train")
    limit: int | None = None


class Model(pydantic.BaseModel):
    seed: int
    optimizer: dict[str, float | str]
    tags: list[str] = []


PLAIN = {"seed": 42, "optimizer": {"learning_rate": 1e-3, "kind": "adamw"}}
CONFIGS = {
    "dict": (PLAIN, PLAIN),
    "dataclass": (
        Experiment(42, Optimizer()),
        {
            "seed": 42, "optimizer": {"learning_rate": 1e-3, "kind": "adamw", "betas": [0.9, 0.999]}, "data": "data/train",
            "limit": None,
        },
    ),
    "pydantic": (Model(**PLAIN), {**PLAIN, "tags": []}),
    "ml_collections": (ml_collections.ConfigDict(PLAIN), PLAIN),
    "frozen ml_collections": (ml_collections.FrozenConfigDict({**PLAIN, "sizes": (1, 2)}), {**PLAIN, "sizes": [1, 2]}),
    "omegaconf": (
        omegaconf.OmegaConf.create({"base": 42, "seed": "${base}", "list": [1, "${base}"]}),
        {"base": 42, "seed": 42, "list": [1, 42]},
    ),
    "namespace": (argparse.Namespace(seed=42, lr=0.1), {"seed": 42, "lr": 0.1}),
    "numbers of numpy": ({"lr": np.float32(0.5), "n": np.int64(3), "j": jnp.int32(4)}, {"lr": 0.5, "n": 3, "j": 4}),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_any_kind_of_config_is_saved_and_read(name):
    config, expected = CONFIGS[name]
    path = r.save_experiment_config(config, "logs/exp_001")
    assert path == Path("logs/exp_001/config.json") and json.loads(path.read_text()) == expected
    assert r.load_experiment_config("logs/exp_001") == r.load_experiment_config(path) == expected


def test_a_config_is_read_into_what_it_was():
    for config, kind in (
        (Experiment(42, Optimizer(betas=(0.8, 0.9)), limit=3), Experiment),
        (Model(**PLAIN), Model),
        (ml_collections.ConfigDict(PLAIN), ml_collections.ConfigDict),
        (omegaconf.OmegaConf.create(PLAIN), omegaconf.OmegaConf.create),
    ):
        r.save_experiment_config(config, "logs")
        found = r.load_experiment_config("logs", kind)
        assert found == config and type(found) is type(config)


def test_a_config_that_does_not_fit_says_which_entry():
    r.save_experiment_config({"seed": 1, "optimizer": {}, "colour": "red"}, "logs")
    with pytest.raises(BadInputError, match="does not fit Experiment, which has no entry colour"):
        r.load_experiment_config("logs", Experiment)
    r.save_experiment_config({"seed": "many", "optimizer": {}}, "logs")
    with pytest.raises(BadInputError, match="does not fit Experiment: seed: "):
        r.load_experiment_config("logs", Experiment)
    for missing in ("absent", "absent/config.json"):
        with pytest.raises(BadInputError, match="does not exist"):
            r.load_experiment_config(missing)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"a": {"b": [1, float("nan")]}}, r"the config\.a\.b\[1\] is nan"),
        ({"a": {1: 2}}, "the config.a has the key 1"),
        ({"f": print}, "the config.f is a builtin_function"),
        ({"dtype": np.float32}, "the config.dtype is float32"),
        ({"set": {1}}, "the config.set is a set"),
        ({"raw": b"x"}, "the config.raw is a bytes"),
        ({"name": "\udcff"}, "no Unicode text"),
        ([1], "a list is no config"),
        (omegaconf.OmegaConf.create({"seed": "???"}), "the config cannot be read"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_name_and_nothing_is_written(config, said):
    with pytest.raises(BadInputError, match=said):
        r.save_experiment_config(config, "logs")
    assert not Path("logs/config.json").exists()


def test_configs_need_none_of_their_libraries():
    script = (
        "import sys\n"
        "for name in ('ml_collections', 'omegaconf', 'numpy', 'jax', 'torch'): sys.modules[name] = None\n"
        "from reprotui.reproduce import load_experiment_config, save_experiment_config\n"
        "save_experiment_config({'lr': 0.1}, 'logs'); print(load_experiment_config('logs'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "{'lr': 0.1}\n"


# Where two runs part


def run(seed=0, shuffle=0, scale=1.0):
    generator = np.random.default_rng(seed)
    params = {"w": generator.random((2, 3), dtype=np.float32), "b": torch.zeros(2)}
    return {"init": params, "batch": {"image": np.arange(4) + shuffle}, "grads": {"w": jnp.ones(3) * scale}}


def test_the_phase_in_which_runs_part_is_the_first_in_causal_order():
    same = r.diverging_phase(run(), run())
    assert not same and same.phase is None and not any(same.values())
    assert str(same).startswith("equal in what was compared\n  init   equal, 2 leaves")
    for changes, phase, path in (({"seed": 1}, "init", "w"), ({"shuffle": 1}, "batch", "image"), ({"scale": 2}, "grads", "w")):
        found = r.diverging_phase(run(), run(**changes))
        assert found and found.phase == phase and list(found) == ["init", "batch", "grads"]
        assert [leaf.path for leaf in found[phase]] == [path]
        assert all(not leaves for other, leaves in found.items() if other != phase)
    both = r.diverging_phase(run(), run(shuffle=1, scale=1.0000001))
    assert both.phase == "batch"
    assert "image: 4 of 4 elements differ, max |Δ| 1" in str(both)
    assert "grads  1 leaves differ, which may follow from what differs before" in str(both) and "max 1 ulp" in str(both)
    assert json.loads(json.dumps(both.to_json()))["phase"] == "batch"


def test_a_phase_that_was_not_given_is_never_called_equal():
    found = r.diverging_phase({"init": [1.0, "a"]}, {"init": [1.0, "b"]})
    assert [leaf.path for leaf in found["init"]] == ["1"] and "'a' in A, 'b' in B" in str(found)
    assert "batch  not given: nothing is known of it" in str(found) and "batch" not in found
    assert r.diverging_phase({"init": 0.0}, {"init": -0.0}), "bits count"
    one = r.diverging_phase({"batch": {"x": 1}}, {"batch": {"x": 1, "y": 2}})
    assert "y: only in B" in str(one)
    for a, b, said in (
        ({"params": 1}, {"params": 1}, "'params' is no phase"),
        ({"init": 1, "grads": 1}, {"init": 1}, "grads is given for A alone"),
        ({}, {}, "nothing is given"),
    ):
        with pytest.raises(BadInputError, match=said):
            r.diverging_phase(a, b)


# The table


METHODS = {"register_checkpoint", "verify_checkpoint", "verify_all_checkpoints", "export_verification_report"}


def test_every_name_of_the_page_exists():
    text = PAGE.read_text()
    names = set(re.findall(r"`([A-Za-z_]+)\(", text)) | set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text))
    assert len(names) > 40
    assert names - {"all"} <= {*r.__all__, *METHODS, *r.set_seed(1, deterministic=False)}
    assert all(hasattr(r.CheckpointVerifier, name) for name in METHODS)
