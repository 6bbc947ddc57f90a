"""Functions that are deterministic and functions that are not: which leaf, how many elements, by how much."""

import dataclasses
import itertools
import json
import time

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
import torch

from conftest import Cli
from reprotui.errors import BadInputError, WorkerFailedError
from reprotui.reproduce import (
    benchmark_deterministic_impact,
    get_seed_state,
    verify_deterministic_execution,
    verify_reproducibility,
)


def changing(*values):
    """Return a function that gives another value at each call."""
    remaining = itertools.cycle(values)
    return lambda: next(remaining)


def only(report):
    assert not report.deterministic
    (difference,) = report.differences
    assert difference.run == 1
    return difference.leaf


def test_equal_pytrees_of_everything_are_deterministic():
    def train(x, seed):
        key = jax.random.key(seed)
        params = {"w": jax.random.normal(key, (3, 2), jnp.bfloat16), "none": None}
        return {
            "jax": optax.adam(1e-3).init(params), "key": key, "numpy": np.float32(x), "torch": torch.nn.Linear(2, 2).state_dict(),
            "scalars": (1, 2.5, True, "text", b"bytes", 1j), "module": torch.nn.BatchNorm1d(3),
            "nan": [float("nan"), np.array([np.nan])],
        }  # fmt: skip

    report = verify_reproducibility(train, 1.5, 3, num_iterations=3)
    assert report.deterministic, str(report)
    assert report.runs == 3
    assert report.leaves > 15
    assert "identical in 3 runs" in str(report)
    assert verify_reproducibility(train, 1.5, 3, num_iterations=2).digest == report.digest
    assert verify_reproducibility(train, 1.5, 4, num_iterations=2).digest != report.digest


@pytest.mark.parametrize(
    ("a", "b", "elements", "largest", "ulps"),
    [
        (np.float32([1, 2, 3]), np.float32([1, np.nextafter(np.float32(2), np.float32(3)), 3]), 1, 2**-22, 1),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.5]), 2, 0.5, 2**22),
        (jnp.bfloat16(1), jnp.bfloat16(1.0078125), 1, 0.0078125, 1),
        (np.array([0.0]), np.array([-0.0]), 1, 0.0, 0),
        (np.array([np.nan]), np.array([1.0]), 1, None, None),
        (np.array([1, 2]), np.array([1, 5]), 1, 3.0, None),
        (1.0, 1.0 + 2**-52, 1, 2**-52, 1),
        (2**40, 2**40 + 1, 1, 1.0, None),
        (np.array([True, False]), np.array([True, True]), 1, 1.0, None),
        (True, False, 1, 1.0, None),
        (np.array([1, 2], ml_dtypes.float8_e4m3fn), np.array([1, 2.25], ml_dtypes.float8_e4m3fn), 1, 0.25, 1),
        (np.complex64([1 + 1j]), np.complex64([1 + 2j]), 1, 1.0, 2**23),
    ],
)
def test_the_size_of_a_difference(a, b, elements, largest, ulps):
    difference = only(verify_deterministic_execution(changing(a, b)))
    assert difference.elements.different == elements
    assert difference.elements.max_abs == (None if largest is None else pytest.approx(largest))
    assert difference.elements.max_ulp == ulps


def test_the_leaf_that_differs_is_named_and_only_that():
    @dataclasses.dataclass
    class State:
        params: dict
        step: int

    values = changing(1.0, 2.0)

    def train():
        return State({"dense": {"kernel": torch.tensor([1.0, values()])}, "bias": np.ones(2)}, 3)

    difference = only(verify_deterministic_execution(train))
    assert difference.path == "params/dense/kernel"
    assert "1 of 2 elements differ" in difference.text()
    assert difference.elements.first_index == (1,)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.ones(2), np.ones(3), "float64[2] in run 0, float64[3] in run 1"),
        (np.ones(2), np.ones(2, np.float32), "float32[2] in run 1"),
        (1, 1.0, "int64[] in run 0, float64[] in run 1"),
        (1, 10**30, "int64[] in run 0, int[] in run 1"),
        (10**30, 10**30 + 1, f"{10**30} in run 0, {10**30 + 1} in run 1"),
        ("a", "b", "'a' in run 0, 'b' in run 1"),
        ("a" * 99, "b", f"'{'a' * 59}… (99 bytes) in run 0"),
        (b"ab", b"ac", "b'ab' in run 0, b'ac' in run 1"),
        (None, "", "none[] in run 0, str[] in run 1"),
        ({"x": 1}, {"x": 1, "y": 2}, "only in run 1"),
        ({"x": 1, "y": 2}, {"x": 1}, "only in run 0"),
    ],
)
def test_other_differences_are_described(a, b, said):
    report = verify_deterministic_execution(changing(a, b))
    assert only(report)
    assert said in str(report)


def test_typed_keys_of_another_implementation_differ():
    difference = only(verify_deterministic_execution(changing(jax.random.key(0), jax.random.key(0, impl="rbg"))))
    assert difference.kind == "dtype"
    assert "key<threefry2x32>" in difference.text()


