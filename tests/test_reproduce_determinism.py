"""Deterministic mode: applied in time or refused, put back, and known to be on. Each case in a process of its own."""

import json
import subprocess
import sys

import pytest

from reprotui.errors import BadInputError
from reprotui.reproduce import DeterministicConfig, enable_deterministic_mode

PRELUDE = """
import json, os, sys
import reprotui.reproduce as r
def tell(**values):
    print(json.dumps(values))
def refusal(call):
    try:
        call()
    except r.TooLateError as error:
        return str(error)
    return None
"""


@pytest.fixture
def python(bare_environment):
    def run(script, **variables):
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + script],
            env=bare_environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.slow
def test_torch_is_switched_to_deterministic_algorithms_and_back(python):
    found = python("""
import torch
def state():
    return [torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, os.environ.get("CUBLAS_WORKSPACE_CONFIG")]
torch.backends.cudnn.benchmark = True
before = state()
missing = r.get_deterministic_status()
previous = r.enable_deterministic_mode(frameworks="torch")
on, status = state(), r.get_deterministic_status()
previous.apply()
after = state()
with r.DeterministicContext(frameworks="torch", torch_warn_only=True):
    inside = state()
try:
    with r.DeterministicContext(frameworks="torch"):
        raise ValueError
except ValueError:
    pass
tell(before=before, on=on, after=after, inside=inside, end=state(), status=status["deterministic"], missing=missing["problems"])
""")
    assert found["before"] == found["after"] == found["end"] == [False, False, False, True, None]
    assert found["on"] == [True, False, True, False, ":4096:8"]
    assert found["inside"] == [True, True, True, False, ":4096:8"]
    assert found["status"] is True
    assert [line.split(":")[0] for line in found["missing"]] == [
        "torch may use operations that are not deterministic",
        "cuDNN chooses kernels by timing",
    ]


def test_jax_gets_its_settings_before_it_starts(python):
    found = python(
        """
r.enable_deterministic_mode(frameworks="jax", matmul_precision="highest", threefry_partitionable=False)
imported = "jax" in sys.modules
import jax
jax.devices()
status = r.get_deterministic_status()["jax"]
r.enable_deterministic_mode(frameworks="jax")  # what is in force already is not late
tell(imported=imported, flags=os.environ["XLA_FLAGS"], **status)
""",
        XLA_FLAGS="--xla_cpu_max_isa=AVX2",
    )
    assert found["imported"] is False
    assert found["flags"] == "--xla_cpu_max_isa=AVX2 --xla_gpu_deterministic_ops=true"
    assert (found["matmul_precision"], found["threefry_partitionable"]) == ("highest", False)
    assert found["gpu_deterministic_ops"] and found["started"] and found["backend"] == "cpu"


@pytest.mark.slow
def test_what_jax_has_read_already_is_an_error_and_nothing_is_set(python):
    found = python("""
import jax, torch
between = refusal(lambda: r.enable_deterministic_mode(frameworks="jax", xla_gpu_deterministic_ops=False))  # imported, not started
jax.devices()
late = refusal(r.enable_deterministic_mode)
threads = refusal(lambda: r.enable_deterministic_mode(frameworks="jax", threads=2))
flags = refusal(lambda: r.DeterministicConfig(xla_gpu_deterministic_ops=None, xla_flags="--xla_cpu_max_isa=AVX2").apply())
untouched = [torch.are_deterministic_algorithms_enabled(), os.environ.get("XLA_FLAGS"), os.environ.get("CUBLAS_WORKSPACE_CONFIG")]
still = refusal(lambda: r.enable_deterministic_mode(xla_gpu_deterministic_ops=None, matmul_precision="highest"))
tell(between=between, late=late, threads=threads, flags=flags, untouched=untouched, still=still,
     precision=jax.config.jax_default_matmul_precision)
""")
    assert found["between"] is None
    assert "XLA_FLAGS=--xla_gpu_deterministic_ops=true (jax has started)" in found["late"]
    assert "NPROC=2 (jax has started)" in found["threads"]
    assert "AVX2" in found["flags"]
    assert found["untouched"] == [False, None, None]
    assert found["still"] is None
    assert found["precision"] == "highest"


@pytest.mark.slow
def test_a_cublas_workspace_is_too_late_once_cuda_has_started(python):
    found = python("""
import torch
torch.cuda.is_initialized = lambda: True
late = refusal(lambda: r.enable_deterministic_mode(frameworks="torch"))
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
tell(late=late, in_time=refusal(lambda: r.enable_deterministic_mode(frameworks="torch")))
""")
    assert "CUBLAS_WORKSPACE_CONFIG=:4096:8 (CUDA has started)" in found["late"]
    assert found["in_time"] is None


@pytest.mark.slow
def test_threads_reach_numpy_torch_and_xla_and_are_too_late_for_an_imported_numpy(python):
    found = python("""
r.DeterministicConfig(threads=1).apply()
import torch
tell(variables=[os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")],
     torch=torch.get_num_threads())
""")
    assert found == {"variables": ["1"] * 4, "torch": 1}
    found = python("""
import numpy
tell(late=refusal(lambda: r.DeterministicConfig(threads=1, frameworks="jax").apply()))
""")
    assert "OPENBLAS_NUM_THREADS=1 (NumPy is imported)" in found["late"]


@pytest.mark.slow
def test_going_back_is_never_too_late(python):
    found = python("""
with r.DeterministicContext(frameworks="jax"):
    import jax
    jax.devices()
tell(flags=os.environ.get("XLA_FLAGS"))
""")
    assert found == {"flags": None}


@pytest.mark.slow
def test_seeding_switches_deterministic_mode_on_and_says_what_it_left_out(python):
    found = python("""
import jax, torch
jax.devices()
info = r.set_global_seed(1)
off = r.set_global_seed(1, deterministic=False)
tell(on=torch.are_deterministic_algorithms_enabled(), notes=info.notes, off=off.notes, flags=os.environ.get("XLA_FLAGS"))
""")
    assert found["on"] is True
    assert any("jax had started without a GPU" in note for note in found["notes"])
    assert any("PYTHONHASHSEED" in note for note in found["notes"])
    assert not any("jax had started" in note for note in found["off"])
    assert found["flags"] is None
    assert python("tell(notes=r.set_seed(1, frameworks='python').notes)", PYTHONHASHSEED="0") == {"notes": []}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"matmul_precision": "best"}, "best"),
        ({"threads": 0}, "threads"),
        ({"no_such": 1}, "no_such"),
        ({"frameworks": "caffe"}, "caffe"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(BadInputError, match=said):
        enable_deterministic_mode(**settings)


def test_flags_are_kept_and_a_contrary_one_is_replaced(monkeypatch):
    config = DeterministicConfig(frameworks="jax")
    for before, after in (
        ("", "--xla_gpu_deterministic_ops=true"),
        ("--a=1 --xla_gpu_deterministic_ops=false", "--a=1 --xla_gpu_deterministic_ops=true"),
        ("--xla_gpu_deterministic_ops --a=1", "--xla_gpu_deterministic_ops --a=1"),
    ):
        monkeypatch.setenv("XLA_FLAGS", before)
        assert config._xla_flags() == after
