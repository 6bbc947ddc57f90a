"""Traces of version 1, with one root for optimizer and parameters: they open, verify, compare and are gone on with."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from reprotui.cli import main
from reprotui.compare import compare_traces
from reprotui.compare.timeline import TimelineReader, phases_of
from reprotui.errors import CannotTellError
from reprotui.trace import PHASES, LeafTable, Trace, TraceWriter, verify_trace
from reprotui.trace.former import phases_as_in, phases_now, without_leaves
from test_compare import changed, former, history, to_record, write

RACE = Path(__file__).parent / "former" / "learning-rate"
"""Recorded by a reprotui whose traces had version 1."""


def old(path: Path, steps: dict, leaves_every: int = 1) -> Path:
    """Write a history as the newest traces of version 1 had it."""
    return former(path, steps, leaves_every, carry=False)


def test_a_race_of_before_is_listed_verified_and_compared_in_the_phases_of_today(capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> tuple[int, Any]:
        code = main([*words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    with closing(sqlite3.connect(f"file:{RACE / 'a' / 'trace.db'}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    code, listed = said("runs", "--runs-dir", str(RACE.parent))
    assert code == 0 and "DIVERGED at step 1 · params · 6 leaves" in json.dumps(listed, ensure_ascii=False)
    code, found = said("compare", str(RACE / "a"), str(RACE / "b"), "--verify")
    verdict = found["verdicts"][0]
    assert code == 1
    assert (verdict["step"], verdict["phases"]) == (1, ["params"])
    assert verdict["cause"]["explained_by"] == ["lr: 0.05 → 0.06"]
    line = TimelineReader([RACE / "a" / "trace.db", RACE / "b" / "trace.db"]).advance(100).pairs[0]
    assert (line.first, phases_of(line.first_mask)) == (1, ("params",))


def test_roots_of_an_update_follow_from_its_leaves(tmp_path: Path) -> None:
    new, before = write(tmp_path / "new.db", history(5)), old(tmp_path / "old.db", history(5))
    assert verify_trace(before).problem is None
    with Trace(new) as trace, Trace(before) as trace_old:
        assert [row.roots for row in trace_old.rows()] == [row.roots for row in trace.rows()]
        assert trace_old.recorded(3).roots == trace.recorded(3).roots
        assert (trace_old.roots_between(1, 5)[1] == trace.roots_between(1, 5)[1]).all()
        assert (trace_old.columns()[2] == trace.columns()[2]).all()
        assert trace_old.table(1) == trace.table(1)
        assert compare_traces(trace, trace_old).first is None
        assert len(next(trace_old.stored_rows()).roots) == 48


@pytest.mark.parametrize("name", ["optimizer:opt_state/m", "params:params/b", "grads:grads/w"])
@pytest.mark.parametrize("both", [True, False], ids=["both of before", "one of before"])
def test_a_difference_stands_in_its_phase(tmp_path: Path, name: str, both: bool) -> None:
    a = old(tmp_path / "a.db", history(9))
    b = (old if both else write)(tmp_path / "b.db", changed(history(9), 4, name))
    phase, _, path = name.partition(":")
    with Trace(a) as trace_a, Trace(b) as trace_b:
        first = compare_traces(trace_a, trace_b).first
    assert first is not None
    assert (first.step, first.phases, [leaf.path for leaf in first.leaves]) == (4, (phase,), [path])
    found = TimelineReader([a, b]).advance().pairs[0]
    assert (found.first, phases_of(found.first_mask)) == (4, (phase,))


def test_without_leaf_rows_both_phases_have_the_root_of_the_whole_update(tmp_path: Path) -> None:
    a = old(tmp_path / "a.db", history(9), 5)
    b = old(tmp_path / "b.db", changed(history(9), 4, "params:params/b"), 5)
    with Trace(a) as trace_a, Trace(b) as trace_b:
        first = compare_traces(trace_a, trace_b).first
        assert first is not None
        assert (first.step, first.phases, first.leaves) == (4, ("optimizer", "params"), ())
        # What a replay records is held against that.
        assert without_leaves(to_record(4, history(9)[4], True)) == trace_a.recorded(4).roots != trace_b.recorded(4).roots
    new = write(tmp_path / "new.db", history(9), 5)
    assert TimelineReader([a, new]).advance().pairs[0].first is None, "what cannot be told is not shown as a difference"


def test_a_run_goes_on_from_a_former_one_as_one_of_today(tmp_path: Path) -> None:
    before = former(tmp_path / "old.db", history(9))
    writer = TraceWriter(tmp_path / "new.db", history=(before, 5))
    for step in range(6, 10):
        writer.put(lambda step=step: to_record(step, history(9)[step], True))
    seal = writer.seal()
    assert verify_trace(tmp_path / "new.db", seal).problem is None
    with Trace(tmp_path / "new.db") as found, Trace(write(tmp_path / "whole.db", history(9))) as whole:
        assert not found.one_update
        assert found.recorded(9).chain == whole.recorded(9).chain
    with pytest.raises(CannotTellError, match="from which two could be made, are not stored"):
        TraceWriter(tmp_path / "other.db", history=(old(tmp_path / "few.db", history(9), 5), 5))


def test_an_edited_leaf_row_of_before_is_noticed_where_it_is_read(tmp_path: Path) -> None:
    path = old(tmp_path / "a.db", history(9))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE leaf_checksums SET blob = zeroblob(length(blob)) WHERE step = 7")
    assert "step 7" in str(verify_trace(path).problem)
    with Trace(path) as trace, pytest.raises(CannotTellError, match="do not give the root of their update"):
        list(trace.rows())


def test_a_leaf_of_before_stands_where_a_newer_trace_has_it() -> None:
    phases, paths = ("grads", "update", "update", "update"), ("grads/w", "opt_state/m", "extra/mean", "params/w")
    assert phases_now(phases, paths) == ("grads", "optimizer", "params", "params")
    specs = to_record(1, dict.fromkeys([f"grads:{path}" for path in paths], 0), True).table.specs
    now = LeafTable(("forward", "grads", "optimizer", "params"), (specs[2], specs[0], specs[1], specs[3]))
    assert phases_as_in(LeafTable(phases_now(phases, paths), specs), now) == ("grads", "optimizer", "forward", "params")
    assert set(now.phases) <= set(PHASES)
