"""`reprotui.reproduce` without torch and without jax: everything works, and what asks for the absent one says so."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

BLOCKER = """
import sys
blocked = set(sys.argv[1].split(","))
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
"""

EVERY_FUNCTION = (
    BLOCKER
    + """
import json, os, pathlib, random
import reprotui.reproduce as r
from reprotui.errors import ReprotuiError

here = pathlib.Path.cwd()
state = r.get_seed_state()
(here / "c").mkdir(); (here / "c" / "data").write_text("x")
(here / "d").mkdir()
(here / "script.py").write_text("def one(): return 1.0")
verifier = lambda: r.CheckpointVerifier(here)
with_jax, with_torch = {"jax"}, {"torch"}
calls = {
    "set_global_seed": (lambda: r.set_global_seed(1), set()),
    "set_seed": (lambda: r.set_seed(1, deterministic=False), set()),
    "set_global_seeds": (lambda: dict(r.set_global_seeds(1, deterministic=False))["seed"] == 1 or 1 / 0, set()),
    "set_global_seed torch": (lambda: r.set_global_seed(1, frameworks="torch"), with_torch),
    "set_global_seed jax": (lambda: r.set_global_seed(1, frameworks=["jax"]), with_jax),
    "SeedInfo": (lambda: r.set_seed(1).generator.random(), set()),
    "SeedInfo key": (lambda: r.set_seed(1).jax_key, with_jax),
    "SeedContext": (lambda: r.SeedContext(1).__enter__(), set()),
    "SeedContext torch": (lambda: r.SeedContext(1, frameworks="torch"), with_torch),
    "get_seed_state": (lambda: r.get_seed_state(random.Random(1)), set()),
    "get_seed_state jax": (lambda: r.get_seed_state(jax_keys=__import__("numpy").zeros(2, "uint32")), with_jax),
    "restore_seed_state": (lambda: r.restore_seed_state(state), set()),
    "save_seed_state": (lambda: r.save_seed_state("s.json"), set()),
    "load_seed_state": (lambda: r.load_seed_state("s.json"), set()),
    "SeedState": (lambda: r.SeedState().to_json(), set()),
    "generate_deterministic_seeds": (lambda: r.generate_deterministic_seeds(1, 3), set()),
    "seed_worker": (lambda: r.seed_worker(0), with_torch),
    "create_reproducible_generator": (lambda: r.create_reproducible_generator(1), with_torch),
    "create_reproducible_rng": (lambda: r.create_reproducible_rng(1), with_jax),
    "purpose_key": (lambda: r.purpose_key(r.create_reproducible_rng(1), "init"), with_jax),
    "step_key": (lambda: r.step_key(r.create_reproducible_rng(1), 1), with_jax),
    "process_key": (lambda: r.process_key(r.create_reproducible_rng(1)), with_jax),
    "derive_key": (lambda: r.derive_key(r.create_reproducible_rng(1), "init", 2, 0), with_jax),
    "split_keys": (lambda: r.split_keys(r.create_reproducible_rng(1), "a", "b"), with_jax),
    "DeterministicConfig": (lambda: r.DeterministicConfig().without_xla().apply().apply(), set()),
    "DeterministicConfig torch": (lambda: r.DeterministicConfig(frameworks="torch").apply(), with_torch),
    "enable_deterministic_mode": (lambda: r.enable_deterministic_mode(xla_gpu_deterministic_ops=None), set()),
    "DeterministicContext": (lambda: r.DeterministicContext(xla_gpu_deterministic_ops=None).__enter__(), set()),
    "get_deterministic_status": (lambda: r.get_deterministic_status(), set()),
    "Impact": (lambda: str(r.benchmark_deterministic_impact(sorted, [2, 1], runs=1)), set()),
    "benchmark_deterministic_impact": (lambda: r.benchmark_deterministic_impact(sorted, [2, 1], runs=2), set()),
    "verify_deterministic_execution": (lambda: r.verify_deterministic_execution(sorted, [2, 1]), set()),
    "verify_reproducibility": (lambda: r.verify_reproducibility(num_iterations=2), set()),
    "verify_reproducibility torch": (lambda: r.verify_reproducibility(frameworks="torch", num_iterations=2), with_torch),
    "verify_reproducibility jax": (lambda: r.verify_reproducibility(frameworks="jax", num_iterations=2), with_jax),
    "DeterminismReport": (lambda: r.verify_deterministic_execution("script.py:one", in_processes=2).to_json(), set()),
    "LeafDifference": (lambda: r.LeafDifference("", "a", None, None).text(), set()),
    "RunDifference": (lambda: str(r.RunDifference(1, r.LeafDifference("", "a", None, None))), set()),
    "capture_environment": (lambda: r.capture_environment(), set()),
    "compare_environments": (lambda: r.compare_environments(r.capture_environment(), {}), set()),
    "Difference": (lambda: str(r.Difference("a", "b", "c")), set()),
    "create_reproducible_template": (lambda: r.create_reproducible_template("p", r.TemplateConfig("p", "both")), set()),
    "TemplateConfig": (lambda: r.TemplateConfig("p"), set()),
    "validate_template_structure": (lambda: r.validate_template_structure("p")["score"] == 100 or 1 / 0, set()),
    "lint_file": (lambda: r.lint_file("script.py"), set()),
    "lint_project": (lambda: r.lint_project("p"), set()),
    "Finding": (lambda: str(r.Finding("f", 1, 1, "r", "m", "x")), set()),
    "RULES": (lambda: r.RULES["set-order"], set()),
    "run_gate": (lambda: r.run_gate(["true"], 2), set()),
    "GateResult": (lambda: r.run_gate(["true"], 2).to_json(), set()),
    "GateDifference": (lambda: str(r.GateDifference("f", 2, "line 1", "a", "b")), set()),
    "compute_checkpoint_hash": (lambda: r.compute_checkpoint_hash("c"), set()),
    "verify_checkpoint_integrity": (lambda: r.verify_checkpoint_integrity("c", "0" * 64), set()),
    "create_integrity_manifest": (lambda: r.create_integrity_manifest("c"), set()),
    "CheckpointVerifier": (lambda: verifier().verify_all_checkpoints(), set()),
    "CheckpointMetadata": (lambda: verifier().register_checkpoint("d/../script.py", r.CheckpointMetadata(step=1)), set()),
    "Verification": (lambda: bool(verifier().verify_checkpoint("c")) or 1 / 0, set()),
    "save_experiment_config": (lambda: r.save_experiment_config({"lr": 0.1}, "logs"), set()),
    "load_experiment_config": (lambda: r.load_experiment_config("logs"), set()),
    "diverging_phase": (lambda: r.diverging_phase({"init": 1.0}, {"init": 2.0})["init"][0], set()),
    "PhaseDifferences": (lambda: str(r.diverging_phase({"init": 1.0}, {"init": 2.0})), set()),
    "ResumeReport": (lambda: str(r.ResumeReport("equivalent", (1,), (), (), None, None, "", "", here)), set()),
    "verify_resume": (lambda: r.verify_resume("python script.py", interrupt_at=1), {"steps"}),
    "add_seed_to_checkpoint": (lambda: r.add_seed_to_checkpoint({}, 1), set()),
    "validate_checkpoint_seed": (lambda: r.validate_checkpoint_seed(r.add_seed_to_checkpoint({}, 1), 1) or 1 / 0, set()),
    "validate_checkpoint_seed file": (lambda: r.validate_checkpoint_seed("absent.pt", 1), {"torch", "file"}),
    "restore_seed_from_checkpoint": (lambda: r.restore_seed_from_checkpoint(r.add_seed_to_checkpoint({}, 1)), set()),
    "FrameworkMissingError": (lambda: r.FrameworkMissingError("x"), set()),
    "TooLateError": (lambda: r.TooLateError("x"), set()),
}
left_out = set(r.__all__) - {name.split()[0] for name in calls}
assert not left_out, left_out
outcome = {}
for name, (call, needs) in calls.items():
    try:
        call()
        outcome[name] = [sorted(needs), ""]
    except ReprotuiError as error:
        outcome[name] = [sorted(needs), f"{type(error).__name__}: {error}"]
