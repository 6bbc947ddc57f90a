"""What lessons there are: their texts, their files, and what each of their races promises."""

import functools
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reprotui.errors import BadInputError

CLEAN = "clean"
"""The race of every lesson in which nothing is planted."""
FILE = "lesson.py"
PYTHON = "python"
"""The word that commands of lessons begin with; they are run by the Python that runs this."""


@dataclass(frozen=True)
class LessonRace:
    """Two runs of a lesson's file, and what the comparison of them promises.

    Attributes:
        name: `clean`, or what the fault is called.
        a, b: the command lines, as they are typed in the lesson's folder.
        verdict: the verdict's headline as far as it tells kind, step and phase.
        line: the line of the file in which the fault lies; empty where nothing is planted.
        cause: what the verdict says of the cause, with `{line}` for that line's place; empty where nothing is planted.
        about: what the fault is, in a sentence; empty where the lesson's text is about nothing else.
    """

    name: str
    verdict: str
    a: str = f"{PYTHON} {FILE}"
    b: str = f"{PYTHON} {FILE}"
    line: str = ""
    cause: str = ""
    about: str = ""


@dataclass(frozen=True)
class Lesson:
    """A lesson: where it lies, what it is called, what it asks, and its races, the clean one first."""

    folder: Path
    title: str
    summary: str
    question: str
    choices: tuple[str, ...]
    races: tuple[LessonRace, ...]

    @property
    def name(self) -> str:
        """Return its name, such as `05-data`."""
        return self.folder.name

    @property
    def number(self) -> int:
        return int(self.name.partition("-")[0])

    @property
    def path(self) -> Path:
        """Return the file that runs."""
        return self.folder / FILE

    @property
    def text(self) -> str:
        """Return the text, as Markdown."""
        return (self.folder / "text.md").read_text(encoding="utf-8")

    @property
    def code(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def faults(self) -> tuple[LessonRace, ...]:
        """Return the races in which something is planted."""
        return tuple(race for race in self.races if race.name != CLEAN)

    def line_number(self, race: LessonRace) -> int | None:
        """Return which line of the file a fault lies in, None where nothing is planted."""
        if not race.line:
            return None
        return next(number for number, line in enumerate(self.code.splitlines(), 1) if race.line in line)

    def cause(self, race: LessonRace) -> str:
        """Return what the verdict of a race says of its cause, with the line's place in it."""
        return race.cause.replace("{line}", f"{FILE}:{self.line_number(race)}")

    def race(self, name: str) -> LessonRace:
        """Return a race by its name.

        Raises:
            BadInputError: there is none of that name.
        """
        for race in self.races:
            if race.name == name:
                return race
        raise BadInputError(f"lesson {self.name} has no race {name!r}: there are {', '.join(race.name for race in self.races)}")


@functools.cache
def all_lessons() -> tuple[Lesson, ...]:
    """Return all lessons, from the first to the last."""
    return tuple(_read(path.parent) for path in sorted(Path(__file__).parent.glob("*-*/lesson.toml")))


def find_lesson(name: str) -> Lesson:
    """Return the lesson that a number or a name means: `5`, `05`, `data` and `05-data` are the same.

    Raises:
        BadInputError: there is none.
    """
    for lesson in all_lessons():
        if (
            name == lesson.name
            or name == lesson.name.partition("-")[2]
            or (name.isascii() and name.isdigit() and int(name) == lesson.number)
        ):
            return lesson
    raise BadInputError(f"there is no lesson {name!r}: reprotui learn lists all, 1 to {len(all_lessons())}")


def matches(headline: str, told: str) -> bool:
    """Say whether a verdict's headline is the one that was told; how many leaves differ is not part of that."""
    return headline == told or headline.startswith(f"{told} · ")


def _read(folder: Path) -> Lesson:
    told = tomllib.loads((folder / "lesson.toml").read_text(encoding="utf-8"))
    races: Sequence[dict[str, str]] = told["races"]
    return Lesson(
        folder,
        told["title"],
        told["summary"],
        told["question"],
        tuple(told["choices"]),
        tuple(LessonRace(**race) for race in races),
    )
