"""The columns behind chart, strip and table: spans of a trace, and timelines that grow as traces do."""

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reprotui.checksum import LeafSpec
from reprotui.compare import compare_traces
from reprotui.compare import timeline as timelines
from reprotui.compare.steps import index_of, join, union
from reprotui.compare.timeline import PairLine, Timeline, TimelineReader, phases_of
from reprotui.trace import PHASES, LeafTable, Record, Trace, TraceWriter
from reprotui.trace.verify import roots_of
from test_compare import History, changed, history, to_record, without

PARAMS, BATCH = 1 << PHASES.index("params"), 1 << PHASES.index("batch")
WIDTHS = {"float64": np.uint64, "float32": np.uint32, "float16": np.uint16, "bfloat16": np.uint16}


class Pair:
    """Two traces that are written step by step, and a reader that looks at them."""

    def __init__(self, directory: Path, names: str = "ab") -> None:
        directory.mkdir(parents=True)
        self.paths = [directory / f"{name}.db" for name in names]
        self.writers = [TraceWriter(path) for path in self.paths]
        self.reader = TimelineReader(self.paths)

    def write(self, run: int, steps: History) -> None:
        for step, leaves in steps.items():
            record = to_record(step, leaves, True)
            self.writers[run].put(lambda record=record: record)
        self.writers[run].flush()

    def read(self) -> Timeline:
        """Return the timeline once nothing is left to read."""
        while not (timeline := self.reader.advance()).complete:
            pass
        return timeline

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


@pytest.fixture
def pair(tmp_path: Path) -> Any:
    """Return a function that writes two or three histories and reads them as a timeline."""
    made: list[Pair] = []

    def run(*histories: History) -> Timeline:
        made.append(Pair(tmp_path / f"pair-{len(made)}", "abc"[: len(histories)]))
        for index, steps in enumerate(histories):
            made[-1].write(index, steps)
        return made[-1].read()

    yield run
    for each in made:
        each.close()


def part(steps: History, first: int, last: int) -> History:
    return {step: leaves for step, leaves in steps.items() if first <= step <= last}


def only(steps: History, kept: set[int]) -> History:
    return {step: leaves for step, leaves in steps.items() if step in kept}


# Steps in order


def test_steps_are_a_range_where_they_are_even_and_an_array_where_not() -> None:
    assert join(range(0), range(3, 5)) == range(3, 5)
    assert join(range(0, 10, 5), range(10, 11)) == range(0, 11, 5)
    assert join(range(1), range(7, 8)) == range(0, 8, 7)
    assert join(range(4), range(4, 9)) == range(9)
    assert np.asarray(join(range(3), range(5, 7))).tolist() == [0, 1, 2, 5, 6]
    assert union([range(0, 9, 3), range(0)]) == range(0, 9, 3)
    assert union([range(5), range(9)]) == range(9)
    assert np.asarray(union([range(0, 9, 3), range(0, 9, 2)])).tolist() == [0, 2, 3, 4, 6, 8]
    assert len(union([])) == 0
    for steps in (range(3, 30, 4), np.array([3, 7, 11, 12])):
        for wanted in range(35):
            assert index_of(steps, wanted) == sum(step < wanted for step in steps)


def test_masks_name_phases_in_causal_order() -> None:
    assert phases_of(PARAMS | BATCH) == ("batch", "params")
    assert phases_of(0) == ()


def test_next_difference_is_found_both_ways_over_uneven_steps() -> None:
    steps = np.array([0, 1, 4, 9, 10, 20])
    line = PairLine(steps, np.array([0, 2, 0, 0, 4, 4], np.uint8), 1)
    assert [line.next_difference(after) for after in (-1, 0, 1, 9, 10, 19, 20)] == [1, 1, 10, 10, 20, 20, None]
    assert [line.next_difference(at, backwards=True) for at in (0, 1, 2, 10, 11, 20, 99)] == [None, None, 1, 1, 10, 10, 20]
    assert (line.mask(10), line.mask(4), line.mask(5), line.mask(21)) == (4, 0, None, None)
    empty = PairLine(range(0), np.zeros(0, np.uint8), None)
    assert empty.next_difference(-1) is None
    assert empty.next_difference(5, backwards=True) is None


# Whole timelines


def test_equal_runs_have_no_bit_and_one_change_has_its_phase(pair: Any) -> None:
    same = pair(history(30), history(30)).pairs[0]
    assert (same.steps, same.first, same.differs.any()) == (range(31), None, False)
    found = pair(history(30), changed(history(30), 7, "batch:batch/x", "params:params/w", until=9)).pairs[0]
    assert found.first == 7
    assert [step for step in range(31) if found.differs[step]] == [7, 8, 9]
    assert set(found.differs.tolist()) == {0, BATCH | PARAMS}


