"""What Home says about a ready-made race or a lesson, and how to begin where there is nothing."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content

from reprotui.tui.actions import BY_ID, key_name, keys_of
from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.text import fit

if TYPE_CHECKING:
    from reprotui.lessons.catalog import Lesson
    from reprotui.race.presets import Preset

WHAT_IT_IS = (
    "Two trainings that should be the same are not: reprotui says when",
    "they first differ, where and why, or shows that every bit is equal.",
)
"""For a person who has never seen it, in lines that fit 80 columns; narrower terminals have room for the keys alone."""


def describe_preset(preset: Preset, runs: Path, symbols: Symbols) -> Content:
    """Return what a ready-made race does, and the command line that does the same."""
    lines = [
        Content.styled(preset.name, "bold"),
        Content(plain(preset.sentence, symbols)),
        Content(""),
        Content.styled(plain(f"$ {shlex.join(preset.command(runs))}", symbols), "$muted"),
    ]
    return Content("\n").join(lines)


def describe_lesson(lesson: Lesson, symbols: Symbols) -> Content:
    """Return what a lesson is about, what it asks, and the command line that does the same."""
    lines = [
        Content.styled(plain(lesson.title, symbols), "bold"),
        Content(plain(lesson.summary, symbols)),
        Content(plain(lesson.question, symbols)),
        Content.styled(f"$ reprotui learn {lesson.number}", "$muted"),
    ]
    return Content("\n").join(lines)


def invitation(runs: Path, problem: str, searched: str, symbols: Symbols, width: int) -> Content:
    """Return what stands in the middle of an empty list: how to begin, or why nothing is shown."""
    if searched:
        return Content.assemble(("nothing contains ", ""), (plain(searched, symbols), "bold"), ("\n\nesc shows all", "$muted"))
    if problem:
        return Content.assemble((plain(problem, symbols), "bold $unknown"), ("\n\nr looks again", "$muted"))
    ways = (
        ("home.first", "start the first race", "the same training twice, compared to the bit"),
        ("home.new", "set up a race", "experiment, configs, what differs"),
        ("home.lessons", "learn by breaking it", "fourteen lessons, each a race with a fault"),
        ("home.next_list", "ready-made races", "six ways to differ, and the sample runs"),
    )
    why = "No runs yet" if runs.is_dir() else "No runs yet: the directory is made when the first race starts"
    lines = [
        *(Content(line) for line in WHAT_IT_IS if len(line) + 4 <= width),
        Content(""),
        Content.styled(why, "bold"),
        Content.styled(fit(str(runs), min(len(str(runs)), max(20, width - 8)), symbols), "$muted"),
    ]
    for action, text, more in ways:
        key = key_name(keys_of(BY_ID[action], {})[0])
        told = f"   [$muted]{more}[/]" if width >= 76 else ""
        markup = f"[@click=screen.do('{action}')][bold on $panel] {key:^3} [/]  [bold]{text:<20}[/]{told}[/]"
        lines += [Content(""), Content.from_markup(markup)]
    return Content("\n").join(lines)
