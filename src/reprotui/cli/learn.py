"""`reprotui learn`: the lessons, in the dashboard or printed; `--check` holds them to what they promise."""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprotui.cli import common
from reprotui.errors import DIFFERS, INTERRUPTED, SAME, BadInputError

if TYPE_CHECKING:
    from reprotui.compare import Verdict
    from reprotui.lessons.catalog import Lesson, LessonRace

FIRST = "first"
"""Stands for the first of a lesson's faults where `--fault` names none."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "learn",
        "learn reproducibility by breaking it: lessons that are raced",
        """reprotui learn                               (the lessons in the dashboard; printed where there is no terminal)
        reprotui learn 1                             (one lesson: text, code, a question, a race)
        reprotui learn data --headless --fault       (print it, race it with its fault planted)
        reprotui learn pitfalls --headless --fault clock --predict 2
        reprotui learn --check                       (every lesson, clean and faulty, against what it promises)""",
        description="Learn reproducibility by breaking it: each lesson is a text, a file that you can copy and change, and a "
        "race. Exit code: that of the verdict; with --check, 0 where all is as promised and 1 where something is not.",
    )
    parser.add_argument("lesson", nargs="?", metavar="NAME", help="a lesson, by its number or name")
    parser.add_argument("--check", action="store_true", help="race it clean and faulty, and hold it to what it promises")
    parser.add_argument("--fault", nargs="?", const=FIRST, metavar="NAME", help="plant the fault, or the one of that name")
    parser.add_argument("--predict", type=common.positive, metavar="N", help="your prediction: the number of a choice")
    parser.add_argument("--headless", action="store_true", help="print; never open the dashboard, which opens on a terminal")
    common.add_symbols(parser)
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Open the lessons, print one and race it, or check them."""
    from reprotui.lessons.catalog import all_lessons, find_lesson

    lesson = find_lesson(parsed.lesson) if parsed.lesson is not None else None
    if parsed.check:
        if parsed.fault is not None or parsed.predict is not None:
            raise BadInputError("--check races all there is: it takes neither --fault nor --predict")
        return _check([lesson] if lesson else all_lessons(), parsed.json)
    if lesson is None and (parsed.fault is not None or parsed.predict is not None):
        raise BadInputError(
            f"{'--fault' if parsed.fault is not None else '--predict'} needs a lesson, as in reprotui learn 1 --fault"
        )
    headless = parsed.headless or parsed.json or parsed.fault is not None or parsed.predict is not None
    if not headless and sys.stdin.isatty() and sys.stdout.isatty():
        return _dashboard(parsed, lesson)
    return _list(parsed.json) if lesson is None else _play(lesson, parsed)


def _dashboard(parsed: argparse.Namespace, lesson: "Lesson | None") -> int:
    common.need_terminal("--headless")
    from reprotui.tui.app import run_dashboard
    from reprotui.tui.opening import lessons

    runs = common.runs_directory(parsed)
    return run_dashboard(runs, symbols=parsed.symbols, opening=partial(lessons, runs, lesson.name if lesson else ""))


def _list(as_json: bool) -> int:
    from reprotui.lessons.catalog import all_lessons
    from reprotui.lessons.progress import done, predicted, read_progress
    from reprotui.settings import remembered

    kept = read_progress(remembered())
    if as_json:
        lessons = [
            {
                "name": lesson.name, "title": lesson.title, "summary": lesson.summary, "path": str(lesson.path),
                "races": [race.name for race in lesson.races], "raced": dict(kept.get(lesson.name, {})),
            }
            for lesson in all_lessons()
        ]  # fmt: skip
        common.print_json({"exit_code": SAME, "lessons": lessons})
        return SAME
    for lesson in all_lessons():
        total, raced, right = len(lesson.races), done(kept, lesson), predicted(kept, lesson)
        mark = common.symbol("●", "*") if raced == total else " "
        far = f"raced {raced} of {total}" + (f", predicted {right}" if right else "") if raced else ""
        common.say(f"{mark} {lesson.number:>2}  {lesson.title:<44}  {far}".rstrip())
    common.say("", "reprotui learn 1 --headless   prints the first and races it; add --fault to break it")
    return SAME