def test_runs_of_different_cadence_are_compared_where_both_recorded(pair: Any) -> None:
    b = changed(history(60, every=3), 33, "grads:grads/b")
    found = pair(history(60, every=2), b)
    assert np.asarray(found.pairs[0].steps).tolist() == list(range(0, 61, 6))
    assert found.pairs[0].first == 36  # of the steps that both have
    assert np.asarray(found.steps).tolist() == sorted({*range(0, 61, 2), *range(0, 61, 3)})
    assert found.last == 60
    assert found.equal_through == 30


def test_a_run_of_every_seventh_step_and_its_last_is_compared_with_one_of_all(pair: Any) -> None:
    seventh, every = only(history(20), {0, 7, 14, 20}), history(20)
    for runs in ((every, seventh), (seventh, every)):
        found = pair(*runs).pairs[0]
        assert np.asarray(found.steps).tolist() == [0, 7, 14, 20]
        assert found.first is None
    assert pair(every, changed(seventh, 14, "grads:grads/b")).pairs[0].first == 14


def test_steps_without_a_rule_and_a_run_that_lags(pair: Any) -> None:
    wanted = [0, 1, 5, 6, 13, 40, 41]
    uneven = {step: leaves for step, leaves in history(41).items() if step in wanted}
    found = pair(uneven, history(20))
    assert np.asarray(found.runs[0].steps).tolist() == wanted
    assert np.asarray(found.pairs[0].steps).tolist() == [0, 1, 5, 6, 13]
    assert (found.equal_through, found.last) == (13, 41)
    nothing = pair(history(5), {})
    assert (len(nothing.pairs[0].steps), nothing.equal_through, nothing.last) == (0, None, 5)


def test_three_runs_are_each_held_against_the_first(pair: Any) -> None:
    found = pair(history(9), changed(history(9), 4, "forward:loss"), history(6))
    assert [line.first for line in found.pairs] == [4, None]
    assert found.equal_through == 3


def test_leaves_of_another_shape_differ_although_their_checksums_agree(pair: Any) -> None:
    # Only the description changes: the number that a leaf's checksum stands for stays.
    other = {
        step: {name: (value, "float32", (2, 1)) if name == "grads:grads/w" else value for name, value in leaves.items()}
        for step, leaves in history(5).items()
    }
    found = pair(history(5), other).pairs[0]
    assert found.first == 1
    assert phases_of(found.mask(1)) == ("grads",)
    assert found.mask(0) == 0


@pytest.mark.parametrize(("span", "records"), [(1, 1), (1, 7), (4, 6), (1000, 1000)])
def test_reading_in_pieces_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, span: int, records: int) -> None:
    monkeypatch.setattr(timelines, "SPAN", span)
    both = Pair(tmp_path / "both")
    both.write(0, history(30, every=2))
    both.write(1, changed(history(30), 20, "rng:rng"))
    while not (found := both.reader.advance(records)).complete:
        pass
    assert list(found.pairs[0].steps) == list(range(0, 31, 2))
    assert found.pairs[0].first == 20
    assert found is both.reader.advance()  # nothing new: the same object, which nobody draws again
    both.close()


_numbers = count()


def recorded_steps(last: int) -> st.SearchStrategy[set[int]]:
    """Draw which steps a run records: every Nth and the last one, as a worker does, or any, as a loop of one's own may."""
    paces = st.integers(1, 7).map(lambda every: {*range(0, last + 1, every), last})
    return paces | st.sets(st.integers(0, last))


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_growth_in_any_order_ends_at_the_first_difference_of_compare_traces(tmp_path: Path, data: Any) -> None:
    lasts = data.draw(st.tuples(st.integers(0, 24), st.integers(0, 24)))
    a, b = (only(history(last), data.draw(recorded_steps(last))) for last in lasts)
    if data.draw(st.booleans()):
        names = data.draw(st.sets(st.sampled_from(["batch:batch/x", "grads:grads/w", "params:params/b", "init:params/w"])))
        b = changed(b, data.draw(st.integers(0, 24)), *names) if b else b
    # Leaves that one run alone has: a note where it is a metric or a whole phase, a difference elsewhere.
    b = without(b, *data.draw(st.sets(st.sampled_from(["forward:metrics/accuracy", "rng:rng", "optimizer:opt_state/m"]))))
    both = Pair(tmp_path / f"growth-{next(_numbers)}")
    left = [list(a.items()), list(b.items())]
    while left[0] or left[1]:
        run = data.draw(st.sampled_from([index for index in (0, 1) if left[index]]))
        size = data.draw(st.integers(1, 6))
        both.write(run, dict(left[run][:size]))
        del left[run][:size]
        both.reader.advance()
    found = both.read().pairs[0]
    with Trace(both.paths[0]) as trace_a, Trace(both.paths[1]) as trace_b:
        expected = compare_traces(trace_a, trace_b).first
    assert found.first == (expected.step if expected else None)
    if expected:
        assert phases_of(found.mask(expected.step) or 0) == expected.phases
    assert np.asarray(found.steps).tolist() == sorted(set(a) & set(b))
    assert np.asarray(both.read().steps).tolist() == sorted(set(a) | set(b))
    both.close()


