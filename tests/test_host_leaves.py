"""What lies in the host's memory is read as it is now, whatever the script did to it, and no framework comes along uninvited."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Cli, events_of, rows_of
from reprotui.checksum import host_form, lanes_to_checksum, torch_form
from reprotui.checksum.leaves import to_numpy
from reprotui.errors import BadInputError
from reprotui.record.host import HostLeaves
from reprotui.trace import Trace
from test_checksum import reference, reference_words

DTYPES = [
    torch.bool, torch.int8, torch.uint8, torch.int16, torch.uint16, torch.float16, torch.bfloat16, torch.int32, torch.float32,
    torch.complex64, torch.int64, torch.float64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip
LAYOUTS = ["plain", "transposed", "every other", "expanded", "from the middle", "conjugated", "imaginary of the conjugated"]


def random_tensor(dtype: torch.dtype, size: int, seed: int) -> torch.Tensor:
    raw = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, size * dtype.itemsize, np.uint8))
    return raw.clone().view(dtype) if size else torch.empty(0, dtype=dtype)


def laid_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == "transposed" and tensor.numel() % 2 == 0:
        return tensor.reshape(2, -1).T
    if layout == "every other":
        return tensor[::2]
    if layout == "expanded":
        return tensor[:1].expand(3, -1)
    if layout == "from the middle":
        return tensor[tensor.numel() // 2 :]
    if layout == "conjugated" and tensor.is_complex():
        return tensor.conj()
    if layout == "imaginary of the conjugated" and tensor.is_complex():
        return tensor.conj().imag
    return tensor


def by_definition(tensor: torch.Tensor) -> int:
    if not tensor.numel():
        return 0
    dense = tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format).reshape(-1)
    if dense.dtype == torch.bool:
        return reference([int(byte != 0) for byte in dense.view(torch.uint8).tolist()])
    width = min(dense.element_size(), 4)
    raw = (torch.view_as_real(dense) if dense.is_complex() else dense).reshape(-1).view(torch.uint8).numpy().tobytes()
    return reference(np.frombuffer(raw, f"<u{width}").tolist())


def read(leaves: list[Any], statistics: bool = False) -> list[int]:
    lanes = HostLeaves(leaves).read(leaves, statistics).lanes
    return [lanes_to_checksum(*pair) for pair in lanes.tolist()]


@settings(deadline=None, derandomize=True, max_examples=120)
@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), st.integers(0, 40), st.sampled_from(LAYOUTS)), max_size=6),
    st.integers(0, 2**32 - 1), st.booleans(),
)  # fmt: skip
def test_tensors_of_any_dtype_and_layout_among_arrays_and_numbers(
    described: list[tuple[torch.dtype, int, str]], seed: int, statistics: bool
) -> None:
    tensors = [laid_out(random_tensor(dtype, size, seed), layout) for dtype, size, layout in described]
    others: list[Any] = [np.arange(7.0)[::2], 3, 2.5, np.float32(1.5), np.arange(4, dtype=">i2")]
    mixed = [leaf for pair in zip(tensors, others, strict=False) for leaf in pair] + others
    expected = [by_definition(leaf) if isinstance(leaf, torch.Tensor) else host_form.checksum(np.asarray(leaf)) for leaf in mixed]
    assert read(mixed, statistics) == expected


def test_the_other_form_of_torch_agrees() -> None:
    for dtype in DTYPES:
        tensor = random_tensor(dtype, 37, 1)
        assert read([tensor]) == [torch_form.checksum(tensor)] == [by_definition(tensor)]


def test_leaves_that_changed_do_not_fit_and_new_memory_does() -> None:
    leaves = [torch.zeros(3, 4), np.zeros(5), 1.5]
    kept = HostLeaves(leaves)
    assert kept.fits([torch.ones(3, 4), np.ones(5), 2.5])
    assert not kept.fits([torch.zeros(4, 3), np.zeros(5), 1.5])
    assert not kept.fits([torch.zeros(3, 4, dtype=torch.float64), np.zeros(5), 1.5])
    assert not kept.fits([torch.nn.Parameter(torch.zeros(3, 4)), np.zeros(5), 1.5])
    assert not kept.fits([torch.zeros(3, 4, device="meta"), np.zeros(5), 1.5])
    assert not kept.fits([2.0, np.zeros(5), 1.5])
    assert not kept.fits([torch.zeros(3, 4), np.zeros(5, np.float32), 1.5])
    assert not kept.fits([torch.zeros(3, 4), np.zeros(5), 1])


def test_memory_is_looked_up_anew_each_time() -> None:
    tensor = torch.zeros(50)
    kept = HostLeaves([tensor])
    for number in range(3):
        tensor.data = torch.full((100,), float(number))[::2] if number == 1 else torch.full((50,), float(number))
        assert kept.fits([tensor])
        lanes = kept.read([tensor], False).lanes
        assert lanes_to_checksum(*lanes[0].tolist()) == by_definition(torch.full((50,), float(number)))


def test_a_tensor_whose_memory_was_freed_is_an_error_and_an_empty_one_is_none() -> None:
    tensor = torch.ones(5)
    tensor.untyped_storage().resize_(0)
    with pytest.raises(BadInputError, match="has no memory"):
        read([torch.ones(2), tensor])
    assert read([torch.ones(0), torch.ones(2, 0)]) == [0, 0]


def test_what_has_no_bits_of_its_own_is_refused() -> None:
    with pytest.raises(BadInputError, match="make it dense first"):
        HostLeaves([torch.eye(2).to_sparse()])
    with pytest.raises(BadInputError, match="has no checksum"):
        HostLeaves([np.array([{}])])


def test_a_class_of_somebody_s_own_is_read_by_what_it_gives() -> None:
    class Own(torch.Tensor):
        pass

    own = torch.arange(4.0).as_subclass(Own)
    assert read([own]) == [by_definition(torch.arange(4.0))] == [host_form.checksum(to_numpy(own))]


# Real processes.

MISCHIEF = """
import json, sys
import torch
from torch import nn
from reprotui.checksum import numpy_form
from reprotui.checksum.leaves import to_numpy

torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        self.register_buffer("seen", torch.zeros(3))
    def forward(self, x):
        self.seen = self.seen + 1
        return self.last(self.norm(self.first(x)))

model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
given = []
for step in range(1, 46):
    if step == 4:
        model.first.weight.data = torch.randn(6, 8).T
    if step == 5:
        model.last.weight.data = model.last.weight.data.clone()
    if step == 6:
        optimizer.load_state_dict(optimizer.state_dict())
    if step == 7:
        for state in optimizer.state.values():
            state["exp_avg"] = state["exp_avg"].clone()
    if step == 8:
        optimizer.param_groups[0]["lr"] = 0.02
    if step == 9:
        model.norm.running_mean = torch.ones(8)
    if step == 10:
        model.register_buffer("late", torch.arange(3))
    if step == 11:
        optimizer.state[model.last.bias]["more"] = torch.ones(2)
    optimizer.zero_grad(set_to_none=step % 2 == 0)
    if step == 12:
        model.first.requires_grad_(False)
    if step == 14:
        model.first.requires_grad_(True)
    size = 5 if step % 7 else 3
    loss = model(torch.randn(6, size).T).square().mean()
    loss.backward()
    grads = {f"grads/{name.replace('.', '/')}": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    now = {f"params/{name.replace('.', '/')}": p for name, p in model.named_parameters()} | grads | {"loss": loss}
    now |= {f"extra/{name.replace('.', '/')}": buffer for name, buffer in model.named_buffers()}
    for name, p in model.named_parameters():
        now |= {f"opt_state/{name.replace('.', '/')}/{key}": value for key, value in optimizer.state[p].items()}
    given.append({path: numpy_form.checksum(to_numpy(leaf)) for path, leaf in now.items()})
    for tensor in grads.values():
        tensor.zero_()
json.dump(given, open("given.json", "w"))
"""
MODULES = """
import atexit, json, sys
FRAMEWORKS = ("jax", "jaxlib", "flax", "optax", "torch", "numba")
atexit.register(lambda: print(json.dumps([name for name in FRAMEWORKS if name in sys.modules])))
"""
OBSERVED = (
    MODULES
    + """
import torch
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.Adam(model.parameters())
for _ in range(25):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
"""
)
RECORDED = (
    MODULES
    + """
from reprotui import Recorder
if "torch" in sys.argv:
    import torch
    values = {"w": torch.arange(4.0), "deep": [torch.ones(2), (3, None)]}
else:
    import numpy as np
    values = {"w": np.arange(4.0), "deep": [np.ones(2), (3, None)]}
with Recorder(config={}, name="run") as rec:
    rec.init(params=values)
    for step in range(1, 25):
        values["w"] += 1
        rec.step(step, params=values, loss=1.0 / step, metrics={"acc": 0.5})
"""
)
SURROUNDINGS = """
import json, os, random, sys, threading, warnings
import numpy as np
import torch
torch.manual_seed(0)
random.seed(0)
np.random.seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
kept = {name: value for name, value in os.environ.items() if not name.startswith("REPROTUI")}
print(json.dumps([
    str(warnings.filters), kept, str(random.getstate()), str(np.random.get_state()), torch.get_rng_state().tolist(),
    torch.get_num_threads(), torch.get_num_interop_threads(), str(np.geterr()), sys.getrecursionlimit(), sys.getswitchinterval(),
    torch.get_default_dtype() == torch.float32, model.weight.tolist(),
]))
"""


def run(reprotui: Cli, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=reprotui.directory, env={**reprotui.environment, **variables}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_llvm(folder: Path) -> dict[str, str]:
    """Return variables of a process that cannot import llvmlite."""
    blocked = folder / "blocked"
    blocked.mkdir()
    (blocked / "llvmlite.py").write_text("raise ImportError('no llvmlite for this Python')")
    return {"PYTHONPATH": str(blocked)}


@pytest.mark.slow
def test_a_torch_script_that_replaces_what_it_trains_is_recorded_as_it_was(reprotui: Cli) -> None:
    reprotui.write("mischief.py", MISCHIEF)
    run(reprotui, "-m", "reprotui.observe", "--name", "run", "mischief.py")
    given = json.loads((reprotui.directory / "given.json").read_text())
    assert "observing-failed" not in dict(events_of(reprotui.runs / "run"))
    with Trace(reprotui.runs / "run" / "trace.db") as trace:
        rows = {row.step: row for row in trace.rows()}
        for step, expected in enumerate(given, 1):
            checksums = trace.leaf_checksums(step)
            assert checksums is not None
            paths = (spec.path for spec in trace.table(rows[step].version).specs)
            recorded = dict(zip(paths, checksums.tolist(), strict=True))
            assert {path: recorded.get(path) for path in expected} == expected, step
            held = {
                path for path in recorded if path.startswith(("params", "grads", "extra", "opt_state")) and "group" not in path
            }
            assert held == {path for path in expected if path != "loss"}, step


def test_an_observed_torch_process_imports_no_jax(reprotui: Cli) -> None:
    reprotui.write("observed.py", OBSERVED)
    said = run(reprotui, "-m", "reprotui.observe", "--name", "run", "observed.py")
    assert json.loads(said) == ["torch"]
    assert len(rows_of(reprotui.runs / "run")) == 26


@pytest.mark.slow
@pytest.mark.parametrize("what", ["torch", "numpy"])
def test_a_recorder_imports_what_its_script_uses_alone(reprotui: Cli, what: str) -> None:
    reprotui.write("recorded.py", RECORDED)
    assert json.loads(run(reprotui, "recorded.py", what)) == (["torch"] if what == "torch" else [])
    manifest = json.loads((reprotui.runs / "run" / "run.json").read_text())
    assert manifest["devices"]["backend"] == ("torch cpu" if what == "torch" else "numpy")
    with Trace(reprotui.runs / "run" / "trace.db") as trace:
        row = trace.row(24)
        assert row is not None and row.loss == pytest.approx(1 / 24)
        specs = trace.table(row.version).specs
    assert [spec.path for spec in specs] == ["loss", "metrics/acc", "params/deep/0", "params/deep/1/0", "params/w"]


@pytest.mark.slow
def test_without_llvmlite_numpy_reads_the_same_and_it_is_said_once(reprotui: Cli, tmp_path: Path) -> None:
    reprotui.write("mischief.py", MISCHIEF)
    variables = without_llvm(tmp_path)
    run(reprotui, "-m", "reprotui.observe", "--name", "fast", "mischief.py")
    run(reprotui, "-m", "reprotui.observe", "--name", "slow", "mischief.py", **variables)
    fast, slow = (rows_of(reprotui.runs / name) for name in ("fast", "slow"))
    assert [row.roots for row in fast] == [row.roots for row in slow]
    assert "slow-checksums" not in dict(events_of(reprotui.runs / "fast"))
    said = [text for kind, text in events_of(reprotui.runs / "slow") if kind == "slow-checksums"]
    assert len(said) == 1 and "no llvmlite for this Python" in said[0]
    environment = {**reprotui.environment, **variables}
    assert "no llvmlite for this Python" in reprotui("env", env=environment).stderr
    assert reprotui("env").stderr == ""


def test_a_recorder_of_numpy_arrays_says_it_too(reprotui: Cli, tmp_path: Path) -> None:
    reprotui.write("recorded.py", RECORDED)
    run(reprotui, "recorded.py", "numpy", **without_llvm(tmp_path))
    assert [kind for kind, _ in events_of(reprotui.runs / "run")].count("slow-checksums") == 1


@pytest.mark.slow
def test_what_a_script_sees_around_it_is_not_changed(reprotui: Cli) -> None:
    reprotui.write("surroundings.py", SURROUNDINGS)
    variables = {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0"}
    bare = json.loads(run(reprotui, "surroundings.py", **variables))
    observed = json.loads(run(reprotui, "-m", "reprotui.observe", "--name", "run", "surroundings.py", **variables))
    assert observed == bare
    assert len(rows_of(reprotui.runs / "run")) == 6


def test_machine_code_needs_no_home_and_leaves_no_file(tmp_path: Path) -> None:
    script = "from reprotui.checksum import host_form; print(host_form.shortfall())"
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(home)}
    started = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, cwd=home, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in started] == ["None", "None"]
    assert list(home.iterdir()) == []


def test_words_of_a_tensor_are_those_of_an_array() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert read([torch.from_numpy(array).T]) == [reference(reference_words(np.ascontiguousarray(array.T)))]
