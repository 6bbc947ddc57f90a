"""Explain scripts in PyTorch and jax: what began to differ and its line, or silence where nothing can be said."""

import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Static

from conftest import Cli, eventually
from pilots import dashboard, drive
from reprotui.explain.align import changes_of, matched
from reprotui.explain.operations import Listing, pair_operations
from reprotui.explain.script_answer import ScriptExplanation
from reprotui.explain.script_repeats import repetitions

SCRIPT = """
import os, sys
import torch
import torch.nn as nn
import torch.nn.functional as F

variant, *more = sys.argv[1].split("+")
torch.set_num_threads(2 if variant == "threads" else 1)
torch.manual_seed(5 if variant == "init" else 0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 256), nn.Linear(256, 10)])  # init
        self.norm = nn.BatchNorm1d(256)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        h = self.layers[0](x)
        h = self.norm(h)  # threads batchnorm
        h = F.gelu(h, approximate="tanh" if variant == "gelu" else "none")  # gelu
        h = h * (0.5001 if variant == "constant" else 0.5)  # constant
        h = F.relu(h) if variant == "relu" else F.silu(h)  # relu
        h = self.drop(h)  # seed
        if "print" in (variant, *more):
            print(h.mean().item())
        a, b, c = h, h.sin(), h.cos() * 0.3
        h = a + (b + c) if variant == "order" else (a + b) + c  # order
        part = h[1:] if variant == "slice" else h[:-1]  # slice
        return self.layers[1](h) + part.mean()


model = Net()
if variant == "batchnorm":
    model.norm.eval()
kind = torch.optim.Adam if variant == "adam" else torch.optim.SGD
optimizer = kind(model.parameters(), lr=0.11 if variant == "lr" else 0.1)
data = torch.Generator().manual_seed(1)
torch.manual_seed(3 if variant == "seed" else 2)
for step in range(4):
    x, y = torch.randn(128, 64, generator=data), torch.randint(0, 10, (128,), generator=data)
    if variant == "chance":
        x[0, 0] = int.from_bytes(os.urandom(2), "little") / 65536
    if variant == "label" and step == 2:
        y[0] = (y[0] + 1) % 10  # label
    if variant == "file":
        x.numpy()[0, 0] = 7  # written where torch does not see it
    weights = torch.tensor([1.0, 2.0 if variant == "made" else 1.0] + [1.0] * 8)  # made
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y, weight=weights)
    loss.backward()
    optimizer.step()  # lr adam
"""
FLAKY = """
import os, torch

library = torch.library.Library("planted", "DEF")
library.define("noisy(Tensor x) -> Tensor")
library.impl("noisy", lambda x: x * (1 + int.from_bytes(os.urandom(3), "little")), "CPU")
torch.manual_seed(0)
table = torch.nn.Parameter(torch.randn(8, 4))
optimizer = torch.optim.SGD([table], lr=0.1)
for step in range(2):
    scale = torch.ops.planted.noisy(torch.ones(8, 4))
    (table * scale).sum().backward()
    optimizer.step()
"""
PASSES = """
import sys, torch

torch.manual_seed(0)
w = torch.randn(64, 8, requires_grad=True)
x, y = torch.randn(256, 64), torch.randn(256, 8)
for step in range(5):
    loss = ((x @ w).tanh() - y).pow(2).mean()
    loss.backward()
    with torch.no_grad():
        w -= (0.2 if step == 3 and sys.argv[1] == "b" else 0.1) * w.grad
        w.grad = None
"""


