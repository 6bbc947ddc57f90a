"""Runs that are meant to differ a little: what a tolerance may be, what it is held against, and what is said of it."""

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import ml_dtypes
import numpy as np
import pytest

from conftest import MLP, Cli
from pilots import dashboard, drive
from reprotui.checksum import LeafSpec, numpy_form
from reprotui.compare.distance import Distance
from reprotui.compare.measure import ExactLeaf, measure
from reprotui.compare.tolerance import parse_tolerance
from reprotui.errors import BadInputError
from reprotui.trace import LeafTable, Record, Trace, TraceWriter
from reprotui.trace.verify import roots_of
from reprotui.tui.widgets.verdict import VerdictBand
from test_report import schema

# What is written


@pytest.mark.parametrize(
    ("texts", "phase", "path", "expected"),
    [
        (["ulp=4"], "params", "params/w", "ulp=4"),
        (["ulp=4"], "batch", "batch/x", None),
        (["ulp=4"], "rng", "rng", None),
        (["batch:abs=1"], "batch", "batch/x", "batch:abs=1"),
        (["params:rel=1e-3"], "forward", "loss", None),
        (["ulp=4", "params:rel=1e-3"], "init", "params/w", "params:rel=1e-3"),
        (["grads:ulp=4", "grads/w:ulp=8"], "grads", "grads/w", "grads/w:ulp=8"),
        (["grads/w:ulp=8", "grads:ulp=4"], "grads", "grads/wide", "grads:ulp=4"),
        (["optimizer:rel=1", "ulp=0"], "optimizer", "opt_state/m", "optimizer:rel=1"),
        (["optimizer:rel=1", "params:rel=2"], "params", "params/w", "params:rel=2"),
    ],
)
def test_the_closest_limit_holds(texts: list[str], phase: str, path: str, expected: str | None) -> None:
    tolerance = parse_tolerance(texts)
    assert tolerance is not None
    limit = tolerance.limit(phase, path)
    assert (limit and limit.text) == expected


