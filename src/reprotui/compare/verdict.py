"""The verdict and its cause, as values that every view and report is made from."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from reprotui.compare.differences import LeafDifference
from reprotui.errors import CANNOT_TELL, DIFFERS, SAME

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
class Verdict:
    """What a comparison of run `b` with the reference `a` says.

    `equal_through` is the last step up to which every common record is equal, None where not even the first is.
    `step`, `phase` and `leaves` place the first difference; `leaves` is empty where leaf rows were not stored there.
    A divergence without a step shows in the final states alone: it began behind `equal_through`, and no record has it.
    `records` is how many records both runs have, where that is not one a step. `reason` says why a verdict is incomplete or
    incomparable.
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

    @property
    def exit_code(self) -> int:
        """Return 0 identical, 1 diverged, 3 incomplete or incomparable."""
        return EXIT_CODES[self.kind]

    @property
    def sampling(self) -> str:
        """Return what share of the steps an identical verdict rests on; nothing where it is all of them."""
        return "" if self.records is None else f"in {self.records:,} recorded steps "

    @property
    def headline(self) -> str:
        """Return the verdict in one line, as it stands largest on the screen."""
        match self.kind:
            case "identical":
                return f"IDENTICAL {self.sampling}through step {self.equal_through}"
            case "diverged":
                count = len(self.leaves)
                leaves = f" · {count} {'leaf' if count == 1 else 'leaves'}" if count else ""
                if self.step is None:
                    return f"DIVERGED after step {self.equal_through} · in calls that were not recorded"
                return f"DIVERGED at step {self.step} · {self.phase}{leaves}"
            case "incomplete":
                equal = "no common step yet" if self.equal_through is None else f"equal up to step {self.equal_through}"
                return f"INCOMPLETE · {equal}; {self.reason}"
            case "incomparable":
                return f"INCOMPARABLE · {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object; `headline` is included for people."""
        value = asdict(self)
        value["leaves"] = [leaf.to_json() for leaf in self.leaves]
        return {"headline": self.headline, **value}


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of several comparisons: one difference decides, then one that cannot be told."""
    found = set(codes)
    return DIFFERS if DIFFERS in found else CANNOT_TELL if found - {SAME} else SAME
