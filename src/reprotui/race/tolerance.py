"""Compare runs that are meant to differ a little: with the tolerance that was given, or the one that a race was started with."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from reprotui.compare import RunView, Verdict, compare_runs
from reprotui.compare.measure import ExactLeaf
from reprotui.compare.runs import Allowed
from reprotui.compare.tolerance import Tolerance, parse_tolerance
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.run_directory import RunDirectory, read_json, write_json

RACE = "race.json"


def remember(race: Path, texts: Sequence[str] | None, at_divergence: str | None = None) -> None:
    """Let a race that was just prepared know its tolerance, so that whoever opens it later asks the same question.

    What its runs were to do at the first difference (`stop`, `pause`) stands there too: whoever opens it later sees it.
    """
    told = {"tolerance": list(texts or ()), "at_divergence": at_divergence}
    if any(told.values()):
        write_json(race / RACE, {**read_json(race / RACE), **{name: value for name, value in told.items() if value}})


def tolerance_of(paths: Sequence[Path], given: Sequence[str] | None = None) -> Tolerance | None:
    """Return the tolerance that was given, else that of the race that is looked at; None where runs are held to be equal.

    Raises:
        BadInputError: it is none.
    """
    if given:
        return parse_tolerance(given)
    races = {path for path in paths if (path / RACE).is_file()} or {path.parent for path in paths}
    if len(races) != 1 or not (file := races.pop() / RACE).is_file():
        return None
    kept = read_json(file).get("tolerance")
    if kept is None:
        return None
    if not isinstance(kept, list) or not all(isinstance(text, str) for text in kept):
        raise BadInputError(f"{file}: tolerance is no list of texts")
    return parse_tolerance(kept)


def compare_within(a: RunView, b: RunView, tolerance: Tolerance | None, verify: bool = False) -> Verdict:
    """Compare run B with the reference A, exactly, and with a tolerance where there is one."""
    return compare_runs(a, b, verify, Allowed(tolerance, kept_leaves(a.run, b.run)) if tolerance else None)


def kept_leaves(a: RunDirectory, b: RunDirectory) -> Iterator[ExactLeaf]:
    """Yield the leaves of steps that were replayed in both runs, where these have the same shape; a damaged one is left out."""
    from reprotui.replay.stored import DIRECTORY, cached_states, open_state  # with it comes pydantic, 0.15 s

    for step in sorted(set(cached_states(a)) & set(cached_states(b))):
        of_a, of_b = (open_state(run, run.path / DIRECTORY / f"step-{step}") for run in (a, b))
        if of_a is None or of_b is None:
            continue
        shapes = {(leaf.phase, leaf.spec.path): leaf.spec.shape for leaf in of_b.leaves}
        for leaf in of_a.leaves:
            if shapes.get((leaf.phase, leaf.spec.path)) != leaf.spec.shape or leaf.spec.dtype.startswith("key<"):
                continue
            try:
                yield ExactLeaf(step, leaf.phase, leaf.spec.path, of_a.read(leaf.spec.path), of_b.read(leaf.spec.path))
            except ReprotuiError:
                continue