JAX = """
import functools, sys
import jax, jax.numpy as jnp

variant = sys.argv[1]


def loss(params, x, y):
    h = jax.nn.gelu(x @ params["a"], approximate=variant != "gelu")  # gelu
    return jnp.mean((h @ params["b"] - y) ** 2) * (1.01 if variant == "constant" else 1.0)  # constant


@functools.partial(jax.jit, donate_argnums=0, static_argnums=3)
def train(params, x, y, scale):
    value, grads = jax.value_and_grad(loss)(params, x, y)
    if variant == "prints":
        jax.debug.print("{}", value)
    return jax.tree.map(lambda p, g: p - scale * (0.011 if variant == "rate" else 0.01) * g, params, grads), value  # rate


key = jax.random.key(0)
params = {"a": jax.random.normal(key, (16, 32)) / 4, "b": jax.random.normal(key, (32, 4)) / 4}
for step in range(5):
    x = jax.random.normal(jax.random.key(step), (8, 16))
    if variant == "batch" and step == 3:
        x = x + 1
    params, value = train(params, x, jnp.sin(x[:, :4]), 1.0)
"""


def planted(reprotui: Cli, a: str, b: str, *, exit_code: int = 1) -> Path:
    """Race two variants of the script; return its file."""
    path = reprotui.write("train.py", SCRIPT)
    reprotui.race("--a", f"python train.py {a}", "--b", f"python train.py {b}", exit_code=exit_code)
    return path


def explained(reprotui: Cli, *arguments: object, exit_code: int = 1) -> dict[str, Any]:
    names = ("race/a", "race/b") if not arguments or str(arguments[0]).startswith("--") else ()
    return json.loads(reprotui("explain", *names, *arguments, "--json", exit_code=exit_code).stdout)


def line_of(found: dict[str, Any]) -> str:
    return Path(found["place"]["file"]).read_text().splitlines()[found["place"]["line"] - 1]


def test_another_number_of_threads_is_named_by_the_operation_that_adds(reprotui: Cli) -> None:
    planted(reprotui, "base", "threads+print")
    found = explained(reprotui)
    assert line_of(found).endswith("# threads batchnorm"), found["headline"]
    assert (found["step"], found["likely"], found["inputs_differ"]) == (1, False, [])
    assert found["headline"] == "first different: aten.native_batch_norm at train.py:21 in forward (module norm)"
    assert found["first"]["inputs_equal"] and found["first"]["elements"]["different"] > 0
    assert found["first"]["path"][0] == "aten.native_batch_norm" and found["first"]["leaf"]
    assert found["why"].startswith("likely the sum is taken in another order")
    assert found["reading"].count("with its operations read: all 6 roots equal the record") == 2
    # What is only printed in one of them is no reason, and was not taken for one.
    assert found["kernels"]["count"][1] == found["kernels"]["count"][0] + 2
    assert "threads" in found["cause"]


def test_a_script_that_is_not_deterministic_with_itself_is_not_explained(reprotui: Cli) -> None:
    planted(reprotui, "chance", "chance")
    done = reprotui("explain", "race/a", "race/b", exit_code=3)
    assert "NOT FAITHFUL" in done.stdout and "replay not faithful from step 1 · batch" in done.stdout
    assert "train.py:" not in done.stdout and "first different" not in done.stdout
    assert "reprotui explain RUN --step 1 --repeat 5" in done.stdout


@pytest.mark.slow
def test_a_trace_that_was_copied_now_and_then_is_held_against_one_that_is_read_at_once(reprotui: Cli) -> None:
    reprotui.write("train.py", SCRIPT)
    reprotui.race("--local-trace", 60, "--a", "python train.py base", "--b", "python train.py gelu", exit_code=1)
    found = explained(reprotui)
    assert line_of(found).endswith("# gelu") and found["reading"].count("all 6 roots equal the record") == 2


@pytest.mark.slow
def test_equal_runs_have_no_operation_that_differs(reprotui: Cli) -> None:
    planted(reprotui, "base", "again", exit_code=0)
    found = explained(reprotui, "--step", 2, exit_code=0)
    count = found["kernels"]["count"][0]
    assert found["headline"] == f"no operation differs: {count} of {count} give the same bits" and count > 50
    assert found["programs"]["same"] and found["place"] is None
    assert "nothing to explain" not in found["headline"]
    assert "no difference to explain" in reprotui("explain", "race/a", "race/b", exit_code=2).stderr