def _play(lesson: "Lesson", parsed: argparse.Namespace) -> int:
    """Print a lesson, race it, and say what came of the prediction."""
    from reprotui.cli.show import print_verdict
    from reprotui.lessons.catalog import CLEAN, matches
    from reprotui.lessons.play import broken_promises, prepare_lesson
    from reprotui.lessons.progress import KEY, read_progress, with_race
    from reprotui.settings import remember, remembered

    name = CLEAN if parsed.fault is None else lesson.faults[0].name if parsed.fault == FIRST else parsed.fault
    race, chosen = lesson.race(name), None
    if parsed.predict is not None:
        if parsed.predict > len(lesson.choices):
            raise BadInputError(f"--predict {parsed.predict}: lesson {lesson.name} has choices 1 to {len(lesson.choices)}")
        chosen = lesson.choices[parsed.predict - 1]
    if not parsed.json:
        _print_lesson(lesson, race)
    path, directories = prepare_lesson(lesson, race, common.runs_directory(parsed))
    verdict, interrupted, _ = _race(path, directories)
    problems = broken_promises(lesson, race, verdict)
    right = None if chosen is None else matches(verdict.headline, chosen)
    if not problems:
        remember(KEY, with_race(read_progress(remembered()), lesson, race, right))
    code = INTERRUPTED if interrupted else verdict.exit_code
    if parsed.json:
        common.print_json(
            {
                "exit_code": code,
                "lesson": lesson.name,
                "race": race.name,
                "promised": race.verdict,
                "problems": problems,
                "predicted": chosen,
                "right": right,
                "verdict": verdict.to_json(),
                "path": str(path),
            }
        )
        return code
    print_verdict(common.console(), verdict)
    if chosen is not None:
        common.say(f"  you predicted {chosen}: {'right' if right else 'wrong'}")
    common.say(*(f"  not as the lesson says: {problem}" for problem in problems))
    common.say(f"  see it: reprotui open {common.short(path)}")
    return code


def _print_lesson(lesson: "Lesson", race: "LessonRace") -> None:
    common.say(*lesson.text.rstrip().splitlines(), "", f"{lesson.path}:", "")
    for number, line in enumerate(lesson.code.splitlines(), 1):
        common.say(f"{number:>3}  {line}".rstrip())
    common.say("", lesson.question)
    common.say(*(f"  {number}  {choice}" for number, choice in enumerate(lesson.choices, 1)), "")
    if race.line:
        common.say(f"planted: {race.name}, in line {lesson.line_number(race)}" + (f". {race.about}" if race.about else ""))
    common.say(f"A  {race.a}", f"B  {race.b}", "")


def _race(path: Path, directories: Sequence[Any]) -> tuple["Verdict", bool, list[str]]:
    """Run a prepared race to its end; return its verdict, whether it was interrupted, and what its runs printed."""
    from reprotui.cli.progress import watch_race
    from reprotui.compare import RunView, compare_runs
    from reprotui.lessons.play import lesson_environment, printed_by
    from reprotui.race.start import labelled

    runs = labelled(directories)
    interrupted = watch_race(runs, path, None, lesson_environment())
    a, b = [RunView(label, run, manifest := run.manifest(), run.state(manifest)) for label, run in runs]
    return compare_runs(a, b), interrupted, printed_by(dict(runs))


def _check(lessons: Iterable["Lesson"], as_json: bool) -> int:
    """Race lessons clean and faulty; return 0 where each is what it promises."""
    began, checks = time.monotonic(), []
    for check in _checks(lessons):
        checks.append(check)
        if check["interrupted"]:
            return INTERRUPTED
        if not as_json:
            _print_check(check)
    failed, seconds = sum(bool(check["problems"]) for check in checks), round(time.monotonic() - began)
    code = DIFFERS if failed else SAME
    if as_json:
        common.print_json({"exit_code": code, "seconds": seconds, "checks": checks})
    else:
        played = (
            f"{len({check['lesson'] for check in checks})} lessons, {sum(check['race'] is not None for check in checks)} races"
        )
        common.say(f"{played}, {seconds} s: " + (f"{failed} not as promised" if failed else "all as promised"))
    return code


def _checks(lessons: Iterable["Lesson"]) -> Iterator[dict[str, Any]]:
    """Yield what came of every race of the lessons, and of a text that tells what no run brings forth."""
    from reprotui.lessons.play import broken_promises, prepare_lesson, unfounded_numbers

    with tempfile.TemporaryDirectory(prefix="reprotui-learn-") as folder:
        for lesson in lessons:
            outputs: list[str] = []
            for race in lesson.races:
                verdict, interrupted, printed = _race(*prepare_lesson(lesson, race, Path(folder)))
                outputs += printed
                problems = broken_promises(lesson, race, verdict)
                if problems:
                    problems += [line for text in printed for line in text.splitlines()[-3:]]
                yield {
                    "lesson": lesson.name, "race": race.name, "promised": race.verdict, "verdict": verdict.headline,
                    "problems": problems, "interrupted": interrupted,
                }  # fmt: skip
            if unfounded := unfounded_numbers(lesson, outputs):
                problem = f"its text has numbers that nothing brings forth: {', '.join(unfounded)}"
                empty = {"race": None, "promised": None, "verdict": None, "interrupted": False}
                yield {"lesson": lesson.name, "problems": [problem], **empty}


def _print_check(check: dict[str, Any]) -> None:
    sign = common.symbol("✗", "x") if check["problems"] else common.symbol("✓", "ok")
    common.say(f"{sign} {check['lesson']:<26} {check['race'] or 'text':<20} {check['verdict'] or ''}".rstrip())
    common.say(*(f"    {problem}" for problem in check["problems"]))
    sys.stdout.flush()
