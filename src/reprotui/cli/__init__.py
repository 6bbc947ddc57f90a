"""The command line: arguments → one call; one file a command, of which only the one that is named is loaded.

Loads numpy, jax or textual only where a command runs.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from reprotui import __version__
from reprotui.cli import common, unexpected
from reprotui.errors import INTERRUPTED, SAME, USAGE, ReprotuiError, UntrustedError

COMMANDS = (
    "race", "open", "run", "compare", "replay", "explain", "report", "export", "runs", "fleet", "sweep", "manifest",
    "control", "checkpoint", "resume-check", "diagnose", "certify", "watch", "env", "seed-check", "check", "new", "gate",
    "learn", "docs", "serve", "config",
)  # fmt: skip
"""In the order of the help; each is the file of its name."""

_EPILOG = """\
examples:
  reprotui                                       the dashboard: what is there, and how to begin
  reprotui learn                                 fourteen lessons, each a race that you break
  reprotui race                                  the default experiment against itself
  reprotui race --a seed=0 --b seed=1            two seeds
  reprotui race digits-cnn steps=500 --repeat 3  the noise floor of an experiment
  reprotui compare runs/x/a runs/x/b             two recorded runs

exit codes: 0 same, 1 differs, 2 bad input, 3 cannot tell, 4 a worker or reprotui itself failed,
130 interrupted
"""


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser, with all commands or with some."""
    parser = common.Parser(
        prog="reprotui",
        description="Find the step, the leaf and the cause when two training runs that should be the same are not.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"reprotui {__version__}")
    common.add_runs_directory(parser)
    common.add_symbols(parser)
    # A command says nothing of these two where its own flags were not given: those before it count.
    parser.set_defaults(call=_home, runs_dir=None, symbols=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in commands:
        importlib.import_module(f"{__name__}.{name.replace('-', '_')}").add_parser(subparsers)
    return parser


def _named(arguments: Sequence[str]) -> Sequence[str]:
    """Return the command that arguments name, none where they open the dashboard, all where it is help or an error."""
    words = iter(arguments)
    for word in words:
        if word in ("--runs-dir", "--symbols"):
            next(words, None)
        elif not word.startswith(("--runs-dir=", "--symbols=")):
            return [word] if word in COMMANDS else COMMANDS
    return ()


def _home(parsed: argparse.Namespace) -> int:
    """Open the dashboard where no command is given."""
    common.need_terminal("reprotui runs, reprotui race --headless, or reprotui --help")
    from reprotui.tui.app import run_dashboard

    return run_dashboard(common.runs_directory(parsed), symbols=parsed.symbols)


def main(arguments: Sequence[str] | None = None, parser: Callable[[], argparse.ArgumentParser] | None = None) -> int:
    """Run a command; return its exit code. Errors are one line on stderr, and only a difference is 1.

    Args:
        arguments: those of the command line where it is None.
        parser: makes the parser of another program that wants the same; it sets `call`.
    """
    unexpected.streams()
    code = SAME
    try:
        try:
            code = _run(list(sys.argv[1:] if arguments is None else arguments), parser)
        finally:
            # Here and not at the interpreter's end, where a reader that went away would become exit code 120.
            sys.stdout.flush()
    except BrokenPipeError:
        common.discard_stdout()
    except OSError as error:
        common.discard_stdout()
        common.say(f"reprotui: the output cannot be written: {error.strerror or error}", stderr=True)
        return USAGE
    return code


def _run(arguments: list[str], parser: Callable[[], argparse.ArgumentParser] | None) -> int:
    try:
        parsed = (parser() if parser else build_parser(_named(arguments))).parse_args(arguments)
        parsed.command_line = ["reprotui", *arguments]
        return parsed.call(parsed)
    except ReprotuiError as error:
        common.say(f"reprotui: {error}", stderr=True)
        if isinstance(error, UntrustedError):
            common.say(f"  {common.quote([*parsed.command_line, '--trust'])}", stderr=True)
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
        common.say(f"reprotui: {place}{error.strerror or error}", stderr=True)
        return USAGE
    except KeyboardInterrupt:
        common.say("reprotui: interrupted", stderr=True)
        return INTERRUPTED
    except Exception as error:
        return unexpected.tell(error, arguments)
