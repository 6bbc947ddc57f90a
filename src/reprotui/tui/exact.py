"""The exact difference of two runs at a step, by replaying both: runs in a thread, and says what it found as text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event

import numpy as np
from numpy.typing import NDArray
from textual.content import Content

from reprotui.errors import ReprotuiError, UntrustedError
from reprotui.integrity.bits import ElementPair, element_pair
from reprotui.integrity.elements import heat_map
from reprotui.integrity.leaves import LeafDifference
from reprotui.race import exact as race
from reprotui.replay.differences import StateDifference
from reprotui.run_directory import RunDirectory
from reprotui.tui import elements
from reprotui.tui.reading import CancelledError
from reprotui.tui.symbols import Symbols, plain

MAP_ROWS, MAP_COLUMNS = 12, 44
"""Cells of the heat map: small enough for the pane beside the leaves."""


def replay_pair(
    pair: Sequence[tuple[str, RunDirectory]],
    step: int,
    say: Callable[[str], object],
    cancel: Event,
    trusted: bool = False,
) -> StateDifference | UntrustedError | str:
    """Replay a step of both runs and compare the states; text where that is not possible, which may be a finding itself.

    Args:
        pair: (label, run) of A and of the other.
        step: the step.
        say: called with what is being done.
        cancel: set by a person who does not want to wait; the replay ends at its next step.
        trusted: a person said that what was not recorded here may be run; without that, the error that asks is returned.
    """

    def tell(text: str) -> None:
        if cancel.is_set():
            raise CancelledError
        say(text)

    try:
        return race.replay_pair(pair, step, tell, trusted)
    except CancelledError:
        return "cancelled"
    except UntrustedError as error:
        return error


@dataclass(frozen=True)
class LeafPicture:
    """What the elements of a leaf show beyond its figures.

    `pairs` are single elements with their bits, by which one it is; `grid` says where it differs (see `heat_map`), in a matrix
    of `rows` and `columns`; `problem` says why the elements cannot be read.
    """

    pairs: tuple[tuple[str, ElementPair], ...] = ()
    grid: NDArray[np.float64] | None = None
    rows: int = 0
    columns: int = 0
    problem: str = ""


def picture(difference: StateDifference, found: LeafDifference) -> LeafPicture:
    """Read both arrays of a leaf that differs element by element."""
    assert found.elements is not None
    try:
        a, b = difference.a.read(found.path), difference.b.read(found.path)
        first, largest = found.elements.first_index, found.elements.max_abs_index
        wanted = [("first", first)] + ([("largest", largest)] if largest != first else [])
        pairs = tuple((name, element_pair(a, b, index)) for name, index in wanted if index is not None)
        columns = a.shape[-1] if a.ndim else 1
        return LeafPicture(pairs, heat_map(a, b, MAP_ROWS, MAP_COLUMNS), a.size // max(1, columns), columns)
    except (ReprotuiError, ValueError) as error:
        return LeafPicture(problem=str(error))


def describe(found: LeafDifference | None, seen: LeafPicture | None, symbols: Symbols, width: int) -> list[list[Content]]:
    """Return how a leaf differs, in blocks of lines: figures and bits, where, and histograms.

    Args:
        found: what a replay found, None where the leaf is equal.
        seen: its elements, None while they are being read.
        symbols: the signs of this terminal.
        width: cells of a line.
    """
    if found is None:
        return [[Content.styled(plain(f"{symbols.equal} exact: equal to the bit", symbols), "bold $equal")]]
    if found.values is not None:
        return [[Content(plain(f"{label} {value}", symbols)) for label, value in zip("AB", found.values, strict=True)]]
    if found.elements is None:
        return [[Content.styled(plain(f"{symbols.differs} exact: {found.kind}", symbols), "bold $differs")]]
    numbers = elements.figures(found.elements, symbols)
    blocks = [numbers]
    if seen is None:
        numbers.append(Content.styled(plain("its elements are being read …", symbols), "$muted"))
    elif seen.problem:
        numbers.append(Content.styled(plain(seen.problem, symbols), "$differs"))
    else:
        for name, pair in seen.pairs:
            numbers += elements.bits(name, pair, symbols, width)
        if seen.grid is not None and seen.grid.size > 1:
            blocks.append(elements.heat(seen.grid, seen.rows, seen.columns, symbols))
    blocks.append(elements.histogram("units in the last place", found.elements.ulp_histogram, symbols))
    blocks.append(elements.histogram(f"log10 |{symbols.delta}|", found.elements.log_histogram, symbols))
    return [block for block in blocks if block]