WORDS = {
    "constant": ("aten.mul", "its arguments are not the same"),
    "gelu": ("aten.gelu", "its arguments are not the same"),
    "order": ("aten.add", "it is given other tensors"),
    "slice": ("aten.slice", "its arguments are not the same"),
    "seed": ("aten.bernoulli_", "inputs equal, the state of its generator is not"),
    "init": ("aten.uniform_", "inputs equal, the state of its generator is not"),
    "made": ("aten.lift_fresh", "the numbers given there are not the same"),
    "lr": ("aten.add_", "its arguments are not the same"),
    "lr+print": ("aten.add_", "its arguments are not the same"),
}
PARTING = ("relu", "batchnorm", "adam", "label")


@pytest.mark.slow
@pytest.mark.parametrize("variant", [*WORDS, *PARTING])
def test_the_line_that_was_changed_is_named(reprotui: Cli, variant: str) -> None:
    planted(reprotui, "base", variant)
    found = explained(reprotui)
    assert variant.split("+")[0] in line_of(found).partition("#")[2].split(), found["headline"]
    assert not found["likely"]
    if variant in WORDS:
        name, word = WORDS[variant]
        assert found["headline"].startswith(f"first different: {name} at train.py:")
        assert found["figures"][0] == word
    else:
        assert found["headline"].startswith("the programs are not the same, first at train.py:")
        assert found["first"] is None and len(found["programs"]["changes"]) == 1
    if variant == "gelu":
        change = found["programs"]["changes"][0]
        assert change["a"] == "aten.gelu(float32[128,256])" and "approximate='tanh'" in change["b"]


@pytest.mark.slow
def test_what_entered_from_outside_of_torch_is_named_as_that(reprotui: Cli) -> None:
    planted(reprotui, "base", "file")
    found = explained(reprotui, exit_code=3)
    assert (
        found["headline"].startswith("what enters step 1 is not the same: batch/0, first read by aten.addmm at ")
        and "train.py:20" in found["headline"]
    )


@pytest.mark.slow
def test_a_later_step_begins_with_states_that_differ(reprotui: Cli) -> None:
    planted(reprotui, "base", "gelu")
    found = explained(reprotui, "--step", 3, exit_code=3)
    assert found["headline"].startswith("what enters step 3 is not the same: ")
    assert (found["first"], found["place"], found["figures"]) == (None, None, [])


@pytest.mark.slow
def test_an_operation_that_is_not_deterministic_is_found_by_repeating(reprotui: Cli) -> None:
    reprotui.write("flaky.py", FLAKY)
    reprotui.race("--a", "python flaky.py", "--repeat", 2, exit_code=1)
    found = json.loads(reprotui("explain", "race/a", "--step", 1, "--repeat", 3, "--json", exit_code=1).stdout)
    assert found["headline"] == "not deterministic: planted.noisy at flaky.py:11: 3 different outcomes in 3"
    assert [item["name"] for item in found["flaky"]] == ["planted.noisy"]
    # Of two runs nothing is said: each leaves its record.
    assert "NOT FAITHFUL" in reprotui("explain", "race/a", "race/a2", exit_code=3).stdout


@pytest.mark.slow
def test_what_chance_gave_a_step_is_told_from_its_operations(reprotui: Cli) -> None:
    planted(reprotui, "chance", "chance")
    found = json.loads(reprotui("explain", "race/a", "--step", 1, "--repeat", 2, "--json", exit_code=1).stdout)
    assert found["headline"].startswith("not the same each time: first different: aten.") and found["flaky"] == []
    line = int(found["headline"].partition("train.py:")[2].split()[0])
    assert "os.urandom" in SCRIPT.splitlines()[line - 1]


