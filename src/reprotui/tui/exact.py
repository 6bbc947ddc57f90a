"""The exact difference of two runs at a step, by replaying both: runs in a thread, and says what it found as text."""

from collections.abc import Callable, Sequence
from threading import Event

from textual.content import Content

from reprotui.errors import ReprotuiError, UntrustedError
from reprotui.replay import ReplayedState, StateDifference, compare_states, replay_step
from reprotui.run_directory import RunDirectory
from reprotui.tui import elements
from reprotui.tui.leaves import Leaf
from reprotui.tui.reading import CancelledError
from reprotui.tui.symbols import Symbols, plain

MAP_ROWS, MAP_COLUMNS = 12, 48
"""Cells of the heat map: small enough to stand beside the figures at 80 columns."""


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
    states: list[ReplayedState] = []
    for label, run in pair:

        def progress(done: int, total: int, label: str = label) -> None:
            if cancel.is_set():
                raise CancelledError
            say(f"replaying {label}: step {done} of {total}")

        say(f"replaying {label}: starting")
        try:
            found = replay_step(run, step, progress, trusted=trusted)
        except CancelledError:
            return "cancelled"
        except UntrustedError as error:
            return error
        except ReprotuiError as error:
            return f"{label} cannot be replayed: {error}"
        if not isinstance(found, ReplayedState):
            reasons = "; ".join(found.reasons[:3]) or "nothing recorded explains it: the computation is not deterministic"
            return f"{label}: {found.headline} ({reasons})"
        states.append(found)
    try:
        return compare_states(states[0], states[1])
    except ReprotuiError as error:
        return str(error)


def describe(difference: StateDifference, leaf: Leaf, symbols: Symbols) -> list[Content]:
    """Return how a leaf differs, element by element: figures, where, and histograms."""
    found = next((delta for delta in difference.leaves if (delta.phase, delta.path) == (leaf.phase, leaf.path)), None)
    if found is None:
        return [Content.styled(plain(f"{symbols.equal} exact: equal to the bit", symbols), "bold $equal")]
    if found.elements is None:
        return [Content.styled(plain(f"{symbols.differs} exact: {found.kind}", symbols), "bold $differs")]
    lines = elements.figures(found.elements, symbols)
    try:
        lines += elements.heat(difference.heat_map(found.path, MAP_ROWS, MAP_COLUMNS), symbols)
    except ReprotuiError as error:
        lines.append(Content.styled(plain(str(error), symbols), "$differs"))
    lines += elements.histogram("units in the last place", found.elements.ulp_histogram, symbols)
    return lines + elements.histogram(f"log10 |{symbols.delta}|", found.elements.log_histogram, symbols)
