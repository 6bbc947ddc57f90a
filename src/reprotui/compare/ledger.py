"""The ledgers of chance of several runs side by side: each place, and what entered there in each run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.chance import Chance
from reprotui.compare.chance import numbered
from reprotui.errors import ReprotuiError
from reprotui.trace import Trace

NOTHING_NOTED = "no seed, no draw and no file was noted: only scripts that are observed keep a ledger of chance"
_GIVEN = {
    "draw": "nothing seeded it", "entropy": "the operating system draws it", "hash": "another salt in each process",
    "file": "not read", "folder": "not listed", "seed": "no seed",
}  # fmt: skip
"""What stands for a place without a value, by its kind."""
UNREAD = "cannot be read"
"""What stands for every place of a run whose ledger cannot be read, and why there are no places."""


@dataclass(frozen=True)
class ChanceLine:
    """A place where chance or data entered: the line of a script, and what was called there.

    Attributes:
        values: what entered in each run, None where a run did not reach the place; `UNREAD` where nobody can tell.
        differs: for each run whether that is other than in the first; None where it cannot be told, as of what nobody seeded.
    """

    place: str
    source: str
    kind: str
    step: int
    text: str
    values: tuple[str | None, ...]
    differs: tuple[bool | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the line as a JSON object."""
        return {
            "place": self.place, "source": self.source, "kind": self.kind, "step": self.step, "text": self.text,
            "values": self.values, "differs": self.differs,
        }  # fmt: skip


def side_by_side(ledgers: Sequence[Sequence[Chance] | None]) -> list[ChanceLine]:
    """Return the places of all runs, those of the first run first, in the order in which they were reached; None: unread."""
    by_place = [numbered(ledger or ()) for ledger in ledgers]
    lines = []
    for key in dict.fromkeys(key for ledger in by_place for key in ledger):
        found = [ledger.get(key) for ledger in by_place]
        one = next(item for item in found if item is not None)
        values = tuple(
            UNREAD if ledger is None else None if item is None else given(item)
            for ledger, item in zip(ledgers, found, strict=True)
        )
        differs = tuple(_differs(found[0], item) for item in found)
        lines.append(ChanceLine(one.place, one.source, one.kind, one.step, one.text, values, differs))
    return lines


def no_places(ledgers: Sequence[Sequence[Chance] | None]) -> str:
    """Return why no place is listed."""
    return f"a ledger of chance {UNREAD}" if None in ledgers else NOTHING_NOTED


def chance_of(path: Path) -> list[Chance] | None:
    """Return what a trace says of chance; None where there is no trace, or it cannot be read."""
    try:
        with Trace(path) as trace:
            return trace.chance()
    except ReprotuiError:
        return None


def given(item: Chance) -> str:
    """Return what entered at a place, in words."""
    return _GIVEN[item.kind] if item.value is None else item.value


def _differs(a: Chance | None, b: Chance | None) -> bool | None:
    if a is None or b is None or a.unseeded or b.unseeded or None in (a.value, b.value):
        return None
    return a.value != b.value
