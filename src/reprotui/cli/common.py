"""What several commands share: arguments, places, and output. Imports nothing heavy at the top."""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from reprotui.errors import DIFFERS, INTERRUPTED, SAME, USAGE, WORKER_FAILED, BadInputError, CannotTellError
from reprotui.foreign import json_text, visible
from reprotui.manifest import RunManifest, RunState
from reprotui.run_directory import RUNS_VARIABLE, RunDirectory, default_runs_directory


class Parser(argparse.ArgumentParser):
    """Says what is wrong with arguments without obeying what stands in them.

    With `intermixed` it takes `RUN --step 100 lr=0.01`: argparse alone gives up on a `*` positional behind an option.
    """

    intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse options first, what is left after them; the method for that calls this one again, for each of the two."""
        if not self.intermixed:
            return super().parse_known_args(args, namespace)
        self.intermixed = False
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.intermixed = True

    def error(self, message: str) -> NoReturn:
        super().error(visible(message))


def command(subparsers: Any, name: str, summary: str, examples: str, description: str = "", **options: Any) -> "Parser":
    """Add a command with its help and examples."""
    lines = "".join(f"  {line.strip()}\n" for line in examples.strip().splitlines())
    return subparsers.add_parser(
        name,
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **options,
    )


def add_runs_directory(parser: argparse.ArgumentParser) -> None:
    """Add `--runs-dir`."""
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help=f"where runs are kept (default: ${RUNS_VARIABLE}, else ./runs)",
    )


def add_symbols(parser: argparse.ArgumentParser) -> None:
    """Add `--symbols`."""
    parser.add_argument(
        "--symbols",
        choices=("auto", "unicode", "ascii"),
        default=argparse.SUPPRESS,
        help="signs of the dashboard (default: the settings', else auto)",
    )


def need_terminal(instead: str) -> None:
    """Raise where the dashboard has no terminal to draw on, with what to use instead; a page in a browser has a driver."""
    if os.environ.get("TEXTUAL_DRIVER"):
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInputError(f"the dashboard needs a terminal, and this is none; without one: {instead}")
    if os.environ.get("TERM", "") in ("", "dumb"):
        raise BadInputError(
            f"the dashboard needs a terminal that can place its cursor, TERM={os.environ.get('TERM', '')!r}; "
            f"without one: {instead}"
        )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust`."""
    parser.add_argument(
        "--trust", action="store_true", help="run the experiment file of a run that was not recorded here: you have read it"
    )


def add_tolerance(parser: argparse.ArgumentParser) -> None:
    """Add `--tolerance`."""
    parser.add_argument(
        "--tolerance",
        action="append",
        metavar="LIMITS",
        help="the runs may differ a little: ulp=4, abs=1e-6,rel=1e-5, params:rel=1e-3 (for a phase or a path; may be given "
        "several times); exact takes back what a race was started with",
    )


def request(parsed: argparse.Namespace, checkpointing: Any = None) -> Any:
    """Return what the flags ask of a run or a race: where it goes, what is recorded and saved."""
    from reprotui.cli.recording import asked
    from reprotui.race.prepare import Request

    return Request(runs_directory(parsed), parsed.name, parsed.command_line, asked(parsed), checkpointing)


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def step(text: str) -> int:
    """Read the number of a step; a trace numbers them with 64 bits."""
    value = int(text)
    if abs(value) >= 1 << 63:
        raise argparse.ArgumentTypeError("that is more steps than a trace can number")
    return value


def runs_directory(parsed: argparse.Namespace) -> Path:
    """Return the runs directory that was asked for."""
    return parsed.runs_dir or default_runs_directory()


def experiment_and_overrides(tokens: list[str]) -> tuple[str | None, list[str]]:
    """Split `[EXPERIMENT] [key=value …]`.

    Raises:
        BadInputError: a second experiment is named.
    """
    names = [token for token in tokens if "=" not in token or token.endswith(".py")]
    if len(names) > 1:
        raise BadInputError(f"{names[1]!r} is neither key=value nor the only experiment ({names[0]!r} is named already)")
    return (names[0] if names else None), [token for token in tokens if token not in names]


