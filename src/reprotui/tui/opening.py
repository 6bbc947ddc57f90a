"""The screens that the dashboard opens with where it is given no runs: Home, and what is opened on it."""

from collections.abc import Sequence
from pathlib import Path

from reprotui.tui.screens.base import ActionScreen


def home(runs: Path) -> list[ActionScreen]:
    """Return Home with the runs directory in front."""
    from reprotui.tui.screens.home import HomeScreen

    return [HomeScreen(runs)]


def lessons(runs: Path, name: str) -> list[ActionScreen]:
    """Return Home with the lessons in front, and the lesson of this name where there is one."""
    from reprotui.lessons.catalog import find_lesson
    from reprotui.tui.screens.home import LESSONS, HomeScreen
    from reprotui.tui.screens.lesson import LessonScreen

    return [HomeScreen(runs, LESSONS), *([LessonScreen(runs, find_lesson(name))] if name else [])]


def fleet(runs: Path, directories: Sequence[Path], group: str, text: str) -> list[ActionScreen]:
    """Return Home with the fleet of these directories on it; see `FleetScreen`."""
    from reprotui.tui.screens.fleet import FleetScreen
    from reprotui.tui.screens.home import HomeScreen

    return [HomeScreen(runs), FleetScreen(directories, group, text)]
