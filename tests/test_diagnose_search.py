"""The search for a cause without processes: worlds whose runs differ for known reasons, and what is said of them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import comb
from pathlib import Path

import pytest

from reprotui.compare.diagnosis import Change, Diagnosis, read_diagnosis, write_diagnosis
from reprotui.compare.search import LUCK, Answer, Decision, Outcome, Pair, Search, by_luck, would_be_seen
from reprotui.errors import BadInputError

ORDER = tuple("abcdefghi")
World = Callable[[tuple[str, ...]], Pair]


def needs(*causes: str, failing: Sequence[str] = ()) -> World:
    """Return a world whose runs are equal only with all these changes; each cause shows at a step of its own."""

    def world(changes: tuple[str, ...]) -> Pair:
        if set(failing) & set(changes):
            return Pair(changes, Outcome.FAILED, reason="no such option")
        left = [step for step, cause in enumerate(causes, 1) if cause not in changes]
        return Pair(changes, Outcome.DIFFERS, left[0], "batch") if left else Pair(changes, Outcome.EQUAL, through=40)

    return world


def at_times(share: float, seed: int, cause: str = "") -> World:
    """Return a world whose pairs differ with a probability, with one change never."""
    draws = random.Random(seed)
    return lambda changes: (
        Pair(changes, Outcome.DIFFERS, 3, "forward")
        if draws.random() < share and cause not in (changes or ("-",))
        else Pair(changes, Outcome.EQUAL, through=40)
    )


def search(world: World, order: tuple[str, ...] = ORDER, most: int = 400) -> tuple[Decision, Search]:
    """Run a search in a world to its end."""
    state = Search(order, ())
    while (decision := state.next()).answer is Answer.RUN:
        state = replace(state, pairs=(*state.pairs, world(decision.changes)))
        assert len(state.pairs) < most
    return decision, state


def test_three_pairs_of_each_kind_are_the_fewest_that_luck_explains_once_in_twenty_times() -> None:
    assert by_luck(3, 3, 3) == LUCK and by_luck(3, 3, 2) == 0.1
    for pairs, differing, clean in ((3, 3, 3), (10, 4, 10), (10, 2, 33)):
        # Of all ways in which the differing ones can lie among all pairs, those in which none of them has the change.
        assert by_luck(pairs, differing, clean) == pytest.approx(comb(pairs, differing) / comb(pairs + clean, differing))
        assert by_luck(pairs, differing, clean) <= LUCK < by_luck(pairs, differing, clean - 1)


@pytest.mark.parametrize("pairs", [1, 3, 10, 40])
def test_what_equal_pairs_exclude_would_have_been_missed_once_in_twenty_times(pairs: int) -> None:
    assert (1 - would_be_seen(pairs)) ** pairs == pytest.approx(LUCK)


@pytest.mark.parametrize("cause", ORDER)
def test_a_single_cause_is_proved_and_the_later_it_is_tried_the_more_pairs_that_takes(cause: str) -> None:
    decision, found = search(needs(cause))
    assert decision == Decision(Answer.PROVED, (cause,))
    before = ORDER.index(cause)
    assert {pair.changes for pair in found.pairs} == {(), *((name,) for name in ORDER[: before + 1])}  # nothing behind it
    expected = [(3, 3), (4, 4), (5, 4), (5, 5), (6, 5), (6, 5), (6, 6), (6, 6), (6, 6)][before]
    assert (found.told, found.count((cause,), Outcome.EQUAL)) == expected
    assert found.luck((cause,)) <= LUCK


@pytest.mark.parametrize("causes", [("a", "b"), ("b", "h"), ("i", "c"), ("g", "a", "d"), tuple("abcdefghi")])
def test_causes_that_are_enough_only_together_are_found_without_one_too_many(causes: tuple[str, ...]) -> None:
    decision, found = search(needs(*causes))
    assert decision == Decision(Answer.PROVED, tuple(sorted(causes)))
    assert found.moved(causes[0]) is not None and found.moved(causes[-1]) is None


def test_a_cause_that_no_change_removes_is_not_found_and_all_together_were_tried() -> None:
    decision, found = search(needs("a", "z"))
    assert decision.answer is Answer.NOT_FOUND and found.pairs[-1].changes == ORDER
    assert len(found.pairs) == 3 + len(ORDER) + 1


def test_a_change_with_which_the_script_fails_is_left_out_of_all_sets() -> None:
    decision, found = search(needs("b", "d", failing="c"))
    assert decision == Decision(Answer.PROVED, ("b", "d"))
    assert [pair.changes for pair in found.pairs if "c" in pair.changes] == [("c",)]
    assert search(needs("c", failing="c"))[0].answer is Answer.NOT_FOUND


def test_runs_that_are_equal_ten_times_have_no_cause() -> None:
    decision, found = search(needs())
    assert decision.answer is Answer.IDENTICAL and len(found.pairs) == 10


def test_pairs_that_say_nothing_end_the_search_and_a_failed_run_does_at_once() -> None:
    assert search(lambda changes: Pair(changes, Outcome.UNCLEAR, reason="no step"))[0].answer is Answer.UNCLEAR
    decision, found = search(lambda changes: Pair(changes, Outcome.FAILED, reason="no file"))
    assert decision.answer is Answer.UNCLEAR and len(found.pairs) == 1


@pytest.mark.parametrize("share", [0.2, 0.5, 0.6, 0.9])
def test_a_rare_difference_that_nothing_removes_is_hardly_ever_proved_and_said_to_be_flaky(share: float) -> None:
    answers = [search(at_times(share, seed), ORDER, most=2000) for seed in range(200)]
    wrong = sum(decision.answer is Answer.PROVED for decision, _ in answers)
    assert wrong <= LUCK * len(answers), wrong
    for decision, found in answers:
        if decision.answer is Answer.NOT_FOUND and 0 < found.differing < found.told:
            assert found.flaky


def test_a_rare_difference_whose_cause_is_removed_is_proved_by_as_many_pairs_as_that_takes() -> None:
    answers = [search(at_times(0.5, seed, "d"), most=2000) for seed in range(100)]
    right = [found for decision, found in answers if decision == Decision(Answer.PROVED, ("d",))]
    assert len(right) >= 90
    assert all(len(found.of(("d",))) > 3 for found in right)


def test_a_diagnosis_is_kept_and_read_again_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    decision, found = search(needs("a", "b"), ("a", "b", "c"))
    changes = (
        Change("a", "A=0", ("hash() at train.py:5 is another number in each process",)),
        Change("b", "B=0"),
        Change("c", "C=0"),
    )
    kept = Diagnosis(changes, found.pairs)
    assert decision.answer is Answer.PROVED and read_diagnosis(tmp_path) is None
    write_diagnosis(tmp_path, kept)
    assert read_diagnosis(tmp_path) == kept
    assert kept.headline == (
        "PROVED: with A=0 and B=0 the runs are identical through step 40 (5 of 5 pairs); "
        "without, they differ at step 1 · batch (6 of 6)"
    )
    assert kept.lines()[0] == "hash() at train.py:5 is another number in each process"
    assert "with A=0 the first difference moves to step 2 · batch" in kept.lines()
    assert [row.equal for row in kept.rows()] == [False, False, False, False, True, True][: len(kept.rows())]
    for text in (
        '{"changes": 3}',
        '{"changes": [], "least": 0}',
        '{"changes": [], "pairs": [{"changes": [], "outcome": "x"}]}',
        "[",
    ):
        (tmp_path / "diagnosis.json").write_text(text)
        with pytest.raises(BadInputError):
            read_diagnosis(tmp_path)
