"""Many runs and races at once, the worst first: how many are in which condition, and which host is in how many differences."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.errors import CANNOT_TELL, DIFFERS, SAME, BadInputError
from reprotui.manifest import assignment
from reprotui.race.entries import Condition, Entry
from reprotui.race.listing import Listing

WORST_FIRST = {condition: place for place, condition in enumerate(Condition)}
SIGNS = {
    Condition.TORN: "T", Condition.DIFFERS: "≠", Condition.NOT_FINITE: "!", Condition.FAILED: "F", Condition.UNKNOWN: "?",
    Condition.ALIVE: "·", Condition.ALONE: "–", Condition.EQUAL: "=",
}  # fmt: skip
"""A sign for each condition, one cell wide."""


def worst_first(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries by their condition; of those that differ the earliest difference first, else the newest."""

    def key(entry: Entry) -> tuple[int, int, int, str]:
        condition, outcome = entry.condition, entry.outcome
        step = outcome.step if condition.bad and outcome is not None and outcome.step is not None else 0
        return WORST_FIRST[condition], step, -entry.created_ns, entry.name

    return sorted(entries, key=key)


def hosts_of(entry: Entry) -> tuple[str, ...]:
    """Return the hosts that the runs of an entry were on, each once; none where nobody said so."""
    return tuple(dict.fromkeys(host for member in entry.members for host in member.hosts))


def rate_of(entry: Entry) -> float | None:
    """Return the steps a second of the slowest run, None where no run has a rate."""
    return min((member.rate for member in entry.members if member.rate is not None), default=None)


@dataclass(frozen=True)
class Group:
    """Entries that have something in common, the worst first.

    Attributes:
        name: what they have in common: a host, an experiment, settings.
        entries: all of them.
        bad: how many of them are torn or differ.
        judged: how many were compared, or are torn.
    """

    name: str
    entries: tuple[Entry, ...]
    bad: int
    judged: int

    @property
    def said(self) -> str:
        """Return how many differ of how many."""
        return f"{self.bad}/{self.judged}"


def grouped(entries: Sequence[Entry], by: str) -> list[Group]:
    """Return the groups of a fleet by `host`, `experiment` or `config`: first those of which the largest share differs.

    A race on two hosts is in the groups of both.
    """
    keys: Callable[[Entry], Sequence[str]]
    match by:
        case "host":
            keys = lambda entry: hosts_of(entry) or ("host unknown",)  # noqa: E731
        case "experiment":
            keys = lambda entry: (entry.experiment,)  # noqa: E731
        case _:
            settings = _settings(entries)
            keys = lambda entry: (settings(entry),)  # noqa: E731
    found: dict[str, list[Entry]] = {}
    for entry in worst_first(entries):
        for key in keys(entry):
            found.setdefault(key, []).append(entry)
    groups = [_group(name, members) for name, members in found.items()]
    return sorted(groups, key=lambda group: (-(group.bad / group.judged if group.judged else 0), -group.bad, group.name))


def _group(name: str, entries: Sequence[Entry]) -> Group:
    conditions = Counter(entry.condition for entry in entries)
    bad = conditions[Condition.TORN] + conditions[Condition.DIFFERS]
    return Group(name, tuple(entries), bad, bad + conditions[Condition.EQUAL] + conditions[Condition.NOT_FINITE])


def _settings(entries: Sequence[Entry]) -> Callable[[Entry], str]:
    """Return what names the settings of an entry's first run: those that are not the same in all runs of its experiment."""
    values: dict[tuple[str, str], set[str]] = {}
    present: Counter[tuple[str, str]] = Counter()
    experiments = Counter(entry.experiment for entry in entries)
    for entry in entries:
        for name, value in _config(entry).items():
            values.setdefault((entry.experiment, name), set()).add(repr(value))
            present[entry.experiment, name] += 1
    vary = {key for key, found in values.items() if len(found) > 1 or present[key] < experiments[key[0]]}

    def named(entry: Entry) -> str:
        told = [assignment(name, value) for name, value in _config(entry).items() if (entry.experiment, name) in vary]
        return f"{entry.experiment} {' '.join(told)}".rstrip()

    return named


