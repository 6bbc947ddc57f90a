"""What stands under the screens and needs none: curves as dots, pages of records, the tree of leaves."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprotui.checksum import LeafSpec
from reprotui.compare.curves import View, curves, loss_of
from reprotui.compare.series import Series
from reprotui.compare.timeline import RunLine, Timeline
from reprotui.numbers import aligned, duration, rate, short, whole
from reprotui.trace import Trace
from reprotui.tui import plot, ticks
from reprotui.tui.leaf_tree import Branch, LeafTree
from reprotui.tui.leaves import Leaf, Side, StepLeaves, history, read_step
from reprotui.tui.records import PAGE, PairRecords
from reprotui.tui.symbols import ASCII, UNICODE, choose, plain
from test_compare import History, changed, without, write
from test_compare import history as steps_of

WIDTH, HEIGHT = 40, 10
MILLION = 1_000_000


def line(values: Any, steps: Any = None) -> Series:
    losses = np.asarray(values, np.float32)
    return Series(range(1, len(losses) + 1) if steps is None else steps, losses)


def picture(*lines: Series, log: bool = False, ascii_only: bool = True) -> plot.Picture:
    """Draw whole lines into `WIDTH` x `HEIGHT` cells."""
    first = min(int(each.x[0]) for each in lines)
    last = max(int(each.x[-1]) for each in lines)
    reduced = [plot.reduce(each, first, last, WIDTH * plot.DOTS_X, lines[0]) for each in lines]
    return plot.draw(reduced, plot.scale_of(reduced, log), WIDTH, HEIGHT, ascii_only)


def rows_of(drawn: plot.Picture) -> list[str]:
    return ["".join(map(chr, row)) for row in drawn.characters.tolist()]


# Curves


def test_a_spike_of_one_step_in_a_million_stays_visible() -> None:
    losses = np.full(MILLION, 0.5, np.float32)
    assert not rows_of(picture(line(losses)))[0].strip()
    losses[654_321] = 9.0
    top = rows_of(picture(line(losses)))[0]
    assert top.strip() == "A"
    assert abs(top.index("A") - 654_321 * WIDTH // MILLION) <= 1
    losses[654_321] = -9.0
    assert rows_of(picture(line(losses)))[-1].strip() == "A"


@pytest.mark.parametrize("count", [90, 50_000])
def test_a_stretch_of_nan_is_a_gap_and_its_ends_are_not_joined(count: int) -> None:
    losses = np.linspace(5, 1, count)
    losses[count // 3 : 2 * count // 3] = np.nan
    reduced = plot.reduce(line(losses), 1, count, WIDTH * plot.DOTS_X)
    assert 0.25 < reduced.gaps.mean() < 0.4
    assert (reduced.gaps <= np.isnan(reduced.low)).all()
    columns = "".join("x" if any(row[at] != " " for row in rows_of(picture(line(losses)))) else " " for at in range(WIDTH))
    assert re.fullmatch(r"x{11,15} {11,15}x{11,15}", columns)


def test_a_nan_between_numbers_of_few_steps_is_a_gap_too() -> None:
    reduced = plot.reduce(line([1, np.nan, 3]), 1, 3, 11)
    assert reduced.gaps.tolist() == [at == 5 for at in range(11)]
    assert np.flatnonzero(~np.isnan(reduced.low)).tolist() == [0, 10]
    whole = plot.reduce(line([1, 2, 3]), 1, 3, 11)
    assert np.allclose(whole.low, np.linspace(1, 3, 11))
    assert not whole.gaps.any()


def test_record_0_has_no_loss_and_leaves_no_gap() -> None:
    run = RunLine(range(3), np.array([np.nan, 1, 2], np.float32))
    assert not plot.reduce(loss_of(run), 0, 2, 9).gaps.any()
    assert plot.reduce(loss_of(RunLine(range(1), np.array([np.nan], np.float32))), 0, 1, 9).gaps.sum() == 0
    assert plot.reduce(line([np.nan, 1, 2], range(3)), 0, 2, 9).gaps.any()  # what a metric has there is its own


def test_log_leaves_out_what_has_no_logarithm_and_falls_back_where_nothing_has() -> None:
    losses = np.array([10, 1, 0.1, 0, -5, 0.01])
    reduced = [plot.reduce(line(losses), 1, 6, 12)]
    scale = plot.scale_of(reduced, log=True)
    assert scale is not None
    assert scale.log
    assert scale.low == pytest.approx(0.01, rel=0.1)
    rows = scale.rows(np.array([10.0, 1.0, 0.1, 0.0, -5.0]), 100)
    assert np.isnan(rows[3:]).all()
    assert np.diff(rows[:3])[0] == pytest.approx(np.diff(rows[:3])[1])  # equal factors, equal distances
    assert scale.label(0, 100) == pytest.approx(10.5, rel=0.01)
    negative = [plot.reduce(line([-1, -2, 0]), 1, 3, 12)]
    fallen = plot.scale_of(negative, log=True)
    assert fallen is not None
    assert not fallen.log
    assert plot.scale_of([plot.reduce(line([np.nan, np.inf]), 1, 2, 8)], log=False) is None
    assert any("A" in row for row in rows_of(picture(line(losses), log=True)))


def test_infinite_losses_do_not_take_the_scale_and_stand_at_its_edge() -> None:
    drawn = rows_of(picture(line([1, 2, np.inf, 1.5])))
    assert "A" in drawn[0]
    assert sum("A" in row for row in drawn) > 2


def test_equal_stretches_have_a_sign_of_their_own_and_runs_that_part_are_told_apart() -> None:
    values = np.linspace(3, 1, 50)
    same = picture(line(values), line(values))
    assert set(same.owners.ravel().tolist()) == {plot.SAME, plot.NONE}
    assert set("".join(rows_of(same))) == {"=", " "}
    apart = picture(line(values), line(values + 5), line(values + 10))
    assert set(apart.owners.ravel().tolist()) == {0, 1, 2, plot.NONE}
    assert set("".join(rows_of(apart))) == {"A", "B", "C", " "}
    dots = picture(line(values), line(values + 5), ascii_only=False)
    assert all(character == " " or "\u2801" <= character <= "\u28ff" for row in rows_of(dots) for character in row)
    assert not picture(line([np.nan, np.nan])).characters.tolist().count(ord("A"))


@pytest.mark.parametrize("count", [50, 50_000])
def test_runs_that_go_together_with_other_bits_are_strands_of_a_cord(count: int) -> None:
    values = np.linspace(3, 1, count, dtype=np.float32)
    near = values.copy()
    near[count // 2 :] = np.nextafter(near[count // 2 :], np.float32(9))  # one ulp: no dot of the chart tells it
    drawn = picture(line(values), line(near))
    signs = "".join("".join(set(column) - {" "}) for column in zip(*rows_of(drawn), strict=True))
    middle = signs.rindex("=")
    assert abs(middle - WIDTH // 2) <= 2
    assert set(signs[:middle]) == {"="}
    assert re.fullmatch(r"A?(BB|AA)+B?A?B?", signs[middle + 1 :]), signs
    one = near.copy()
    one[: count // 2], one[count // 2 :] = values[: count // 2], values[count // 2 :]
    one[count // 4] += 1e-6
    signs = "".join(rows_of(picture(line(values), line(one))))
    assert "=" in signs
    assert {"A", "B"} & set(signs)  # a single step that differs takes its column out of what is equal


def test_a_constant_and_a_single_loss_are_drawn() -> None:
    for values in ([2.0] * 30, [2.0]):
        for log in (True, False):
            assert any(row.strip() for row in rows_of(picture(line(values), log=log)))


def test_the_ticks_of_a_logarithmic_axis_are_decades_at_their_places() -> None:
    scale = plot.Scale(0.0008, 20.0, True)
    labels = ticks.up(scale, 20)
    assert list(labels.values()) == ["1e-3", "0.01", "0.1", "1", "10"]
    assert [scale.label(row * plot.DOTS_Y + 1.5, 80) for row in labels] == pytest.approx([0.001, 0.01, 0.1, 1, 10], rel=0.3)
    few = ticks.up(plot.Scale(0.08, 2.4, True), 14)
    assert set(few.values()) == {"0.1", "0.2", "0.5", "1", "2"}
    assert set(ticks.up(plot.Scale(1e-12, 1e3, True), 12).values()) == {"1e-12", "1e-8", "1e-4", "1"}
    narrow = ticks.up(plot.Scale(0.31, 0.33, True), 12)  # within a decade: even steps
    assert len(narrow) >= 2
    assert len({len(text) for text in narrow.values()}) == 1


def test_the_ticks_of_a_linear_axis_are_round_and_have_the_same_decimals() -> None:
    assert list(ticks.up(plot.Scale(-0.1, 2.1, False), 20).values()) == ["0.0", "0.5", "1.0", "1.5", "2.0"]
    for scale in (plot.Scale(5e-9, 6e-9, False), plot.Scale(1e12, 1.1e12, False), plot.Scale(7, 7.0000001, False)):
        for height in (3, 8, 40):
            labels = ticks.up(scale, height)
            assert labels
            assert all(0 <= row < height and len(text) <= ticks.LABEL for row, text in labels.items())


def test_below_the_chart_stand_round_steps_or_times() -> None:
    assert [text for _, text in ticks.along(0, 80, 5)] == ["0", "20", "40", "60", "80"]
    assert [text for _, text in ticks.along(0.0, 2.5, 4)] == ["0", "1", "2"]  # no half steps
    assert [text for _, text in ticks.along(0, 0.9, 5, clock=True)] == ["0.0 s", "0.2 s", "0.4 s", "0.6 s", "0.8 s"]
    assert [text for _, text in ticks.along(0, 400, 5, clock=True)] == ["0 s", "2:00", "4:00", "6:00"]
    assert ticks.along(0, 9e5, 5, clock=True)[-1][1] == "216:00:00"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (float("nan"), "NaN"), (float("inf"), "inf"), (-float("inf"), "-inf"), (0.0, "0"), (1e-7, "1e-7"),
     (1234567.0, "1.235e6"), (0.090428, "0.09043")],
)  # fmt: skip
def test_numbers_are_short(value: float | None, shown: str) -> None:
    assert short(value) == shown


def test_numbers_in_a_column_have_their_points_below_each_other() -> None:
    column = [f"{aligned(value, 10):>10}" for value in (0.897, 12.5, 1e-4, -3.25)]
    assert {text.index(".") for text in column} == {3}
    shown = {2.5e-5: "2.50000e-5", 123456.0: "1.234560e5", -123456.0: "-1.23456e5", 0.0: "0", np.nan: "NaN", -np.inf: "-inf"}
    for value, text in shown.items():
        assert aligned(value, 10) == text
    assert aligned(None, 10) == "–"
    assert aligned(0.5, 9, signed=True) == "+0.50000"
    assert all(len(aligned(np.pi * 10.0**power * sign, 10)) <= 10 for power in range(-300, 300, 7) for sign in (1, -1))


def test_numbers_of_things_have_their_thousands_apart() -> None:
    assert (whole(14364), whole(999)) == ("14,364", "999")
    assert (rate(1234.6), rate(12.3), rate(0.254)) == ("1,235/s", "12/s", "0.25/s")
    assert (duration(59.4), duration(61), duration(3900)) == ("59 s", "1 min", "1 h 05 min")


def test_numbers_lose_digits_where_there_is_no_room() -> None:
    assert short(-1.23456789e-30, 7, 10) == "-1.235e-30"
    assert all(len(short(value, 7, 10)) <= 10 for value in (np.pi * 10.0**power for power in range(-300, 300, 7)))


# What the chart shows


def test_what_is_apart_is_held_together_by_step_and_equal_values_are_0_apart() -> None:
    a = Series(range(0, 10, 2), np.array([1, 2, np.nan, np.inf, 5.0]))
    b = Series(range(10), np.array([1, 9, 2.5, 9, np.nan, 9, np.inf, 9, 3.0, 9]))
    apart = b.apart(a)
    assert list(apart.x) == [0, 2, 4, 6, 8]
    assert apart.values.tolist() == [0, 0.5, 0, 0, 2]
    assert not len(b.apart(Series()).x)


def test_a_mean_is_of_what_came_before_and_what_is_not_finite_stays_and_enters_none() -> None:
    series = Series(range(6), np.array([1, 2, 3, np.nan, 5, 7.0]))
    assert np.array_equal(series.smooth(3).values, [1, 1.5, 2, np.nan, 4, 6], equal_nan=True)
    assert series.smooth(0) is series
    assert np.allclose(Series(range(4), np.full(4, 0.25)).smooth(10).values, 0.25)


def test_over_time_each_run_stands_where_its_clock_was() -> None:
    losses = np.array([np.nan, 3, 2, 1], np.float32)
    timeline = Timeline((RunLine(range(4), losses), RunLine(range(4), losses)), (), range(4))
    clocks = (Series(range(4), np.array([0, 1, 2, 3.0])), Series(range(4), np.array([0, 2, 4, 6.0])))
    shown = curves(timeline, 2, View(clock=True), (), clocks)
    assert [run.x.tolist() for run in shown.runs] == [[1, 2, 3], [2, 4, 6]]  # ty: ignore[unresolved-attribute]
    assert (shown.ends, shown.place(2), shown.step(2.9), shown.steps_between(0.9, 2.2)) == ((0, 6), 2, 3, (1, 2))
    assert [run.at(2) for run in shown.by_step] == [2, 2]
    apart = curves(timeline, 2, View(clock=True, apart=True), (), clocks)
    assert [list(run.x) for run in apart.runs] == [[], [1, 2, 3]]
    assert curves(timeline, 2, View(clock=True)).seconds is None  # not read yet


# Pages of records


def test_records_come_in_pages_and_what_can_change_is_read_again(tmp_path: Path) -> None:
    last = 3 * PAGE
    a = write(tmp_path / "a.db", steps_of(last))
    b = write(tmp_path / "b.db", without_steps(steps_of(last), 5))
    records = PairRecords([a, b])
    records.update(range(last + 1), last)
    for index in (0, 5, PAGE - 1, PAGE, last):
        pair = records[index]
        assert pair.step == index
        assert pair.a is not None
        assert pair.a.step == index
        assert (pair.b is None) is (index == 5)
    with Trace(a) as trace:
        assert records[PAGE + 3].a == trace.row(PAGE + 3)
    kept = records[0]
    records.update(range(last + 1), last)
    assert records[0] is kept  # settled: never read again
    records.update(range(last + 1), 10)
    records.update(range(last + 1), 10)
    assert records[0] is not kept  # B has only come to step 10


def without_steps(steps: History, *gone: int) -> History:
    return {step: leaves for step, leaves in steps.items() if step not in gone}


def test_records_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    a = write(tmp_path / "a.db", steps_of(3))
    records = PairRecords([a, tmp_path / "gone.db"])
    records.update(range(4), 3)
    assert records[1].a is not None
    assert records[1].b is None
    assert "gone.db does not exist" in records.problem


# The tree of leaves


def leaf(phase: str, path: str, a: int | None = 1, b: int | None = 1) -> Leaf:
    spec = LeafSpec(path, "float32", (2,))
    return Leaf(phase, path, *(None if value is None else Side(spec, value, None, None) for value in (a, b)))


def step(*leaves: Leaf) -> StepLeaves:
    differing = {each.phase for each in leaves if each.differs}
    return StepLeaves(7, leaves, {each.phase: each.phase in differing for each in leaves}, None)


def shown(tree: LeafTree) -> list[str]:
    return [f"{'  ' * depth}{node.name if isinstance(node, Branch) else '- ' + node.path}" for depth, node in tree.rows]


PATHS = ("params/block/0/kernel", "params/block/0/bias", "params/block/1/kernel", "params/out", "opt_state/count")
TREE = step(leaf("batch", "batch/x"), *(leaf("params", path, 1, 2 if path.endswith("1/kernel") else 1) for path in PATHS))


def test_the_tree_joins_what_paths_have_in_common() -> None:
    tree = LeafTree(TREE)
    assert shown(tree) == [
        "batch", "  - batch/x", "params", "  params", "    block", "      0", "        - params/block/0/kernel",
        "        - params/block/0/bias", "      - params/block/1/kernel", "    - params/out", "  - opt_state/count",
    ]  # fmt: skip
    assert tree.prefix_of(6) == "params/block/0/"
    assert tree.prefix_of(8) == "params/block/"
    assert tree.prefix_of(10) == ""
    assert tree.prefix_of(1) == "batch/"
    assert shown(tree)[tree.first_difference()].endswith("params/block/1/kernel")


def test_filter_pattern_and_only_different() -> None:
    assert [row for row in shown(LeafTree(TREE, pattern="BIAS")) if "- " in row] == ["  - params/block/0/bias"]
    assert sum("- " in row for row in shown(LeafTree(TREE, pattern=r"\d/kernel$"))) == 2
    assert shown(LeafTree(TREE, pattern="[")) == []  # neither a part of a path nor an expression
    assert shown(LeafTree(TREE, only_different=True)) == ["params", "  - params/block/1/kernel"]
    unknown = step(leaf("params", "params/w", None, None))
    assert unknown.leaves[0].differs is True  # in neither run: nothing there to be equal
    stored = Leaf("params", "w", *(Side(LeafSpec("w", "float32", ()), None, None, None) for _ in "ab"))
    assert stored.differs is None
    assert len(LeafTree(step(stored), only_different=True).rows) == 2  # what is not known is not hidden


def test_branches_open_and_close() -> None:
    tree = LeafTree(TREE)
    tree.open_all()  # all were open
    assert shown(tree) == ["batch", "params"]
    tree.open_all()
    assert len(tree.rows) == 11
    branch = tree.rows[2][1]
    assert isinstance(branch, Branch)
    branch.open = False
    tree.refresh()
    assert len(tree.rows) == 3


def test_twenty_thousand_leaves_are_built_where_they_are_opened() -> None:
    leaves = [
        leaf("params", f"params/layer_{number // 10}/w{number % 10}", 1, 1 + (number == 12_345)) for number in range(20_000)
    ]
    tree = LeafTree(step(*leaves))
    assert shown(tree)[:2] == ["params", "  layer_0"]
    assert len(tree.rows) < 2100  # layers, and the leaves of one of them
    assert "params/layer_1234/w5" in shown(tree)[tree.first_difference()]
    built = [node for _, node in tree.rows if isinstance(node, Branch) and node.children is not None]
    assert len(built) == 2  # the phase, layer_1234
    equal = LeafTree(step(*(leaf("params", each.path) for each in leaves)))
    assert shown(equal) == ["params"]
    equal.open_all()
    assert len(equal.rows) == 22_001  # the phase, 2,000 layers, their leaves
    assert equal.prefix_of(22_000) == "params/layer_1999/"


def test_a_step_is_read_with_its_phases_and_its_history(tmp_path: Path) -> None:
    a = write(tmp_path / "a.db", steps_of(9))
    b = write(tmp_path / "b.db", changed(steps_of(9), 4, "grads:grads/b", "params:params/w"))
    found = read_step([a, b], 4)
    assert found.phases == {"batch": False, "rng": False, "forward": False, "grads": True, "optimizer": False, "params": True}
    assert [each.path for each in found.leaves if each.differs] == ["grads/b", "params/w"]
    assert found.problem == ""
    moments = history([a, b], "params", "params/w", [0, 3, 4, 9, 10])
    assert [(moment.step, None if moment.a is None else moment.a == moment.b) for moment in moments] == [
        (0, True), (3, True), (4, False), (9, False), (10, None),
    ]  # fmt: skip
    alone = read_step([a], 4)
    assert not any(alone.phases.values())
    assert len(alone.leaves) == len(found.leaves)


def test_a_step_that_one_run_has_not_recorded_is_unknown_and_not_different(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.db", steps_of(9)), write(tmp_path / "b.db", steps_of(5))
    found = read_step([a, b], 8)
    assert set(found.phases.values()) == {None}
    assert {each.differs for each in found.leaves} == {None}
    assert {each.differs for each in read_step([a, b], 5).leaves} == {False}
    fewer = write(tmp_path / "fewer.db", without(steps_of(9), "optimizer:opt_state/m"))
    differing = [each.path for each in read_step([a, fewer], 8).leaves if each.differs]
    assert differing == ["opt_state/m"]  # recorded, but without this leaf


def test_leaf_rows_that_were_not_stored_leave_the_roots_to_say(tmp_path: Path) -> None:
    a = write(tmp_path / "a.db", steps_of(9), leaves_every=5)
    b = write(tmp_path / "b.db", changed(steps_of(9), 4, "grads:grads/b"), leaves_every=5)
    found = read_step([a, b], 4)
    assert found.phases["grads"] is True
    assert found.phases["batch"] is False
    assert {each.differs for each in found.leaves} == {None}


def test_a_damaged_side_is_a_problem_and_not_a_difference(tmp_path: Path) -> None:
    a = write(tmp_path / "a.db", steps_of(9))
    (tmp_path / "b.db").write_bytes(b"not a trace" * 100)
    found = read_step([a, tmp_path / "b.db"], 4)
    assert "b.db is not a trace" in found.problem
    assert {each.differs for each in found.leaves} == {None}
    assert set(found.phases.values()) == {None}


# Signs


@pytest.mark.parametrize(
    ("variables", "ascii_only"),
    [({"LC_ALL": "C"}, True), ({"LANG": "POSIX"}, True), ({}, True), ({"LANG": "C.UTF-8"}, False),
     ({"LC_CTYPE": "en_US.utf8", "LANG": "C"}, False), ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, True),
     ({"LANG": "de_DE.ISO-8859-1"}, True)],
)  # fmt: skip
def test_signs_follow_the_locale(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], ascii_only: bool) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("locale.getencoding", lambda: "iso8859-1" if "ISO" in str(variables) else "utf-8")
    assert choose("auto").ascii is ascii_only


def test_ascii_signs_are_one_cell_and_plain_text_is_ascii() -> None:
    for name, sign in vars(ASCII).items():
        assert name in ("ascii", "arrow") or len(sign) == 1
    assert plain("Δ ≠ · → – − × … größe", ASCII) == "d != - -> - - x ... gr??e"
    assert plain("Δ", UNICODE) == "Δ"


@pytest.mark.parametrize(
    ("steps", "others"),
    [
        (range(5), range(5)), (range(9), range(5)), (range(5), np.arange(9)), (np.array([1, 2, 5]), np.array([1, 2, 5, 6])),
        (np.array([1, 3, 5]), np.array([1, 2, 5])), (range(0, 10, 2), range(1, 10)), (range(3), range(0)),
        (range(3), range(4, 6)),
    ],
)  # fmt: skip
def test_values_stand_beside_each_other_where_both_runs_have_one(steps: Any, others: Any) -> None:
    a, b = (Series(each, np.asarray(each) * factor) for each, factor in ((steps, 1.0), (others, 10.0)))
    both = b.beside(a)
    assert [int(step) for step in both.x] == sorted({*map(int, steps)} & {*map(int, others)})
    assert both.a.tolist() == [float(step) for step in both.x] and both.b.tolist() == [10.0 * step for step in both.x]
