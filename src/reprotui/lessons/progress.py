"""How far somebody is with the lessons, as a value that the command line and the dashboard remember."""

from collections.abc import Mapping
from typing import Any

from reprotui.lessons.catalog import Lesson, LessonRace

KEY = "lessons"
"""Under which it is remembered."""
SEEN, RIGHT, WRONG = "seen", "right", "wrong"
"""A race was run to its promised verdict: without a prediction, or with one."""

Kept = Mapping[str, Mapping[str, str]]
"""Races that were run, by lesson, each with what came of the prediction."""


def read_progress(remembered: Mapping[str, Any]) -> Kept:
    """Return what is remembered of the lessons; what lost its form is nothing."""
    kept = remembered.get(KEY)
    if not isinstance(kept, Mapping):
        return {}
    return {name: races for name, races in kept.items() if isinstance(races, Mapping)}


def with_race(kept: Kept, lesson: Lesson, race: LessonRace, right: bool | None) -> Kept:
    """Return the progress after a race; a prediction that was right stays so.

    Args:
        kept: the progress before.
        lesson, race: what was run to its promised verdict.
        right: whether the prediction was right, None where there was none.
    """
    before = kept.get(lesson.name, {})
    result = SEEN if right is None else RIGHT if right else WRONG
    if before.get(race.name) == RIGHT or (right is None and race.name in before):
        return kept
    return {**kept, lesson.name: {**before, race.name: result}}


def done(kept: Kept, lesson: Lesson) -> int:
    """Return how many races of a lesson were run."""
    return sum(race.name in kept.get(lesson.name, {}) for race in lesson.races)


def predicted(kept: Kept, lesson: Lesson) -> int:
    """Return how many verdicts of a lesson were predicted right."""
    return sum(kept.get(lesson.name, {}).get(race.name) == RIGHT for race in lesson.races)