def test_a_metric_that_one_run_alone_records_is_no_difference(pair: Any) -> None:
    """As for `compare_traces`, which notes it: a race must not be stopped for it."""
    without_metric = without(history(5), "forward:metrics/accuracy")
    assert pair(history(5), without_metric).pairs[0].first is None
    for name in ("grads:grads/w", "forward:loss"):
        found = pair(history(5), changed(without_metric, 3, name)).pairs[0]
        assert (found.first, phases_of(found.mask(3))) == (3, (name.partition(":")[0],))


def test_a_phase_that_one_run_alone_records_is_no_difference_and_a_leaf_is(pair: Any) -> None:
    assert pair(history(5), without(history(5), "rng:rng")).pairs[0].first is None
    assert pair(history(5), without(history(5), "optimizer:opt_state/m")).pairs[0].first is None
    found = pair(history(5), without(history(5), "params:params/b")).pairs[0]
    assert (found.first, phases_of(found.mask(1))) == (1, ("params",))


# Spans of a trace


def write_losses(path: Path, losses: list[Any], dtype: str, steps: list[int] | None = None) -> Path:
    """Write a trace with these losses, as raw values of a dtype; None records no loss."""
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    writer = TraceWriter(path)
    for step, loss in zip(steps or range(1, len(losses) + 1), losses, strict=True):
        table = LeafTable(("forward",), (LeafSpec("loss", dtype, ()),))
        blob = np.array([step], "<u8").tobytes()
        bits = value = None
        if loss is not None:
            stored = np.array(loss, kind)
            bits, value = int(stored.view(WIDTHS[dtype])), None if np.isnan(float(loss)) else float(stored)
        record = Record(step, step, table, roots_of(blob, table), loss=value, loss_bits=bits, leaf_checksums=blob)
        writer.put(lambda record=record: record)
    writer.seal()
    return path


@pytest.mark.parametrize("dtype", list(WIDTHS))
def test_spans_decode_the_losses_of_every_float(tmp_path: Path, dtype: str) -> None:
    losses = [1.5, -0.25, 0.0, float("nan"), float("inf"), -float("inf"), 2.0**-10]
    with Trace(write_losses(tmp_path / "t.db", losses, dtype)) as trace:
        span = trace.span(-1, 100)
    assert span is not None
    assert (span.steps, span.losses.dtype) == (range(1, 8), np.float32)
    assert np.array_equal(span.losses, np.array(losses, np.float32), equal_nan=True)


@pytest.mark.parametrize("missing", [True, False])
def test_a_loss_beyond_float32_is_infinite_for_the_eye_and_says_nothing(tmp_path: Path, missing: bool) -> None:
    """A warning here would be written over the dashboard, by a thread that then dies."""
    losses = [1e300, -1e300, None] if missing else [1e300, -1e300, 1.0]
    with Trace(write_losses(tmp_path / "t.db", losses, "float64")) as trace:
        span = trace.span(-1, 100)
    assert span is not None
    assert span.losses[:2].tolist() == [float("inf"), -float("inf")]
    assert bool(np.isnan(span.losses[2])) is missing


def test_missing_losses_strides_and_limits(tmp_path: Path) -> None:
    with Trace(write_losses(tmp_path / "gaps.db", [None, 0.5, None, 0.25], "float32")) as trace:
        span = trace.span(-1, 100)
        assert span is not None
        assert np.isnan(span.losses).tolist() == [True, False, True, False]
        assert trace.span(4, 100) is None
    with Trace(write_losses(tmp_path / "none.db", [None, None], "float32")) as trace:
        assert np.isnan(trace.span(-1, 9).losses).all()  # ty: ignore[unresolved-attribute]
    cases = {
        "one": ([7], range(7, 8)), "even": ([5, 10, 15, 20], range(5, 21, 5)), "uneven": ([0, 1, 2, 9, 20], [0, 1, 2, 9, 20]),
        # The mean distance is whole, the distances are not equal.
        "deceiving": ([0, 1, 3, 6], [0, 1, 3, 6]),
    }  # fmt: skip
    for name, (steps, expected) in cases.items():
        with Trace(write_losses(tmp_path / f"{name}.db", [1.0] * len(steps), "float32", steps)) as trace:
            span = trace.span(-1, 100)
            assert span is not None
            assert isinstance(span.steps, range) == isinstance(expected, range)
            assert list(span.steps) == list(expected)
            some, roots = trace.roots_between(steps[0], steps[-1] - 1)
            assert list(some) == steps[:-1]
            assert roots.shape == (len(steps) - 1, len(PHASES))
            first = trace.span(-1, 1)
            assert first is not None
            assert list(first.steps) == steps[:1]
