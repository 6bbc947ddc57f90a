"""What a tolerance comes to for two runs: within it, beyond it from a step on, or not to be told; and what that rests on."""

from dataclasses import dataclass
from typing import Literal

from reprotui.numbers import short


@dataclass(frozen=True)
class Exceeded:
    """The first place beyond the tolerance. `what` is what tells it: value, norm, maximum or element."""

    step: int
    place: str
    what: str
    absolute: float
    relative: float
    ulp: int | None
    limit: str

    def __str__(self) -> str:
        units = "" if self.ulp is None else f", {self.ulp:,} ulp"
        what = "" if self.what == "value" else f" ({self.what})"
        return f"{self.place}{what}, {short(self.relative, 2)} of A's size{units}"


@dataclass(frozen=True)
class Apart:
    """How far a place was at most, relative to A's size, up to a step."""

    step: int
    place: str
    what: str
    relative: float


@dataclass(frozen=True)
class Distance:
    """What a tolerance comes to.

    Attributes:
        tolerance: as it was written.
        kind: `within` as far as anything tells, `exceeded`, or `cannot tell`.
        exceeded: the first place beyond it, where there is one.
        through: the last step that was measured.
        rests_on: what was measured.
        growth: how far the runs are apart at some steps.
        reason: why it cannot be told.
    """

    tolerance: str
    kind: Literal["within", "exceeded", "cannot tell"]
    exceeded: Exceeded | None
    through: int | None
    rests_on: tuple[str, ...]
    growth: tuple[Apart, ...]
    reason: str = ""

    @property
    def headline(self) -> str:
        """Return it as it goes on behind the verdict."""
        if self.exceeded is not None:
            return f"beyond {self.tolerance} first at step {self.exceeded.step}"
        if self.kind == "within":
            return f"within {self.tolerance} through step {self.through}"
        return f"within {self.tolerance}: cannot tell"

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Return names and texts of what there is to say besides."""
        found = (
            [("beyond", f"step {self.exceeded.step}: {self.exceeded} (allowed: {self.exceeded.limit})")] if self.exceeded else []
        )
        found += [("cannot tell", self.reason)] if self.reason else []
        for place in dict.fromkeys((point.place, point.what) for point in self.growth):
            points = [point for point in self.growth if (point.place, point.what) == place]
            apart = ", ".join(f"{short(point.relative, 2)} by step {point.step}" for point in points)
            found.append(("apart", f"{place[0]}{'' if place[1] == 'value' else f' ({place[1]})'}: at most {apart} of A's size"))
        return [*found, ("rests on", "; ".join(self.rests_on) or "nothing that was recorded")]
