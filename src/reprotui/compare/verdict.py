"""The verdict and its cause, as values that every view and report is made from."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeVar

from reprotui.compare.distance import Distance
from reprotui.compare.not_finite import NotFinite, said_of
from reprotui.errors import CANNOT_TELL, DIFFERS, SAME
from reprotui.event_kinds import wrong_in
from reprotui.integrity.leaves import LeafDifference
from reprotui.ranks import named

Kind = Literal["identical", "diverged", "incomplete", "incomparable"]

EXIT_CODES: dict[Kind, int] = {
    "identical": SAME,
    "diverged": DIFFERS,
    "incomplete": CANNOT_TELL,
    "incomparable": CANNOT_TELL,
}


@dataclass(frozen=True)
class Cause:
    """Why two runs differ, with what that rests on.

    `kind` is one word for machines: initialisation, data-order, data, state, keys, computation, optimizer, corruption, config,
    nondeterminism, unknown. `explained_by` are the differences of config and environment that explain it; `unrelated`
    are those that do not.
    """

    kind: str
    sentence: str
    explained_by: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    unrelated: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True)
class AtRanks:
    """Ranks of two trainings of several processes, each compared with the same one of the other.

    `hosts` are those on which they run in the run that is compared, as many as `numbers`; `of` is how many ranks there are.
    """

    numbers: tuple[int, ...]
    of: int
    hosts: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """Return them in words: `rank 3 (host n2)`, `on all 8 ranks`."""
        text = named(self.numbers, self.of, dict(zip(self.numbers, self.hosts, strict=False)))
        return text if len(self.numbers) == 1 else f"on {text}"


@dataclass(frozen=True)
class Verdict:
    """What a comparison of run `b` with the reference `a` says.

    `equal_through` is the last step up to which every common record is equal, None where not even the first is.
    `step`, `phase` and `leaves` place the first difference; `leaves` is empty where leaf rows were not stored there.
    A divergence without a step shows in the final states alone: it began behind `equal_through`, and no record has it.
    `records` is how many records both runs have, where that is not one a step. `reason` says why a verdict is incomplete or
    incomparable. `not_finite` says of each run that holds NaN or infinity since when, and where first.
    `distance` says how far runs that diverged are apart, where a tolerance was given.
    `ends_equal`: both runs digested the state that they ended with, and it is the same.
    `torn` says for each run of values that are not right, torn (on devices or ranks) or corrupt (`event_kinds.WRONG`), whatever
    the other one holds.
    `ranks`: of runs of several processes, which ranks differ first, or hold up another verdict, and how many there are.
    """

    a: str
    b: str
    kind: Kind
    equal_through: int | None = None
    step: int | None = None
    phase: str | None = None
    phases: tuple[str, ...] = ()
    leaves: tuple[LeafDifference, ...] = ()
    cause: Cause | None = None
    records: int | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()
    not_finite: tuple[NotFinite, ...] = ()
    distance: Distance | None = None
    ends_equal: bool = False
    torn: tuple[str, ...] = ()
    ranks: AtRanks | None = None

    @property
    def exit_code(self) -> int:
        """Return 0 identical, or diverged within a tolerance; 1 diverged or torn; 3 incomplete, incomparable, not to be told."""
        if self.torn:
            return DIFFERS
        if self.kind == "diverged" and self.distance is not None:
            return {"within": SAME, "exceeded": DIFFERS}.get(self.distance.kind, CANNOT_TELL)
        return EXIT_CODES[self.kind]

    @property
    def sampling(self) -> str:
        """Return what share of the steps an identical verdict rests on; nothing where it is all of them."""
        return "" if self.records is None else f"in {self.records:,} recorded steps "

    @property
    def broken(self) -> bool:
        """Say whether a run ends with NaN or infinity: it may be identical to another one, and is not healthy."""
        return any(item.until is None for item in self.not_finite)

    @property
    def tone(self) -> Kind:
        """Return the kind as which it is coloured: runs that agree in being broken do not look healthy, and what is within the
        tolerance that was asked for does."""
        if self.torn:
            return "diverged"
        if self.kind == "diverged" and self.distance is not None and self.distance.kind != "exceeded":
            return "identical" if self.distance.kind == "within" and not self.broken else "incomplete"
        return "incomplete" if self.broken and self.kind == "identical" else self.kind

    @property
    def headline(self) -> str:
        """Return the verdict in one line, as it stands largest on the screen."""
        return self._with_troubles(self._headline + (f" · {self.distance.headline}" if self.distance else ""))

    def _with_troubles(self, text: str) -> str:
        return " · ".join(part for part in (text, said_of(self.not_finite, runs=2), wrong_in(self.torn)) if part)

    @property
    def _headline(self) -> str:
        match self.kind:
            case "identical":
                return f"IDENTICAL {self.sampling}through step {self.equal_through}"
            case "diverged":
                leaves = f" · {counted(len(self.leaves))}" if self.leaves else ""
                ranks = f" · {self.ranks.said}" if self.ranks else ""
                if self.step is None:
                    return f"DIVERGED after step {self.equal_through} · in calls that were not recorded{ranks}"
                return f"DIVERGED at step {self.step} · {self.phase}{ranks}{leaves}"
            case "incomplete":
                equal = "no common step yet" if self.equal_through is None else f"equal up to step {self.equal_through}"
                return f"INCOMPLETE · {equal}; {self.reason}"
            case "incomparable":
                return f"INCOMPARABLE · {self.reason}"

    def headline_while(self, alive: bool) -> str:
        """Return the verdict in one line; of runs that go on (`alive`), what holds so far."""
        if self.kind != "incomplete" or not alive:
            return self.headline
        if self.equal_through is None:
            return self._with_troubles("STARTING · no common step yet")
        return self._with_troubles(f"IDENTICAL through step {self.equal_through} · so far")

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object; `headline` is included for people."""
        value = asdict(self)
        value["leaves"] = [leaf.recorded_json() for leaf in self.leaves]
        return {"headline": self.headline, **value}


def counted(leaves: int) -> str:
    """Return how many leaves, in words."""
    return f"{leaves} {'leaf' if leaves == 1 else 'leaves'}"


class Told(Protocol):
    """What is told of a comparison: a verdict, or what a list keeps of one."""

    @property
    def kind(self) -> str: ...

    @property
    def step(self) -> int | None: ...

    @property
    def torn(self) -> tuple[str, ...]: ...


TOLD = TypeVar("TOLD", bound=Told)


def most_telling(found: Sequence[TOLD]) -> TOLD | None:
    """Return what matters most of several comparisons: the earliest divergence, else the first that is not identical."""
    diverged = [item for item in found if item.kind == "diverged"]
    if diverged:
        return min(diverged, key=lambda item: math.inf if item.step is None else item.step)
    return next((item for item in found if item.kind != "identical" or item.torn), found[0] if found else None)


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of several comparisons: one difference decides, then one that cannot be told."""
    found = set(codes)
    return DIFFERS if DIFFERS in found else CANNOT_TELL if found - {SAME} else SAME
