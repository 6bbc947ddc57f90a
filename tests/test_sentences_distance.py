"""What is said of runs that are meant to differ a little, and of leaves: with its premises recorded, and with one taken away."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reprotui.compare as package
from reprotui.compare import compare_traces
from reprotui.compare.measure import ExactLeaf, measure
from reprotui.compare.tolerance import Limit, Tolerance
from reprotui.errors import CannotTellError
from reprotui.trace import Trace, TraceWriter
from test_compare import changed, former, history, to_record, without
from test_compare import write as write_history
from test_sentences import texts_in
from test_tolerance import apart

Said = Callable[[Path], str]
LOSSES = [1.0] * 4
FAR = [1.0, 1.0, 1.5, 1.0]
SAME = np.ones(8, np.float32)
OTHER = np.full(8, 2, np.float32)


def distance(
    a: list[Any] = LOSSES, b: list[Any] = LOSSES, *texts: str, norms: Any = ({}, {}), exact: Any = None, unfinished: str = ""
) -> Said:  # fmt: skip
    """Say all that is said of two runs with these losses, norms and replayed elements."""

    def said(place: Path) -> str:
        leaves = [ExactLeaf(2, "params", "params/w", *exact)] if exact else []
        of_a, of_b = {"losses": a, "norms": norms[0]}, {"losses": b, "norms": norms[1]}
        found = apart(place, of_a, of_b, *(texts or ("rel=1e-3",)), exact=leaves, unfinished=unfinished)
        return "\n".join([found.headline, *(f"{name} {text}" for name, text in found.lines)])

    return said


NORMS = {1: (2.0, 1.0), 3: (2.0, 1.0)}
WIDER = {1: (2.0, 1.0), 3: (2.5, 1.5)}
DISTANCES: dict[str, tuple[Said, Said]] = {
    "within rel=1e-3 through step 4": (distance(), distance(b=FAR)),
    "within rel=1e-3 through": (distance(), distance(unfinished="B was stopped")),
    "beyond rel=1e-3 first at step 3": (distance(b=FAR), distance()),
    "beyond step 3: forward/loss, 0.5 of A's size, 4,194,304 ulp (allowed: rel=1e-3)": (distance(b=FAR), distance(b=FAR[:2])),
    "within rel=1e-3: cannot tell": (distance([None], [None]), distance()),
    "cannot tell nothing was recorded that tells how far them are apart: record the loss": (distance([None], [None]), distance()),
    "how far params are apart: record the loss, norms with --stats-every 1, or replay a step of both": (
        distance(LOSSES, LOSSES, "params:rel=1"), distance(LOSSES, LOSSES, "params:rel=1", norms=(NORMS, NORMS)),
    ),
    "cannot tell B was stopped": (distance(unfinished="B was stopped"), distance(b=FAR, unfinished="B was stopped")),
    "apart forward/loss: at most 0.5 by step 3 of A's size": (distance(b=FAR), distance()),
    "params/w (norm)": (distance(norms=(NORMS, WIDER)), distance(norms=(NORMS, NORMS))),
    "params/w (largest number)": (
        distance(norms=(NORMS, {1: (2.0, 1.0), 3: (2.0, 1.5)})), distance(norms=(NORMS, {1: (2.0, 1.0), 3: (2.5, 1.0)})),
    ),
    "params/w (element), 1 of A's size": (distance(exact=(SAME, OTHER)), distance(exact=(SAME, SAME))),
    "rests on forward/loss at 4 steps": (distance(), distance([None], [None])),
    "norms and maxima of 1 leaves at 2 steps, through step 3: single elements may be further apart": (
        distance(norms=(NORMS, NORMS)), distance(norms=(NORMS, {})),
    ),
    "all elements at step 2, replayed": (distance(exact=(SAME, SAME)), distance()),
    "rests on nothing that was recorded": (distance([None], [None]), distance()),
}  # fmt: skip


@pytest.mark.parametrize("said", DISTANCES)
def test_a_distance_says_what_was_measured_and_no_more(said: str, tmp_path: Path) -> None:
    runs, twin = DISTANCES[said]
    for name, of, expected in (("runs", runs, True), ("twin", twin, False)):
        (tmp_path / name).mkdir()
        assert (said in of(tmp_path / name)) is expected


PLAIN = history(5)


def between(a: Any, b: Any) -> Said:
    """Say what is noted of the traces that two functions write, or why they cannot be compared."""

    def said(place: Path) -> str:
        with Trace(a(place / "a.db")) as first, Trace(b(place / "b.db")) as second:
            try:
                found = compare_traces(first, second)
            except CannotTellError as error:
                return str(error)
            return "\n".join([*found.notes, found.incomparable])

    return said


def written(steps: Any, leaves_every: int = 1) -> Any:
    return lambda path: write_history(path, steps, leaves_every)


def with_sql(statement: str) -> Any:
    """Return what writes the plain history and changes its trace afterwards."""

    def wrote(path: Path) -> Path:
        write_history(path, PLAIN)
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        return path

    return wrote


def lost_norms(place: Path) -> str:
    """Say why runs cannot be measured of which one holds norms that lost their form."""
    run = {"losses": LOSSES, "norms": NORMS}
    apart(place, run, run, "rel=1")
    with sqlite3.connect(place / "b.db") as connection:
        connection.execute("UPDATE leaf_stats SET blob = x'00'")
    connection.close()
    with Trace(place / "a.db") as a, Trace(place / "b.db") as b, pytest.raises(CannotTellError) as told:
        measure(a, b, Tolerance((Limit("rel=1", relative=1),)))
    return str(told.value)


def renamed(steps: Any) -> Any:
    return {step: {name.replace("params/", "params/x/"): value for name, value in row.items()} for step, row in steps.items()}


def edited_root(path: Path) -> Path:
    """Write a trace whose root of the parameters at step 3 is not that of its leaves."""
    writer = TraceWriter(path)
    for step, leaves in history(5).items():
        record = to_record(step, leaves, True)
        record = replace(record, roots=record.roots[:-8] + bytes(8)) if step == 3 else record
        writer.put(lambda record=record: record)
    writer.seal()
    return path


NOTES: dict[str, tuple[Said, Said]] = {
    "phase grads is recorded in one run only": (
        between(written(PLAIN), written(changed(without(PLAIN, "grads:grads/w", "grads:grads/b"), 3, "params:params/w"))),
        between(written(PLAIN), written(changed(without(PLAIN, "grads:grads/w"), 3, "params:params/w"))),
    ),
    "the roots of params differ at step 3, but no leaf checksum does: one of the traces was edited; see which with --verify": (
        between(written(PLAIN), edited_root), between(written(PLAIN), written(changed(PLAIN, 3, "params:params/w"))),
    ),
    "no roots differ, but the chains of the records do: one of the traces was edited; see which with --verify": (
        between(written(PLAIN), with_sql("UPDATE steps SET chain = zeroblob(length(chain)) WHERE step = 5")),
        between(written(PLAIN), edited_root),
    ),
    "they have no parameter leaf in common: these are different models": (
        between(written(PLAIN), written(renamed(PLAIN))), between(written(PLAIN), written(changed(PLAIN, 0, "init:params/w"))),
    ),
    "is damaged: norms and maxima lost their form": (lost_norms, distance(norms=(NORMS, NORMS))),
    "one of the traces is of a former reprotui, which computed roots otherwise, and leaf checksums of step 1 are not stored: "
    "whether the runs are equal there cannot be told": (
        between(lambda path: former(path, PLAIN, 50), written(PLAIN, 50)),
        between(lambda path: former(path, PLAIN), written(PLAIN)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("said", NOTES)
def test_what_is_noted_of_leaves_rests_on_the_records(said: str, tmp_path: Path) -> None:
    runs, twin = NOTES[said]
    for name, of, expected in (("runs", runs, True), ("twin", twin, False)):
        (tmp_path / name).mkdir()
        assert (said in of(tmp_path / name)) is expected


@pytest.mark.parametrize("name", ["distance", "measure", "differences"])
def test_every_text_of_distances_and_leaves_stands_in_a_table(name: str) -> None:
    said = "\n".join([*DISTANCES, *NOTES])
    texts = texts_in((Path(package.__file__).parent / f"{name}.py").read_text())
    assert not [
        text
        for text in texts
        if text not in said and not any(word in text for word in ("SELECT", "JOIN", "WHERE", "ORDER", "<>"))
    ]
