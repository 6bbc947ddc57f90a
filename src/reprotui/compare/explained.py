"""What explaining a step of two runs said, as their race keeps it for reports."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reprotui.document import UnfitError, entries
from reprotui.errors import BadInputError
from reprotui.run_directory import read_json, write_json

FILE = "explanations.json"
"""In the directory of the race: the last explanation of each pair of its runs."""
SOURCE = "source"
"""What lines of source are said to be about."""


@dataclass(frozen=True)
class Said:
    """A line of an explanation: what it is about, and what is said."""

    about: str
    text: str


@dataclass(frozen=True)
class Explained:
    """A step of two runs, explained.

    Attributes:
        a, b: the directories of the runs in their race.
        step: the step.
        exit_code: that of the command, see `reprotui.errors`.
        headline, lines: what was said, the source around the line among it.
    """

    a: str
    b: str
    step: int
    exit_code: int
    headline: str
    lines: tuple[Said, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


class Kept(NamedTuple):
    """Where an explanation was kept: `path` is None where it was not, `problem` then says why; empty for runs of no one race."""

    path: Path | None = None
    problem: str = ""


def race_of(runs: Sequence[Path]) -> Path | None:
    """Return the race whose members these run directories are, None where they are not of one race."""
    parents = {run.absolute().parent for run in runs}
    race = parents.pop()
    return race if not parents and (race / "race.json").is_file() else None


def keep_explained(runs: tuple[Path, Path], step: int, exit_code: int, headline: str, lines: Sequence[tuple[str, str]]) -> Kept:
    """Keep what was said of two runs with their race, in place of what was said of them before."""
    race = race_of(runs)
    if race is None:
        return Kept()
    found = Explained(*(run.name for run in runs), step, exit_code, headline, tuple(Said(*line) for line in lines))
    try:
        others = [one for one in read_explained(race) if {one.a, one.b} != {found.a, found.b}]
        write_json(race / FILE, {"explanations": [one.to_json() for one in (*others, found)]})
    except BadInputError as error:
        return Kept(None, str(error))
    except OSError as error:
        return Kept(None, f"{race / FILE} cannot be written: {error.strerror}")
    return Kept(race / FILE)


def read_explained(race: Path) -> tuple[Explained, ...]:
    """Return what a race keeps of explanations, one a pair of runs.

    Raises:
        BadInputError: the file is damaged.
    """
    path = race / FILE
    if not path.exists():
        return ()
    found = read_json(path).get("explanations")
    try:
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise UnfitError("'explanations' is no list of objects")
        return tuple(entries(Explained, one, f"explanations[{number}].") for number, one in enumerate(found))
    except UnfitError as error:
        raise BadInputError(f"{path} is damaged: {error}; delete it to explain anew") from None
