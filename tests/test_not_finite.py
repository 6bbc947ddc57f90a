"""What is not finite: found by the call that reads every bit anyway, in every form and type, and never where all is finite."""

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from conftest import MLP, Cli, events_of
from pilots import dashboard, drive
from reprotui.checksum import host_form, jax_form, numpy_form
from reprotui.checksum.finite import finite_test
from reprotui.checksum.leaves import numpy_dtype, to_numpy
from reprotui.compare.not_finite import NotFinite, of_trace
from reprotui.errors import CannotTellError
from reprotui.record import lanes
from reprotui.trace import Trace
from reprotui.tui.widgets.card import RunCard
from reprotui.tui.widgets.steps import StepTable
from reprotui.tui.widgets.strip import LABEL, DivergenceStrip
from reprotui.tui.widgets.verdict import VerdictBand
from test_checksum import DTYPES

FLOATS = [name for name in DTYPES if name.startswith(("float", "bfloat", "complex")) and name != "float4_e2m1fn"]
SPOILT = [("nan", np.nan), ("inf", np.inf), ("-inf", -np.inf)]


@pytest.fixture(scope="module", autouse=True)
def machine_code() -> None:
    """Have it made, so that it reads small arrays too."""
    assert host_form.shortfall() is None


def every_value(name: str) -> np.ndarray:
    """Return all values of a type of one or two bytes."""
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    return np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)


@pytest.mark.parametrize("name", [name for name in FLOATS if np.dtype(getattr(ml_dtypes, name, name)).itemsize <= 2])
def test_the_question_asked_of_every_word_is_the_type_s_own(name: str) -> None:
    test = finite_test(np.dtype(getattr(ml_dtypes, name, name)))
    assert test is not None
    values = every_value(name)
    words = numpy_form.words(values).astype(np.int64)
    with np.errstate(all="ignore"):
        assert ((((words ^ test.flip) & test.mask) >= test.limit) == ~np.isfinite(values.astype(np.float64))).all()


@pytest.mark.parametrize("name", [name for name in DTYPES if name not in FLOATS])
def test_other_types_have_no_such_word(name: str) -> None:
    assert finite_test(np.dtype(getattr(ml_dtypes, name, name))) is None


