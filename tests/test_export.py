"""`reprotui export`: tables and charts for other programs, and what is refused."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from conftest import SAMPLES, Cli
from reprotui.compare.metrics import MetricReader
from reprotui.errors import USAGE
from reprotui.trace import Trace, TraceWriter
from reprotui.trace.not_finite import packed
from reprotui.trace.records import LOSSES
from test_compare import history, to_record


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_every_record_to_the_last_bit(reprotui: Cli) -> None:
    found = table(reprotui("export", SAMPLES / "bit-flip").stdout)
    assert list(found[0]) == ["run", "step", "seconds", "loss", "accuracy", "grad-norm", "param-norm", "steps-per-second"]
    for label in "ab":
        rows = [row for row in found if row["run"] == label.upper()]
        with Trace(SAMPLES / "bit-flip" / label / "trace.db") as trace:
            recorded = list(trace.rows())
            assert [int(row["step"]) for row in rows] == [row.step for row in recorded]
            assert rows[0]["loss"] == ""  # record 0 is taken before any loss
            bits = [int(np.float32(row["loss"]).view(np.uint32)) for row in rows[1:]]
            assert bits == [row.loss_bits for row in recorded[1:]]
            for row, before in zip(rows, recorded, strict=True):
                assert float(row["seconds"]) == pytest.approx((before.time_ns - recorded[0].time_ns) / 1e9, abs=1e-6)
            statistics = trace.leaf_stats(20)
            assert statistics is not None
            names = [spec.path.split("/")[0] for spec in trace.table(recorded[20].version).specs]
            norm = np.sqrt(sum(float(row[0]) ** 2 for row, name in zip(statistics, names, strict=True) if name == "grads"))
            assert float(rows[20]["grad-norm"]) == pytest.approx(norm)
            assert rows[21]["grad-norm"] == ""


@pytest.mark.slow
def test_nan_steps_and_names(reprotui: Cli) -> None:
    found = table(reprotui("export", SAMPLES / "nan-loss", "--metric", "loss", "--steps", "1:3").stdout)
    assert [(row["run"], row["step"]) for row in found] == [(run, step) for run in "AB" for step in "123"]
    assert [row["loss"] for row in found][1:3] == ["nan", "nan"]
    assert float(found[0]["loss"]) > 0
    names = json.loads(reprotui("export", SAMPLES / "nan-loss", "--list", "--json").stdout)["metrics"]
    assert names == ["loss", "accuracy", "grad-norm", "param-norm", "steps-per-second"]


def test_leaves_that_are_not_finite_are_counted_in_stairs(tmp_path: Path) -> None:
    path = tmp_path / "trace.db"
    steps = history(9)
    writer = TraceWriter(path)
    for step in range(10):
        found = packed(np.arange(len(steps[step])) < (2 if 4 <= step < 7 else 0))
        writer.put(lambda step=step, found=found: replace(to_record(step, steps[step], True), not_finite=found))
    writer.close()
    reader = MetricReader([path])
    assert "leaves-not-finite" in reader.names()
    series = reader.read("leaves-not-finite")[0]
    assert dict(zip(np.asarray(series.x).tolist(), series.values.tolist(), strict=True)) == {0: 0, 3: 0, 4: 2, 6: 2, 7: 0, 9: 0}


@pytest.mark.slow
def test_a_chart_has_a_line_a_run_and_a_mark_at_the_first_difference(reprotui: Cli) -> None:
    def drawn(*arguments: str) -> tuple[str, int]:
        root = ElementTree.fromstring(reprotui("export", SAMPLES / "bit-flip", "--format", "svg", *arguments).stdout)
        lines = [item for item in root.iter() if item.tag.endswith("polyline")]
        return " ".join("".join(root.itertext()).split()), len(lines)

    words, lines = drawn()
    assert lines == 2
    assert "≠ step 50" in words
    assert "loss, logarithmic" in words
    assert words.endswith("A B")
    words, lines = drawn("--apart", "--mean", "5", "--steps", "10:")
    assert lines == 1
    assert "|Δ loss|, mean of 5 where it is not 0, logarithmic" in words
    words, _ = drawn("--metric", "accuracy", "--linear", "--over-time", "--steps", ":40")
    assert "accuracy" in words
    assert "seconds" in words
    assert "≠" not in words  # it is behind the last step that is shown
    assert "≠" not in "".join(
        ElementTree.fromstring(reprotui("export", SAMPLES / "identical", "--format", "svg").stdout).itertext()
    )


@pytest.mark.slow
def test_files_are_written_whole_and_over_nothing(reprotui: Cli) -> None:
    done = reprotui("export", SAMPLES / "bit-flip", "--out", "x.svg", "--json")
    assert json.loads(done.stdout) == {"file": "x.svg", "format": "svg"}
    refused = reprotui("export", SAMPLES / "bit-flip", "--out", "x.svg", exit_code=USAGE)
    assert "x.svg exists already" in refused.stderr
    reprotui("export", SAMPLES / "bit-flip", "--out", "x.svg", "--force")
    assert sorted(path.name for path in reprotui.directory.glob("*x*")) == ["x.svg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--metric", "nope"), "no run has a metric 'nope': there are loss, accuracy"),
        (("--apart",), "--apart is for a chart"),
        (("--out", "x.png"), "neither .csv nor .svg"),
        (("--out", "no/where.csv"), "the directory no does not exist"),
        (("--steps", "9"), "expected two steps"),
        (("--steps", "9:1"), "the first step is behind the last"),
        (("--metric", "loss,accuracy", "--format", "svg"), "one at a time"),
        (("--json",), "name one with --out"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(reprotui: Cli, arguments: tuple[str, ...], said: str) -> None:
    done = reprotui("export", SAMPLES / "bit-flip", *arguments, exit_code=USAGE)
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_one_run_alone_is_exported_but_not_held_against_itself(reprotui: Cli) -> None:
    alone = SAMPLES / "bit-flip" / "a"
    assert {row["run"] for row in table(reprotui("export", alone).stdout)} == {"A"}
    assert "name two" in reprotui("export", alone, "--apart", "--format", "svg", exit_code=USAGE).stderr


def test_a_damaged_trace_is_said_and_nothing_is_written(reprotui: Cli, sample: Any) -> None:
    path = sample("bit-flip")
    (path / "b" / "trace.db").write_bytes(b"no trace at all" * 500)
    done = reprotui("export", path, "--out", "x.csv", exit_code=USAGE)
    assert "trace.db" in done.stderr
    assert not (reprotui.directory / "x.csv").exists()


def test_a_reader_goes_on_where_it_was_and_knows_metrics_of_loops_and_odd_names(tmp_path: Path) -> None:
    path = tmp_path / "trace.db"
    steps = history(6)
    odd = 'a"b/$.[0]'

    def put(writer: TraceWriter, step: int, metrics: dict[str, Any]) -> None:
        writer.put(lambda: replace(to_record(step, steps[step], True), metrics=json.dumps(metrics)))

    reader = MetricReader([path])
    assert reader.names() == ("loss",)
    assert not len(reader.read(odd)[0].x)
    writer = TraceWriter(path)
    for step in range(4):
        put(writer, step, {odd: step / 2, "loss": 7, "each": [1, 2, "inf"], LOSSES: [1.0], "text": "x"})
    writer.flush()
    assert set(reader.names()) >= {"loss", odd, "metrics/loss", "each"}
    assert not {LOSSES, "text"} & set(reader.names())
    assert reader.read(odd)[0].values.tolist() == [0, 0.5, 1, 1.5]
    assert reader.read("each")[0].values.tolist() == [np.inf] * 4
    assert reader.read("metrics/loss")[0].values.tolist() == [7] * 4
    for step in range(4, 7):
        put(writer, step, {odd: "nan"} if step == 5 else {odd: 9})
    writer.close()
    assert np.array_equal(reader.read(odd)[0].values, [0, 0.5, 1, 1.5, 9, np.nan, 9], equal_nan=True)
