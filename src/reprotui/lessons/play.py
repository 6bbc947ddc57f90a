"""Race a lesson's file against itself, planted or mended, and hold the verdict against what the lesson promises."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from reprotui.compare import Verdict
from reprotui.lessons.catalog import FILE, PYTHON, Lesson, LessonRace, matches
from reprotui.observation import Options
from reprotui.race.prepare import Request
from reprotui.race.scripts import Command, ScriptMember, parse_command, prepare_scripts
from reprotui.race.start import Started, labelled, start
from reprotui.race.versions import Version
from reprotui.run_directory import RunDirectory

_NUMERIC = ("XLA_", "JAX_", "NPROC", "OMP_", "MKL_", "OPENBLAS_", "PYTHONHASHSEED", "PYTHONPATH")
"""Variables that could change what a lesson shows: it is played without those of the person who plays."""
_NUMBER = re.compile(r"(?<![\w.\-#])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w-])")
_CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def lesson_environment() -> dict[str, str]:
    """Return the environment that lessons are played in: this one without what changes numbers, and on the CPU."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NUMERIC)}
    return {**kept, "JAX_PLATFORMS": "cpu"}


def prepare_lesson(lesson: Lesson, race: LessonRace, runs: Path) -> tuple[Path, list[RunDirectory]]:
    """Make the directory of a race of a lesson, in a runs directory; see `prepare_scripts`."""
    commands = {"a": _command(race.a), "b": _command(race.b)}
    members = [ScriptMember(label, command, Version(lesson.folder)) for label, command in commands.items()]
    words = ["reprotui", "race"]
    for label, text in (("a", race.a), ("b", race.b)):
        words += [f"--{label}", text.replace(FILE, str(lesson.path))]
    return prepare_scripts(Request(runs, None, words), members, Options(), f"lesson-{lesson.name}")


def start_lesson(lesson: Lesson, race: LessonRace, runs: Path) -> Started:
    """Start a race of a lesson; raises what `prepare_scripts` and `start` raise."""
    path, directories = prepare_lesson(lesson, race, runs)
    return Started(path, start(labelled(directories), lesson_environment()))


def broken_promises(lesson: Lesson, race: LessonRace, verdict: Verdict) -> list[str]:
    """Return how a verdict differs from what the lesson promises, a sentence each; nothing where it does not."""
    if not matches(verdict.headline, race.verdict):
        return [f"promised {race.verdict}, and it is {verdict.headline}"]
    said = "" if verdict.cause is None else f"{verdict.cause.sentence} {verdict.cause.advice}"
    cause = lesson.cause(race)
    return [f"promised the cause {cause!r}, and it is {said!r}"] if cause not in said else []


def unfounded_numbers(lesson: Lesson, outputs: Iterable[str]) -> list[str]:
    """Return the numbers in a lesson's text that nothing brings forth: its outputs, its verdicts, its file.

    Args:
        lesson: the lesson.
        outputs: what its runs printed.
    """
    sources = " ".join([*outputs, *(race.verdict for race in lesson.races), lesson.code])
    known = {number.lstrip("-") for number in _NUMBER.findall(sources)}
    told = _NUMBER.findall(_CODE_BLOCK.sub("", lesson.text))
    return [number for number in dict.fromkeys(told) if number.lstrip("-") not in known]


def printed_by(runs: Mapping[str, RunDirectory]) -> list[str]:
    """Return what the runs of a race printed."""
    return [run.log_path.read_text(encoding="utf-8", errors="replace") for run in runs.values()]


def _command(text: str) -> Command:
    command = parse_command(text)
    if command.words[0] != PYTHON:
        return command
    return Command((sys.executable, *command.words[1:]), command.variables)