def test_unseeded_draws_are_found_and_seeded_ones_are_not():
    assert not verify_deterministic_execution(np.random.random).deterministic
    assert not verify_deterministic_execution(torch.rand, 3).deterministic
    assert verify_reproducibility(np.random.random).deterministic
    assert verify_reproducibility(torch.rand, 3).deterministic
    assert not verify_reproducibility(lambda: np.random.default_rng().random()).deterministic
    assert not verify_reproducibility(time.perf_counter_ns).deterministic


def test_verification_leaves_the_generators_alone():
    before = get_seed_state()
    verify_reproducibility(np.random.random)
    assert get_seed_state() == before


def test_a_function_that_changes_its_arguments_is_judged_by_its_result():
    def double(x):
        x *= 2
        return x

    array = np.ones(3)
    assert verify_deterministic_execution(double, array).deterministic
    assert (array == 1).all()


@pytest.mark.parametrize("result", [object(), {"x": {1, 2}}, np.array([object()]), torch.ones(2).to_sparse()])
def test_results_whose_bits_cannot_be_compared_are_refused(result):
    with pytest.raises(BadInputError, match="the result holds"):
        verify_deterministic_execution(lambda: result)


def test_one_run_is_no_comparison():
    with pytest.raises(BadInputError, match="at least 2"):
        verify_deterministic_execution(int, runs=1)


def test_the_check_of_the_libraries_themselves_covers_all_four():
    report = verify_reproducibility(num_iterations=2, seed=7)
    assert report.deterministic
    assert report.digest != verify_reproducibility(num_iterations=2, seed=8).digest


PROJECT = """
import os, random
def good(scale=1.0):
    return {"x": random.random() * scale}
def bad():
    return {"pid": os.getpid(), "x": random.random()}
def ordered():
    return list({"a", "b", "c", "d", "e", "f", "g"})
def broken():
    raise ValueError("out of data")
"""


@pytest.mark.slow
def test_fresh_processes_find_what_one_process_cannot(tmp_path):
    path = tmp_path / "project.py"
    path.write_text(PROJECT)
    assert verify_reproducibility(f"{path}:good", 2.0, in_processes=2, frameworks="python").deterministic
    report = verify_reproducibility(f"{path}:bad", in_processes=3, frameworks="python")
    assert {difference.leaf.path for difference in report.differences} == {"pid"}
    assert {difference.run for difference in report.differences} == {1, 2}
    assert not verify_deterministic_execution(f"{path}:ordered", in_processes=4).deterministic
    with pytest.raises(WorkerFailedError, match="out of data"):
        verify_deterministic_execution(f"{path}:broken", in_processes=2)
    with pytest.raises(BadInputError, match="no_such"):
        verify_deterministic_execution(f"{path}:no_such", in_processes=2)
    with pytest.raises(BadInputError, match="JSON"):
        verify_deterministic_execution(f"{path}:good", np.ones(1), in_processes=2)
    with pytest.raises(BadInputError, match="top of a module"):
        verify_deterministic_execution(lambda: 1, in_processes=2)
    with pytest.raises(BadInputError, match="fresh processes only"):
        verify_deterministic_execution(f"{path}:good")


@pytest.mark.slow
def test_the_command_checks_the_libraries_and_functions(tmp_path, bare_environment):
    reprotui = Cli(tmp_path, bare_environment)
    assert "identical in 2 runs in fresh processes" in reprotui("seed-check", "--seed", 42, "-n", 2).stdout
    reprotui.write("project.py", PROJECT)
    found = json.loads(reprotui("seed-check", "project:good", "-n", 2, "--frameworks", "python", "--json").stdout)
    assert found["deterministic"] and found["seed"] == 42 and found["leaves"] == 1
    bad = reprotui("seed-check", "project.py:bad", "-n", 2, "--frameworks", "python", exit_code=1)
    assert "pid: 1 of 1 elements differ" in bad.stdout
    reprotui("seed-check", "project.py:broken", "--frameworks", "python", exit_code=4)
    reprotui("seed-check", "project.py:absent", "--frameworks", "python", exit_code=2)
    reprotui("seed-check", "absent:f", "--frameworks", "python", exit_code=2)
    reprotui("seed-check", "-n", 1, exit_code=2)
    reprotui("seed-check", "--seed", -1, exit_code=2)


@pytest.mark.slow
def test_the_impact_of_deterministic_mode_is_measured(tmp_path):
    (tmp_path / "project.py").write_text(PROJECT)
    fresh = benchmark_deterministic_impact(f"{tmp_path / 'project.py'}:good", runs=2, in_processes=True)
    assert fresh.runs == 2 and len(fresh.deterministic) == 2
    impact = benchmark_deterministic_impact(torch.ones, 3, runs=3)
    assert len(impact.default) == len(impact.deterministic) == 3
    assert impact["slowdown_factor"] == impact.slowdown_factor > 0
    assert impact["absolute_difference"] == pytest.approx(sorted(impact.deterministic)[1] - sorted(impact.default)[1])
    assert json.loads(json.dumps(dict(impact)))["runs"] == 3
    assert not torch.are_deterministic_algorithms_enabled()
    assert "deterministic mode" in str(impact)
    with pytest.raises(BadInputError):
        benchmark_deterministic_impact(torch.ones, 3, runs=0)
