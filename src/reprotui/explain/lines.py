"""An explanation as lines of text, for the terminal, the dashboard and reports: (what it is, what is said)."""

import linecache

from reprotui.explain.align import Change, Pair, Ran
from reprotui.explain.answer import Explanation
from reprotui.explain.explain import NotExplained
from reprotui.explain.repeats import Repeated
from reprotui.explain.sources import Place
from reprotui.explain.words import describe, lines_of

KERNELS_SHOWN = 12
"""Kernels that are listed; the JSON form has them all."""
CHANGES_SHOWN, OTHERS_SHOWN, WAY_SHOWN = 3, 4, 6
LONGEST = 120
"""Characters of an instruction that are shown."""
AROUND = 2
"""Lines of source before and after the one that is meant."""

_READING = {"kernel": "taps", "operation": "read"}
_SAME = {"kernel": "the traced functions are the same", "operation": "both called the same operations with the same arguments"}

Lines = list[tuple[str, str]]


def of_explanation(found: Explanation) -> tuple[str, Lines]:
    """Return the headline, and everything below it."""
    known = [("known", " · ".join(found.figures)), ("why", found.why), ("compare says", found.cause)]
    lines = [*((name, text) for name, text in known if text), *_programs(found), *_origin(found)]
    lines += [(sign_of(pair), _placed(pair.a)) for pair in found.different[:KERNELS_SHOWN]]
    if len(found.different) > KERNELS_SHOWN:
        lines.append(("", f"and {len(found.different) - KERNELS_SHOWN} more"))
    return found.headline, [*lines, (_READING[found.noun], found.reading)]


def of_unfaithful(found: NotExplained) -> tuple[str, Lines]:
    """Return why nothing is explained, and what may be behind it."""
    return f"NOT FAITHFUL  {found.headline}", [
        *(("changed", reason) for reason in found.found.reasons),
        *([] if found.found.reasons else [("try", found.found.advice)]),
    ]


def of_repeats(found: Repeated) -> tuple[str, Lines]:
    """Return the headline, and everything below it."""
    lines = [("≠", f"{_placed(ran)}: {ran.distinct} outcomes") for ran in found.flaky[:KERNELS_SHOWN]]
    if found.beside is not None:
        lines += of_explanation(found.beside)[1][:-1]
    return found.headline, [*lines, (_READING[found.noun], found.reading)]


def sign_of(pair: Pair) -> str:
    """Return how a kernel compares: `=`, `≠`, `≠ began` where its inputs agree, `?` where it was not read."""
    if pair.equal is None:
        return "?"
    return "=" if pair.equal else "≠ began" if pair.inputs_equal else "≠"


def source_lines(place: Place | None) -> list[str]:
    """Return the lines around a place, as far as its file is still there; the line itself is marked."""
    if place is None:
        return []
    numbers = range(max(1, place.line - AROUND), place.line + AROUND + 1)
    found = [(number, linecache.getline(place.file, number).rstrip("\n").expandtabs(4)) for number in numbers]
    return [f"{'>' if number == place.line else ' '} {number:>4} {text}" for number, text in found if text]


def _programs(found: Explanation) -> Lines:
    """Say where the traced programs are not the same."""
    if found.noun == "operation" and found.inputs_differ:
        return []
    if found.same_programs:
        return [("programs", _SAME[found.noun])]
    lines: Lines = []
    for change in found.told_changes[:CHANGES_SHOWN]:
        lines += [("programs", f"not the same at {change.place or 'an unknown line'}"), *_sides(found, change, "")]
    more = len(found.told_changes) - CHANGES_SHOWN
    return [*lines, ("", f"and at {more} more places")] if more > 0 else lines


def _origin(found: Explanation) -> Lines:
    """Say where the first different kernel came from, and which way the difference took to a leaf."""
    first, place = found.first, found.place
    if first is None and found.noun == "kernel":
        return []
    lines = _sides(found, first.changed, "kernel ") if first and first.changed and found.noun == "kernel" else []
    lines += [("source", text) for text in source_lines(place)]
    if place is not None and place.through:
        lines.append(("through", place.through))
    if first is None:
        return lines
    others = [str(other) for other in lines_of(first.a) if other != place]
    if found.likely and others:
        lines.append(("or at", ", ".join(others[:OTHERS_SHOWN])))
    way = [pair.a.kernel.name for pair in found.path]
    if len(way) > WAY_SHOWN:
        way = [*way[: WAY_SHOWN // 2], f"{len(way) - WAY_SHOWN} more", *way[-WAY_SHOWN // 2 :]]
    return [*lines, ("way", " → ".join([*way, *([found.leaf] if found.leaf else [])]))]


def _sides(found: Explanation, change: Change, what: str) -> Lines:
    """Return what stands in A and in B, from a little before the first character that is not the same."""
    same = next((at for at, (x, y) in enumerate(zip(change.a, change.b, strict=False)) if x != y), 0)
    start = max(0, same - LONGEST // 2)
    texts = [f"{'…' if start and text else ''}{text[start : start + LONGEST]}" or "nothing" for text in (change.a, change.b)]
    return [(f"{what}{label}", text) for label, text in zip(found.labels, texts, strict=True)]


def _placed(ran: Ran) -> str:
    return f"{describe(ran)} at {ran.kernel.place or 'an unknown line'}"