@pytest.mark.slow
def test_steps_without_an_optimizer_are_explained(reprotui: Cli) -> None:
    reprotui.write("passes.py", PASSES)
    reprotui.race("--a", "python passes.py a", "--b", "python passes.py b", exit_code=1)
    found = explained(reprotui)
    assert (found["step"], found["likely"]) == (4, False)
    assert "w -= " in line_of(found) and found["headline"].startswith("first different: aten.mul at passes.py:")


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(reprotui: Cli, tmp_path: Path) -> None:
    path = reprotui.write(
        "train.py", SCRIPT.replace("for step in range(4):", "import time\nfor step in range(4):\n    time.sleep(1)")
    )
    reprotui.race("--a", "python train.py base", "--b", "python train.py gelu", exit_code=1)
    place = tmp_path / "scratch"
    place.mkdir()
    process = reprotui.start("explain", "race/a", "race/b", "--step", 3, env={**reprotui.environment, "TMPDIR": str(place)})
    eventually("the run that is taken again", lambda: list(place.glob(".replaying-*/again/run/trace.db")))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(place.glob(".replaying-*")) == []
    eventually("its end", lambda: not any(str(path.name) in line and str(place) in line for line in _commands()))


def _commands() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "environ").read_bytes().decode(errors="replace") + (entry / "cmdline").read_text())
            except OSError:
                continue
    return found


@pytest.mark.slow
def test_what_cannot_be_read_is_said_in_a_sentence(reprotui: Cli) -> None:
    path = planted(reprotui, "base", "gelu")

    def refused(text: str, code: int, *arguments: object) -> None:
        assert text in reprotui("explain", "race/a", "race/b", *arguments, exit_code=code).stderr

    refused("steps 0 to 4, not of 9", 2, "--step", 9)
    refused("step 0 is none", 2, "--step", 0)
    manifest = reprotui.runs / "race" / "a" / "run.json"
    before = manifest.read_text()
    for changes, text, code in (
        ({"world_size": 2, "rank": 0}, "is a training of 2 processes", 3),
        (
            {"devices": {"backend": "torch cuda"}},
            "trained on torch cuda: explain reads torch and jax, on the CPU alone so far",
            3,
        ),
        ({"devices": {"backend": "numpy"}}, "trained on numpy", 3),
        ({"launch": None}, "was started by hand", 2),
        ({"launch": {**json.loads(before)["launch"], "directory": str(reprotui.directory / "gone")}}, "which is gone", 2),
    ):
        manifest.write_text(json.dumps({**json.loads(before), **changes}))
        refused(text, code, "--step", 1, "--trust")
    manifest.write_text(before)
    path.write_text(SCRIPT + "\n# changed")
    refused("train.py was changed since", 3, "--step", 1)
    path.unlink()
    refused("train.py is gone since", 3, "--step", 1)


@pytest.mark.slow
def test_compiled_parts_and_recorders_are_refused(reprotui: Cli) -> None:
    reprotui.write(
        "own.py",
        "import torch\nfrom reprotui import Recorder\nmodel = torch.nn.Linear(4, 2)\nwith Recorder() as recorder:\n"
        "    for step in range(1, 4):\n        recorder.step(step, params=dict(model.named_parameters()))\n",
    )
    reprotui.race("--a", "python own.py", "--repeat", 2, exit_code=None)
    said = reprotui("explain", "race/a", "--step", 1, "--repeat", 2, exit_code=3).stderr
    assert "Recorder of its own" in said


def jax_pair(reprotui: Cli, a: str, b: str, exit_code: int = 1) -> None:
    reprotui.write("jitted.py", JAX)
    reprotui.race("--a", f"python jitted.py {a}", "--b", f"python jitted.py {b}", exit_code=exit_code)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["gelu", "constant", "rate"])
def test_of_a_script_in_jax_the_line_that_was_changed_is_named(reprotui: Cli, variant: str) -> None:
    jax_pair(reprotui, "base", variant)
    found = explained(reprotui)
    assert variant in line_of(found).partition("#")[2].split(), found["headline"]
    assert (found["step"], found["likely"], found["inputs_differ"]) == (1, False, [])
    assert found["reading"] == "3 of 3 outputs of a identical with taps · 3 of 3 outputs of b identical with taps"