print(json.dumps(outcome))
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "jax"})))
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("absent", ["torch", "jax,jaxlib", "torch,jax,jaxlib,flax,optax,orbax"])
def test_every_function_works_without_what_it_does_not_need(absent, tmp_path, bare_environment):
    done = subprocess.run(
        [sys.executable, "-c", EVERY_FUNCTION, absent],
        cwd=tmp_path,
        env=bare_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome, modules = map(json.loads, done.stdout.splitlines())
    blocked = set(absent.split(","))
    for name, (needs, error) in outcome.items():
        if blocked & set(needs):
            missing = next(iter(blocked & set(needs)))
            assert error.startswith("FrameworkMissingError: "), (name, error)
            assert {"torch": 'pip install "reprotui[torch]"', "jax": "pip install jax"}[missing] in error, (name, error)
        elif "file" in needs:
            assert error.startswith("BadInputError: absent.pt does not exist"), (name, error)
        elif "steps" in needs:
            assert "ended by itself" in error, (name, error)
        else:
            assert error == "", name
    assert not blocked & set(modules)


def test_importing_the_library_imports_no_framework_and_no_numpy():
    script = (
        "import sys, reprotui.reproduce as r\n"
        "names = dir(r)\n"
        "print(sorted({'jax', 'jaxlib', 'torch', 'numpy', 'flax', 'optax'} & set(sys.modules)))\n"
        "r.set_global_seed, r.verify_reproducibility, r.validate_template_structure, r.CheckpointVerifier, r.run_gate\n"
        "print(sorted({'jax', 'jaxlib', 'torch', 'flax', 'optax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_a_jax_script_loads_no_torch_where_it_names_its_frameworks():
    script = (
        "import sys, reprotui.reproduce as r\n"
        "info = r.set_global_seed(1, frameworks=('python', 'numpy', 'jax'))\n"
        "print(sorted({'jax', 'torch'} & set(sys.modules)), info.jax_key is info.jax_key)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


def test_who_reads_types_finds_every_name():
    import reprotui.reproduce

    tree = ast.parse(Path(reprotui.reproduce.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    names = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(names) == reprotui.reproduce.__all__
    assert (Path(reprotui.reproduce.__file__).parent.parent / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    import reprotui.reproduce

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = reprotui.reproduce.no_such_name


@pytest.mark.parametrize("command", [["new", "p"], ["check", "."], ["env"], ["gate", "-n", "2", "--", "true"]])
def test_the_commands_that_train_nothing_load_neither_framework_nor_numpy(command, tmp_path):
    script = (
        "import sys; from reprotui.cli import main\n"
        f"main({command!r})\n"
        "print(sorted({'jax', 'jaxlib', 'torch', 'numpy', 'flax', 'optax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
