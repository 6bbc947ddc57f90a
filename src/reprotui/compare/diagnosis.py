"""A diagnosis: which change of a command was tried, what came of it, and what that proves; in words, and as it is kept."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from reprotui.compare.search import Answer, Decision, Outcome, Pair, Search, State, would_be_seen
from reprotui.document import UnfitError, entries
from reprotui.errors import CANNOT_TELL, DIFFERS, INTERRUPTED, SAME, BadInputError
from reprotui.manifest import Process
from reprotui.run_directory import process_alive, read_json, write_json

FILE = "diagnosis.json"
"""In the directory of the race that is diagnosed; the pairs that were run for it lie beside it, in `PAIRS`."""
PAIRS = "pairs"
BUDGET, CTRL_C = "the budget is spent", "it was interrupted"
"""What can end a search before it is over."""


@dataclass(frozen=True)
class Change:
    """Something that can be changed in both runs of a pair.

    Attributes:
        text: what it is in a table: `PYTHONHASHSEED=0`.
        where: what of the first race speaks for it, in words: the lines of the script that it concerns.
    """

    name: str
    text: str
    where: tuple[str, ...] = ()


HEADINGS = "change", "pairs", "what came of it"
"""Above the texts of a `Row`."""


class Row(NamedTuple):
    """A line of the table: the changes, whether runs are equal with them (None: not known), pairs, and what came of it."""

    text: str
    equal: bool | None
    pairs: str
    outcome: str


@dataclass(frozen=True)
class Diagnosis:
    """A search for the cause of a difference at one moment.

    Attributes:
        changes: what can be tried, the likeliest first.
        pairs, least: see `Search`.
        running: the changes of the pair that runs now, None where none does.
        ended: what ended it before it was over; empty otherwise.
        process: who searches, or did last.
    """

    changes: tuple[Change, ...]
    pairs: tuple[Pair, ...] = ()
    least: int = 3
    running: tuple[str, ...] | None = None
    ended: str = ""
    process: Process | None = None

    @cached_property
    def search(self) -> Search:
        """Return what the pairs tell."""
        return Search(tuple(change.name for change in self.changes), self.pairs, self.least)

    @cached_property
    def decision(self) -> Decision:
        """Return what the search came to, or what it would run next."""
        return self.search.next()

    @property
    def over(self) -> bool:
        """Say whether nothing is left to run."""
        return self.decision.answer is not Answer.RUN

    @property
    def alive(self) -> bool:
        """Say whether somebody searches now."""
        return self.running is not None and self.process is not None and process_alive(self.process)

    @property
    def word(self) -> str:
        """Return the answer in one word for machines: `proved`, `not found`, `identical`, `unclear`, `unfinished`."""
        return "unfinished" if not self.over else str(self.decision.answer)

    @property
    def exit_code(self) -> int:
        """Return 0 where the runs are identical, 1 where they differ and the cause is proved, 3 where it is not."""
        if self.ended == CTRL_C:
            return INTERRUPTED
        return {"identical": SAME, "proved": DIFFERS}.get(self.word, CANNOT_TELL)

    def text_of(self, names: Sequence[str]) -> str:
        """Return changes in words."""
        texts = [change.text for change in self.changes if change.name in names]
        return " and ".join(texts) if len(texts) < 4 else f"all {len(texts)} changes together"

    @property
    def headline(self) -> str:
        """Return what is known, in one sentence."""
        search, names = self.search, self.decision.changes
        match self.word:
            case "proved":
                clean = [pair for pair in search.of(names) if pair.outcome is Outcome.EQUAL]
                kept = f"with {self.text_of(names)} the runs are identical{_through(clean)} ({_of(len(clean), len(clean))})"
                return f"PROVED: {kept}; without, they differ{_where(search)} ({_of(search.differing, search.told, '')})"
            case "not found":
                together = ", nor do they together" if self._together() is State.DIFFERS else ""
                none = f"none of {len(self.changes)} changes makes the runs identical{together}"
                how = f"the difference is there in {_of(search.differing, search.told)}"
                return f"NOT FOUND: {none}; {how}{': flaky' if search.flaky else _where(search)}"
            case "identical":
                clean = [pair for pair in search.of(()) if pair.outcome is Outcome.EQUAL]
                return f"NOTHING TO FIND: the runs are identical{_through(clean)} in {_of(len(clean), search.told)}"
            case "unclear":
                reason = next((pair.reason for pair in search.of(()) if pair.reason), "")
                return f"CANNOT TELL: {reason or 'the records of the runs do not tell whether they are equal'}"
        known = (
            f"the runs differ{_where(search)} ({_of(search.differing, search.told)})" if search.differing else "no difference yet"
        )
        return f"{'UNFINISHED' if self.ended or not self.alive else 'SEARCHING'}: {known}"

    def lines(self) -> list[str]:
        """Return what else is worth saying, a sentence each."""
        search, names, found = self.search, self.decision.changes, []
        if self.ended and not self.over:
            left = [change.text for change in self.changes if not search.of((change.name,))]
            found.append("; ".join([self.ended, *([f"not tried: {', '.join(left)}"] if left else [])]))
        if self.word == "proved":
            found += [where for change in self.changes if change.name in names for where in change.where]
            sets = f"{search.tried} {'set' if search.tried == 1 else 'sets'} of changes tried"
            found.append(f"{sets}: luck alone would come to this once in {int(1 / search.luck(names))} times or less")
            if search.flaky:
                found.append("the difference is not there each time: that takes more pairs")
            if len(names) > 1:
                found.append("with each of them alone the runs still differ")
        elif self.word == "identical":
            share = would_be_seen(search.told)
            found.append(f"a difference that shows in {share:.0%} of pairs or more would have been seen (95 %)")
        elif self.word == "not found":
            found.append("that observing changes nothing is proved by: reprotui certify -- COMMAND")
        elif search.differing and (likely := self._candidate()):
            equal = search.count(likely, Outcome.EQUAL)
            found.append(f"identical so far with {self.text_of(likely)} ({_of(equal, equal)}): more pairs must show it")
        for change in self.changes:
            if (pair := search.moved(change.name)) is not None and self.word != "identical":
                found.append(f"with {change.text} the first difference moves to {_place(pair)}")
        return found

    def rows(self) -> list[Row]:
        """Return the table: the command as it is, every change alone, and sets of them that were tried."""
        return [self._row(names) for names in self.sets()]

    def sets(self) -> list[tuple[str, ...]]:
        """Return the changes of each line of the table."""
        alone = [(), *((change.name,) for change in self.changes)]
        ran = [pair.changes for pair in self.pairs] + ([] if self.running is None else [self.running])
        return list(dict.fromkeys([*alone, *ran]))

    def _row(self, names: tuple[str, ...]) -> Row:
        search = self.search
        pairs, text = search.of(names), self.text_of(names) if names else "as it is"
        differing, equal = search.count(names, Outcome.DIFFERS), search.count(names, Outcome.EQUAL)
        now = self.running == names and self.alive
        count = f"{len(pairs)}{' …' if now else ''}" if pairs or now else "–"
        if differing:
            first = min((pair for pair in pairs if pair.outcome is Outcome.DIFFERS), key=lambda pair: pair.place)
            moved = len(names) == 1 and search.moved(names[0]) is not None
            share = "" if differing == len(pairs) else f" in {_of(differing, len(pairs))}"
            return Row(text, False, count, f"differs at {_place(first)}{share}{' (moved)' if moved else ''}")
        if equal:
            return Row(text, True, count, f"identical{_through([pair for pair in pairs if pair.outcome is Outcome.EQUAL])}")
        if pairs:
            return Row(text, None, count, f"{pairs[-1].outcome}: {pairs[-1].reason}")
        return Row(text, None, count, "running" if now else "" if self.over else "not tried yet")

    def _together(self) -> State:
        """Return what is known of all changes that can be had together."""
        usable = tuple(name for name in self.search.order if self.search.state((name,)) is State.DIFFERS)
        return self.search.state(usable) if len(usable) > 1 else State.OPEN

    def _candidate(self) -> tuple[str, ...]:
        """Return changes with which pairs are equal so far, where a proof is under way."""
        sets = dict.fromkeys(pair.changes for pair in self.pairs if pair.changes and pair.outcome is Outcome.EQUAL)
        return next((names for names in sets if self.search.state(names) in (State.EQUAL, State.OPEN)), ())

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as a JSON object; `headline` and `lines` are included for people."""
        return {
            "verdict": self.word, "exit_code": self.exit_code, "headline": self.headline, "lines": self.lines(),
            "cause": list(self.decision.changes) if self.word == "proved" else [], "flaky": self.search.flaky,
            "differing": self.search.differing, "told": self.search.told, **asdict(self),
        }  # fmt: skip