@pytest.mark.slow
def test_equal_scripts_in_jax_have_no_kernel_that_differs(reprotui: Cli) -> None:
    jax_pair(reprotui, "base", "again", exit_code=0)
    found = explained(reprotui, "--step", 4, exit_code=0)
    assert found["headline"].startswith("no kernel differs: ") and found["programs"]["same"]
    found = json.loads(reprotui("explain", "race/a", "--step", 2, "--repeat", 3, "--json").stdout)
    assert (found["flaky"], found["count"], found["outputs"]["identical"]) == ([], 3, 3)


@pytest.mark.slow
def test_another_batch_of_a_script_in_jax_is_what_enters(reprotui: Cli) -> None:
    jax_pair(reprotui, "base", "batch")
    found = explained(reprotui, exit_code=3)
    assert found["step"] == 4 and found["headline"] == "what enters step 4 is not the same: 1, 2"


@pytest.mark.slow
def test_a_call_that_prints_is_not_made_once_more(reprotui: Cli) -> None:
    jax_pair(reprotui, "prints", "prints", exit_code=0)
    assert "calls back into Python or prints" in reprotui("explain", "race/a", "race/b", "--step", 2, exit_code=3).stderr


@pytest.mark.slow
def test_the_step_screen_explains_a_step_of_scripts(reprotui: Cli, own_settings: Path) -> None:
    planted(reprotui, "base", "gelu")

    async def scene() -> None:
        async with dashboard(reprotui.runs / "race", size=(80, 24)) as driven:
            await driven.press("d", "enter", "X")
            explanation = driven.get("#explanation", Static)

            def said() -> str:
                return " ".join(str(explanation.render()).split())

            await driven.until("the answer", lambda: "with its operations read" in said())
            assert said().startswith("first different: aten.gelu at train.py:22 in forward (module Net)")
            lines = len(str(explanation.render()).splitlines())
            await driven.until("each line in its room, beside the scrollbar", lambda: explanation.size.height == lines)
            await driven.press("escape")
            assert driven.step

    drive(scene())


# What is said of listings, without processes.


def operation(
    name: str, given: Sequence[str], outputs: Sequence[str], sources: Sequence[tuple[str, int]], line: int = 1, **entries: Any
) -> dict[str, Any]:
    return {
        "name": f"aten.{name}", "operation": f"aten.{name}.default", "text": f"aten.{name}(float32[4])", "view": False,
        "given": list(given), "outputs": list(outputs), "sources": [[kind, at, 0] for kind, at in sources],
        "from": [[[at, 0]] if kind == "operation" else [] for kind, at in sources], "line": ["/x/m.py", line, "forward"],
        "through": None, "of": None, "node": "", "module": "", "arrays": [["float32", [4]]] * len(outputs), "unset": False,
        "number": False, **entries,
    }  # fmt: skip


def listing(*operations: dict[str, Any], ends: Sequence[int] | None = None) -> Listing:
    last = [len(operations) - 1] if ends is None else ends
    return Listing.parse({"operations": operations, "given": ["params/w"], "ends": [[at, 0, f"params/{at}"] for at in last]})


def told(a: Listing, b: Listing, recorded_differ: bool = True) -> ScriptExplanation:
    return ScriptExplanation(
        1, ("a", "b"), (), (), (a.operations, b.operations), tuple(pair_operations(a, b)), a.ends, (5, 5),
        recorded_differ=recorded_differ, listings=(a, b),
    )  # fmt: skip


FIRST = operation("mul", ["w"], ["p"], [("given", 0)])


def test_memory_that_holds_no_numbers_yet_is_no_origin() -> None:
    made = [
        listing(operation("empty", [], [garbage], [], 1), operation("sin", ["w"], [value], [("given", 0)], 2), ends=[1])
        for garbage, value in (("x", "p"), ("y", "q"))
    ]
    found = told(*made)
    # `empty` differs first, and leads to no leaf.
    assert found.place is not None and (found.place.line, found.likely, found.exit_code) == (2, False, 1)


