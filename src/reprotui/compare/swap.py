"""Two programs on two halves of the hosts, and then with the hosts exchanged: what a difference follows.

C is A's program on the hosts of B, D is B's on those of A; `race.json` says so. Only what was recorded counts: four runs that
came to their end, on the hosts that they were meant for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from reprotui.compare.ranks import compare_runs
from reprotui.compare.runs import RunView
from reprotui.errors import ReprotuiError
from reprotui.manifest import RunState
from reprotui.ranks import hosts_of
from reprotui.run_directory import read_json

SWAP = "swap"
"""The entry of race.json: which run's program C and D train again."""
IN_TURN = "in_turn"
"""The entry of race.json that says that its runs train one after the other, on the same hosts."""
MEANT = {"c": "a", "d": "b"}
_PAIRS = (("A", "B"), ("A", "C"), ("A", "D"), ("B", "C"), ("B", "D"), ("C", "D"))
_SAME_PROGRAM = (("A", "C"), ("B", "D"))

Kind = Literal["program", "hosts", "neither", "identical", "unknown"]


class Swap(NamedTuple):
    """What a difference follows, as one word for machines and as a sentence."""

    kind: Kind
    said: str


def is_swap(race: Mapping[str, object]) -> bool:
    """Say whether what `race.json` holds is a race with exchanged hosts."""
    return race.get(SWAP) == MEANT and race.get("members") == ["a", "b", "c", "d"]


def swap_of(views: Sequence[RunView]) -> Swap | None:
    """Return what the difference of such a race follows; None where the runs are no such race, or not all of it, or go on."""
    races = {view.run.path.resolve().parent for view in views}
    if len(views) != 4 or len(races) != 1 or not _told(races.pop()) or any(view.state.alive for view in views):
        return None
    named = {view.run.path.name.upper(): view for view in views}
    if set(named) != {"A", "B", "C", "D"}:
        return None
    if ended := [f"{label} {view.state}" for label, view in named.items() if view.state is not RunState.FINISHED]:
        return _unknown(f"{', '.join(ended)}: all four must come to their end")
    hosts = {label: hosts_of(view.run, view.manifest) for label, view in named.items()}
    if not all(hosts.values()) or hosts["A"] != hosts["D"] or hosts["B"] != hosts["C"] or set(hosts["A"]) & set(hosts["B"]):
        where = ", ".join(f"{label} on {' '.join(found) or 'an unknown host'}" for label, found in hosts.items())
        return _unknown(f"the hosts were not exchanged ({where})")
    equal = set[tuple[str, str]]()
    for pair in _PAIRS:
        verdict = compare_runs(named[pair[0]], named[pair[1]])
        # Other programs may have other leaves: that is a difference too.
        if verdict.kind == "incomplete" or (verdict.kind == "incomparable" and pair in _SAME_PROGRAM):
            return _unknown(f"{pair[0]} and {pair[1]}: {verdict.reason}")
        if verdict.kind == "identical":
            equal.add(pair)
    return judge(equal, {label: " ".join(found) for label, found in hosts.items()})


def judge(equal: set[tuple[str, str]], hosts: Mapping[str, str]) -> Swap:
    """Say what a difference follows, of four runs that came to their end.

    Args:
        equal: which pairs are identical.
        hosts: of A to D.
    """
    if len(equal) == len(_PAIRS):
        return Swap("identical", "all four identical: neither program nor hosts make a difference")
    if equal == {("A", "C"), ("B", "D")}:
        return Swap("program", "what differs follows the program: A = C, B = D")
    if equal == {("A", "D"), ("B", "C")}:
        return Swap("hosts", f"what differs follows the hosts: A = D on {hosts['A']}, B = C on {hosts['B']}")
    signs = ", ".join(f"{a} {'=' if (a, b) in equal else '≠'} {b}" for a, b in _PAIRS)
    return Swap("neither", f"what differs follows neither program nor hosts alone: {signs}")


def _unknown(why: str) -> Swap:
    return Swap("unknown", f"cannot tell whether it follows the program or the hosts: {why}")


def _told(race: Path) -> bool:
    try:
        return is_swap(read_json(race / "race.json"))
    except ReprotuiError:
        return False
