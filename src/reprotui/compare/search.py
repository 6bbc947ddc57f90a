"""Which change makes runs identical: what to try next, and what is proved, as a pure function of the pairs of runs so far.

A change counts as the cause only once so many pairs with it are equal that luck is out of the question. Of `n` pairs without it,
`k` differ; if it changed nothing, each pair would differ as likely with it as without, and that all `k` fell on the `n` pairs
without it, none on the `m` pairs with it, has the probability C(n, k) / C(n + m, k) (Fisher's exact test). 3 of 3 against 0 of 3
give 1 in 20. Who tries many changes is lucky more often, so each that was tried before makes the next proof as much harder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import comb

from reprotui.trace.phases import PHASE_INDEX

LUCK = 0.05
"""A statement stands where luck alone explains it at most this often."""
RARE_LUCK = 0.01
"""The same of a difference that is not there each time: its pairs are looked at again and again until they say enough."""
RARE_PAIRS = 10
"""Pairs without any change where not all of the first ones differ: what a quarter of all shows is missed once in 20 times."""
UNCLEAR_PAIRS = 2
"""Pairs of one kind that say nothing before it is left out."""


class Outcome(StrEnum):
    """What a pair of runs came to; `unclear`: the records do not tell."""

    DIFFERS = "differs"
    EQUAL = "equal"
    FAILED = "failed"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Pair:
    """Two runs of one command, with the same changes.

    Attributes:
        changes: names of what was changed in both runs, in the order of the plan; nothing for the command as it is.
        step, phase: where they first differ, None where they do not, or only at their ends.
        through: the last step up to which both were seen to be equal.
        whole: they are equal to their end, not only as far as they were let go.
        reason: why it failed or says nothing.
        path: the race directory of the pair, relative to the one that the search belongs to.
    """

    changes: tuple[str, ...]
    outcome: Outcome
    step: int | None = None
    phase: str | None = None
    through: int | None = None
    whole: bool = False
    reason: str = ""
    path: str = ""

    @property
    def place(self) -> tuple[float, int]:
        """Return where they first differ, as what can be ordered; behind every step where no record has it."""
        if self.step is None:
            return float("inf"), 0
        return self.step, PHASE_INDEX.get(self.phase or "", 0)


class State(StrEnum):
    """What is known of a set of changes: nothing yet, whether runs with it are equal, or that they cannot be had."""

    OPEN = "open"
    DIFFERS = "differs"
    EQUAL = "equal"
    UNUSABLE = "unusable"


class Answer(StrEnum):
    """What a search came to, or that it goes on."""

    RUN = "run"
    PROVED = "proved"
    NOT_FOUND = "not found"
    IDENTICAL = "identical"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Decision:
    """The changes of the pair that is to run next, or of the proof."""

    answer: Answer
    changes: tuple[str, ...] = ()


def by_luck(pairs: int, differing: int, clean: int) -> float:
    """Return how likely it is that all differing pairs are among those without a change, where it changes nothing."""
    return comb(pairs, differing) / comb(pairs + clean, differing)


def would_be_seen(pairs: int) -> float:
    """Return the share of differing pairs that so many equal pairs exclude: a larger one leaves them all equal 1 in 20 times."""
    return 1 - LUCK ** (1 / pairs)


@dataclass(frozen=True)
class Search:
    """A search at one moment.

    Attributes:
        order: the names of all changes, the likeliest first.
        pairs: what ran, in order.
        least: pairs of each kind that a proof has at least.
    """

    order: tuple[str, ...]
    pairs: tuple[Pair, ...]
    least: int = 3

    def of(self, changes: Sequence[str]) -> list[Pair]:
        """Return the pairs that ran with just these changes."""
        return [pair for pair in self.pairs if pair.changes == tuple(changes)]

    def count(self, changes: Sequence[str], outcome: Outcome) -> int:
        """Return how many pairs with these changes came to this."""
        return sum(pair.outcome is outcome for pair in self.of(changes))

    @cached_property
    def told(self) -> int:
        """Return how many pairs without a change say something."""
        return self.differing + self.count((), Outcome.EQUAL)

    @cached_property
    def differing(self) -> int:
        """Return how many of them differ."""
        return self.count((), Outcome.DIFFERS)

    @property
    def flaky(self) -> bool:
        """Say whether pairs without a change differ at times."""
        return 0 < self.differing < self.told

    @property
    def tried(self) -> int:
        """Return how many sets of changes were tried: each could have looked like the cause by luck."""
        return len({pair.changes for pair in self.pairs if pair.changes})

    @property
    def limit(self) -> float:
        """Return how likely luck may be behind a proof."""
        return RARE_LUCK if self.flaky else LUCK

    def luck(self, changes: Sequence[str]) -> float:
        """Return how likely luck alone makes so many pairs equal with one of the sets tried; the more of these, the likelier.

        The first set is held to the test's own number, the next ones to a third, a sixth … of it.
        """
        if not self.differing:
            return 1.0
        return min(
            1.0, self.tried * (self.tried + 1) / 2 * by_luck(self.told, self.differing, self.count(changes, Outcome.EQUAL))
        )

    def proved(self, changes: Sequence[str]) -> bool:
        """Say whether runs with these changes are equal so often that luck is out of the question."""
        clean = self.count(changes, Outcome.EQUAL)
        return not self.count(changes, Outcome.DIFFERS) and clean >= self.least and self.luck(changes) <= self.limit

    def state(self, changes: Sequence[str]) -> State:
        """Return what is known of a set of changes. One equal pair is enough to go on, where every pair without it differs."""
        if self.count(changes, Outcome.DIFFERS):
            return State.DIFFERS
        if self.count(changes, Outcome.FAILED) or self.count(changes, Outcome.UNCLEAR) >= UNCLEAR_PAIRS:
            return State.UNUSABLE
        equal = self.proved(changes) if self.flaky else self.count(changes, Outcome.EQUAL) > 0
        return State.EQUAL if equal else State.OPEN

    def moved(self, name: str) -> Pair | None:
        """Return the pair that differs later than any pair without a change did, where this change alone does that."""
        found = [pair for pair in self.of((name,)) if pair.outcome is Outcome.DIFFERS]
        before = [pair.place for pair in self.of(()) if pair.outcome is Outcome.DIFFERS]
        first = min(found, key=lambda pair: pair.place, default=None)
        return first if first is not None and before and first.place > max(before) else None

    def next(self) -> Decision:
        """Return what tells most now."""
        if (first := self._without()) is not None:
            return first
        for name in self.order:
            if (step := self._tried((name,))) is not None:
                return step
        usable = tuple(name for name in self.order if self.state((name,)) is State.DIFFERS)
        if len(usable) < 2:
            return Decision(Answer.NOT_FOUND)
        match self.state(usable):
            case State.OPEN:
                return self._one_more(usable)
            case State.EQUAL:
                return self._fewer(usable)
            case _:
                return Decision(Answer.NOT_FOUND)

    def _without(self) -> Decision | None:
        """Return what pairs without a change ask for; None where they say enough."""
        if self.count((), Outcome.FAILED) or self.count((), Outcome.UNCLEAR) >= UNCLEAR_PAIRS:
            return Decision(Answer.UNCLEAR)
        always = self.told == self.differing
        if self.told < (self.least if always else max(self.least, RARE_PAIRS)):
            return Decision(Answer.RUN)
        return None if self.differing else Decision(Answer.IDENTICAL)

    def _tried(self, changes: tuple[str, ...]) -> Decision | None:
        """Return what is to be done about a set; None where it is no proof."""
        state = self.state(changes)
        if state is State.EQUAL and self.proved(changes):
            return Decision(Answer.PROVED, changes)
        return self._one_more(changes) if state in (State.OPEN, State.EQUAL) else None

    def _one_more(self, changes: tuple[str, ...]) -> Decision:
        """Return the pair that tells most of a set: one with it, or one without where there are fewer of these."""
        with_it = self.count(changes, Outcome.EQUAL)
        return Decision(Answer.RUN, () if with_it >= max(self.least, self.told) else changes)

    def _fewer(self, whole: tuple[str, ...]) -> Decision:
        """Go on where all changes together make the runs equal: add one to another until they do, then take away again."""
        by_reach = sorted(whole, key=lambda name: self._reach(name), reverse=True)
        chosen = whole
        for size in range(2, len(whole)):
            tried = self._in_order(by_reach[:size])
            if (state := self.state(tried)) is State.OPEN:
                return self._one_more(tried)
            if state is State.EQUAL:
                chosen = tried
                break
        left = list(chosen)
        while left and len(chosen) > 2:  # a single one was tried before
            fewer = tuple(name for name in chosen if name != left[0])
            if (state := self.state(fewer)) is State.OPEN:
                return self._one_more(fewer)
            if state is State.EQUAL:
                chosen = fewer
            left.pop(0)
        return self._tried(chosen) or Decision(Answer.NOT_FOUND)

    def _reach(self, name: str) -> tuple[float, int]:
        """Return how far the first difference moves with one change."""
        pair = self.moved(name)
        return pair.place if pair is not None else (-1, 0)

    def _in_order(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in self.order if name in names)