def test_an_operation_that_another_program_has_not_is_named_where_it_leads_to_a_leaf() -> None:
    a = listing(FIRST, operation("exp", ["p"], ["e"], [("operation", 0)], 3))
    extra = operation("print", ["p"], ["z"], [("operation", 0)], 2)
    b = listing(FIRST, extra, operation("exp", ["p"], ["e"], [("operation", 0)], 3))
    assert (told(a, b, False).exit_code, told(a, b, False).place) == (0, None)
    between = operation("neg", ["p"], ["n"], [("operation", 0)], 2)
    b = listing(FIRST, between, operation("exp", ["n"], ["f"], [("operation", 1)], 3))
    found = told(a, b)
    assert found.headline == "the programs are not the same, first at m.py:2 in forward" and not found.likely
    assert found.told_changes[0].a == "" and found.told_changes[0].b.startswith("aten.neg")


def test_an_operation_that_another_program_has_not_is_only_likely_where_the_difference_came_before_it() -> None:
    a = listing(operation("exp", ["w"], ["e"], [("given", 0)], 3))
    clamp = operation("clamp_", ["v"], ["v"], [("given", 0)], 2)
    found = told(a, listing(clamp, operation("exp", ["v"], ["f"], [("operation", 0)], 3)))
    assert (found.likely, found.headline) == (True, "the programs are not the same, first likely at m.py:2 in forward")


def test_what_python_computed_of_an_earlier_number_is_only_likely() -> None:
    """A number that goes through Python may be all that differs in a later operation's arguments."""
    sides = []
    for norm, scale in (("n", "0.5"), ("m", "0.6")):
        item = operation("_local_scalar_dense", [norm], [norm], [("operation", 0)], 3, number=True)
        scaled = operation("mul", ["w"], [f"s{scale}"], [("given", 0)], 4, text=f"aten.mul(float32[4], other={scale})")
        sides.append(listing(operation("norm", ["w"], [norm], [("given", 0)], 2), item, scaled))
    found = told(*sides)
    assert found.place is not None and (found.place.line, found.likely) == (2, True)
    assert "likely at m.py:2" in found.headline


def test_an_unknown_input_never_makes_an_origin() -> None:
    sides = [listing(operation("mm", ["w", None], [value], [("given", 0), ("given", 1)])) for value in "pq"]  # type: ignore[list-item]
    assert told(*sides).exit_code == 3
    assert told(*sides).headline.startswith(
        "the first operation that differs has an input that cannot be read: aten.mm at m.py:1"
    )


def test_repetitions_with_other_inputs_are_not_the_operations_fault() -> None:
    def time_(given: str, output: str) -> Listing:
        return listing(operation("mul", [given], [output], [("given", 0)]))

    assert repetitions(1, [time_("w", "p"), time_("w", "p")], 2).exit_code == 0
    assert [ran.distinct for ran in repetitions(1, [time_("w", "p"), time_("w", "q")], 1).flaky] == [2]
    found = repetitions(1, [time_("w", "p"), time_("v", "q")], 1)
    assert (found.flaky, found.exit_code) == ([], 1)
    assert found.headline.startswith("not the same each time: what enters step 1 is not the same: params/w")


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        ("abc", "abc", [(0, 0), (1, 1), (2, 2)]),
        ("", "abc", []),
        ("abc", "", []),
        ("abd", "abcd", [(0, 0), (1, 1), (2, 3)]),
        ("aab", "ab", [(0, 0), (2, 1)]),
        ("xaby", "zabw", [(1, 1), (2, 2)]),
    ],
)
def test_keys_are_matched_in_order(a: str, b: str, pairs: list[tuple[int, int]]) -> None:
    assert matched(a, b) == pairs


def test_a_long_list_of_equal_parts_is_matched_at_once() -> None:
    layer = [f"op{number}" for number in range(40)]
    a = [*layer * 100, "a", *layer * 100]
    b = [*layer * 100, "b", *layer * 100]
    before = time.monotonic()
    assert len(matched(a, b)) == len(a) - 1
    assert len(changes_of([(text, None) for text in a], [(text, None) for text in b])) == 1
    assert time.monotonic() - before < 2
