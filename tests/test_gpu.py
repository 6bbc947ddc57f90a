"""What is for GPUs: the kernel runs in Triton's interpreter where there is none, what needs the device is skipped there."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Cli, events_of, last_step
from reprotui.checksum import numpy_form, torch_form
from reprotui.record import accelerated, lanes

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA or ROCm")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

KERNEL = """
import contextlib, sys
import torch
from reprotui.checksum import numpy_form, torch_form, triton_form
device = sys.argv[1]
torch.manual_seed(0)
types = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32]
types += [torch.int64, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn]
sizes = (0, 1, 7, triton_form.BLOCK_WORDS - 1, triton_form.BLOCK_WORDS, triton_form.BLOCK_WORDS + 1, 40_000)
leaves = [(torch.randn(size) * 50).to(kind) for size in sizes for kind in types]
leaves += [torch.randn(64, 33).T, torch.randn(5)[2:], torch.randn(1, dtype=torch.complex64).conj().imag, torch.tensor(3.5)]
expected = torch.tensor([torch_form.lanes(leaf) for leaf in leaves])
there = [leaf.to(device) for leaf in leaves]
with torch.cuda.device(device) if device != "cpu" else contextlib.nullcontext():
    found = triton_form.sums_of_tensors(there) & 0xFFFFFFFF
    again = triton_form.sums_of_tensors([*there[::-1], there[0]])[:, :2] & 0xFFFFFFFF
assert torch.equal(found[:, :2].cpu(), expected) and not found[:, 2].any()
assert torch.equal(again.cpu(), torch.cat([expected.flip(0), expected[:1]]))
assert torch.equal(torch_form.sums_of_many(there)[:, :2].cpu(), expected)
broken = []
for kind in (kind for kind in types if kind.is_floating_point or kind.is_complex):
    for place in (0, triton_form.BLOCK_WORDS - 1, 9_999):
        for value in (float("nan"), *(() if kind is torch.float8_e4m3fn else (float("inf"), float("-inf")))):
            leaf = torch.ones(10_000, dtype=kind)
            leaf[place] = value
            broken.append(leaf.to(device))
for form in (triton_form.sums_of_tensors, torch_form.sums_of_many):
    sums = form(broken).cpu()
    assert (sums[:, 2] == 1).all(), sums[:, 2]
    assert [tuple(pair) for pair in (sums[:, :2] & 0xFFFFFFFF).tolist()] == [torch_form.lanes(leaf) for leaf in broken]
changed = there[-17].clone()
changed[12345] += 1
assert not torch.equal((triton_form.sums_of_tensors([changed])[:, :2] & 0xFFFFFFFF).cpu()[0], expected[-17])
print("equal", len(leaves))
"""


def python(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


@pytest.mark.slow
def test_the_gpu_s_kernel_agrees_with_the_other_forms() -> None:
    done = python(KERNEL, DEVICE, **({} if DEVICE == "cuda" else {"TRITON_INTERPRET": "1"}))
    assert done.stdout.split() == ["equal", "95"], done.stderr


def test_tensors_of_an_accelerator_are_read_with_their_numbers() -> None:
    leaves = [torch.arange(6.0).reshape(2, 3).T, torch.tensor(3.5), torch.tensor(7), torch.tensor(2.25), torch.zeros(0)]
    there = [leaf.to(DEVICE, copy=True).requires_grad_(leaf.is_floating_point()) for leaf in leaves]
    (part,) = accelerated.dispatch(np.array([4, 2, 0, 3, 1]), there, [0, 2, 3])
    found, not_finite, numbers = part.result()
    assert part.positions.tolist() == [4, 2, 0, 3, 1]
    assert [tuple(pair) for pair in found.tolist()] == [numpy_form.lanes(leaf.numpy()) for leaf in leaves]
    assert not_finite.tolist() == [False] * 5
    assert {position: value.item() for position, value in numbers.items()} == {2: 3.5, 0: 7, 3: 2.25}


def test_a_tensor_of_another_class_is_not_read_where_it_says_that_its_memory_is() -> None:
    class Wrapped(torch.Tensor):
        pass

    leaf = torch.arange(9.0)
    found = torch_form.sums_of_many([leaf.to(DEVICE).as_subclass(Wrapped)])
    assert tuple(found.cpu()[0].tolist()) == (*numpy_form.lanes(leaf.numpy()), 0)


TRAINING = """
import os, sys
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Dropout(0.2), torch.nn.ReLU(), torch.nn.Linear(256, 1)).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
for step in range(8):
    if step == 3 and "--fault" in sys.argv:
        for _ in range(1 + os.urandom(1)[0] + os.getpid() % 1009):
            torch.randn(4, device="cuda")
    loss = model(torch.randn(128, 64).cuda()).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@needs_gpu
def test_a_script_on_the_gpu_races_and_is_certified(reprotui: Cli) -> None:
    reprotui.write("train.py", TRAINING)
    command = ["--", sys.executable, "train.py"]
    assert "same bits with and without observation" in reprotui("certify", *command).stdout
    assert reprotui.race("--name", "same", *command)["verdicts"][0]["equal_through"] == 8
    verdict = reprotui.race(*command, "--fault", exit_code=1)["verdicts"][0]
    assert (verdict["step"], verdict["phase"]) == (4, "rng")
    assert {leaf["path"] for leaf in verdict["leaves"]} == {"rng/cuda"}


CAPTURED = """
import torch
model = torch.nn.Linear(16, 16).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
given = torch.ones(4, 16, device="cuda")
def step():
    optimizer.zero_grad(set_to_none=True)
    model(given).square().mean().backward()
    optimizer.step()
side = torch.cuda.Stream()
side.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(side):
    for _ in range(3):
        step()
torch.cuda.current_stream().wait_stream(side)
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    step()
for _ in range(4):
    graph.replay()
torch.cuda.synchronize()
print("replayed", float(model.weight.sum()))
"""


@needs_gpu
def test_a_cuda_graph_is_captured_as_if_nobody_watched(reprotui: Cli) -> None:
    reprotui.write("train.py", CAPTURED.replace("import torch\n", "import torch\ntorch.manual_seed(0)\n", 1))
    reprotui.race("--", sys.executable, "train.py", exit_code=0)
    run = reprotui.runs / "race" / "a"
    assert "replayed" in (run / "worker.log").read_text()
    assert last_step(run) == 3
    assert any("a CUDA graph is captured" in text for kind, text in events_of(run) if kind == "candidates")


@needs_gpu
def test_reading_many_tensors_does_not_wait_for_the_device() -> None:
    leaves: list[Any] = [torch.randn(1 << 20, device="cuda") for _ in range(8)]
    lanes.take(leaves).result()
    work = torch.randn(8192, 8192, device="cuda")
    for _ in range(40):
        work = work @ work
    behind = torch.cuda.Event()
    behind.record()
    taken = lanes.take(leaves)
    assert not behind.query()
    taken.result()
    assert behind.query()