def write_diagnosis(race: Path, found: Diagnosis) -> None:
    """Keep a diagnosis in the directory of its race."""
    write_json(race / FILE, found.to_json())


def read_diagnosis(race: Path) -> Diagnosis | None:
    """Return the diagnosis that a race directory keeps, None where it keeps none.

    Raises:
        BadInputError: it is damaged.
    """
    path = race / FILE
    if not path.exists():
        return None
    try:
        found = entries(Diagnosis, read_json(path), "")
    except UnfitError as error:
        raise BadInputError(f"{path} is damaged: {error}; delete it to search anew") from None
    if found.least < 1:
        raise BadInputError(f"{path} is damaged: 'least' is {found.least}, expected 1 or more; delete it to search anew")
    return found


def _of(some: int, all_of: int, noun: str = " pairs") -> str:
    return f"{some} of {all_of}{noun}"


def _through(pairs: Sequence[Pair]) -> str:
    """Return how far equal pairs were seen to be equal; nothing where none of them has a step."""
    steps = [pair.through for pair in pairs if pair.through is not None]
    if not steps:
        return ""
    return f" to their end, step {min(steps)}" if all(pair.whole for pair in pairs) else f" through step {min(steps)}"


def _place(pair: Pair) -> str:
    return "their end, behind the last record" if pair.step is None else f"step {pair.step} · {pair.phase}"


def _where(search: Search) -> str:
    """Return where the runs differ as they are."""
    pairs = sorted((pair for pair in search.of(()) if pair.outcome is Outcome.DIFFERS), key=lambda pair: pair.place)
    if not pairs:
        return ""
    first, last = pairs[0], pairs[-1]
    if first.step is None or first.place == last.place:
        return f" at {_place(first)}"
    return (
        f" at step {first.step}" if first.step == last.step else f" from step {first.step} on, or from step {last.step or 'none'}"
    )
