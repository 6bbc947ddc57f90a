"""Trainings that are spread over their processes in different ways: parts that add up to whole arrays, and those that do not."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Cli, edit_manifest
from reprotui.checksum import LeafSpec
from reprotui.checksum.definition import lanes_to_checksum
from reprotui.checksum.shards import first_element
from reprotui.compare.ranks import compare_runs
from reprotui.compare.runs import open_run
from reprotui.compare.verdict import Verdict
from reprotui.compare.whole import _plan
from reprotui.manifest import Kind, RunManifest
from reprotui.ranks import rank_path
from reprotui.record.host import HostLeaves
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Recording
from reprotui.trace import LeafTable, Record, TraceWriter
from reprotui.trace.verify import roots_of
from test_ranks import training

ALL = ("params/",)
Held = Mapping[str, np.ndarray]
"""Leaves of a rank by `phase:path`; of a part the path ends on its slice."""


def recorded(path: Path, ranks: Sequence[Sequence[Held]], copies: Sequence[str] = ALL) -> Path:
    """Write a finished run of some ranks: for each its leaves at step 1, 2 …"""
    for number, steps in enumerate(ranks):
        place = rank_path(path, number)
        place.mkdir(parents=True)
        manifest = RunManifest.new(Kind.SCRIPT, path.name, ["python", "train.py"], Recording(), config={})
        RunDirectory(place).write_manifest(manifest.document)
        spread = {"rank": number, "world_size": len(ranks)} if len(ranks) > 1 else {}
        edit_manifest(place, result={"state": "finished", "last_step": len(steps)}, **spread)
        writer = TraceWriter(place / "trace.db")
        writer.copies(frozenset(copies))
        for step, leaves in enumerate(steps, 1):
            names = [name.split(":", 1) for name in leaves]
            specs = [LeafSpec(at, array.dtype.name, array.shape) for (_, at), array in zip(names, leaves.values(), strict=True)]
            table = LeafTable(tuple(phase for phase, _ in names), tuple(specs))
            arrays = list(leaves.values())
            read = HostLeaves(arrays, [first_element(spec.path, spec.shape) for spec in specs]).read(arrays, False)
            sums = [lanes_to_checksum(*lanes) for lanes in read.lanes.tolist()]
            blob = np.array(sums, "<u8").tobytes()
            record = Record(step, step, table, roots_of(blob, table), leaf_checksums=blob)
            writer.put(lambda record=record: record)
        writer.seal()
    return path


def rows(array: np.ndarray, *ends: int) -> list[Held]:
    """Divide an array by rows: what each rank holds of it."""
    starts = (0, *ends[:-1])
    return [{f"params:params/w[{start}:{end},:]": array[start:end]} for start, end in zip(starts, ends, strict=True)]


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., Verdict]:
    def run(a: Sequence[Sequence[Held]], b: Sequence[Sequence[Held]], **options: Any) -> Verdict:
        paths = [recorded(tmp_path / name, ranks, **options) for name, ranks in (("a", a), ("b", b))]
        return compare_runs(*(open_run(path, path.name.upper()) for path in paths))

    return run


W = np.arange(48, dtype=np.float32).reshape(8, 6)
WHOLE = {"params:params/w": W}


@pytest.mark.parametrize("ends", [(4, 8), (2, 4, 6, 8), (3, 6, 8), (1, 8, 8)])
def test_parts_that_cover_an_array_are_the_whole_of_it(compare: Any, ends: tuple[int, ...]) -> None:
    parts = rows(W, *ends)
    found = compare([[WHOLE], [WHOLE]], [[part] for part in parts])
    assert (found.kind, found.equal_through) == ("identical", 1), found
    assert f"A has 2 processes, B has {len(ends)} processes: compared by whole arrays: params (1)" in found.notes[0]


@pytest.mark.parametrize("dtype", ["float64", "int8", "complex64", "bfloat16"])
def test_words_of_every_size_are_counted_from_the_whole(compare: Any, dtype: str) -> None:
    if dtype == "bfloat16":
        import ml_dtypes

        array = W.astype(ml_dtypes.bfloat16)
    else:
        array = W.astype(dtype)
    assert compare([[{"params:params/w": array}]], [[part] for part in rows(array, 3, 8)]).kind == "identical"


def test_one_other_bit_in_one_part_is_a_difference_at_its_step(compare: Any) -> None:
    other = W.copy()
    other[5, 2] = np.nextafter(other[5, 2], np.float32(100))
    good, bad = rows(W, 4, 8), rows(other, 4, 8)
    found = compare([[WHOLE] * 3, [WHOLE] * 3], [[good[0]] * 3, [good[1], bad[1], bad[1]]])
    assert (found.kind, found.step, found.phase, found.equal_through) == ("diverged", 2, "params", 1)
    assert [(leaf.path, leaf.a and leaf.a.shape) for leaf in found.leaves] == [("params/w", (8, 6))]
    assert "spread in other ways" in found.cause.sentence and found.cause.sentence.startswith("likely")


def test_rows_that_were_exchanged_are_not_the_same_array(compare: Any) -> None:
    parts = rows(W[[4, 5, 6, 7, 0, 1, 2, 3]], 4, 8)
    assert compare([[WHOLE], [WHOLE]], [[part] for part in parts]).kind == "diverged"


@pytest.mark.parametrize(
    "parts",
    [
        [{"params:params/w[0:4,:]": W[:4]}, {"params:params/w[5:8,:]": W[5:]}],
        [{"params:params/w[0:5,:]": W[:5]}, {"params:params/w[3:8,:]": W[3:]}],
        [{"params:params/w[:,0:3][by itself]": W[:, :3]}, {"params:params/w[:,3:6][by itself]": W[:, 3:]}],
    ],
    ids=["a hole", "an overlap", "columns of torch"],
)
def test_parts_that_do_not_cover_an_array_are_none(compare: Any, parts: list[Held]) -> None:
    found = compare([[WHOLE], [WHOLE], [WHOLE]], [[part] for part in parts])
    assert found.kind == "incomparable" and "no parameters are whole in both" in found.reason


def test_what_belongs_to_a_rank_is_not_compared(compare: Any) -> None:
    def rank(number: int) -> Held:
        return {"batch:batch/x": np.full(3, number, np.float32), **WHOLE}

    found = compare([[rank(1)], [rank(2)]], [[rank(3)], [rank(4)], [rank(5)]])
    assert found.kind == "identical" and "not compared, because it belongs to one process: batch" in found.notes[0]


def test_what_no_rank_calls_a_copy_is_no_whole(compare: Any) -> None:
    found = compare([[WHOLE], [WHOLE]], [[WHOLE]], copies=())
    assert found.kind == "incomparable"


def test_a_rank_without_records_leaves_it_open(compare: Any, tmp_path: Path) -> None:
    a = recorded(tmp_path / "x", [[WHOLE], [WHOLE]])
    b = recorded(tmp_path / "y", [[part] for part in rows(W, 2, 4, 8)])
    (b / "ranks/0002/run.json").rename(b / "ranks/0002/gone.json")
    found = compare_runs(open_run(a, "A"), open_run(b, "B"))
    assert found.kind == "incomplete" and "rank 2 of B left no records" in found.reason


@pytest.mark.parametrize("name", ["params/b", "params/b[0:1]"])
def test_parameters_that_only_one_run_has_whole_are_no_identity(compare: Any, name: str) -> None:
    found = compare([[{**WHOLE, f"params:{name}": W[0]}], [WHOLE]], [[part] for part in rows(W, 2, 4, 8)])
    assert found.kind == "incomplete" and "not all parameters are whole in both: params/b" in found.reason


def test_equal_records_of_runs_with_calls_in_no_record_are_no_identity(tmp_path: Path) -> None:
    a, b = recorded(tmp_path / "x", [[WHOLE], [WHOLE]]), recorded(tmp_path / "y", [[part] for part in rows(W, 2, 4, 8)])
    edit_manifest(rank_path(b, 1), result=lambda result: {**result, "coverage": {"gaps": ["recording ended at step 1"]}})
    found = compare_runs(open_run(a, "A"), open_run(b, "B"))
    assert found.kind == "incomplete" and "recording ended at step 1" in found.reason


def test_an_empty_part_beside_the_whole_is_nothing() -> None:
    def table(path: str, shape: tuple[int, ...]) -> LeafTable:
        return LeafTable(("params",), (LeafSpec(path, "float32", shape),))

    tables = [table("params/b", (1, 8)), table("params/b[1:1,:]", (0, 8))]
    assert _plan(tables, [ALL, ALL])[0]["params", "params/b"].rows == ((0, 0),)


@pytest.mark.slow
def test_ddp_and_fsdp_of_torch_train_the_same_whole_arrays(reprotui: Cli, bare_environment: dict[str, str]) -> None:
    cli = Cli(reprotui.directory, bare_environment)
    words = ("--a", training("ddp"), "--b", training("fsdp"), "--c", training("fsdp", "flip"))
    told = json.loads(cli("race", "--json", "--name", "race", *words, exit_code=1).stdout)
    same, flipped = told["verdicts"]
    assert same["kind"] == "identical" and same["equal_through"] == 6
    assert (flipped["kind"], flipped["step"], flipped["phase"]) == ("diverged", 4, "params"), sys.version
    assert flipped["leaves"][0]["path"].startswith("params/0/weight")