def find_run(name: str, runs: Path) -> Path:
    """Return the directory or file that an argument means: a path, or a name in the runs directory."""
    if not name:
        raise BadInputError("an empty name means no run and no file: name one")
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise BadInputError(f"{name}: {error}") from None
    if path.name in ("", ".."):
        path = path.resolve()  # `.` and `..` have names of their own
    if not path.name:
        raise BadInputError(f"{path} is the root of the file system: name a run, a race or a file")
    if not path.exists() and (runs / name).exists():
        return runs / name
    if not path.exists():
        raise BadInputError(f"{name} does not exist, neither as a path nor as a run in {runs}")
    return path


def manifests_of(runs: Mapping[str, RunDirectory], path: Path) -> dict[str, RunManifest]:
    """Return what runs came to. Raise what workers found wrong with their configs; where no run trained, the name is free again.

    Some input can only be judged where the experiment is: a text file, the size of the data, a leaf's name.
    """
    import shutil

    manifests = {label: run.manifest() for label, run in runs.items()}
    errors = {label: found.result.error for label, found in manifests.items() if found.result and found.result.bad_input}
    if not errors:
        return manifests
    if len(errors) == len(runs):
        shutil.rmtree(path, ignore_errors=True)
    same = len(set(errors.values())) == 1 and len(errors) == len(runs)
    texts = list(errors.values())[:1] if same else [f"{label.upper()}: {text}" for label, text in errors.items()]
    raise BadInputError("; ".join(texts))


def exit_code(verdicts: Iterable[int], manifests: Iterable[RunManifest], interrupted: bool) -> int:
    """Return the exit code of a command that trained: interrupted, bad input, a failed worker, then the worst verdict."""
    results, verdicts = [manifest.result for manifest in manifests], list(verdicts)
    if interrupted:
        return INTERRUPTED
    if any(result and result.bad_input for result in results):
        return USAGE
    if any(result is None or result.state is RunState.FAILED for result in results):
        return WORKER_FAILED
    if DIFFERS in verdicts or any(result.torn for result in results if result):
        return DIFFERS
    return CannotTellError.exit_code if any(verdicts) else SAME


def print_json(value: Any) -> None:
    """Print a JSON object on stdout."""
    print(json_text(value))


def say(*lines: object, stderr: bool = False) -> None:
    """Print lines; whatever names and values stand in them, each stays one line and nothing of it is obeyed."""
    for line in lines:
        print(visible(str(line)), file=sys.stderr if stderr else sys.stdout, flush=stderr)


def say_over(text: str, end: str = "") -> None:
    """Write a line of stderr's terminal anew."""
    print(f"\r{visible(text):<60}", end=end, file=sys.stderr, flush=True)


def styled(*parts: str | tuple[str, str]) -> Any:
    """Return a line for a console that is made of texts, or of texts with their style."""
    from rich.text import Text

    return Text.assemble(*(visible(part) if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts))


def console(stderr: bool = False) -> Any:
    """Return a rich console: colours on a terminal only, none under NO_COLOR, no wrapping in a pipe."""
    from rich.console import Console
    from rich.text import Text

    class Output(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            # Every string on its way to the screen, those of tables too. None of it is markup, an emoji's name or a link.
            chosen = {name: value for name, value in options.items() if name in ("style", "justify", "overflow")}
            return Text(visible(text), **chosen)

        def on_broken_pipe(self) -> None:
            # rich would exit with 1, which says `differs` here.
            discard_stdout()

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 10_000
    return Output(stderr=stderr, highlight=False, width=width)


def discard_stdout() -> None:
    """Send what is still printed nowhere: its reader went away (`| head`), which is no error and changes no verdict."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def symbol(fancy: str, plain: str) -> str:
    """Return the fancy symbol where stdout can encode it, the plain one elsewhere."""
    try:
        fancy.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return plain
    return fancy


def quote(arguments: list[str]) -> str:
    """Return a command line that can be pasted into a shell."""
    import shlex

    return shlex.join(arguments)


def short(path: Path) -> str:
    """Return a path relative to the working directory where that is shorter."""
    try:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    except OSError:
        return str(path)
