"""The exact difference of two runs at a step, by replaying both: for the dashboard and for reports."""

from collections.abc import Callable, Sequence

from reprotui.compare import RunView
from reprotui.errors import ReprotuiError, UntrustedError
from reprotui.replay.differences import StateDifference, compare_states
from reprotui.replay.replay import replay_step
from reprotui.replay.stored import ReplayedState
from reprotui.report.model import Exact
from reprotui.run_directory import RunDirectory


def replay_pair(
    pair: Sequence[tuple[str, RunDirectory]], step: int, say: Callable[[str], object], trusted: bool = False
) -> StateDifference | str:
    """Replay a step of both runs and compare the states; text where that is not possible, which may be a finding itself.

    Args:
        pair: (label, run) of A and of the other.
        step: the step.
        say: called with what is being done; what it raises ends the replay.
        trusted: a person said that what was not recorded here may be run.

    Raises:
        UntrustedError: it would run code of somebody else's, and is not `trusted`.
    """
    states: list[ReplayedState] = []
    for label, run in pair:

        def progress(done: int, total: int, label: str = label) -> None:
            say(f"replaying {label}: step {done} of {total}")

        say(f"replaying {label}: starting")
        try:
            found = replay_step(run, step, progress, trusted=trusted)
        except UntrustedError:
            raise
        except ReprotuiError as error:
            return f"{label} cannot be replayed: {error}"
        if not isinstance(found, ReplayedState):
            reasons = "; ".join(found.reasons[:3]) or "nothing recorded explains it: likely the computation is not deterministic"
            return f"{label}: {found.headline} ({reasons})"
        states.append(found)
    try:
        return compare_states(states[0], states[1])
    except ReprotuiError as error:
        return str(error)


def exact_difference(a: RunView, b: RunView, step: int, say: Callable[[str], object], trusted: bool = False) -> Exact:
    """Return the exact difference of two runs at a step, for a report; where there is none, why."""
    try:
        found = replay_pair([(a.label, a.run), (b.label, b.run)], step, say, trusted)
    except UntrustedError as error:
        return Exact(step, problem=str(error))
    return Exact(step, problem=found) if isinstance(found, str) else Exact(step, found.equal, found.leaves)