def _config(entry: Entry) -> Mapping[str, Any]:
    return entry.members[0].config if entry.members else {}


def counted(entries: Iterable[Entry]) -> dict[Condition, int]:
    """Return how many entries are in each condition, the worst first, without those that none is in."""
    found = Counter(entry.condition for entry in entries)
    return {condition: found[condition] for condition in Condition if found[condition]}


def standing_out(entries: Sequence[Entry]) -> str:
    """Return which host is in most of the differences, in how many of them and of the others; empty where none stands out.

    It takes two differences of which it is in more than half; a host that all entries have in common is none.
    """
    bad = [hosts_of(entry) for entry in entries if entry.condition.bad]
    everywhere, among = (
        Counter(host for entry in entries for host in hosts_of(entry)),
        Counter(host for hosts in bad for host in hosts),
    )
    told = [
        f"{host} is in {'all' if number == len(bad) else f'{number:,} of the'} {len(bad):,} that differ, "
        f"and in {everywhere[host] - number:,} of the {len(entries) - len(bad):,} others"
        for host, number in among.most_common()
        if number > 1 and 2 * number > len(bad) and everywhere[host] < len(entries)
    ]
    return told[0] if told else ""


def exit_code(entries: Iterable[Entry]) -> int:
    """Return 1 where anything differs or is torn, 3 where something cannot be told or did not end well, else 0."""
    found = {entry.condition for entry in entries}
    if any(condition.bad for condition in found):
        return DIFFERS
    return CANNOT_TELL if found & {Condition.FAILED, Condition.UNKNOWN, Condition.NOT_FINITE} else SAME


class FleetListing:
    """The entries of several directories: of runs directories all that they hold, of a race or run itself that one."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = tuple(directories)
        self._listings: dict[Path, Listing] = {}

    def read(self) -> tuple[Entry, ...]:
        """Return all entries, each once; one that cannot be read says why in `problem`.

        Raises:
            BadInputError: a directory cannot be read. A missing one is empty.
        """
        found: dict[Path, Entry] = {}
        for directory in self.directories:
            path = directory.absolute()
            if (path / "race.json").is_file() or (path / "run.json").is_file():
                entry = self._listing(path.parent).entry(path)
                found |= {path: entry} if entry else {}
            else:
                found |= {entry.path: entry for entry in self._listing(path).read()}
        return tuple(found.values())

    def _listing(self, directory: Path) -> Listing:
        return self._listings.setdefault(directory, Listing(directory))


def directories_of(names: Sequence[Path]) -> tuple[Path, ...]:
    """Return directories as they were given, each once.

    Raises:
        BadInputError: one does not exist, or is no directory.
    """
    for name in names:
        if not name.is_dir():
            raise BadInputError(f"{name} is no directory" if name.exists() else f"{name} does not exist")
    return tuple(dict.fromkeys(names))


def names_of(entries: Sequence[Entry]) -> dict[Path, str]:
    """Return what tells entries apart: their names, with their directories before them where they lie in several."""
    parents = {entry.path.parent for entry in entries}
    if len(parents) < 2:
        return {entry.path: entry.name for entry in entries}
    common = os.path.commonpath(parents)
    return {entry.path: os.path.relpath(entry.path, common) for entry in entries}


def to_json(entry: Entry) -> dict[str, Any]:
    """Return a line of the fleet for scripts."""
    outcome, losses = entry.outcome, [member.loss for member in entry.members]
    return {
        "name": entry.name, "path": str(entry.path), "experiment": entry.experiment, "state": entry.state,
        "condition": entry.condition, "hosts": list(hosts_of(entry)), "verdict": outcome.headline if outcome else None,
        "step": outcome.step if outcome else None, "steps": [member.step for member in entry.members],
        "rate": rate_of(entry), "loss": [value if value is None or math.isfinite(value) else str(value) for value in losses],
        "torn": [text for member in entry.members for text in member.torn] + list(outcome.torn if outcome else ()),
        "differs": [text for member in entry.members for text in member.differs], "problem": entry.trouble, "note": entry.note,
    }  # fmt: skip