def test_several_kinds_in_one_limit_and_none_at_all() -> None:
    tolerance = parse_tolerance(["abs=1e-6,rel=1e-5"])
    assert tolerance is not None and (tolerance.limits[0].absolute, tolerance.limits[0].relative) == (1e-6, 1e-5)
    assert parse_tolerance(None) is parse_tolerance([]) is parse_tolerance(["exact"]) is None


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["4"], "not one of ulp="), (["ulp=x"], "no number"), (["ulp=1.5"], "whole number"), (["rel=-1"], "from 0 on"),
        (["abs=nan"], "from 0 on"), (["rel=1,rel=2"], "at most once"), (["weights:rel=1"], "no phase"), ([""], "not one of"),
        (["ulp=1", "rel=1"], "two of them for all"), (["exact", "ulp=1"], "not one of"),
    ],
)  # fmt: skip
def test_what_is_no_tolerance_says_what_one_is(texts: list[str], why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        parse_tolerance(texts)


# What it is held against


def write(path: Path, losses: list[Any], norms: dict[int, tuple[float, float]], dtype: str = "float32", size: int = 4) -> Path:
    """Write a trace with losses, and norm and largest number of one leaf at some steps."""
    writer = TraceWriter(path)
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    specs = (LeafSpec("loss", dtype, ()), LeafSpec("params/w", dtype, (size,)))
    for step, value in enumerate(losses, 1):
        loss = None if value is None else np.asarray(value, kind)
        table = LeafTable(("forward", "params")[loss is None :], specs[loss is None :])
        sums = [] if loss is None else [numpy_form.checksum(loss)]
        blob = np.array([*sums, step if path.stem == "a" else -step % 2**64], "<u8").tobytes()
        statistics = None
        if step in norms:
            statistics = np.array([*([] if loss is None else [(abs(float(loss)),) * 2]), norms[step]], "<f4").tobytes()
        bits = None if loss is None else int.from_bytes(loss.tobytes(), "little")
        record = Record(
            step, step, table, roots_of(blob, table), loss if loss is None else float(loss), bits, None, blob, statistics
        )
        writer.put(lambda record=record: record)
    writer.seal()
    return path


def apart(tmp_path: Path, a: dict[str, Any], b: dict[str, Any], *texts: str, **options: Any) -> Distance:
    tolerance = parse_tolerance(texts)
    assert tolerance is not None
    paths = [write(tmp_path / f"{name}.db", **run) for name, run in (("a", a), ("b", b))]
    with Trace(paths[0]) as trace_a, Trace(paths[1]) as trace_b:
        return measure(trace_a, trace_b, tolerance, **options)


ONE = float(np.float32(1))
EPSILON = float(np.finfo(np.float32).eps)


@pytest.mark.parametrize(
    ("texts", "beyond"),
    [
        (["ulp=4"], 3), (["ulp=8"], None), (["rel=1e-6"], None), (["rel=5e-7"], 3), (["abs=1e-6"], None), (["abs=1e-7"], 2),
        (["ulp=0"], 2), (["loss:ulp=4"], 3), (["ulp=0", "loss:rel=1"], None), (["forward:ulp=1"], 3),
    ],
)  # fmt: skip
def test_the_loss_is_measured_at_every_step(tmp_path: Path, texts: list[str], beyond: int | None) -> None:
    far = [ONE, ONE + EPSILON, ONE + 8 * EPSILON, ONE]
    found = apart(tmp_path, {"losses": [ONE] * 4, "norms": {2: (1, 1)}}, {"losses": far, "norms": {2: (1, 1)}}, *texts)
    assert (found.exceeded and found.exceeded.step) == beyond
    assert found.kind == ("within" if beyond is None else "exceeded")
    assert [(point.step, point.relative / EPSILON) for point in found.growth] == [(2, pytest.approx(1)), (3, pytest.approx(8))]
    if beyond == 3:
        assert found.exceeded is not None and (found.exceeded.ulp, found.exceeded.place) == (8, "forward/loss")


def test_a_nan_is_beyond_every_limit_unless_both_are(tmp_path: Path) -> None:
    run = {"losses": [1.0, np.nan, np.inf], "norms": {1: (1, 1)}}
    assert apart(tmp_path, run, run, "rel=1").kind == "within"
    for number, other in enumerate(([1.0, 1.0, np.inf], [1.0, np.nan, 1.0], [1.0, np.nan, -np.inf])):
        place = tmp_path / str(number)
        place.mkdir()
        found = apart(place, run, {"losses": other, "norms": {1: (1, 1)}}, "rel=1e30,abs=1e30")
        assert found.kind == "exceeded" and found.exceeded is not None and found.exceeded.step in (2, 3)


@pytest.mark.parametrize(
    ("texts", "norm", "largest", "beyond"),
    [
        (["rel=1e-3"], 2.0 * 1.0005, 1.0, False), (["rel=1e-3"], 2.0 * 1.002, 1.0, True), (["rel=1e-3"], 2.0, 1.002, True),
        (["abs=1e-3"], 2.0015, 1.0, False), (["abs=1e-3"], 2.003, 1.0, True), (["abs=1e-3"], 2.0, 1.002, True),
        (["ulp=4"], 2.0 + 1e-6, 1.0, False), (["ulp=4"], 2.0, 1.0 + 1e-6, True), (["ulp=4"], 2.001, 1.0, True),
        (["rel=1e-3"], float("nan"), float("nan"), True),
    ],
)  # fmt: skip
def test_norms_tell_only_what_no_elements_could_give(
    tmp_path: Path, texts: list[str], norm: float, largest: float, beyond: bool
) -> None:
    a = {"losses": [1.0] * 3, "norms": {1: (2.0, 1.0), 3: (2.0, 1.0)}}
    b = {"losses": [1.0] * 3, "norms": {1: (2.0, 1.0), 3: (norm, largest)}}
    found = apart(tmp_path, a, b, *texts)
    assert (found.kind == "exceeded") is beyond
    if beyond:
        assert found.exceeded is not None and (found.exceeded.step, found.exceeded.place) == (3, "params/w")
    assert any("norms and maxima of 1 leaves at 2 steps, through step 3: single elements may" in line for line in found.rests_on)


def test_two_types_are_compared_in_the_coarser_one(tmp_path: Path) -> None:
    a = {"losses": [1.0, 2.0], "norms": {1: (2.0, 1.0)}}
    b = {"losses": [1.0, 2.0 + 2**-6], "norms": {1: (2.0, 1.0)}, "dtype": "bfloat16"}
    assert apart(tmp_path, a, b, "ulp=1").kind == "within"
    (tmp_path / "again").mkdir()
    found = apart(tmp_path / "again", a, b, "ulp=0")
    assert found.exceeded is not None and (found.exceeded.step, found.exceeded.ulp) == (2, 1)


def test_what_nothing_measured_cannot_be_told(tmp_path: Path) -> None:
    quiet = {"losses": [None, None], "norms": {}}
    found = apart(tmp_path, quiet, quiet, "ulp=4")
    assert found.kind == "cannot tell" and "--stats-every 1" in found.reason and found.rests_on == ()
    assert found.headline == "within ulp=4: cannot tell"
    for name, norms, texts, kind in (
        ("without", {}, ["params:ulp=4"], "cannot tell"), ("with", {1: (1, 1)}, ["params:ulp=4"], "within"),
        ("of two", {}, ["ulp=4", "params:ulp=4"], "cannot tell"),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        run = {"losses": [1.0, 1.0], "norms": norms}
        assert apart(tmp_path / name, run, run, *texts).kind == kind
    (tmp_path / "so far").mkdir()
    run = {"losses": [1.0], "norms": {1: (1, 1)}}
    found = apart(tmp_path / "so far", run, run, "ulp=4", unfinished="B was stopped")
    assert (found.kind, found.reason) == ("cannot tell", "B was stopped")


@pytest.mark.parametrize("dtype", ["float32", "complex64", "int32", "bfloat16"])
def test_all_elements_of_a_replayed_step_are_measured(tmp_path: Path, dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    a = np.full(1000, 8).astype(kind)
    b = a.copy()
    run = {"losses": [1.0], "norms": {1: (1, 1)}}
    leaf = ExactLeaf(1, "params", "params/w", a, b)
    assert apart(tmp_path, run, run, "rel=1e-3", exact=[leaf]).kind == "within"
    b[777] = 9
    (tmp_path / "far").mkdir()
    found = apart(tmp_path / "far", run, run, "rel=1e-3", exact=[leaf])
    assert found.exceeded is not None and (found.exceeded.what, found.exceeded.absolute) == ("element", 1.0)
    assert found.rests_on[-1] == "all elements at step 1, replayed"
    (tmp_path / "allowed").mkdir()
    assert apart(tmp_path / "allowed", run, run, "abs=1", exact=[leaf]).kind == "within"


# What is said of it

NEAR = """
import sys
import numpy as np
from reprotui import Recorder
far, steps = (float(text) for text in sys.argv[1:3])
w = np.ones(8, np.float32)
with Recorder(steps=30, statistics_every=5) as rec:
    rec.init(params={"w": w})
    for step in range(1, int(steps) + 1):
        w = (w * np.float32(0.9) * np.float32(1 + far)).astype(np.float32)
        rec.step(step, loss=np.float32(w.sum()), grads={"w": w * 2}, params={"w": w})
"""


@pytest.fixture
def near(tmp_path: Path, bare_environment: dict[str, str]) -> Cli:
    """Return the command line beside a loop that is told how far it goes astray, and after how many steps it ends."""
    cli = Cli(tmp_path, bare_environment)
    cli.write("near.py", NEAR)
    return cli


def race(near: Cli, *flags: str, far: str = "1e-7", steps: int = 30, exit_code: int = 0) -> dict[str, Any]:
    commands = [f"{sys.executable} near.py 0 30", f"{sys.executable} near.py {far} {steps}"]
    done = near("race", "--json", "--name", "race", *flags, "--a", commands[0], "--b", commands[1], exit_code=exit_code)
    return json.loads(done.stdout)["verdicts"][0]


def test_a_race_within_its_tolerance_passes_and_keeps_the_first_difference(near: Cli) -> None:
    verdict = race(near, "--tolerance", "rel=1e-5")
    assert verdict["headline"] == "DIVERGED at step 1 · forward · 1 leaf · within rel=1e-5 through step 30"
    assert (verdict["kind"], verdict["step"], verdict["distance"]["kind"]) == ("diverged", 1, "within")
    done = near("compare", "runs/race")  # the race remembers
    assert "WITHIN TOLERANCE" in done.stdout and "single elements may be further apart" in done.stdout
    assert "MISMATCH" in near("compare", "runs/race", "--tolerance", "exact", exit_code=1).stdout
    text = near("compare", "runs/race/a", "runs/race/b", "--tolerance", "rel=1e-6", exit_code=1).stdout
    assert "beyond rel=1e-6 first at step 9" in text and "step 9: forward/loss" in text
    page = near("report", "runs/race").stdout
    assert "≈ DIVERGED at step 1" in page and "--tolerance rel=1e-5" in page and "**Rests on:**" in page
    report = json.loads(near("report", "runs/race", "--json").stdout)
    jsonschema.validate(report["comparisons"], {"items": {"$ref": "#/$defs/comparison"}, "$defs": schema(strict=True)["$defs"]})
    assert report["comparisons"][0]["verdict"]["distance"]["kind"] == "within"
    assert json.loads(near("open", "--once", "--json", "runs/race").stdout)["verdicts"][0]["distance"]["kind"] == "within"

    async def look() -> None:
        async with dashboard(near.runs / "race") as driven:
            await driven.until("the verdict", lambda: "within" in driven.text())
            assert "≈  DIVERGED at step 1" in driven.text() and "rests on: forward/loss at 30 steps" in driven.text()
            assert driven.get(VerdictBand).has_class("-identical")

    drive(look())


@pytest.mark.slow
def test_a_race_beyond_its_tolerance_fails(near: Cli) -> None:
    verdict = race(near, "--tolerance", "rel=1e-5", far="1e-3", exit_code=1)
    assert verdict["headline"].endswith("beyond rel=1e-5 first at step 1") and verdict["distance"]["exceeded"]["step"] == 1


@pytest.mark.slow
def test_equal_runs_have_no_distance_and_shorter_ones_are_not_within(near: Cli) -> None:
    assert race(near, "--tolerance", "rel=1e-5", far="0")["distance"] is None
    (near.runs / "race").rename(near.runs / "equal")
    verdict = race(near, "--tolerance", "rel=1e-5", steps=20, exit_code=3)
    assert verdict["distance"]["kind"] == "cannot tell" and "goes on to step 30" in verdict["distance"]["reason"]


def test_what_cannot_be_meant_is_refused_before_anything_is_trained(near: Cli) -> None:
    done = near("race", "--tolerance", "ulp=many", "--", sys.executable, "near.py", "0", "3", exit_code=2)
    assert "no number" in done.stderr and not near.runs.exists()
    near.write("a.json", json.dumps({"hash": "x"}))
    assert "run directories" in near("compare", "a.json", "a.json", "--tolerance", "ulp=1", exit_code=2).stderr


@pytest.mark.slow
def test_states_that_were_replayed_tell_all_elements(reprotui: Cli) -> None:
    race_ = reprotui.race(*MLP, "--b", "lr=0.0500001", "--tolerance", "rel=1", exit_code=None)["verdicts"][0]
    assert "all elements" not in " ".join(race_["distance"]["rests_on"])
    reprotui("replay", "runs/race/a", "runs/race/b", "--step", "20", exit_code=1)
    found = reprotui.compare("runs/race", exit_code=None)["verdicts"][0]["distance"]
    assert "all elements at step 20, replayed" in found["rests_on"]