def flags(array: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Return what each form on the CPU says of an array."""
    found = {"numpy": numpy_form.lanes_and_not_finite(array)[2]}
    for statistics in (False, True):
        table = host_form.Table([array.dtype], [array.size])
        found[f"machine code, {statistics}"] = bool(table.read([array.ctypes.data], statistics).not_finite[0])
        with monkeypatch.context() as patch:
            patch.setattr(host_form, "shortfall", lambda: "it is not to be used")
            table = host_form.Table([array.dtype], [array.size])
        found[f"numpy's table, {statistics}"] = bool(table.read([array.ctypes.data], statistics).not_finite[0])
    with jax.enable_x64(True):
        found["jax"] = bool(jax.jit(jax_form.lanes_and_not_finite)(jnp.asarray(array))[2])
    return found


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("place", [0, 15, 16, 36])
def test_one_number_among_many_is_found_in_every_form(name: str, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    for value in (np.nan, np.inf):
        array = np.ones(37, dtype)
        assert not any(flags(array, monkeypatch).values())
        with np.errstate(all="ignore"):
            array[place] = value
        if np.isfinite(array[place].astype(np.complex128)):
            continue  # a type without infinity has its largest number there
        assert all(flags(array, monkeypatch).values())
        if dtype.kind == "c":
            array[place] = complex(0, value)
            assert all(flags(array, monkeypatch).values())


@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_the_largest_numbers_are_finite(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.array([np.finfo(name).max, -np.finfo(name).max, np.finfo(name).smallest_subnormal, -0.0] * 9, name)
    assert not any(flags(array, monkeypatch).values())


@pytest.mark.parametrize("name", ["int32", "uint16", "bool", "int64", "uint8"])
def test_whole_numbers_with_the_bits_of_a_nan_are_finite(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.frombuffer(np.full(64, np.nan).tobytes(), np.uint8).view(name)
    assert not any(flags(np.array(array), monkeypatch).values())


def test_large_leaves_of_two_stages_and_empty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.zeros((2, jax_form.TWO_STAGE_SIZE // 2), np.float32)
    assert not any(flags(array, monkeypatch).values())
    array[1, -1] = np.inf
    assert all(flags(array, monkeypatch).values())
    assert not any(flags(np.zeros(0, np.float32), monkeypatch).values())


def test_leaves_of_all_kinds_in_one_record() -> None:
    leaves = [
        jnp.ones(3), jnp.array([1.0, jnp.nan]), jnp.arange(3), jax.random.key(0), np.array([np.inf]), np.arange(4), 1.5,
        float("nan"), torch.ones(2), torch.tensor([1.0, -torch.inf]).bfloat16(), torch.tensor([[1.0, 2.0]]).T,
    ]  # fmt: skip
    expected = [False, True, False, False, True, False, False, True, False, True, False]
    for statistics in (False, True):
        assert lanes.take(leaves, statistics).result().not_finite.tolist() == expected
    of_jax = lanes.take(leaves[:4]).result()
    assert of_jax.not_finite.tolist() == expected[:4]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.complex64])
def test_tensors_are_asked_by_their_own_type(dtype: torch.dtype) -> None:
    leaf = torch.ones(40).to(dtype)
    broken = leaf.clone()
    broken.view(torch.uint8)[-1] = 0x7F  # of the last element the highest bits
    broken.view(torch.uint8)[-2] = 0xFF
    assert lanes.take([leaf, broken]).result().not_finite.tolist() == [False, not np.isfinite(float(abs(broken[-1])))]
    assert finite_test(dtype) == finite_test(numpy_dtype(dtype)) == finite_test(to_numpy(leaf).dtype)


# Recorded, judged and told.

LOOP = """
import sys
import numpy as np
from reprotui import Recorder

spoil = dict(pair.split("=") for pair in sys.argv[1:])
mask = np.triu(np.full((3, 3), -np.inf), 1)
w = np.ones(4)
with Recorder(steps=30) as recorder:
    if "start" in spoil:
        recorder.init(params={"w": w}, extra={"mask": mask}, opt_state={"best": np.inf})
    else:
        recorder.init(params={"w": w})
    for step in range(1, 31):
        def at(name, value):
            begin, _, end = spoil.get(name, "99").partition("-")
            return np.nan if int(begin) <= step < int(end or 99) else value
        recorder.step(
            step, loss=at("loss", 1 / step), grads={"w": at("grads", w)}, params={"w": at("params", w)},
            batch={"mask": mask if "batch" in spoil else w}, metrics={"count": step},
            **({"extra": {"mask": mask}, "opt_state": {"best": at("best", 0.5)}} if "start" in spoil else {}),
        )
        if "sleep" in spoil:
            import time
            time.sleep(0.05)
"""


@pytest.fixture
def loop(tmp_path: Path, bare_environment: dict[str, str]) -> Cli:
    """Return the command line beside a loop with a Recorder, whose arguments spoil something from a step on."""
    cli = Cli(tmp_path, bare_environment)
    cli.write("train.py", LOOP)
    return cli


def race(loop: Cli, *arguments: str, exit_code: int = 0, **options: Any) -> dict[str, Any]:
    """Race the loop against itself, and return its one verdict."""
    flags = ("--json", "--name", options.get("name", "race"), *options.get("flags", ()))
    done = loop("race", *flags, "--", sys.executable, "train.py", *arguments, exit_code=exit_code)
    return json.loads(done.stdout)["verdicts"][0]


@pytest.mark.slow(but="arguments2-not finite from step 4 on, finite again from step 9 on: first grads/w")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loss=7", "grads=7", "params=7"], "not finite from step 7 on: first forward/loss, then grads/w and 1 more"),
        (["params=29"], "not finite from step 29 on: first params/w"),
        (["grads=4-9"], "not finite from step 4 on, finite again from step 9 on: first grads/w"),
        (["grads=4-9", "loss=12"], "not finite at times from step 4 on: first grads/w"),
        (["start=1", "best=12"], "not finite from step 12 on: first optimizer/opt_state/best"),
    ],
)
def test_two_runs_that_agree_in_being_broken_are_identical_and_not_healthy(loop: Cli, arguments: list[str], said: str) -> None:
    verdict = race(loop, *arguments)
    assert verdict["headline"] == f"IDENTICAL through step 30 · {said}"
    assert [run["run"] for run in verdict["not_finite"]] == ["A", "B"]
    healthy = "finite again" in said
    banner = loop("compare", "runs/race").stdout
    assert ("✅ MATCH" in banner) is healthy and said in banner
    assert ("✅ MATCH" not in banner) is ("NOT FINITE" in banner)


@pytest.mark.slow(but="arguments0-None")
@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        ([], None),
        (["batch=1"], "A and B: batch/mask held NaN or infinity from step 1 on"),
        (["start=1"], "A and B: opt_state/best, extra/mask held NaN or infinity from step 0 on"),
    ],
)
def test_what_is_finite_or_meant_so_is_not_called_broken(loop: Cli, arguments: list[str], note: str | None) -> None:
    verdict = race(loop, *arguments)
    assert verdict["headline"] == "IDENTICAL through step 30" and verdict["not_finite"] == []
    assert [text.startswith(str(note)) for text in verdict["notes"]] == ([] if note is None else [True])
    assert "✅ MATCH" in loop("compare", "runs/race").stdout


@pytest.mark.slow
def test_each_run_is_told_where_only_one_is_broken(loop: Cli) -> None:
    flags = ("--a", f"{sys.executable} train.py", "--b", f"{sys.executable} train.py loss=9")
    verdict = loop.race(*flags, exit_code=1)["verdicts"][0]
    assert verdict["headline"].endswith("forward · 1 leaf · B not finite from step 9 on: first forward/loss")
    text = loop("report", "runs/race", exit_code=1).stdout
    assert "B not finite from step 9 on" in text.replace("b not", "B not")


@pytest.mark.slow
def test_a_run_stops_itself_where_that_is_wanted(loop: Cli) -> None:
    verdict = race(loop, "loss=5", "sleep=1", flags=["--stop-at-nan"], exit_code=1)
    assert verdict["kind"] == "incomplete" and verdict["equal_through"] < 30
    for label in "ab":
        ends = [text for kind, text in events_of(loop.runs / "race" / label) if kind == "stopped"]
        assert ends == ["not finite at step 5: first forward/loss"]
    healthy = race(loop, "batch=1", "start=1", "sleep=1", flags=["--stop-at-nan"], name="healthy")
    assert healthy["headline"] == "IDENTICAL through step 30"


@pytest.mark.slow
def test_an_experiment_alone_says_so_and_stops(reprotui: Cli) -> None:
    command = ("run", *MLP, "lr=1e30", "--json")
    done = json.loads(reprotui(*command, "--name", "whole").stdout)
    assert done["not_finite"]["step"] <= 3 and done["not_finite"]["until"] is None and done["state"] == "finished"
    stopped = json.loads(reprotui(*command, "--name", "ended", "--stop-at-nan", "steps=100000", exit_code=1).stdout)
    assert stopped["state"] == "stopped" and stopped["not_finite"] == done["not_finite"] | {"run": "ended"}
    assert json.loads(reprotui("run", *MLP, "--json", "--stop-at-nan", "--name", "healthy").stdout)["not_finite"] is None


@pytest.mark.slow
def test_a_row_is_written_only_where_something_changed_and_a_former_trace_opens(loop: Cli) -> None:
    race(loop, "loss=3-20", "grads=3")
    path = loop.runs / "race" / "a" / "trace.db"
    with Trace(path) as trace:
        rows = trace.not_finite()
        assert rows is not None and [row.step for row in rows] == [3, 20]
        assert [len(row.leaves) for row in rows] == [2, 1]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE not_finite")
        connection.commit()
    with Trace(path) as trace:
        assert trace.not_finite() is None
        found, notes = of_trace("A", trace)
    assert found == NotFinite("A", 3, 20, True, ("forward/loss",)) and not notes
    assert loop.compare("runs/race")["verdicts"][0]["headline"].startswith("IDENTICAL through step 30 · ")


@pytest.mark.slow
def test_a_damaged_row_is_an_error_and_not_a_leaf(loop: Cli) -> None:
    race(loop, "loss=3")
    path = loop.runs / "race" / "a" / "trace.db"
    for wrong in (b"\xff\xff\xff\x00", b"\x01"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE not_finite SET leaves = ?", (wrong,))
            connection.commit()
        with Trace(path) as trace, pytest.raises(CannotTellError, match="is damaged"):
            trace.not_finite()


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_what_was_broken_before(reprotui: Cli) -> None:
    reprotui("run", *MLP, "lr=1e30", "--save-at", "10", "--name", "old")
    reprotui("run", "--restore-from", "old:10", "--name", "new")
    steps = []
    for name in ("old", "new"):
        with Trace(reprotui.runs / name / "trace.db") as trace:
            rows = trace.not_finite()
            assert rows is not None
            steps.append([(row.step, row.leaves) for row in rows])
    assert steps[0] == steps[1] and steps[0]


@pytest.mark.slow
def test_the_dashboard_shows_when_and_where(loop: Cli, own_settings: Any) -> None:
    race(loop, "grads=12")

    async def look() -> None:
        async with dashboard(loop.runs / "race") as driven:
            await driven.until("the verdict", lambda: "IDENTICAL" in driven.text())
            assert "!  IDENTICAL through step 30 · not finite from step 12 on: first grads/w" in driven.text()
            band = driven.get(VerdictBand)
            assert band.has_class("-broken") and not band.has_class("-identical")
            lanes = ["".join(part.text for part in driven.get(DivergenceStrip).render_line(y))[LABEL:].strip() for y in range(7)]
            assert "x" in lanes[0] and "=" in lanes[0]
            assert [("x" in lane) for lane in lanes[1:6]] == [False, False, False, True, False]
            table = driven.get(StepTable)
            rows = {step: "".join(cell.text for cell in table.cells(step, 150)) for step in (11, 12, 30)}
            assert ["not finite: grads" in text for text in rows.values()] == [False, True, True]
            cards = [card.render().plain for card in driven.race.query(RunCard)]
            assert all("not finite from step 12 on" in text for text in cards)
        async with dashboard(loop.runs / "race" / "a") as driven:
            assert "FINISHED · step 30 · not finite from step 12 on: first grads/w" in driven.text()

    drive(look())
