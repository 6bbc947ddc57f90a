"""`reprotui resume-check` for scripts: which runs its arguments ask for, and what is said in the end."""

import argparse
import shutil
from typing import Any

from reprotui.cli import common
from reprotui.errors import BadInputError

_NAMES = ("full", "first", "then", "interrupt_at", "signal", "times", "offset", "step_function", "loss", "inside")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what concerns scripts only."""
    group = parser.add_argument_group("your own scripts", "three commands, or one command behind -- that is interrupted")
    group.add_argument("--full", metavar="COMMAND", help='the uninterrupted run: "python train.py --steps 100"')
    group.add_argument("--first", metavar="COMMAND", help="the first part, which saves a checkpoint")
    group.add_argument("--then", metavar="COMMAND", action="append", help="what goes on from it; may be given several times")
    group.add_argument(
        "--interrupt-at", type=common.positive, metavar="N",
        help="stop the command behind -- after step N and start it again; write {dir} where it names the folder for its files",
    )  # fmt: skip
    group.add_argument("--signal", choices=_signals(), help="what stops it: TERM as schedulers do (default), KILL for a crash …")
    group.add_argument(
        "--times", type=common.positive, metavar="N", help="how often it is stopped, each time after so many steps"
    )
    group.add_argument(
        "--offset", type=common.positive, metavar="STEP", help="the last part goes on after this step, where that is not found"
    )
    group.add_argument("--step-function", metavar="NAME", help="the train step, where another function would be taken for it")
    group.add_argument("--loss", metavar="NAME", help="the scalar output that is the loss, where another would be taken for it")
    group.add_argument("--inside", action="store_true", help="record each iteration of a jax loop that runs inside one call")


def asks_for_scripts(parsed: argparse.Namespace) -> bool:
    """Say whether a command line is about a script; raise where it mixes that with an experiment."""
    behind = _behind(parsed)
    given = [name for name in _NAMES if getattr(parsed, name) not in (None, False)]
    if not given and not behind:
        return False
    for name in ("at", "controls"):
        if getattr(parsed, name) is not None:
            raise BadInputError(f"--{name} is for experiments; a script is interrupted with --interrupt-at N -- python train.py")
    before = parsed.experiment[: len(parsed.experiment) - len(behind)]
    if before:
        raise BadInputError(f"{before[0]!r} stands before a script's command: a script takes its settings from its own arguments")
    return True


def call(parsed: argparse.Namespace) -> int:
    """Run the check; the runs stay, whatever the verdict."""
    from reprotui.errors import ReprotuiError
    from reprotui.observation import Options
    from reprotui.race.prepare import Request
    from reprotui.race.resume_scripts import check, prepare_check

    question = _question(parsed)
    options = Options(parsed.step_function, parsed.loss, inside=parsed.inside)
    request = Request(common.runs_directory(parsed), parsed.name, parsed.command_line)
    path = prepare_check(request, question, options)
    common.say(f"checking in {common.short(path)}", stderr=True)
    try:
        found = check(path, question.offset, lambda text: common.say(f"  running {text}", stderr=True))
    except KeyboardInterrupt:
        shutil.rmtree(path, ignore_errors=True)
        raise
    except ReprotuiError:
        common.say(f"  the runs are in {common.short(path)}", stderr=True)
        raise
    if parsed.json:
        common.print_json(found.to_json())
    else:
        _print(found)
    return found.exit_code


def _question(parsed: argparse.Namespace) -> Any:
    from reprotui.race.resume_scripts import Question
    from reprotui.race.scripts import parse_command

    behind = _behind(parsed)
    named = [f"--{name}" for name in ("full", "first", "then") if getattr(parsed, name) is not None]
    if behind:
        if named:
            raise BadInputError(f"{named[0]} and a command behind --: give the three commands, or the one that is interrupted")
        if parsed.interrupt_at is None:
            raise BadInputError("say after which step it is stopped: --interrupt-at N -- python train.py")
        return Question(parse_command(behind), (), parsed.interrupt_at, parsed.signal or "TERM", parsed.times or 1, parsed.offset)
    for name in ("interrupt_at", "signal", "times"):
        if getattr(parsed, name) is not None:
            option = name.replace("_", "-")
            raise BadInputError(
                f"--{option} needs the command that is interrupted behind --, as in --interrupt-at 50 -- python train.py"
            )
    if len(named) < 3:
        missing = next(f"--{name}" for name in ("full", "first", "then") if getattr(parsed, name) is None)
        raise BadInputError(
            f'{missing} is missing: --full "…" runs whole, --first "…" saves, --then "…" goes on from what it saved'
        )
    parts = tuple(parse_command(text) for text in (parsed.first, *parsed.then))
    return Question(parse_command(parsed.full), parts, offset=parsed.offset)


def _print(found: Any) -> None:
    from reprotui.cli.show import print_verdict

    console = common.console()
    colour = {0: "#009e73", 1: "#d55e00"}.get(found.exit_code, "#e69f00")
    where = " and ".join(f"after step {step}" for step in found.goes_on if step)
    console.print(common.styled((found.word.upper(), f"bold {colour}"), f"  resumed {where}" if where else ""))
    print_verdict(console, found.verdict)
    console.print(f"  in  {common.short(found.path)}", style="dim")
    console.print(f"  see it: reprotui open {common.quote([common.short(found.path)])}", style="dim", soft_wrap=True)


def _behind(parsed: argparse.Namespace) -> list[str]:
    words = parsed.command_line
    return words[words.index("--") + 1 :] if "--" in words else []


def _signals() -> tuple[str, ...]:
    return ("TERM", "INT", "KILL", "USR1", "USR2", "HUP")
